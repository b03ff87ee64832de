//! The audit log: who was given, refused or changed what. JSON lines in a file of its own.
//!
//! What is recorded before something is done allows it: if [`Audit::record`] fails, nothing may be
//! signed. It returns when the kernel has the lines, which outlast this process however it ends;
//! a loss of power costs at most what the last 100 ms brought, or nothing with
//! [`Durability::Strict`].

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize, Serializer};
use steeple::clock::Clock;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use self::event::{Caller, Event};
use self::line::Line;
use self::storage::Storage;
use self::sync::Progress;

pub mod event;
mod line;
mod storage;
mod sync;

pub use self::storage::OpenError;

/// What survives a loss of power.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// All but what was recorded in the last 100 ms.
    Background,
    /// Everything that was recorded.
    Strict,
}

/// Where the log is and what it has to survive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file; it is made with mode 0600 if there is none. Its directory has to be there.
    pub path: PathBuf,
    /// What survives a loss of power.
    pub durability: Durability,
}

/// Why nothing was recorded.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The file cannot be written, as when the disk is full.
    #[error("the audit log cannot be written")]
    Write(#[source] std::io::Error),
    /// What was written cannot be made durable.
    #[error("the audit log cannot be made durable")]
    Sync,
}

/// Whether events can be recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// They can.
    Recording,
    /// They cannot, so that nothing is signed.
    Failing {
        /// Since when.
        since: SystemTime,
        /// What the last try came to.
        why: String,
    },
}

/// Links an intent to its result.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Correlation {
    run: u64,
    number: u64,
}

/// The open log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    durability: Durability,
    clock: Arc<dyn Clock>,
    /// Tells this run of the server from others that wrote to the same file.
    run: u64,
    log: Mutex<Log>,
    next_correlation: AtomicU64,
    /// Told after each write.
    written: Notify,
    progress: watch::Sender<Progress>,
    health: watch::Sender<Health>,
}

/// What one write at a time needs.
#[derive(Debug)]
struct Log {
    storage: Arc<dyn Storage>,
    /// Files that were left for another one and are not durable yet.
    left: Vec<Arc<dyn Storage>>,
    /// How many bytes of an event that failed are still at the end.
    torn: usize,
    buffer: Vec<u8>,
    /// The number of the last event that was written.
    sequence: u64,
    events_refused: u64,
}

