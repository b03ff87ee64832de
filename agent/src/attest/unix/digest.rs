//! SHA-256 of executables: each content hashed once, however many ask.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::io::Errno;
use steeple::clock::Clock;
use steeple::turns::Turns;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use crate::peer::PeerError;
use crate::peer::image::{Executable, FileStamp};

/// How many files are hashed at once.
pub const HASHINGS: usize = 4;

/// How many of one user's processes are waited for at once, so that one who runs many large files
/// does not keep those of others from being hashed.
const HASHINGS_OF_USER: usize = HASHINGS / 2;

/// The most digests that are remembered.
const MAX_DIGESTS: usize = 1024;

/// How long a file must have been as it is for its digest to be remembered. Two changes within one
/// tick of the file system's clock leave the same stamp.
const SETTLED: Duration = Duration::from_secs(2);

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// The largest file that is hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeLimit(Option<u64>);

/// Why a file has no digest.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DigestError {
    /// It is larger than the configured limit.
    #[error("the file of {0} bytes is larger than `workload_size_limit`")]
    TooLarge(u64),
    /// A server in user space answers for its content.
    #[error("the file is on a FUSE file system")]
    UserSpace,
    /// It was written to meanwhile.
    #[error("the file changed while it was read")]
    Changed,
    /// It could not be read.
    #[error("reading the file: {0}")]
    Read(Errno),
    /// Hashing was given up.
    #[error("hashing was given up")]
    Broken,
}

/// 64 hexadecimal digits.
pub type Digest = Arc<str>;

type Outcome = Option<Result<Digest, DigestError>>;

/// The digests of executables.
#[derive(Debug)]
pub struct Digests {
    limit: SizeLimit,
    clock: Arc<dyn Clock>,
    slots: Arc<Mutex<HashMap<FileStamp, Slot>>>,
    hashings: Arc<Semaphore>,
    turns: Turns,
}

#[derive(Clone, Debug)]
enum Slot {
    Hashing(watch::Receiver<Outcome>),
    Known(Digest),
}

impl SizeLimit {
    /// What `workload_size_limit` means: `None` if nothing is hashed.
    #[must_use]
    pub fn of(limit: i64) -> Option<Self> {
        match u64::try_from(limit) {
            Ok(0) => Some(Self(None)),
            Ok(limit) => Some(Self(Some(limit))),
            Err(_) => None,
        }
    }
}

impl Digests {
    /// No digests yet.
    #[must_use]
    pub fn new(limit: SizeLimit, clock: Arc<dyn Clock>) -> Self {
        let hashings = Arc::new(Semaphore::new(HASHINGS));
        let turns = Turns::new(HASHINGS_OF_USER);
        Self { limit, clock, slots: Arc::default(), hashings, turns }
    }

    /// The digest of the executable of one of this user's processes. May be dropped while it waits:
    /// hashing goes on.
    pub async fn of(&self, user: u32, executable: Executable) -> Result<Digest, DigestError> {
        let stamp = executable.stamp();
        if self.limit.0.is_some_and(|limit| stamp.size > limit) {
            return Err(DigestError::TooLarge(stamp.size));
        }
        let slot = lock(&self.slots).get(&stamp).cloned();
        match slot {
            Some(Slot::Known(digest)) => Ok(digest),
            Some(Slot::Hashing(outcome)) => wait(outcome).await,
            None => self.begin(user, executable).await,
        }
    }

    /// Whether it is known for good what the digest of this content is.
    #[must_use]
    pub fn remembers(&self, stamp: &FileStamp) -> bool {
        matches!(lock(&self.slots).get(stamp), Some(Slot::Known(_)))
    }

    async fn begin(&self, user: u32, executable: Executable) -> Result<Digest, DigestError> {
        let turn = self.turns.take(user).await;
        let Ok(permit) = self.hashings.clone().acquire_owned().await else {
            return Err(DigestError::Broken);
        };
        let stamp = executable.stamp();
        let (done, outcome) = watch::channel(None);
        // Another may have begun in the meantime.
        if let Some(slot) = self.claim(stamp, outcome.clone()) {
            drop((permit, turn));
            return match slot {
                Slot::Known(digest) => Ok(digest),
                Slot::Hashing(outcome) => wait(outcome).await,
            };
        }
        let settled = is_settled(stamp, self.clock.now());
        let hashing = Hashing { executable, settled, slots: Arc::downgrade(&self.slots), done };
        tokio::task::spawn_blocking(move || {
            hashing.run();
            drop((permit, turn));
        });
        wait(outcome).await
    }

