//! Counts connections and requests, of each caller and of all, and says when there are enough.
//!
//! A caller is a user: it is what the kernel tells at accept, and what a process cannot change by
//! forking.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thiserror::Error;

/// How many there may be of something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// For all users together.
    pub all: usize,
    /// For one user.
    pub user: usize,
}

/// How much of everything the endpoint takes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Open connections.
    pub connections: Limit,
    /// Requests being answered, open streams included.
    pub requests: Limit,
    /// Requests being received that are larger than they usually are.
    pub large_requests: Limit,
    /// Requests being answered on one connection.
    pub requests_per_connection: u32,
}

/// The descriptors of one client: the socket, one more of it while the client does not read, two that
/// pin the peer, three that are kept to read about it, one to read more, and one that is held for as
/// long as the process lives once it has an SVID, connected or not.
const DESCRIPTORS: u64 = 9;

/// The descriptors that everything else in the process may need.
const OTHER_DESCRIPTORS: u64 = 256;

impl Default for Limits {
    /// Enough for a thousand processes of one user which each hold a few streams open, while
    /// others can still come in. A connection costs some 30 KiB.
    fn default() -> Self {
        Self {
            connections: Limit { all: 8192, user: 2048 },
            requests: Limit { all: 32_768, user: 8192 },
            large_requests: Limit { all: 256, user: 64 },
            requests_per_connection: 256,
        }
    }
}

impl Limits {
    /// Enough for a few administrators, and for delegates with many streams each. So few
    /// connections find their descriptors among those that are left for everything else.
    #[must_use]
    pub const fn of_administrators() -> Self {
        Self {
            connections: Limit { all: 28, user: 28 },
            requests: Limit { all: 4096, user: 4096 },
            large_requests: Limit { all: 32, user: 32 },
            requests_per_connection: 1024,
        }
    }

    /// How many descriptors a process needs for as many connections.
    #[must_use]
    pub const fn descriptors(&self) -> u64 {
        self.connections.all as u64 * DESCRIPTORS + OTHER_DESCRIPTORS
    }

    /// The same limits where the process may have no more descriptors than these. One user gets
    /// half of the connections at most: otherwise one could shut out all others.
    #[must_use]
    pub fn within(self, descriptors: u64) -> Self {
        let room = descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS;
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(2);
        if room >= self.connections.all {
            return self;
        }
        let connections = Limit { all: room, user: self.connections.user.min(room / 2) };
        Self { connections, ..self }
    }

    const fn of(&self, resource: Resource) -> Limit {
        match resource {
            Resource::Connections => self.connections,
            Resource::Requests => self.requests,
            Resource::LargeRequests => self.large_requests,
        }
    }
}

/// Which of the limits was reached.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Exhausted {
    /// What one user may have.
    #[error("too many {0} of this user")]
    User(Resource),
    /// What all may have together.
    #[error("too many {0}")]
    All(Resource),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Open connections.
    Connections,
    /// Requests being answered.
    Requests,
    /// Large requests being received.
    LargeRequests,
}

/// The counts of one endpoint.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    counts: Counts,
    users: Mutex<HashMap<u32, Weak<Usage>>>,
}

/// What one user has in use, for as long as that is anything.
#[derive(Debug)]
struct Usage {
    user: u32,
    budget: Arc<Budget>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    large_requests: AtomicUsize,
}

/// The right to one of what is counted; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    usage: Arc<Usage>,
    resource: Resource,
}

impl Budget {
    /// Nothing in use.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Counts::default(), users: Mutex::default() })
    }

    /// Takes on a connection of this user.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn connection(self: &Arc<Self>, user: u32) -> Result<Permit, Exhausted> {
        Permit::take(&self.usage(user), Resource::Connections)
    }

    fn usage(self: &Arc<Self>, user: u32) -> Arc<Usage> {
        let mut users = self.users();
        if let Some(usage) = users.get(&user).and_then(Weak::upgrade) {
            return usage;
        }
        let (budget, counts) = (Arc::clone(self), Counts::default());
        let usage = Arc::new(Usage { user, budget, counts });
        users.insert(user, Arc::downgrade(&usage));
        usage
    }

    fn users(&self) -> MutexGuard<'_, HashMap<u32, Weak<Usage>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes on one more of something for the same user.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn another(&self, resource: Resource) -> Result<Self, Exhausted> {
        Self::take(&self.usage, resource)
    }

    fn take(usage: &Arc<Usage>, resource: Resource) -> Result<Self, Exhausted> {
        let limit = usage.budget.limits.of(resource);
        let own = usage.counts.of(resource);
        if !take(own, limit.user) {
            return Err(Exhausted::User(resource));
        }
        if !take(usage.budget.counts.of(resource), limit.all) {
            give_back(own);
            return Err(Exhausted::All(resource));
        }
        Ok(Self { usage: Arc::clone(usage), resource })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        give_back(self.usage.counts.of(self.resource));
        give_back(self.usage.budget.counts.of(self.resource));
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        // Another connection of the same user may have begun a new count in the meantime.
        let mut users = self.budget.users();
        if users.get(&self.user).is_some_and(|usage| usage.strong_count() == 0) {
            users.remove(&self.user);
        }
    }
}

