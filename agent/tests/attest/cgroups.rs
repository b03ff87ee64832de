//! Cgroups that are called like containers and are not, with the kernel's own files and an engine
//! that says what it is told to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use steeple_agent::attest::Attested;
use steeple_agent::attest::instance::InstanceId;
use steeple_agent::peer::PeerError;

use crate::peers::NOBODY;
use crate::puppet::{Puppet, Stage, attest, block_on, docker, is_root, selectors};

pub(crate) const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A cgroup of the test's own, removed with all below it when dropped.
pub(crate) struct Cgroup(PathBuf);

/// An engine that has these containers, each with the number of its first process.
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Cgroup {
    pub(crate) fn new() -> Self {
        let path = writable_hierarchy().join(format!("steeple-test-{}", uuid()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Moves a process into a cgroup below this one.
    pub(crate) fn take(&self, path: &str, puppet: &Puppet) {
        let path = self.0.join(path);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("cgroup.procs"), puppet.pid().to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Only empty cgroups can go, and a killed process takes a moment to leave.
        for _ in 0..1000 {
            remove(&self.0);
            if !self.0.exists() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// Removes a cgroup with those below it, and moves what is in them to the top.
fn remove(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let top = writable_hierarchy().join("cgroup.procs");
    let inside = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in inside.lines() {
        std::fs::write(&top, pid).unwrap_or_default();
    }
    std::fs::remove_dir(directory).unwrap_or_default();
}

fn uuid() -> String {
    let directory = tempfile::tempdir().unwrap();
    directory.path().file_name().unwrap().to_string_lossy().replace('.', "-")
}

/// Where a hierarchy that any process can be moved in is mounted: v2, or else one of v1.
fn writable_hierarchy() -> PathBuf {
    let mut hierarchies = hierarchies();
    hierarchies.sort_by_key(|(kind, _)| kind != "cgroup2");
    hierarchies.into_iter().next().expect("cgroups are mounted").1
}

/// The cgroup mounts that can be written to, each with its file system type.
fn hierarchies() -> Vec<(String, PathBuf)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts
        .filter(|fields| fields[2].starts_with("cgroup") && fields[3].starts_with("rw"))
        .map(|fields| (fields[2].to_owned(), fields[1].into()))
        .collect()
}

/// Removes a cgroup that an engine has left behind, from every hierarchy.
pub(crate) fn clean_up(name: &str) {
    for (_, mount) in hierarchies() {
        remove(&mount.join(name));
    }
}

impl Engine {
    pub(crate) fn new(stage: &Stage, containers: &[(&str, u32)]) -> Self {
        let socket = stage.path("engine");
        let listener = UnixListener::bind(&socket).unwrap();
        let containers: BTreeMap<_, _> =
            containers.iter().map(|(id, pid)| ((*id).to_owned(), *pid)).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let id = request.split('/').nth(2).unwrap().to_owned();
                let (status, body) = match containers.get(&id) {
                    None => ("404 Not Found", "{}".to_owned()),
                    Some(pid) => ("200 OK", inspection(&id, *pid)),
                };
                log.lock().unwrap().push(id);
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
                    .unwrap();
            }
        });
        Self { socket, asked }
    }

    fn attest(&self, stage: &Stage, puppet: &mut Puppet) -> Attested {
        attest(&[docker(&self.socket, &[])], &stage.peer(puppet))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn inspection(id: &str, pid: u32) -> String {
    let name = &id[..1];
    format!(
        r#"{{"Id": "{id}", "Image": "", "Config": {{"Labels": {{"is": "{name}"}}}},
            "State": {{"Running": true, "Pid": {pid}}}}}"#
    )
}

#[test]
fn a_process_is_in_the_container_whose_cgroup_it_is_in_and_in_no_other() {
    if !is_root("cgroups that are called like containers") {
        return;
    }
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let (init_a, init_b, mut caller) = (stage.puppet(), stage.puppet(), stage.puppet());
    cgroup.take(&format!("docker/{A}/init.scope"), &init_a);
    cgroup.take(&format!("docker/{B}"), &init_b);
    let engine = Engine::new(&stage, &[(A, init_a.pid()), (B, init_b.pid())]);
    let mut check = |path: &str, expected: &[&str]| {
        cgroup.take(&path.replace("A64", A).replace("B64", B), &caller);
        let attested = engine.attest(&stage, &mut caller);
        assert_eq!(selectors(&attested), expected, "{path}");
        assert_eq!(attested.gaps(), [""; 0]);
        let is_container = matches!(attested.instance().id(), InstanceId::Container { .. });
        assert_eq!(is_container, !expected.is_empty());
    };
    // Where the container's first process is, or beside it within the container.
    check("docker/A64", &["docker:label:is:a"]);
    check("docker/A64/init.scope", &["docker:label:is:a"]);
    check("docker/A64/system.slice/x.service", &["docker:label:is:a"]);
    check("docker/B64", &["docker:label:is:b"]);
    // A cgroup of that name elsewhere: in a user's own, and at its own top.
    check("user.slice/docker-B64.scope", &[]);
    check("B64", &[]);
    check("docker/docker/B64", &[]);
    // Within a container: it is that container, whatever it calls what is inside.
    check("docker/A64/B64", &["docker:label:is:a"]);
    check("docker/A64/docker/B64/docker-A64.scope", &["docker:label:is:a"]);
    // A container that this engine does not know.
    check(&format!("docker/A64/{}", B.replace('b', "c")), &["docker:label:is:a"]);
    check(&format!("docker/{}", B.replace('b', "d")), &[]);
    // In none.
    check("system.slice", &[]);
}

#[test]
fn a_process_that_leaves_its_container_is_no_longer_what_it_was() {
    if !is_root("a process that leaves its container") {
        return;
    }
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let (mut init, mut caller) = (stage.puppet(), stage.puppet());
    cgroup.take(A, &init);
    cgroup.take(A, &caller);
    let engine = Engine::new(&stage, &[(A, init.pid())]);
    let attested = engine.attest(&stage, &mut caller);
    assert_eq!(attested.still_holds(), Ok(()));
    cgroup.take("elsewhere", &caller);
    assert_eq!(attested.still_holds(), Err(PeerError::ContainerChanged));
    cgroup.take(A, &caller);
    assert_eq!(attested.still_holds(), Ok(()));

    // The container ends with its first process, though others live on.
    assert!(attested.instance().is_alive());
    init.exits();
    block_on(attested.instance().ended());
    assert_eq!(attested.still_holds(), Err(PeerError::ContainerChanged));
    assert!(attested.peer().is_alive());
}

#[test]
fn two_processes_of_a_container_are_one_instance_and_each_run_is_another() {
    if !is_root("instances of containers") {
        return;
    }
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let (init, mut caller) = (stage.puppet(), stage.puppet());
    let mut other = stage.puppet();
    for puppet in [&init, &caller, &other] {
        cgroup.take(A, puppet);
    }
    let engine = Engine::new(&stage, &[(A, init.pid())]);
    let first = engine.attest(&stage, &mut caller);
    let second = engine.attest(&stage, &mut other);
    assert_eq!(first.instance().id(), second.instance().id());

    let again = Stage::new();
    let init = again.puppet();
    cgroup.take(A, &init);
    let engine = Engine::new(&again, &[(A, init.pid())]);
    let third = engine.attest(&stage, &mut other);
    assert_ne!(third.instance().id(), first.instance().id());
}

#[test]
fn mounting_the_cgroup_of_a_container_makes_nobody_a_part_of_it() {
    if !is_root("a forged mountinfo") {
        return;
    }
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let init = stage.puppet();
    cgroup.take(&format!("docker/{A}"), &init);
    let engine = Engine::new(&stage, &[(A, init.pid())]);
    // An ordinary user, in namespaces of their own, and all that takes no privilege.
    let forge = mount(&stage, &cgroup);
    let prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &forge, "sh"];
    let mut liar = stage.puppet_under(&prefix, |command| {
        command.uid(NOBODY).gid(NOBODY);
    });
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", liar.pid())).unwrap();
    assert!(mounts.contains(A), "the forgery itself has failed: {mounts}");
    let attested = engine.attest(&stage, &mut liar);
    assert_eq!(selectors(&attested), [""; 0]);
    assert_eq!(engine.asked(), [""; 0]);
}

#[test]
fn a_mounted_cgroup_is_no_more_to_an_agent_that_cannot_see_the_true_root() {
    if !is_root("a forged mountinfo, seen from a cgroup namespace") {
        return;
    }
    // The agent is at the root of its own cgroup namespace, as are its callers: the cgroup file
    // says nothing, and mounts are heard.
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let forge = mount(&stage, &cgroup);
    let prefix = ["unshare", "--mount", "sh", "-c", &forge, "sh"];
    let init = stage.puppet_under(&prefix, |_| {});
    cgroup.take(&format!("docker/{A}"), &init);
    let engine = Engine::new(&stage, &[(A, init.pid())]);
    let check = |name: &str, mut caller: Puppet, expected: &str| {
        let mut agent = stage.puppet_under(&["unshare", "--cgroup"], |_| {});
        let socket = stage.path(name);
        let order = format!("accept {} {}", socket.display(), engine.socket.display());
        assert_eq!(agent.does(&order), "listening");
        caller.does(&format!("connect-to {}", socket.display()));
        assert_eq!(agent.report(), expected);
    };
    check("liar", stage.puppet_under(&prefix, |_| {}), "");
    // It was asked, so it is the comparison that has failed the liar.
    assert_eq!(engine.asked(), [A]);
    let target = format!("--target={}", init.pid());
    let resident = stage.puppet_under(&["nsenter", "--mount", &target], |_| {});
    check("resident", resident, "docker:label:is:a");
}

/// A script that mounts the cgroup of container A somewhere, and then does the rest.
fn mount(stage: &Stage, cgroup: &Cgroup) -> String {
    let source = cgroup.0.join(format!("docker/{A}"));
    let target = stage.path("mounted");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::create_dir(&target).unwrap();
    format!("mount --bind {} {} && exec \"$@\"", source.display(), target.display())
}
