//! Containers of a real Docker engine: the one at `DOCKER_HOST`, or at the usual place.
//!
//! No image comes from a registry: one is made of empty directories, and the container sees this
//! machine's programs and libraries through mounts that it can only read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use steeple_agent::attest::AttestorConfig;
use steeple_agent::attest::instance::InstanceId;
use steeple_agent::peer::PeerError;

use crate::cgroups::{Cgroup, clean_up};
use crate::puppet::{
    ARGUMENTS, Puppet, Stage, attest, block_on, docker, is_root, selectors, skipped,
};

/// An engine that answers, and an image in it that is removed when dropped.
struct Engine {
    socket: PathBuf,
    image: String,
}

/// A container that is removed when dropped.
struct Container<'a> {
    engine: &'a Engine,
    id: String,
}

impl Engine {
    /// `None` if there is no engine, which is said.
    fn find(test: &str) -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
        let image = format!("steeple-test-{}-{test}", std::process::id());
        let engine = Self { socket: socket.into(), image };
        let answers = engine.command(&["version"]).output().is_ok_and(|run| run.status.success());
        if !answers {
            skipped(test, "no Docker engine answers");
            return None;
        }
        engine.import();
        Some(engine)
    }

    fn import(&self) {
        let root = tempfile::tempdir().unwrap();
        for name in ["proc", "sys", "dev", "tmp", "usr", "lib", "lib64", "bin", "etc"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let archive = root.path().join("tmp/image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg("--exclude=image.tar").arg(".");
        assert!(tar.status().unwrap().success());
        let archive = archive.to_str().unwrap();
        self.run(&["import", "--change", "LABEL from=image", archive, &self.image]);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// What a docker command writes.
    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        assert!(status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    /// Runs `program` in a container with these options.
    fn start(&self, stage: &Stage, options: &[&str], program: &[&str]) -> Container<'_> {
        let directory = stage.directory.path().display();
        let mut words = vec!["run", "--detach", "--network=none", "--interactive"];
        let mount = format!("--volume={directory}:{directory}");
        let socket = format!("--env=STEEPLE_TEST_SOCKET={directory}/socket");
        let system = ["--volume=/usr:/usr:ro", "--volume=/lib:/lib:ro", "--volume=/bin:/bin:ro"];
        words.extend(system);
        if Path::new("/lib64").exists() {
            words.push("--volume=/lib64:/lib64:ro");
        }
        words.extend([&*mount, &*socket]);
        words.extend(options);
        words.push(&self.image);
        words.extend(program);
        Container { engine: self, id: self.run(&words) }
    }

    fn attestor(&self) -> AttestorConfig {
        docker(&self.socket, &["TIER"])
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.command(&["rmi", "--force", &self.image]).output().unwrap();
    }
}

impl Container<'_> {
    /// A puppet in this container, beside its first process.
    fn puppet(&self, stage: &Stage) -> Puppet {
        let program = stage.program();
        let program = program.to_str().unwrap();
        let mut words = vec!["exec", "--interactive", &self.id, program];
        words.extend(ARGUMENTS);
        Puppet::start(self.engine.command(&words))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.engine.command(&["rm", "--force", &self.id]).output().unwrap();
    }
}

#[test]
fn a_process_in_a_container_has_its_labels_image_and_listed_variables() {
    let Some(engine) = Engine::find("selectors") else {
        return;
    };
    let stage = Stage::new();
    let options = ["--label=team=a:b", "--env=TIER=gold", "--env=SECRET=s"];
    let container = engine.start(&stage, &options, &["cat"]);
    let mut puppet = container.puppet(&stage);
    let peer = stage.peer(&mut puppet);
    let attested = attest(&[engine.attestor()], &peer);
    let digest = engine.run(&["image", "inspect", "--format={{.Id}}", &engine.image]);
    let mut expected = vec![
        "docker:env:TIER=gold".to_owned(),
        format!("docker:image_config_digest:{digest}"),
        format!("docker:image_id:{}", engine.image),
        "docker:label:from:image".to_owned(),
        "docker:label:team:a:b".to_owned(),
    ];
    expected.sort();
    assert_eq!(selectors(&attested), expected);
    assert_eq!(attested.gaps(), [""; 0]);
    assert_eq!(attested.still_holds(), Ok(()));
    let InstanceId::Container { id, .. } = attested.instance().id() else {
        panic!("not a container: {}", attested.instance().id());
    };
    assert_eq!(id.as_str(), container.id);

    // The path is that of the program as the container sees it.
    let found = selectors(&attest(&AttestorConfig::standard(), &peer));
    assert!(found.contains(&format!("unix:path:{}", stage.program().display())), "{found:?}");

    // A process of this machine, the same program, the same user.
    let mut outside = stage.puppet();
    let attested = attest(&[engine.attestor()], &stage.peer(&mut outside));
    assert_eq!((selectors(&attested), attested.gaps()), (Vec::new(), &[][..]));
    // And in a cgroup that is called like the container's.
    if is_root("a cgroup that is called like a real container") {
        let cgroup = Cgroup::new();
        for path in [container.id.clone(), format!("docker/{}", container.id)] {
            cgroup.take(&path, &outside);
            let attested = attest(&[engine.attestor()], &stage.peer(&mut outside));
            assert_eq!(selectors(&attested), [""; 0]);
        }
    }
}

#[test]
fn containers_are_told_apart_and_end_with_their_first_process() {
    let Some(engine) = Engine::find("instances") else {
        return;
    };
    let stage = Stage::new();
    let first = engine.start(&stage, &["--label=is=first"], &["cat"]);
    let second = engine.start(&stage, &["--label=is=second"], &["cat"]);
    let (mut a, mut b, mut c) = (first.puppet(&stage), first.puppet(&stage), second.puppet(&stage));
    let attested =
        [&mut a, &mut b, &mut c].map(|puppet| attest(&[engine.attestor()], &stage.peer(puppet)));
    let ids = attested.each_ref().map(|attested| attested.instance().id().clone());
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert!(selectors(&attested[1]).contains(&"docker:label:is:first".to_owned()));
    assert!(selectors(&attested[2]).contains(&"docker:label:is:second".to_owned()));

    engine.run(&["kill", &first.id]);
    block_on(attested[0].instance().ended());
    assert_eq!(attested[0].still_holds(), Err(PeerError::Exited));
    assert_eq!(attested[2].still_holds(), Ok(()));

    // The same container, run again, is another instance.
    engine.run(&["start", &first.id]);
    let mut again = first.puppet(&stage);
    let attested = attest(&[engine.attestor()], &stage.peer(&mut again));
    let InstanceId::Container { id, .. } = attested.instance().id() else {
        panic!("not a container");
    };
    assert_eq!(id.as_str(), first.id);
    assert_ne!(*attested.instance().id(), ids[0]);
}

#[test]
fn every_way_to_run_a_container_is_recognised() {
    let Some(engine) = Engine::find("layouts") else {
        return;
    };
    let stage = Stage::new();
    for options in [
        &["--label=is=it"][..],
        &["--label=is=it", "--cgroupns=host"],
        &["--label=is=it", "--cgroupns=private"],
        &["--label=is=it", "--pid=host"],
        &["--label=is=it", "--init"],
        &["--label=is=it", "--cgroup-parent=/steeple-test"],
        &["--label=is=it", "--user=65534:65534"],
    ] {
        let container = engine.start(&stage, options, &["cat"]);
        let mut puppet = container.puppet(&stage);
        let attested = attest(&[engine.attestor()], &stage.peer(&mut puppet));
        let found = selectors(&attested);
        assert!(found.contains(&"docker:label:is:it".to_owned()), "{options:?}: {found:?}");
    }
    clean_up("steeple-test");
}
