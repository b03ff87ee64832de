//! Processes that open as many connections to the agent as they get, as one user after another.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::{Uid, setresuid};
use steeple_proto::workload::X509svidResponse;
use tonic::Streaming;

use crate::harness::process::{Process, command};
use crate::harness::workload::{connect, watch};
use crate::harness::{Deployment, bin, eventually, is_root, skipped, stderr};

/// Which part of the test a process of this program plays.
const PART: &str = "STEEPLE_TEST_PART";
/// The user to become.
const USER: &str = "STEEPLE_TEST_USER";
/// The socket of the agent.
const SOCKET: &str = "STEEPLE_TEST_SOCKET";
/// How many streams to open.
const STREAMS: &str = "STEEPLE_TEST_STREAMS";

/// How many files the agent may have open: enough for 12 connections, of them 6 of one user and 3 of
/// one container.
const FILES: &str = "--nofile=800:800";
const ALL: usize = 12;
const OF_A_USER: usize = 6;
const OF_A_CONTAINER: usize = 3;

/// Users that nobody is.
const FIRST_USER: u32 = 70_000;

/// What a client says first: the preface of HTTP/2, and no settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A process that ends with the test.
struct Besieger {
    process: Child,
    /// The last line that was waited for.
    said: String,
}

/// An agent that has few places, with entries for root, for a program that others may run, and for
/// this one.
struct Fortress {
    node: Deployment,
    program: PathBuf,
}

#[test]
fn idle_connections_of_many_users_shut_nobody_out() {
    if !is_root("a siege by several users") {
        return;
    }
    let fortress = Fortress::build();
    let besieger = |user: u32| {
        let mut besieger = player(&[], "besieger", &fortress.node.socket());
        Besieger::start(besieger.env(USER, user.to_string())).says("open", 1)
    };
    let besiegers: Vec<_> = (FIRST_USER..FIRST_USER + 4).map(besieger).collect();
    fortress.node.agent.wait_for("idle connection closed to make room");
    for _ in 0..5 {
        fortress.lets_root_in();
        assert_success(&fortress.fetch_as(FIRST_USER + 9));
    }
    drop(besiegers);
}

#[test]
fn streams_of_one_container_are_few_and_root_comes_in_where_all_is_taken() {
    let what = "a siege by streams of a container";
    if !is_root(what) {
        return;
    }
    let probe = Command::new("unshare").args(["--pid", "--fork", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skipped(what, "no PID namespace may be made");
    }
    let fortress = Fortress::build();
    let socket = fortress.node.socket();
    let prefix = ["unshare", "--pid", "--fork", "--kill-child"];
    let container = Besieger::start(&mut player(&prefix, "container", &socket));
    let container = container.says("open", OF_A_CONTAINER).says("refused", 1);
    let refusal = fortress.node.agent.wait_for("client refused");
    let user = FIRST_USER as usize + OF_A_CONTAINER;
    let words = ["pid=", &format!("uid={user}"), "too many connections of this container"];
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    // What its users may have is not used up by it.
    assert_success(&fortress.fetch_as(FIRST_USER));

    let streams = |user, count| Besieger::start(&mut watcher(user, count, &socket)).says("open", 1);
    let users = [(10, OF_A_USER), (11, OF_A_CONTAINER)];
    let users = users.map(|(user, count)| streams(FIRST_USER + user, count));
    let refused = fortress.fetch_as(FIRST_USER + 12);
    assert!(stderr(&refused).contains("too many connections (Unavailable)"), "{refused:?}");
    fortress.lets_root_in();
    drop((container, users));
}

#[test]
fn plays_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("besieger") => besiege(),
        Ok("container") => container(),
        Ok("watcher") => watch_on_many(),
        Ok(other) => panic!("{other}"),
        Err(_) => {}
    }
}

impl Fortress {
    fn build() -> Self {
        let mut node = Deployment::start();
        let program = node.dir.copy(&bin::agent(), "program");
        let this = std::env::current_exe().unwrap();
        for (path, program) in [("/program", &program), ("/besieger", &this)] {
            node.register(path, &[&format!("unix:path:{}", program.display())]);
        }
        node.register("/root", &["unix:uid:0"]);
        node.agent.kill();
        let mut agent = command(Path::new("prlimit"));
        agent.arg(FILES).arg(bin::agent()).args(["run", "--config"]);
        node.agent = Process::start(agent.arg(node.dir.path("agent.toml")));
        node.agent.wait_for(&format!("connections={ALL}"));
        let fortress = Self { node, program };
        eventually("entries arrive", || {
            let fetched = [fortress.node.workload(&["api", "fetch", "x509"]), fortress.fetch_as(1)];
            fetched.iter().all(|output| output.status.success()).then_some(())
        });
        fortress
    }

