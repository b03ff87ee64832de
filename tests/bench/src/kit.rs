//! What every measurement needs: where the binaries are, where to work, and how much to do.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// Where and how much.
#[derive(Debug)]
pub(crate) struct Kit {
    binaries: PathBuf,
    directory: TempDir,
    names: AtomicU32,
    pub(crate) scale: Scale,
}

/// How much is done for a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How often limit and figure are measured, one after the other.
    pub(crate) rounds: u32,
    /// Calls in a round.
    pub(crate) calls: u32,
    /// Calls in a round that are as long as a hundred.
    pub(crate) long_calls: u32,
    /// New processes in a round.
    pub(crate) processes: u32,
    /// Processes that hold a stream.
    pub(crate) holders: [u32; 2],
    /// Agents that are connected to the server.
    pub(crate) agents: u32,
    /// Entries of a full server.
    pub(crate) entries: usize,
    /// How often something is started.
    pub(crate) starts: u32,
    /// Entries of a server as large as there are any.
    pub(crate) many_entries: usize,
    /// Agents that a server knows.
    pub(crate) many_agents: u32,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        rounds: 9,
        calls: 500,
        long_calls: 10,
        processes: 60,
        holders: [100, 1_000],
        agents: 300,
        entries: 20_000,
        starts: 5,
        many_entries: 100_000,
        many_agents: 50_000,
    };

    /// Enough to see that everything works, and not to learn anything from the numbers.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        calls: 20,
        long_calls: 1,
        processes: 2,
        holders: [2, 4],
        agents: 3,
        entries: 1_000,
        starts: 1,
        many_entries: 1_500,
        many_agents: 50,
    };
}

impl Kit {
    /// With the binaries of `binaries`, or those beside this program.
    pub(crate) fn new(binaries: Option<PathBuf>, scale: Scale) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().map(Path::to_owned);
        let binaries = binaries.or(beside).context("no directory of binaries")?;
        // Paths of sockets must be short.
        let directory = tempfile::Builder::new().prefix("bench").tempdir()?;
        let kit = Self { binaries, directory, names: AtomicU32::new(0), scale };
        for name in ["steeple-server", "steeple-agent"] {
            let path = kit.binary(name);
            ensure!(path.is_file(), "{} is missing: build it, or set --bin-dir", path.display());
        }
        Ok(kit)
    }

    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path that nothing else has.
    pub(crate) fn new_path(&self) -> PathBuf {
        self.path(&format!("{}", self.names.fetch_add(1, Ordering::Relaxed)))
    }
}
