//! The systemd units: followed to the letter, with the rights that they leave and no service manager.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use crate::harness::process::{Process, command};
use crate::harness::{Dir, bin, eventually, is_root, port, skipped, stderr, stdout};

/// In the place of the user and the group `steeple`.
const STEEPLE: u32 = 61_234;

/// A user and a group.
type Who = (u32, u32);

/// Somebody who is in that group, and somebody who is not.
const MEMBER: Who = (61_235, STEEPLE);
const OTHER: Who = (61_236, 61_236);

/// A unit, and a directory in the place of the root of a machine.
struct Unit {
    name: &'static str,
    text: String,
    root: Dir,
}

fn text(name: &str) -> String {
    let units = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    fs::read_to_string(units.join(format!("steeple-{name}.service"))).unwrap()
}

impl Unit {
    /// The unit with its program and configuration where its first lines say.
    fn install(name: &'static str, configuration: &str) -> Self {
        let root = Dir::new();
        let unit = Self { name, text: text(name), root };
        for directory in ["usr/local/bin", "etc/systemd/system", "var/lib/steeple", "run/steeple"] {
            fs::create_dir_all(unit.root.path(directory)).unwrap();
        }
        fs::create_dir(unit.root.path("source")).unwrap();
        let program = if name == "agent" { bin::agent() } else { bin::server() };
        unit.root.copy(&program, &format!("source/steeple-{name}"));
        fs::write(unit.root.path(&unit.service("source")), &unit.text).unwrap();
        let root = unit.root.path("").display().to_string();
        let configuration = configuration.replace("{root}", root.trim_end_matches('/'));
        fs::write(unit.root.path(&format!("source/{name}.toml")), configuration).unwrap();
        let lines = unit.text.lines().filter_map(|line| line.strip_prefix("#   install "));
        for line in lines {
            let line = unit.inside(line).replace("-g steeple", &format!("-g {STEEPLE}"));
            let mut install = Command::new("install");
            install.args(line.split(' ')).current_dir(unit.root.path("source"));
            assert!(install.status().unwrap().success(), "{line}");
        }
        unit
    }

    fn service(&self, directory: &str) -> String {
        format!("{directory}/steeple-{}.service", self.name)
    }

    /// What the unit says of a key.
    fn value(&self, key: &str) -> &str {
        let value = |line| str::strip_prefix(line, key)?.strip_prefix('=');
        self.text.lines().find_map(value).unwrap_or_else(|| panic!("no {key}"))
    }

    /// Paths of a machine as paths below the root.
    fn inside(&self, text: &str) -> String {
        let directories = ["/usr/", "/etc/", "/var/", "/run/"];
        let words =
            text.split(' ').map(|word| match directories.iter().any(|d| word.starts_with(d)) {
                true => self.root.path(word.trim_start_matches('/')).display().to_string(),
                false => word.to_owned(),
            });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Makes the directory that a key names, for this user.
    fn directory(&self, key: &str, parent: &str, user: u32) {
        let path = self.root.path(&format!("{parent}/{}", self.value(key)));
        fs::create_dir_all(&path).unwrap();
        let mode = u32::from_str_radix(self.value(&format!("{key}Mode")), 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(user), Some(user)).unwrap();
    }

    /// The command of a key, with the capabilities that the unit leaves.
    fn command(&self, key: &str, user: u32) -> Command {
        let kept = self.value("CapabilityBoundingSet").to_lowercase();
        let kept = kept.split_whitespace().map(|name| name.replace("cap_", "+"));
        let bounds = ["-all".to_owned()].into_iter().chain(kept).collect::<Vec<_>>().join(",");
        let mut setpriv = command("setpriv".as_ref());
        setpriv.args(["--clear-groups", "--no-new-privs", "--inh-caps=-all"]);
        setpriv.arg(format!("--bounding-set={bounds}"));
        setpriv.args(["--reuid", &user.to_string(), "--regid", &user.to_string()]);
        setpriv.args(self.inside(self.value(key)).split(' ')).env_remove("HOME");
        setpriv
    }

    fn start(&self, user: u32) -> Process {
        let checked = self.command("ExecStartPre", user).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
        Process::start(&mut self.command("ExecStart", user))
    }
}

/// An example, with these lines in the place of the first of the same key.
fn example(name: &str, own: &[String]) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    let mut lines: Vec<_> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    for line in own {
        let (key, _) = line.split_once(" = ").unwrap();
        let is_it = |line: &String| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        let place = lines.iter().position(is_it).unwrap();
        line.clone_into(&mut lines[place]);
    }
    lines.join("\n")
}

