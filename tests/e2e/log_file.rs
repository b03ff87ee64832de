//! The log in a file: what `--log-file` and SIGUSR2 do to both programs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::harness::process::{Process, command};
use crate::harness::{Deployment, bin, eventually, stderr};

const AGAIN: &str = "log file opened again";

/// A program of this deployment with the configuration that it has, once more.
fn run(node: &Deployment, program: &Path, config: &str) -> Command {
    let mut command = command(program);
    command.arg("run").arg("--config").arg(node.dir.path(config));
    command
}

/// Whether there is a line with `text` in the file, once there is one.
fn wait_for(file: &Path, text: &str) -> String {
    eventually(text, || {
        let log = fs::read_to_string(file).unwrap_or_default();
        log.lines().find(|line| line.contains(text)).map(str::to_owned)
    })
}

#[track_caller]
fn check((node, program): (&Deployment, &Path), config: &str, first: &str) {
    let [log, old] = [format!("{config}.log"), format!("{config}.log.1")];
    let [log, old] = [log, old].map(|name| node.dir.path(&name));
    let mut command = run(node, program, config);
    let mut process =
        Process::start(command.arg("--log-source-location").arg("-logFile").arg(&log));
    let line = wait_for(&log, first);
    assert!(line.contains("src/app.rs:"), "{line}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o137, 0);

    fs::rename(&log, &old).unwrap();
    process.signal(Signal::SIGUSR2);
    wait_for(&log, AGAIN);
    let before = fs::read_to_string(&old).unwrap();
    assert!(before.contains(first) && !before.contains(AGAIN), "{before}");
    assert!(process.stop().success());
    wait_for(&log, "stopping");
    assert_eq!(fs::read_to_string(&old).unwrap(), before);
    assert_eq!(process.last_words(), "");
}

/// A disk that is full all the time.
#[track_caller]
fn check_full((node, program): (&Deployment, &Path), config: &str, first: &str) {
    let mut command = run(node, program, config);
    let mut process = Process::start(command.arg("--log-file").arg("/dev/full"));
    process.wait_for("the log file /dev/full cannot be written (No space left on device");
    process.wait_for(first);
    assert!(process.stop().success());
}

#[track_caller]
fn check_nowhere((node, program): (&Deployment, &Path), config: &str) {
    let path = node.dir.path("nowhere/log");
    let mut process = Process::start(run(node, program, config).arg("--log-file").arg(&path));
    assert!(!process.wait().success());
    let said = process.last_words();
    let why = format!("`log.file` is {}", path.display());
    assert!(said.contains(&why), "{said}");
    let mut check = command(program);
    check.args(["config", "check", "--config"]).arg(node.dir.path(config));
    let good = check.output().unwrap();
    assert!(good.status.success(), "{good:?}");
    let bad = check.arg("--log-file").arg(&path).output().unwrap();
    assert!(!bad.status.success() && stderr(&bad).contains(&why), "{bad:?}");
}

#[test]
fn a_log_file_is_rotated_and_a_full_disk_stops_nobody() {
    let mut node = Deployment::start();
    for (program, config, first) in [
        (bin::agent(), "agent.toml", "Starting agent APIs"),
        (bin::server(), "server.toml", "Starting Server APIs"),
    ] {
        // It is the one that holds the data directory.
        if config == "agent.toml" {
            node.agent.kill()
        } else {
            node.server.kill()
        }
        let one = (&node, &*program);
        check(one, config, first);
        check_full(one, config, first);
        check_nowhere(one, config);
    }
}

/// Each program is told while it waits for its configuration.
#[test]
fn a_program_is_not_ended_by_the_signal_while_it_starts() {
    let mut node = Deployment::start();
    for (program, config, started) in [
        (bin::agent(), "agent.toml", "Starting agent APIs"),
        (bin::server(), "server.toml", "Starting Server APIs"),
    ] {
        if config == "agent.toml" {
            node.agent.kill()
        } else {
            node.server.kill()
        }
        let pipe = format!("{config}.pipe");
        nix::unistd::mkfifo(&node.dir.path(&pipe), Mode::S_IRWXU).unwrap();
        let mut process = Process::start(&mut run(&node, &program, &pipe));
        let mut writer = eventually("somebody reads the configuration", || {
            let mut options = File::options();
            options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
            options.open(node.dir.path(&pipe)).ok()
        });
        process.signal(Signal::SIGUSR2);
        writer.write_all(&fs::read(node.dir.path(config)).unwrap()).unwrap();
        drop(writer);
        process.wait_for("SIGUSR2 is for a log file");
        process.wait_for(started);
        assert!(process.stop().success());
    }
}

/// Whoever tells all programs something ends none that has no use for it.
#[test]
fn a_program_is_not_ended_by_a_signal_that_is_of_no_use_to_it() {
    let mut node = Deployment::start();
    let [agent, server] = [&mut node.agent, &mut node.server];
    agent.signal(Signal::SIGHUP);
    agent.wait_for("SIGHUP is of no effect on an agent");
    server.signal(Signal::SIGHUP);
    for process in [agent, server] {
        process.signal(Signal::SIGUSR1);
        process.wait_for("SIGUSR1 is of no effect");
        assert!(process.stop().success());
    }
}

/// Whoever rotates logs tells all programs, whether they have a file or not.
#[test]
fn a_program_without_a_log_file_is_not_ended_by_the_signal() {
    let mut node = Deployment::start();
    for process in [&mut node.agent, &mut node.server] {
        process.signal(Signal::SIGUSR2);
        process.wait_for("the log goes to standard error");
        assert!(process.stop().success());
    }
}
