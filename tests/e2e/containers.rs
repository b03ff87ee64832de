//! Containers, known by what their Docker engine says of them.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{Deployment, Settings, bin, eventually, skipped, stderr, stdout};

/// An image with the agent's program in it and what it is linked with, removed at the end.
struct Image(String);

impl Image {
    fn build(node: &Deployment) -> Self {
        let root = node.dir.path("image");
        fs::create_dir(&root).unwrap();
        fs::copy(bin::agent(), root.join("steeple-agent")).unwrap();
        let linked = Command::new("ldd").arg(bin::agent()).output().unwrap();
        for library in stdout(&linked).split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = root.join(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, copy).unwrap();
        }
        let archive = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().unwrap();
        let name = format!("steeple-e2e-{}", std::process::id());
        let mut import = docker(&["import", "-", &name]);
        let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(&archive.stdout).unwrap();
        assert!(import.wait().unwrap().success());
        Self(name)
    }

    /// What the Workload API says to a container with this label.
    fn fetch(&self, sockets: &Path, label: &str) -> Output {
        let volume = format!("{}:/run/steeple", sockets.display());
        let mut run = docker(&["run", "--rm", "--network", "none", "--label", label]);
        run.args(["--volume", &volume, &self.0, "/steeple-agent", "api", "fetch", "x509"]);
        run.args(["--socket", "/run/steeple/api.sock"]).output().unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "--force", &self.0]).output().unwrap();
    }
}

fn docker(arguments: &[&str]) -> Command {
    let mut docker = Command::new("docker");
    docker.args(arguments);
    docker
}

#[test]
fn a_container_is_known_by_its_label() {
    let Some(engine) = env::var("DOCKER_HOST").ok().filter(|_| bin::agent().exists()) else {
        return skipped("containers", "DOCKER_HOST names no engine; see tests/run.sh");
    };
    let engine = engine.trim_start_matches("unix://").to_owned();
    let attestors = format!(
        "workload_attestor = [{{ type = \"unix\" }}, \
         {{ type = \"docker\", socket_path = \"{engine}\" }}]"
    );
    let agent = Box::leak(attestors.into_boxed_str());
    let node = Deployment::with(Settings { agent, ..Settings::default() });
    node.register("/shop", &["docker:label:app:shop"]);
    let image = Image::build(&node);
    let sockets = node.dir.path("agent");
    let shop = eventually("the container's SVID", || {
        Some(image.fetch(&sockets, "app=shop")).filter(|output| output.status.success())
    });
    assert!(stdout(&shop).contains("spiffe://example.org/shop"), "{}", stdout(&shop));
    let other = image.fetch(&sockets, "app=other");
    assert!(!other.status.success(), "{}", stdout(&other));
    assert!(stderr(&other).contains("no registration entry"), "{}", stderr(&other));
}
