//! A process that does as it is told, line by line, and a socket to which it connects.

use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use steeple::clock::{Clock, SystemClock};
use steeple_agent::attest::{Attested, AttestorConfig, Attestors};
use steeple_agent::peer::{Peer, PeerError};

/// Where a puppet connects to.
const SOCKET: &str = "STEEPLE_TEST_SOCKET";

/// A directory that every user may enter, with a socket and this program in it.
pub(crate) struct Stage {
    pub(crate) directory: tempfile::TempDir,
    listener: UnixListener,
}

/// A process that does as it is told. It is killed when dropped.
pub(crate) struct Puppet {
    child: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("steeple").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let stage = Self { directory, listener };
        stage.copy("puppet");
        stage
    }

    /// A copy of this program. Another process makes it: a file that is open for writing here is
    /// so in each child that another test is just starting, and then cannot be executed.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        let program = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        copy
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// This program, where every user may run it.
    pub(crate) fn program(&self) -> PathBuf {
        self.path("puppet")
    }

    /// A puppet, started by these words before its own command, such as `unshare --pid`.
    pub(crate) fn puppet_under(
        &self,
        prefix: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Puppet {
        let program = self.program();
        let mut words: Vec<_> = prefix.iter().map(Into::into).collect();
        words.push(program.into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(ARGUMENTS).env(SOCKET, self.path("socket"));
        command.current_dir("/");
        change(&mut command);
        Puppet::start(command)
    }

    pub(crate) fn puppet(&self) -> Puppet {
        self.puppet_under(&[], |_| {})
    }

    /// Makes the puppet connect, and accepts.
    pub(crate) fn connection(&self, puppet: &mut Puppet) -> UnixStream {
        puppet.does("connect");
        self.accept()
    }

    pub(crate) fn accept(&self) -> UnixStream {
        self.listener.accept().unwrap().0
    }

    /// Makes the puppet connect, and pins it.
    pub(crate) fn peer(&self, puppet: &mut Puppet) -> Peer {
        Peer::of(&self.connection(puppet)).unwrap()
    }
}

/// What makes this program a puppet.
pub(crate) const ARGUMENTS: [&str; 3] = ["puppet::puppet", "--exact", "--nocapture"];

impl Puppet {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take();
        let reports = BufReader::new(child.stdout.take().unwrap());
        let mut puppet = Self { child, orders, reports };
        puppet.report();
        puppet
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order, and returns what is reported of it.
    pub(crate) fn does(&mut self, order: &str) -> String {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.report()
    }

    pub(crate) fn report(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.reports.read_line(&mut line).unwrap();
            assert!(length > 0, "the puppet has left");
            // libtest writes on the same line as the first report.
            if let Some((_, report)) = line.trim_end_matches('\n').split_once("report: ") {
                return report.to_owned();
            }
        }
    }

    pub(crate) fn exits(&mut self) {
        drop(self.orders.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// Runs in the puppet's process alone.
#[test]
fn puppet() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    // Once more each time it executes itself.
    report("ready");
    let mut held = Vec::new();
    for order in std::io::stdin().lines() {
        report(&obey(&order.unwrap(), Path::new(&socket), &mut held));
    }
}

fn report(text: &str) {
    std::io::stdout().write_all(format!("report: {text}\n").as_bytes()).unwrap();
}

fn obey(order: &str, socket: &Path, held: &mut Vec<UnixStream>) -> String {
    let (verb, object) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "connect" => held.push(UnixStream::connect(socket).unwrap()),
        "let-children-have-it" => {
            let none = nix::fcntl::FdFlag::empty();
            nix::fcntl::fcntl(&held[0], nix::fcntl::FcntlArg::F_SETFD(none)).unwrap();
        }
        "start" => drop(Command::new(object).stdout(Stdio::null()).spawn().unwrap()),
        "execute" => {
            let error = Command::new(object).args(ARGUMENTS).exec();
            panic!("{object}: {error}");
        }
        "become" => {
            let user = nix::unistd::Uid::from_raw(object.parse().unwrap());
            nix::unistd::setresuid(user, user, user).unwrap();
        }
        "join" => {
            let groups = object.split_whitespace().map(|gid| gid.parse().unwrap());
            let groups: Vec<_> = groups.map(nix::unistd::Gid::from_raw).collect();
            nix::unistd::setgroups(&groups).unwrap();
        }
        "hand-over" => {
            let to = UnixStream::connect(object).unwrap();
            let descriptors = [held[0].as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut message = SendAncillaryBuffer::new(&mut space);
            assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
            sendmsg(&to, &[IoSlice::new(b"x")], &mut message, SendFlags::empty()).unwrap();
        }
        "connect-to" => held.push(UnixStream::connect(object).unwrap()),
        "connect-to-itself" => {
            let listener = UnixListener::bind(object).unwrap();
            held.push(UnixStream::connect(object).unwrap());
            return describe(&listener, &AttestorConfig::standard());
        }
        "accept" => {
            let (at, engine) = object.split_once(' ').unwrap_or((object, ""));
            let attestors = match engine {
                "" => AttestorConfig::standard(),
                engine => vec![docker(Path::new(engine), &[])],
            };
            let listener = UnixListener::bind(at).unwrap();
            report("listening");
            return describe(&listener, &attestors);
        }
        "run" => return crate::peers::inside(object).unwrap_or_else(|error| error.to_string()),
        unknown => panic!("no such order: {unknown}"),
    }
    "done".to_owned()
}

/// What the next caller is.
fn describe(listener: &UnixListener, attestors: &[AttestorConfig]) -> String {
    match Peer::of(&listener.accept().unwrap().0) {
        Ok(peer) => selectors(&attest(attestors, &peer)).join(" "),
        Err(error) => error.to_string(),
    }
}

/// The `docker` attestor that asks this engine.
pub(crate) fn docker(socket: &Path, env: &[&str]) -> AttestorConfig {
    let config = serde_json::json!({ "type": "docker", "socket_path": socket, "env": env });
    serde_json::from_value(config).unwrap()
}

/// The descriptor that somebody hands over.
pub(crate) fn receive(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut content = [0];
    let mut content = [IoSliceMut::new(&mut content)];
    recvmsg(&stream, &mut content, &mut message, RecvFlags::empty()).unwrap();
    let handed = message.drain().find_map(|control| {
        let RecvAncillaryMessage::ScmRights(mut descriptors) = control else {
            return None;
        };
        descriptors.next()
    });
    handed.expect("nothing was handed over").into()
}

/// What the peer is, by these attestors.
pub(crate) fn attest(attestors: &[AttestorConfig], peer: &Peer) -> Attested {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let attestors = Attestors::of_config(attestors, &clock);
    block_on(attestors.attest(peer)).unwrap()
}

pub(crate) fn selectors(attested: &Attested) -> Vec<String> {
    attested.selectors().iter().map(ToString::to_string).collect()
}

/// Whether the peer is refused in every way, and for this reason.
#[track_caller]
pub(crate) fn assert_refused(peer: &Peer, reason: PeerError) {
    assert_eq!(peer.verify(), Err(reason));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let attestors = Attestors::of_config(&AttestorConfig::standard(), &clock);
    let error = block_on(attestors.attest(peer)).unwrap_err();
    assert_eq!(error.to_string(), reason.to_string());
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = std::time::Duration::from_secs(30);
    runtime.block_on(async { tokio::time::timeout(patience, future).await }).expect("30 s passed")
}

/// Whether this is root; says so where it is not, as the test is then left out.
pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped(test, "only root can do this");
    }
    root
}

/// Notes that a test was left out, past the capture of what tests print. On CI none may be.
pub(crate) fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} was skipped: {why}");
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}
