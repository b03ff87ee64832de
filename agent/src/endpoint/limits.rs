//! Counts connections and requests, of each caller and of all, and says when there are enough.
//!
//! A caller is a user: it is what the kernel tells at accept, and what a process cannot change by
//! forking.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thiserror::Error;

/// How much of everything the endpoint takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, of all callers together.
    pub connections: usize,
    /// Open connections of one user.
    pub connections_per_user: usize,
    /// Requests being answered, open streams included, of all callers together.
    pub requests: usize,
    /// Requests being answered of one user.
    pub requests_per_user: usize,
    /// Requests being answered on one connection.
    pub requests_per_connection: u32,
}

impl Default for Limits {
    /// Enough for a thousand processes of one user which each hold a few streams open, while
    /// another user can still come in. A descriptor is cheap and a connection costs some 30 KiB.
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_user: 2048,
            requests: 32_768,
            requests_per_user: 8192,
            requests_per_connection: 256,
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
}

/// The counts of one endpoint.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    connections: AtomicUsize,
    requests: AtomicUsize,
    users: Mutex<HashMap<u32, Weak<Usage>>>,
}

/// What one user has in use, for as long as that is anything.
#[derive(Debug)]
struct Usage {
    user: u32,
    budget: Arc<Budget>,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// The right to hold one connection; dropping it gives it back.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Usage>);

/// The right to have one request answered; dropping it gives it back.
#[derive(Debug)]
pub struct RequestPermit(Arc<Usage>);

impl Budget {
    /// Nothing in use.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            users: Mutex::default(),
        })
    }

    /// Takes on a connection of this user.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn connection(self: &Arc<Self>, user: u32) -> Result<ConnectionPermit, Exhausted> {
        let usage = self.usage(user);
        if !take(&usage.connections, self.limits.connections_per_user) {
            return Err(Exhausted::User(Resource::Connections));
        }
        if !take(&self.connections, self.limits.connections) {
            give_back(&usage.connections);
            return Err(Exhausted::All(Resource::Connections));
        }
        Ok(ConnectionPermit(usage))
    }

    fn usage(self: &Arc<Self>, user: u32) -> Arc<Usage> {
        let mut users = self.users();
        if let Some(usage) = users.get(&user).and_then(Weak::upgrade) {
            return usage;
        }
        let usage = Arc::new(Usage {
            user,
            budget: Arc::clone(self),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        users.insert(user, Arc::downgrade(&usage));
        usage
    }

    fn users(&self) -> MutexGuard<'_, HashMap<u32, Weak<Usage>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Takes on a request that came over this connection.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn request(&self) -> Result<RequestPermit, Exhausted> {
        let usage = &self.0;
        if !take(&usage.requests, usage.budget.limits.requests_per_user) {
            return Err(Exhausted::User(Resource::Requests));
        }
        if !take(&usage.budget.requests, usage.budget.limits.requests) {
            give_back(&usage.requests);
            return Err(Exhausted::All(Resource::Requests));
        }
        Ok(RequestPermit(Arc::clone(usage)))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        give_back(&self.0.connections);
        give_back(&self.0.budget.connections);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        give_back(&self.0.requests);
        give_back(&self.0.budget.requests);
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

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
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
        connections: 3,
        connections_per_user: 2,
        requests: 3,
        requests_per_user: 2,
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
        let first = a.request().unwrap();
        let _second = b.request().unwrap();
        assert_eq!(a.request().map(drop), Err(Exhausted::User(Resource::Requests)));
        let _third = other.request().unwrap();
        assert_eq!(other.request().map(drop), Err(Exhausted::All(Resource::Requests)));
        drop(first);
        b.request().unwrap();
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
        let [_c, d] = [a.request().unwrap(), a.request().unwrap()];
        let _e = other.request().unwrap();
        for _ in 0..5 {
            assert!(other.request().is_err());
        }
        drop(d);
        other.request().unwrap();
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
            let requests: Vec<_> = held.iter().flatten().map(ConnectionPermit::request).collect();
            drop(held);
            assert_eq!(budget.users().len(), 1);
            drop(requests);
            assert!(budget.users().is_empty());
        }
        assert_eq!(budget.connections.load(Ordering::Acquire), 0);
        assert_eq!(budget.requests.load(Ordering::Acquire), 0);
    }
}
