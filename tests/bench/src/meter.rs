//! Reads what a process has taken of the processor, in nanoseconds, and of memory.
//!
//! The kernel's own count for each thread, summed. It is exact for a thread that sleeps, so a
//! measurement begins and ends when the process has come to rest.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// How long a process may take to come to rest.
const PATIENCE: u32 = 100;

/// Less than this in a millisecond is rest, in nanoseconds.
const REST: u64 = 10_000;

/// Reads the processor time of one process.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    threads: HashMap<String, u64>,
    /// Of threads that have ended.
    ended: u64,
}

impl Meter {
    /// Of the process with this number.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, threads: HashMap::new(), ended: 0 }
    }

    /// The number of the process.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// What each of `operations` takes, in nanoseconds, when `work` does one of them.
    pub(crate) async fn each(
        &mut self,
        operations: u32,
        mut work: impl AsyncFnMut(u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let before = self.at_rest().await?;
        for n in 0..operations {
            work(n).await?;
        }
        let after = self.at_rest().await?;
        Ok((after - before) as f64 / f64::from(operations))
    }

    /// The processor time so far, once the process rests.
    async fn at_rest(&mut self) -> anyhow::Result<u64> {
        let mut last = self.read()?;
        for _ in 0..PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = self.read()?;
            if now - last < REST {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    fn read(&mut self) -> anyhow::Result<u64> {
        let directory = PathBuf::from(format!("/proc/{}/task", self.pid));
        let threads = fs::read_dir(&directory).context("reading the threads of a process")?;
        for thread in threads {
            let thread = thread?;
            // A thread may end before it is looked at; what it took was counted when it was last.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let taken = text.split(' ').next().and_then(|taken| taken.parse().ok());
            let taken: u64 = taken.with_context(|| format!("`{text}` is no schedstat"))?;
            let name = thread.file_name().to_string_lossy().into_owned();
            let known = self.threads.insert(name, taken).unwrap_or(0);
            if known > taken {
                // The number belongs to another thread now.
                self.ended += known;
            }
        }
        Ok(self.threads.values().sum::<u64>() + self.ended)
    }
}

/// The memory of a process that is resident, in KiB: `VmRSS`, files that are mapped included.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    value.context("no VmRSS in the status of a process")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn work_is_counted_and_waiting_is_not() {
        let script =
            "while read _; do i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut meter = Meter::of(child.id());
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let work = async |_| {
            input.write_all(b"\n")?;
            Ok(output.read_exact(&mut [0])?)
        };
        let worked = meter.each(1, work).await.unwrap();
        let wait = async |_| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        };
        let waited = meter.each(1, wait).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(worked > 10e6 && waited < 1e6, "{worked} and {waited}");
    }

    #[test]
    fn memory_that_is_touched_is_counted() {
        let before = resident(std::process::id()).unwrap();
        let block = vec![1_u8; 64 << 20];
        let grown = resident(std::process::id()).unwrap() - before;
        assert!(block.iter().all(|byte| *byte == 1));
        assert!((60_000.0..100_000.0).contains(&grown), "{grown}");
    }
}