    /// Puts a hashing in the slot of this stamp, unless something is there: that is returned.
    fn claim(&self, stamp: FileStamp, outcome: watch::Receiver<Outcome>) -> Option<Slot> {
        match lock(&self.slots).entry(stamp) {
            Entry::Occupied(occupied) => Some(occupied.get().clone()),
            Entry::Vacant(vacant) => {
                vacant.insert(Slot::Hashing(outcome));
                None
            }
        }
    }
}

async fn wait(mut outcome: watch::Receiver<Outcome>) -> Result<Digest, DigestError> {
    let done = outcome.wait_for(Option::is_some).await;
    done.ok().and_then(|done| done.clone()).unwrap_or(Err(DigestError::Broken))
}

/// One file being hashed. Its slot is emptied or filled whatever happens.
struct Hashing {
    executable: Executable,
    settled: bool,
    slots: Weak<Mutex<HashMap<FileStamp, Slot>>>,
    done: watch::Sender<Outcome>,
}

impl Hashing {
    fn run(self) {
        let outcome = self.hash();
        // Before anybody hears of it: who asks then finds the digest, or begins anew.
        self.release(outcome.as_ref().ok().filter(|_| self.settled));
        self.done.send_replace(Some(outcome));
    }

    /// Puts a digest to remember in the place of this hashing, or nothing.
    fn release(&self, digest: Option<&Digest>) {
        let Some(slots) = self.slots.upgrade() else {
            return;
        };
        let mut slots = lock(&slots);
        let stamp = self.executable.stamp();
        if matches!(slots.get(&stamp), Some(Slot::Hashing(_))) {
            slots.remove(&stamp);
        }
        if let Some(digest) = digest {
            make_room(&mut slots);
            slots.insert(stamp, Slot::Known(digest.clone()));
        }
    }

    fn hash(&self) -> Result<Digest, DigestError> {
        let file = match self.executable.open_content() {
            Ok(Some(file)) => file,
            Ok(None) => return Err(DigestError::UserSpace),
            Err(PeerError::Proc(error)) => return Err(DigestError::Read(error)),
            Err(_) => return Err(DigestError::Broken),
        };
        let stamp = self.executable.stamp();
        let digest = self.hash_content(&file)?;
        // The content is that of the stamp if the file bore it before the first byte was read and
        // bears it still.
        match FileStamp::of_file(file.as_fd()) {
            Ok(after) if after == stamp => Ok(digest),
            Ok(_) => Err(DigestError::Changed),
            Err(error) => Err(DigestError::Read(error)),
        }
    }

    fn hash_content(&self, file: &OwnedFd) -> Result<Digest, DigestError> {
        let mut context = Context::new(&SHA256);
        let mut chunk = vec![0; CHUNK];
        loop {
            match rustix::io::read(file, &mut *chunk) {
                Ok(0) => break,
                Ok(read) => context.update(chunk.get(..read).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(DigestError::Read(error)),
            }
            // Nobody is left to remember it for: the agent is shutting down.
            if self.slots.strong_count() == 0 {
                return Err(DigestError::Broken);
            }
        }
        let mut text = String::with_capacity(64);
        for byte in context.finish().as_ref() {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        Ok(text.into())
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        // Only after a panic: otherwise it is released, and another may have begun since.
        if self.done.borrow().is_none() {
            self.release(None);
        }
    }
}

/// Whether a change that left the same stamp is out of the question. A file from the future, by a
/// clock that was set back, is not settled.
fn is_settled(stamp: FileStamp, now: SystemTime) -> bool {
    let (seconds, nanoseconds) = stamp.changed;
    let changed = u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs)
        + Duration::from_nanos(nanoseconds.into());
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(changed).is_some_and(|age| age > SETTLED)
}

/// Forgets some digest if there are too many. Which one hardly matters: it is found again.
fn make_room(slots: &mut HashMap<FileStamp, Slot>) {
    if slots.len() < MAX_DIGESTS {
        return;
    }
    let known = slots.iter().find(|(_, slot)| matches!(slot, Slot::Known(_)));
    if let Some(stamp) = known.map(|(stamp, _)| *stamp) {
        slots.remove(&stamp);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