    fn fetch_as(&self, user: u32) -> Output {
        let mut program = command(&self.program);
        program.args(["api", "fetch", "x509"]).uid(user);
        program.env("SPIFFE_ENDPOINT_SOCKET", self.node.endpoint()).output().unwrap()
    }

    /// At the first try.
    #[track_caller]
    fn lets_root_in(&self) {
        assert_success(&self.node.workload(&["healthcheck"]));
        assert_success(&self.node.workload(&["api", "fetch", "x509"]));
    }
}

impl Besieger {
    fn start(command: &mut Command) -> Self {
        let process = command.stdout(Stdio::piped()).spawn().unwrap();
        Self { process, said: String::new() }
    }

    /// Itself, once it has written as many lines with this word.
    fn says(mut self, word: &str, count: usize) -> Self {
        let stdout = self.process.stdout.as_mut().unwrap();
        for _ in 0..count {
            self.said =
                std::iter::repeat_with(|| line(stdout)).find(|line| line.contains(word)).unwrap();
        }
        self
    }
}

impl Drop for Besieger {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// The next line, and not an octet more: somebody may go on reading elsewhere.
fn line(stdout: &mut ChildStdout) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut octet = [0];
        assert_eq!(stdout.read(&mut octet).unwrap(), 1, "it has ended");
        line.extend(octet);
    }
    String::from_utf8(line).unwrap()
}

/// A process of this program that plays a part.
fn player(prefix: &[&str], part: &str, socket: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let words: Vec<_> = prefix.iter().map(PathBuf::from).chain([program]).collect();
    let mut command = command(&words[0]);
    command.args(&words[1..]).args(["faults::siege::plays_a_part", "--exact", "--nocapture"]);
    command.env(PART, part).env(SOCKET, socket);
    command
}

/// One that becomes this user, and opens as many streams.
fn watcher(user: u32, streams: usize, socket: &Path) -> Command {
    let mut watcher = player(&[], "watcher", socket);
    watcher.env(USER, user.to_string()).env(STREAMS, streams.to_string());
    watcher
}

fn become_user() {
    let user = Uid::from_raw(std::env::var(USER).unwrap().parse().unwrap());
    setresuid(user, user, user).unwrap();
}

/// Keeps more connections open than there are places, until it is killed.
fn besiege() {
    become_user();
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let open = || {
        let mut connection = UnixStream::connect(&socket).unwrap();
        // It may be closed already.
        drop(connection.write_all(HELLO));
        connection.set_nonblocking(true).unwrap();
        connection
    };
    let mut connections: Vec<_> = (0..2 * ALL).map(|_| open()).collect();
    println!("\nopen");
    loop {
        for connection in connections.iter_mut().filter_map(|open| is_closed(open).then_some(open))
        {
            *connection = open();
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn is_closed(connection: &mut UnixStream) -> bool {
    match connection.read(&mut [0; 1024]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// A user for each place that the container has, and one more.
fn container() {
    assert_eq!(std::process::id(), 1, "in a namespace of its own");
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let watch = |user| Besieger::start(&mut watcher(user, 1, &socket)).says(" streams", 1);
    let mut watchers = Vec::new();
    for user in (FIRST_USER..).take(OF_A_CONTAINER + 1) {
        watchers.push(watch(user));
        println!("\n{}", watchers.last().unwrap().said);
    }
    loop {
        std::thread::park();
    }
}

/// Keeps as many streams open as it is told, each on a connection of its own, until it is killed.
fn watch_on_many() {
    become_user();
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let count = std::env::var(STREAMS).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut streams = Vec::<Streaming<X509svidResponse>>::new();
        while streams.len() < count {
            match watch(&mut connect(&socket).await).await {
                Ok((_, stream)) => streams.push(stream),
                Err(status) => {
                    println!("\nrefused more streams: {}", status.message());
                    std::future::pending().await
                }
            }
        }
        println!("\nopen: {count} streams");
        std::future::pending::<()>().await;
    });
}
