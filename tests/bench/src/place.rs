//! On which processor a process runs.

use std::fs;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Holds a process, and this one, to one processor while it lives.
///
/// Two that wait for each other stay where the kernel happened to put them, together or apart, and
/// what a wake takes depends on it: to wake another processor of a virtual machine takes as long as
/// all the rest of a small call.
#[derive(Debug)]
pub(crate) struct Together {
    pids: [u32; 2],
    before: CpuSet,
}

impl Together {
    /// Holds the process with this number.
    pub(crate) fn with(pid: u32) -> anyhow::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0)).context("reading the processors")?;
        let last = (0..CpuSet::count()).rev().find(|cpu| before.is_set(*cpu) == Ok(true));
        let mut one = CpuSet::new();
        one.set(last.context("there is no processor")?)?;
        let together = Self { pids: [pid, std::process::id()], before };
        together.hold(&one)?;
        Ok(together)
    }

    fn hold(&self, processors: &CpuSet) -> anyhow::Result<()> {
        for pid in self.pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let thread = thread?.file_name().to_string_lossy().parse()?;
                // A thread that has ended needs no place.
                match sched_setaffinity(Pid::from_raw(thread), processors) {
                    Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                    Err(error) => return Err(error).context("holding to one processor"),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if let Err(error) = self.hold(&self.before) {
            crate::cli::progress(&format!("not free to run anywhere again: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn both_are_on_one_processor_and_free_again() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let count = |pid: u32| {
            let found = sched_getaffinity(Pid::from_raw(pid.try_into().unwrap())).unwrap();
            (0..CpuSet::count()).filter(|cpu| found.is_set(*cpu).unwrap()).count()
        };
        let pids = [child.id(), std::process::id()];
        let before = pids.map(count);
        let together = Together::with(child.id()).unwrap();
        assert_eq!(pids.map(count), [1, 1]);
        drop(together);
        assert_eq!(pids.map(count), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
