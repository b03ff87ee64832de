//! A server and an agent of a test's own, and what a test does to them.
//!
//! Nothing here waits for time to pass: it waits for a line in a log, or for a call to succeed.

#[path = "harness/api.rs"]
pub(crate) mod api;
#[path = "harness/bin.rs"]
pub(crate) mod bin;
#[path = "harness/disk.rs"]
pub(crate) mod disk;
#[path = "harness/join.rs"]
mod join;
#[path = "harness/process.rs"]
pub(crate) mod process;
#[path = "harness/random.rs"]
pub(crate) mod random;
#[path = "harness/workload.rs"]
pub(crate) mod workload;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use self::process::{Process, command};

/// The longest that anything here is waited for: on a busy machine all takes several times as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A server and an agent in one directory.
pub(crate) struct Deployment {
    pub(crate) dir: Dir,
    pub(crate) server: Process,
    pub(crate) agent: Process,
    /// The SPIFFE ID of the agent.
    pub(crate) agent_id: String,
    port: u16,
    settings: Settings,
}

/// What a test wants in the configuration files besides what every test has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// Lines at the start of `server.toml`.
    pub(crate) server: &'static str,
    /// What is in the environment of the server.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Lines at the start of `agent.toml`; `{dir}` stands for the directory of the deployment.
    pub(crate) agent: &'static str,
    pub(crate) joins: Joins,
}

/// How the agent proves which node it is on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Joins {
    /// With a token, which works once.
    #[default]
    ByToken,
    /// With a certificate, as often as it likes.
    ByCertificate,
}

/// A directory that everybody may look into, since workloads of other users do.
pub(crate) struct Dir(TempDir);