impl Audit {
    /// Opens the log. An event that was torn when the last process ended is cut off, and an event
    /// says so.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let (file, bytes_cut) = storage::open(&config.path)?;
        let audit = Self::on(Arc::new(file), config, clock);
        audit.repaired(bytes_cut)?;
        Ok(audit)
    }

    fn on(storage: Arc<dyn Storage>, config: Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: config.path,
            durability: config.durability,
            clock,
            run: random(),
            log: Mutex::new(Log {
                storage,
                left: Vec::new(),
                torn: 0,
                buffer: Vec::with_capacity(64 * 1024),
                sequence: 0,
                events_refused: 0,
            }),
            next_correlation: AtomicU64::new(1),
            written: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            health: watch::Sender::new(Health::Recording),
        }
    }

    /// A name for something that is about to be tried.
    #[must_use]
    pub fn correlation(&self) -> Correlation {
        let number = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        Correlation { run: self.run, number }
    }

    /// Records what `caller` did or had done, all of it or nothing.
    pub async fn record(&self, caller: &Caller, events: &[Event]) -> Result<(), AuditError> {
        let sequence = self.append(caller, events)?;
        match self.durability {
            Durability::Background => Ok(()),
            Durability::Strict => self.durable(sequence).await,
        }
    }

    /// Goes on in a new file at the same path, after the old one was moved away. Nothing happens if
    /// it was not.
    pub async fn reopen(&self) -> Result<(), OpenError> {
        let path = self.path.clone();
        let current = self.log().storage.identity();
        let opened = tokio::task::spawn_blocking(move || storage::reopen(&path, current)).await;
        let opened = opened
            .map_err(|ended| OpenError::Io { path: self.path.clone(), source: ended.into() })?;
        let Some((file, bytes_cut)) = opened? else {
            return Ok(());
        };
        self.replace(Arc::new(file));
        info!(path = %self.path.display(), "audit log reopened");
        self.repaired(bytes_cut)
    }

    /// Whether events can be recorded, and each change of that.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn append(&self, caller: &Caller, events: &[Event]) -> Result<u64, AuditError> {
        if self.progress.borrow().failing {
            self.log().events_refused += count(events);
            return Err(AuditError::Sync);
        }
        let result = self.log().append(self.run, self.clock.now(), caller, events);
        match &result {
            Ok(_) => {
                self.written.notify_one();
                self.recovered();
            }
            Err(error) => self.failed(&error.to_string()),
        }
        result.map_err(AuditError::Write)
    }

    fn replace(&self, storage: Arc<dyn Storage>) {
        let mut log = self.log();
        // The last try to cut off what is torn there; the next process to open it does so, too.
        let left = log.storage.clone();
        if let Err(error) = storage::append_whole(&*left, &[], &mut log.torn) {
            warn!(error = &error as &dyn std::error::Error, "audit log left with a torn event");
        }
        log.torn = 0;
        log.left.push(left);
        log.storage = storage;
        drop(log);
        self.written.notify_one();
    }

    fn repaired(&self, bytes_cut: u64) -> Result<(), OpenError> {
        if bytes_cut == 0 {
            return Ok(());
        }
        let recorded = self.append(&Caller::Server, &[Event::AuditRepaired { bytes_cut }]);
        let path = self.path.clone();
        recorded.map(drop).map_err(|error| OpenError::Io { path, source: error.into() })
    }

    fn failed(&self, why: &str) {
        let since = self.clock.now();
        let changed = self.health.send_if_modified(|health| match health {
            Health::Recording => {
                *health = Health::Failing { since, why: why.into() };
                true
            }
            Health::Failing { .. } => false,
        });
        if changed {
            error!(path = %self.path.display(), error = why, "audit log fails, nothing is signed");
        }
    }

    fn recovered(&self) {
        let was_failing = |health: &Health| matches!(health, Health::Failing { .. });
        if !was_failing(&self.health.borrow()) || self.progress.borrow().failing {
            return;
        }
        let changed = self.health.send_if_modified(|health| {
            let changed = was_failing(health);
            *health = Health::Recording;
            changed
        });
        if changed {
            info!(path = %self.path.display(), "audit log works again");
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn append(
        &mut self,
        run: u64,
        now: SystemTime,
        caller: &Caller,
        events: &[Event],
    ) -> std::io::Result<u64> {
        self.buffer.clear();
        let mut sequence = self.sequence;
        for event in events {
            sequence += 1;
            Line { now, run, sequence, caller, event }.write(&mut self.buffer)?;
        }
        let written = storage::append_whole(&*self.storage, &self.buffer, &mut self.torn);
        match written {
            Ok(()) => self.sequence = sequence,
            Err(_) => self.events_refused += count(events),
        }
        written.map(|()| sequence)
    }
}

impl Correlation {
    /// A name that no log has.
    #[cfg(test)]
    pub(crate) fn for_tests(number: u64) -> Self {
        Self { run: 0, number }
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.number)
    }
}

impl Serialize for Correlation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<AuditError> for std::io::Error {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Write(source) => source,
            AuditError::Sync => Self::other(error),
        }
    }
}

fn count(events: &[Event]) -> u64 {
    u64::try_from(events.len()).unwrap_or(u64::MAX)
}

/// Without randomness two runs may share a name, which harms nobody: the log of each begins with
/// an event that says so.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_unspecified) => 0,
    }
}

#[cfg(test)]
pub(crate) mod tests;
