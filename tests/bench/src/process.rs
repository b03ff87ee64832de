//! Processes that are started for a measurement, and end with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::meter::Meter;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// A copy of this program that does one thing: a line in, a line out.
#[derive(Debug)]
pub(crate) struct Helper {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    process: Process,
}

impl Process {
    /// Starts a program, which logs to a file.
    pub(crate) fn start(program: &Path, args: &[&OsStr], log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::of(self.pid())
    }

    /// Ends it as an administrator would.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("a process ended early: {status}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither fails unless it has ended.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Helper {
    /// Starts this program with other arguments.
    pub(crate) fn start<A: AsRef<OsStr>>(args: &[A]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a helper")?;
        let input = child.stdin.take().context("a helper has an input")?;
        let output = BufReader::new(child.stdout.take().context("a helper has an output")?);
        Ok(Self { input, output, process: Process(child) })
    }

    pub(crate) fn meter(&self) -> Meter {
        self.process.meter()
    }

    /// Says something and waits for the answer.
    pub(crate) fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        self.input.write_all(format!("{question}\n").as_bytes())?;
        self.hear()
    }

    /// Waits for the next line.
    pub(crate) fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "a helper has failed");
        Ok(line.trim_end().to_owned())
    }
}
