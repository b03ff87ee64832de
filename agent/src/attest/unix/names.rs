//! The names of users and groups, remembered for a short time.
//!
//! A name may come from a directory server, so a lookup may take long or never return. It runs
//! aside, for a bounded time, and only so many at once; then there are no names this time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

/// How long a name is remembered, or that there is none.
const FRESH: Duration = Duration::from_secs(30);

/// How long an attestation waits for names.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many lookups run at once, those included that nobody waits for any more.
pub const LOOKUPS: usize = 4;

/// The most names that are remembered.
const MAX_NAMES: usize = 4096;

/// Whose name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Id {
    /// A user.
    User(u32),
    /// A group.
    Group(u32),
}

/// Looks a name up, however long it takes.
pub type Lookup = fn(Id) -> Option<String>;

type Name = Option<Arc<str>>;

/// The names of users and groups.
pub struct Names {
    lookup: Lookup,
    known: Arc<Mutex<HashMap<Id, (Name, Instant)>>>,
    lookups: Arc<Semaphore>,
}

/// The names of some users and groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    names: Vec<(Id, Name)>,
    /// How long all of them are good for.
    until: Instant,
    incomplete: bool,
}

impl Named {
    /// The user's name.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.name(Id::User(uid))
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.name(Id::Group(gid))
    }

    /// Whether names are missing that may be there another time.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// How long these names are good for; `None` if some are missing.
    #[must_use]
    pub fn good_until(&self) -> Option<Instant> {
        (!self.incomplete).then_some(self.until)
    }

    fn name(&self, id: Id) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == id)?.1.as_deref()
    }
}

impl Names {
    /// Names that are looked up in this way.
    #[must_use]
    pub fn new(lookup: Lookup) -> Self {
        Self { lookup, known: Arc::default(), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// The names of a user and of groups.
    pub async fn of(&self, uid: u32, gid: u32, groups: &[u32]) -> Named {
        let groups = groups.iter().copied().filter(|group| *group != gid);
        let ids = [Id::User(uid), Id::Group(gid)].into_iter().chain(groups.map(Id::Group));
        let (mut named, missing) = self.known(ids);
        if !missing.is_empty() {
            match tokio::time::timeout(PATIENCE, self.look_up(missing)).await {
                Ok(Some(found)) => named.names.extend(found),
                Ok(None) | Err(_) => {
                    warn!(uid, gid, "the names of users and groups could not be looked up");
                    named.incomplete = true;
                }
            }
        }
        named
    }

    /// What is remembered, and what is not.
    fn known(&self, ids: impl Iterator<Item = Id>) -> (Named, Vec<Id>) {
        let now = Instant::now();
        let mut named = Named { names: Vec::new(), until: now + FRESH, incomplete: false };
        let mut missing = Vec::new();
        let known = lock(&self.known);
        for id in ids {
            match known.get(&id) {
                Some((name, until)) if now < *until => {
                    named.names.push((id, name.clone()));
                    named.until = named.until.min(*until);
                }
                Some(_) | None => missing.push(id),
            }
        }
        (named, missing)
    }

    async fn look_up(&self, missing: Vec<Id>) -> Option<Vec<(Id, Name)>> {
        let permit = self.lookups.clone().acquire_owned().await.ok()?;
        let (lookup, known) = (self.lookup, self.known.clone());
        let found = tokio::task::spawn_blocking(move || {
            let found: Vec<_> =
                missing.into_iter().map(|id| (id, lookup(id).map(Arc::from))).collect();
            remember(&known, &found);
            drop(permit);
            found
        });
        found.await.ok()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

/// Asks the system, as its `nsswitch.conf` says.
#[must_use]
pub fn system(id: Id) -> Option<String> {
    match id {
        Id::User(uid) => Some(User::from_uid(Uid::from_raw(uid)).ok()??.name),
        Id::Group(gid) => Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name),
    }
}

fn remember(known: &Mutex<HashMap<Id, (Name, Instant)>>, found: &[(Id, Name)]) {
    let now = Instant::now();
    let mut known = lock(known);
    if known.len() + found.len() > MAX_NAMES {
        known.retain(|_, (_, until)| now < *until);
    }
    if known.len() + found.len() > MAX_NAMES {
        known.clear();
    }
    known.extend(found.iter().map(|(id, name)| (*id, (name.clone(), now + FRESH))));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn names_are_looked_up_once_and_those_without_one_have_none() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let names = Names::new(|id| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            (id != Id::Group(7)).then(|| format!("{id:?}"))
        });
        for _ in 0..3 {
            let named = names.of(5, 6, &[7, 6, 8]).await;
            assert_eq!(named.user(5), Some("User(5)"));
            assert_eq!(named.group(6), Some("Group(6)"));
            assert_eq!(named.group(7), None);
            assert_eq!(named.group(8), Some("Group(8)"));
            assert!(!named.is_incomplete());
        }
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_good_until_the_first_of_them_is_looked_up_again() {
        let names = Names::new(|_| Some("x".to_owned()));
        let until = names.of(1, 1, &[]).await.good_until();
        assert_eq!(until, Some(Instant::now() + FRESH));
        tokio::time::advance(FRESH / 3).await;
        assert_eq!(names.of(2, 2, &[]).await.good_until(), Some(Instant::now() + FRESH));
        assert_eq!(names.of(2, 2, &[1]).await.good_until(), until);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_costs_the_names_and_nothing_else() {
        static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        let names = Names::new(|_| {
            let released = RELEASED.1.wait_while(lock(&RELEASED.0), |released| !*released);
            released.is_ok().then(|| "late".to_owned())
        });
        // More than may run at once.
        for uid in 0..6 {
            let (named, ()) = tokio::join!(names.of(uid, 6, &[]), tokio::time::advance(PATIENCE));
            assert!(named.is_incomplete());
            assert_eq!(named.good_until(), None);
            assert_eq!(named.user(uid), None);
        }
        *lock(&RELEASED.0) = true;
        RELEASED.1.notify_all();
        drop(names.lookups.acquire_many(4).await);
        let named = names.of(0, 6, &[]).await;
        assert_eq!((named.user(0), named.is_incomplete()), (Some("late"), false));
    }

    #[test]
    fn the_system_knows_root() {
        assert_eq!(system(Id::User(0)).as_deref(), Some("root"));
        assert_eq!(system(Id::Group(0)).as_deref(), Some("root"));
        assert_eq!(system(Id::User(4_000_000_000)), None);
    }
}
