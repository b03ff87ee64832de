//! A process that runs beside a test, and ends with it.

use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;

/// A running process, and the log on its standard error.
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

/// What Steeple looks at.
const ENVIRONMENT: [&str; 8] = [
    "SPIFFE_ENDPOINT_SOCKET",
    "SPIRE_AGENT_PUBLIC_SOCKET",
    "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE",
    "SPIRE_SERVER_PRIVATE_SOCKET",
    "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE",
    "STEEPLE_AGENT_ADMIN_SOCKET",
    "STEEPLE_JOIN_TOKEN",
    "STEEPLE_SERVER_SOCKET",
];

/// A command with nothing of what this process has in its environment that Steeple looks at.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ENVIRONMENT {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, filled) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || filled.fill(BufReader::new(stderr)));
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// The first line of the log with `text` in it, once there is one.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_from(0, text)
    }

    /// The first line with `text` in it that is not among the first `from`.
    #[track_caller]
    pub(crate) fn wait_for_from(&self, from: usize, text: &str) -> String {
        self.wait_for_line(from, 0, text)
    }

    /// The line with `text` in it after as many others.
    #[track_caller]
    pub(crate) fn wait_for_another(&self, after: usize, text: &str) -> String {
        self.wait_for_line(0, after, text)
    }

    #[track_caller]
    fn wait_for_line(&self, from: usize, after: usize, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.log.state.lock().unwrap();
        loop {
            let mut found = state.lines.iter().skip(from).filter(|line| line.contains(text));
            if let Some(line) = found.nth(after) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                drop(state);
                panic!("no {text:?} in the log:\n{}", self.log().join("\n"));
            }
            state = self.log.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.state.lock().unwrap().lines.clone()
    }

    /// The whole log of a process that has ended or is about to.
    pub(crate) fn last_words(&self) -> String {
        let state = self.log.state.lock().unwrap();
        let unended = |state: &mut Lines| !state.ended;
        drop(self.log.changed.wait_timeout_while(state, PATIENCE, unended).unwrap());
        self.log().join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Ends it as a loss of power would, as far as this process alone is concerned.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            println!("--- the log of {:?}\n{}", self.child.id(), self.log().join("\n"));
        }
    }
}

impl Log {
    fn fill(&self, mut reader: impl std::io::BufRead) {
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            self.state.lock().unwrap().lines.push(line.trim_end().to_owned());
            self.changed.notify_all();
            line.clear();
        }
        self.state.lock().unwrap().ended = true;
        self.changed.notify_all();
    }
}