impl Deployment {
    /// A server and an agent that has joined it.
    pub(crate) fn start() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::inside(Dir::new(), settings)
    }

    pub(crate) fn inside(dir: Dir, settings: Settings) -> Self {
        if let Joins::ByCertificate = settings.joins {
            join::write_certificates(&dir);
        }
        let server = start_server(&dir, settings, 0);
        let port = port(&server);
        fs::write(dir.path("bundle.pem"), admin(&dir, &["bundle", "show"])).unwrap();
        if let Joins::ByToken = settings.joins {
            let token = admin_json(&dir, &["token", "generate"])["value"].take();
            fs::write(dir.path("join-token"), token.as_str().unwrap()).unwrap();
        }
        let agent = start_agent(&dir, settings, port);
        agent.wait_for("synced");
        let id = admin_json(&dir, &["agent", "list"])["agents"][0]["id"]["path"].take();
        let agent_id = format!("spiffe://example.org{}", id.as_str().unwrap());
        Self { dir, server, agent, agent_id, port, settings }
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where workloads find the agent.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path("agent/api.sock")
    }

    /// Starts the server again, on the port it had.
    pub(crate) fn restart_server(&mut self) {
        self.server.kill();
        self.server = start_server(&self.dir, self.settings, self.port);
    }

    /// Starts the server again, and does not wait for anything.
    pub(crate) fn launch_server(&self) -> Process {
        launch_server(&self.dir, self.settings, self.port)
    }

    /// Starts the agent again.
    pub(crate) fn restart_agent(&mut self) {
        self.agent.kill();
        self.agent = start_agent(&self.dir, self.settings, self.port);
    }

    /// Starts another agent, and does not wait for anything.
    pub(crate) fn launch_agent(&self) -> Process {
        launch_agent(&self.dir, self.settings, self.port)
    }

    /// What an admin command prints, which must succeed.
    pub(crate) fn admin(&self, arguments: &[&str]) -> String {
        admin(&self.dir, arguments)
    }

    /// The JSON that an admin command prints, which must succeed.
    pub(crate) fn admin_json(&self, arguments: &[&str]) -> Value {
        admin_json(&self.dir, arguments)
    }

    /// How an admin command ends, whatever it is.
    pub(crate) fn try_admin(&self, arguments: &[&str]) -> Output {
        try_admin(&self.dir, arguments)
    }

    /// Registers an entry of this node, and returns its ID.
    pub(crate) fn register(&self, path: &str, selectors: &[&str]) -> String {
        self.register_with(path, selectors, &[])
    }

    pub(crate) fn register_with(&self, path: &str, selectors: &[&str], more: &[&str]) -> String {
        let id = format!("spiffe://example.org{path}");
        let mut arguments = vec!["entry", "create", "--spiffe-id", &id];
        arguments.extend(["--parent-id", &self.agent_id]);
        for selector in selectors {
            arguments.extend(["--selector", selector]);
        }
        arguments.extend(more);
        let created = self.admin_json(&arguments);
        created["results"][0]["entry"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs the agent's command line as a workload of this agent.
    pub(crate) fn workload(&self, arguments: &[&str]) -> Output {
        let mut command = command(&bin::agent());
        command.args(arguments).env("SPIFFE_ENDPOINT_SOCKET", self.endpoint());
        command.output().unwrap()
    }

    /// The address of the agent's socket, as workloads are told it.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The records of the audit log.
    pub(crate) fn audit(&self) -> Vec<Value> {
        audit(&self.dir)
    }
}

impl Dir {
    pub(crate) fn new() -> Self {
        // Short, whatever TMPDIR says: the path of a socket has at most 107 bytes.
        Self::new_in("/tmp")
    }

    /// In memory, for who does not want to wait for a disk.
    pub(crate) fn in_memory() -> Self {
        Self::new_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })
    }

    fn new_in(parent: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("steeple-e2e.").tempdir_in(parent).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A copy of a program that everybody may run.
    pub(crate) fn copy(&self, program: &Path, name: &str) -> PathBuf {
        let copy = self.path(name);
        fs::copy(program, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }
}

/// Starts a server in `dir`, and waits until it serves.
pub(crate) fn start_server(dir: &Dir, settings: Settings, port: u16) -> Process {
    let server = launch_server(dir, settings, port);
    server.wait_for("Starting Server APIs");
    server
}

/// Starts a server in `dir`.
pub(crate) fn launch_server(dir: &Dir, settings: Settings, port: u16) -> Process {
    let config = dir.path("server.toml");
    let data = dir.path("server");
    let text = format!(
        "{}\ntrust_domain = \"example.org\"\ndata_dir = \"{}\"\nbind_address = \"127.0.0.1\"\n\
         bind_port = {port}\nsocket_path = \"{}\"\n{}",
        settings.server,
        data.display(),
        admin_socket(dir).display(),
        join::of_server(settings.joins),
    );
    fs::write(&config, text).unwrap();
    let mut command = command(&bin::server());
    command.envs(settings.environment.iter().copied());
    Process::start(command.arg("run").arg("--config").arg(config))
}

fn start_agent(dir: &Dir, settings: Settings, port: u16) -> Process {
    let agent = launch_agent(dir, settings, port);
    agent.wait_for("Starting agent APIs");
    agent
}

fn launch_agent(dir: &Dir, settings: Settings, port: u16) -> Process {
    let config = dir.path("agent.toml");
    let text = format!(
        "{}\nserver = \"127.0.0.1:{port}\"\ntrust_domain = \"example.org\"\n\
         data_dir = \"{}\"\nsocket_path = \"{}\"\ntrust_bundle = \"{}\"\n\
         sync_interval = \"1s\"\n{}",
        settings.agent.replace("{dir}", &dir.0.path().display().to_string()),
        dir.path("agent-data").display(),
        dir.path("agent/api.sock").display(),
        dir.path("bundle.pem").display(),
        join::of_agent(settings.joins),
    );
    fs::write(&config, text).unwrap();
    let mut command = command(&bin::agent());
    Process::start(command.arg("run").arg("--config").arg(config))
}

/// Where the server says that it listens.
pub(crate) fn port(server: &Process) -> u16 {
    let line = server.wait_for("Starting Server APIs");
    let (_, rest) = line.split_once("address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

pub(crate) fn admin_socket(dir: &Dir) -> PathBuf {
    dir.path("server/admin/api.sock")
}

pub(crate) fn try_admin(dir: &Dir, arguments: &[&str]) -> Output {
    let mut command = command(&bin::server());
    command.args(arguments).env("STEEPLE_SERVER_SOCKET", admin_socket(dir));
    command.output().unwrap()
}

fn admin(dir: &Dir, arguments: &[&str]) -> String {
    let output = try_admin(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn admin_json(dir: &Dir, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--output", "json"]).collect();
    serde_json::from_str(&admin(dir, &arguments)).unwrap()
}

/// The records of the audit log of the server in `dir`.
pub(crate) fn audit(dir: &Dir) -> Vec<Value> {
    let text = fs::read_to_string(dir.path("server/audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Calls `attempt` until it has an answer: for what no log line tells.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Whether this is root, without whom `what` cannot be tested.
pub(crate) fn is_root(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skipped(what, "only root can");
    }
    is_root
}

/// Notes that `what` was left out, past the capture of what tests print. On CI nothing may be.
pub(crate) fn skipped(what: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} was skipped: {why}");
    std::io::stderr().write_all(format!("SKIPPED {what}: {why}\n").as_bytes()).unwrap();
}