impl Counts {
    const fn of(&self, resource: Resource) -> &AtomicUsize {
        match resource {
            Resource::Connections => &self.connections,
            Resource::Requests => &self.requests,
            Resource::LargeRequests => &self.large_requests,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::LargeRequests => "large requests",
        })
    }
}

fn take(count: &AtomicUsize, limit: usize) -> bool {
    let more = |now: usize| (now < limit).then(|| now + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

fn give_back(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: Limit { all: 3, user: 2 },
        requests: Limit { all: 3, user: 2 },
        large_requests: Limit { all: 3, user: 2 },
        requests_per_connection: 10,
    };

    #[test]
    fn one_user_cannot_use_up_what_others_need() {
        let budget = Budget::new(LIMITS);
        let first = budget.connection(1).unwrap();
        let _second = budget.connection(1).unwrap();
        let refused = Exhausted::User(Resource::Connections);
        assert_eq!(budget.connection(1).map(drop), Err(refused));
        let _other = budget.connection(2).unwrap();
        assert_eq!(budget.connection(3).map(drop), Err(Exhausted::All(Resource::Connections)));
        drop(first);
        let _third = budget.connection(3).unwrap();
        assert_eq!(budget.connection(1).map(drop), Err(Exhausted::All(Resource::Connections)));
    }

    #[test]
    fn requests_are_counted_over_all_connections_of_a_user() {
        let budget = Budget::new(LIMITS);
        let [a, b] = [budget.connection(1).unwrap(), budget.connection(1).unwrap()];
        let other = budget.connection(2).unwrap();
        let first = a.another(Resource::Requests).unwrap();
        let _second = b.another(Resource::Requests).unwrap();
        assert_eq!(
            a.another(Resource::Requests).map(drop),
            Err(Exhausted::User(Resource::Requests))
        );
        let _third = other.another(Resource::Requests).unwrap();
        assert_eq!(
            other.another(Resource::Requests).map(drop),
            Err(Exhausted::All(Resource::Requests))
        );
        drop(first);
        b.another(Resource::Requests).unwrap();
    }

    #[test]
    fn a_refusal_uses_up_nothing() {
        let budget = Budget::new(LIMITS);
        let [a, b] = [budget.connection(1).unwrap(), budget.connection(1).unwrap()];
        let other = budget.connection(2).unwrap();
        for _ in 0..5 {
            assert!(budget.connection(2).is_err());
        }
        drop(b);
        let _last = budget.connection(2).unwrap();
        let [_c, d] =
            [a.another(Resource::Requests).unwrap(), a.another(Resource::Requests).unwrap()];
        let _e = other.another(Resource::Requests).unwrap();
        for _ in 0..5 {
            assert!(other.another(Resource::Requests).is_err());
        }
        drop(d);
        other.another(Resource::Requests).unwrap();
    }

    #[test]
    fn fewer_descriptors_mean_fewer_connections_and_never_all_for_one_user() {
        let limits = Limits::default();
        let within = |descriptors| {
            let Limit { all, user } = limits.within(descriptors).connections;
            (all, user)
        };
        assert_eq!(within(limits.descriptors()), (8192, 2048));
        assert_eq!(within(u64::MAX), (8192, 2048));
        assert_eq!(within(limits.descriptors() - 1), (8191, 2048));
        assert_eq!(within(1024), (85, 42));
        assert_eq!(within(0), (2, 1));
    }

    #[test]
    fn administrators_find_their_descriptors_among_those_for_everything_else() {
        let administrators = Limits::of_administrators().connections.all as u64;
        assert!(administrators * DESCRIPTORS <= OTHER_DESCRIPTORS);
    }

    #[test]
    fn a_count_that_ends_late_takes_no_other_with_it() {
        let budget = Budget::new(LIMITS);
        let old = budget.connection(1).unwrap();
        budget.users().clear();
        let new = budget.connection(1).unwrap();
        drop(old);
        assert_eq!(budget.users().len(), 1);
        drop(new);
        assert!(budget.users().is_empty());
    }

    #[test]
    fn what_was_refused_or_given_back_leaves_no_trace() {
        let budget = Budget::new(LIMITS);
        for _ in 0..10 {
            let held: Vec<_> = (0..4).map(|_| budget.connection(1)).collect();
            let requests: Vec<_> =
                held.iter().flatten().map(|held| held.another(Resource::Requests)).collect();
            drop(held);
            assert_eq!(budget.users().len(), 1);
            drop(requests);
            assert!(budget.users().is_empty());
        }
        assert_eq!(budget.counts.connections.load(Ordering::Acquire), 0);
        assert_eq!(budget.counts.requests.load(Ordering::Acquire), 0);
    }
}