/// Runs a program of the unit as somebody.
fn run_as((uid, gid): Who, program: &Path, arguments: &[&str]) -> Output {
    let mut command = command("setpriv".as_ref());
    command.args(["--clear-groups", "--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    command.arg(program).args(arguments).output().unwrap()
}

#[test]
fn the_units_are_ones_that_systemd_understands() {
    let is_there = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !is_there {
        return skipped("the check of the systemd units", "systemd-analyze is not installed");
    }
    for name in ["server", "agent"] {
        let dir = Dir::new();
        let copy = dir.path(&format!("steeple-{name}.service"));
        // It looks whether the program is there, too.
        let program = format!("/usr/local/bin/steeple-{name}");
        fs::write(&copy, text(name).replace(&program, "/bin/true")).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
        assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
    }
}

/// An agent of that server as its unit says.
fn start_agent(port: u16, admin: &dyn Fn(Who, &[&str]) -> Output) -> (Unit, Process) {
    let bundle = stdout(&admin(MEMBER, &["bundle", "show"]));
    let token = admin(MEMBER, &["token", "generate", "--output", "json"]);
    let token: Value = serde_json::from_slice(&token.stdout).unwrap();
    let agent_toml = example(
        "agent.toml",
        &[
            format!("server = \"127.0.0.1:{port}\""),
            format!("join_token = {}", token["value"]),
            "trust_bundle = \"{root}/etc/steeple/bundle.pem\"".into(),
            "data_dir = \"{root}/var/lib/steeple/agent\"".into(),
            "socket_path = \"{root}/run/steeple/agent/api.sock\"".into(),
            "sync_interval = \"1s\"".into(),
        ],
    );
    let node = Unit::install("agent", &agent_toml);
    fs::write(node.root.path("etc/steeple/bundle.pem"), bundle).unwrap();
    node.directory("StateDirectory", "var/lib", 0);
    node.directory("RuntimeDirectory", "run", 0);
    let agent = node.start(0);
    agent.wait_for("synced");
    (node, agent)
}

#[test]
fn as_their_units_say_the_server_is_administered_by_its_group_and_the_agent_attests() {
    if !is_root("the systemd units") {
        return;
    }
    let data = "data_dir = \"{root}/var/lib/steeple/server\"";
    let text = example("server.toml", &[data.into(), "bind_port = 0".into()]);
    let unit = Unit::install("server", &text);
    unit.directory("StateDirectory", "var/lib", STEEPLE);
    let mut server = unit.start(STEEPLE);
    let port = port(&server);
    let program = unit.root.path("usr/local/bin/steeple-server");
    let socket = unit.root.path("var/lib/steeple/server/private/admin.sock");
    let admin = |who: Who, arguments: &[&str]| {
        let arguments = [arguments, &["--socket", socket.to_str().unwrap()]].concat();
        run_as(who, &program, &arguments)
    };
    let outsider = admin(OTHER, &["bundle", "show"]);
    assert!(stderr(&outsider).contains("Permission denied"), "{outsider:?}");
    for (read, file) in [("ls", "keys"), ("cat", "datastore.sqlite"), ("cat", "audit.jsonl")] {
        let path = unit.root.path("var/lib/steeple/server").join(file);
        let output = run_as(MEMBER, read.as_ref(), &[path.to_str().unwrap()]);
        assert!(stderr(&output).contains("Permission denied"), "{output:?}");
    }

    let (node, mut agent) = start_agent(port, &admin);

    // An executable that nobody but its owner may read.
    let workload = node.root.copy(&bin::agent(), "workload");
    chown(&workload, Some(OTHER.0), Some(OTHER.1)).unwrap();
    fs::set_permissions(&workload, fs::Permissions::from_mode(0o700)).unwrap();
    let digest = digest(&SHA256, &fs::read(&workload).unwrap());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let agents = admin(MEMBER, &["agent", "list", "--output", "json"]);
    let agents: Value = serde_json::from_slice(&agents.stdout).unwrap();
    let parent =
        format!("spiffe://example.org{}", agents["agents"][0]["id"]["path"].as_str().unwrap());
    let selectors = [
        format!("unix:uid:{}", OTHER.0),
        format!("unix:path:{}", workload.display()),
        format!("unix:sha256:{digest}"),
    ];
    let mut create = vec!["entry", "create", "--spiffe-id", "spiffe://example.org/w"];
    create.extend(["--parent-id", &parent]);
    create.extend(selectors.iter().flat_map(|selector| ["--selector", selector]));
    let created = admin(MEMBER, &create);
    assert!(created.status.success(), "{}", stderr(&created));
    let endpoint = format!("unix://{}", node.root.path("run/steeple/agent/api.sock").display());
    let fetch = ["api", "fetch", "x509", "--socket", &endpoint];
    eventually("the SVID", || {
        Some(run_as(OTHER, &workload, &fetch)).filter(|output| output.status.success())
    });
    for process in [&mut agent, &mut server] {
        assert!(process.stop().success());
    }
}
