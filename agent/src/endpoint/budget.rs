//! Counts connections and requests, of each user, each container and all, and refuses what is beyond
//! the limits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::limits::{Exhausted, Limits, RESERVED, Resource};
use crate::complaints::Complaints;

/// Where a client comes from: what the kernel tells at accept, and what a process cannot change by
/// forking or by becoming another user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The process.
    pub pid: u32,
    /// Its user.
    pub user: u32,
    /// Where it is.
    pub place: Place,
}

/// Where a process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Beside this agent. Root and the agent's own user are its keepers there: some of everything is
    /// left for them alone, as who is to look into a crowd has to come in.
    Here,
    /// In a container, or what else has PIDs of its own: in the namespace of this number.
    Namespace(u64),
    /// This agent may not know.
    Unknown,
}

/// Who something is counted for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Holder {
    /// One process.
    Process(u32),
    /// A user in no container.
    Host(u32),
    /// All users of a container.
    Namespace(u64),
    /// A user, wherever it is.
    User(u32),
}

/// Whether what is left for keepers may be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reserve {
    Kept,
    Open,
}

/// The counts of one endpoint.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    /// The user that this agent runs as.
    own_user: u32,
    counts: Counts,
    usages: Mutex<HashMap<Holder, Weak<Usage>>>,
    /// Grows with each request that ends.
    now: AtomicU64,
    complaints: Complaints<Holder>,
}

/// What somebody has in use, for as long as that is anything.
#[derive(Debug)]
struct Usage {
    holder: Holder,
    budget: Arc<Budget>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    large_requests: AtomicUsize,
}

/// The place of a connection, and what it may take: there is one for each.
#[derive(Debug)]
pub(super) struct Seat {
    origin: Origin,
    process: Arc<Usage>,
    /// All that are in the same container, or of the same user in none.
    party: Arc<Usage>,
    user: Arc<Usage>,
    /// How many requests have arrived and not ended. One that ends before its body is dropped
    /// takes it below zero for that long.
    open: AtomicI32,
    /// When the last request ended, by the budget's time.
    idle_since: AtomicU64,
    is_given_up: AtomicBool,
    dismissal: Notify,
}

/// The right to one request; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    seat: Arc<Seat>,
    resource: Resource,
    /// It has a place for as long as it is open.
    holds: bool,
}

/// What matters of a connection when somebody has to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    /// How many connections its container has, or its user outside of any.
    pub(super) party: usize,
    /// How many connections its process has.
    pub(super) process: usize,
    /// When its last request ended; `None` if one is open.
    pub(super) idle_since: Option<u64>,
}

impl Budget {
    /// Nothing in use.
    pub(super) fn new(limits: Limits, own_user: u32) -> Arc<Self> {
        let (counts, usages, now, complaints) = Default::default();
        Arc::new(Self { limits, own_user, counts, usages, now, complaints })
    }

    /// Takes on a connection.
    ///
    /// # Errors
    /// The limit that was reached.
    pub(super) fn seat(
        self: &Arc<Self>,
        origin: Origin,
        reserve: Reserve,
    ) -> Result<Arc<Seat>, Exhausted> {
        let seat = Seat {
            origin,
            process: self.usage(Holder::Process(origin.pid)),
            party: self.usage(origin.party()),
            user: self.usage(Holder::User(origin.user)),
            open: AtomicI32::new(0),
            idle_since: AtomicU64::new(self.tick()),
            // Not to be given back if it was not to be had.
            is_given_up: AtomicBool::new(true),
            dismissal: Notify::new(),
        };
        seat.take(Resource::Connections, reserve)?;
        seat.is_given_up.store(false, Ordering::Release);
        seat.process.counts.connections.fetch_add(1, Ordering::AcqRel);
        Ok(Arc::new(seat))
    }

    /// Whether a client from there may have what is left for keepers.
    pub(super) const fn reserve(&self, origin: Origin) -> Reserve {
        match origin.place {
            Place::Here if origin.user == 0 || origin.user == self.own_user => Reserve::Open,
            Place::Here | Place::Namespace(_) | Place::Unknown => Reserve::Kept,
        }
    }

    /// Whether something about a client from there is to be logged, and how much was left out
    /// before it, if anything was.
    pub(super) fn admit_complaint(&self, origin: Origin) -> Option<Option<u64>> {
        let left_out = self.complaints.admit(origin.party(), Instant::now())?;
        Some((left_out > 0).then_some(left_out))
    }

    /// Logs that a client from there was refused something.
    pub(super) fn complain(&self, origin: Origin, limit: Exhausted) {
        if let Some(left_out) = self.admit_complaint(origin) {
            let Origin { pid, user: uid, .. } = origin;
            warn!(pid, uid, error = %limit, left_out, "client refused");
        }
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }

    fn usage(self: &Arc<Self>, holder: Holder) -> Arc<Usage> {
        let mut usages = self.usages();
        if let Some(usage) = usages.get(&holder).and_then(Weak::upgrade) {
            return usage;
        }
        let (budget, counts) = (Arc::clone(self), Counts::default());
        let usage = Arc::new(Usage { holder, budget, counts });
        usages.insert(holder, Arc::downgrade(&usage));
        usage
    }

    fn usages(&self) -> MutexGuard<'_, HashMap<Holder, Weak<Usage>>> {
        self.usages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    const fn party(&self) -> Holder {
        match self.place {
            Place::Here | Place::Unknown => Holder::Host(self.user),
            Place::Namespace(number) => Holder::Namespace(number),
        }
    }

    /// Whether a client from there, if it goes, makes room for one from `other` beyond that limit.
    pub(super) fn shares(&self, other: &Self, limit: Exhausted) -> bool {
        match limit {
            Exhausted::User(_) => self.user == other.user,
            Exhausted::Namespace(_) => self.party() == other.party(),
            Exhausted::All(_) => true,
        }
    }
}

impl Seat {
    /// Takes on one more request, which `holds` the place of the connection from when it has
    /// arrived.
    ///
    /// # Errors
    /// The limit that was reached.
    pub(super) fn request(self: &Arc<Self>, holds: bool) -> Result<Permit, Exhausted> {
        self.permit(Resource::Requests, holds)
    }

    /// Takes on one more large request that is on its way.
    ///
    /// # Errors
    /// The limit that was reached.
    pub(super) fn large_request(self: &Arc<Self>) -> Result<Permit, Exhausted> {
        self.permit(Resource::LargeRequests, false)
    }

    /// A request that holds the place has arrived, or never will.
    pub(super) fn arrived(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives the place to others, and tells the connection to end. A second time, it is to end at
    /// once.
    pub(super) fn dismiss(&self) {
        self.give_up();
        self.dismissal.notify_one();
    }

    /// Returns when the connection is told to end.
    pub(super) async fn dismissed(&self) {
        self.dismissal.notified().await;
    }

    pub(super) const fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.user.budget
    }

    pub(super) fn standing(&self) -> Standing {
        let count = |usage: &Usage| usage.counts.connections.load(Ordering::Acquire);
        let is_idle = self.open.load(Ordering::Acquire) <= 0 && !self.is_given_up();
        let idle_since = is_idle.then(|| self.idle_since.load(Ordering::Acquire));
        Standing { party: count(&self.party), process: count(&self.process), idle_since }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    fn permit(self: &Arc<Self>, resource: Resource, holds: bool) -> Result<Permit, Exhausted> {
        self.take(resource, self.budget().reserve(self.origin))?;
        Ok(Permit { seat: Arc::clone(self), resource, holds })
    }

    fn take(&self, resource: Resource, reserve: Reserve) -> Result<(), Exhausted> {
        let limit = self.budget().limits.of(resource);
        let extra = match reserve {
            Reserve::Kept => 0,
            Reserve::Open => RESERVED,
        };
        let of_party = match self.origin.place {
            Place::Here | Place::Unknown => limit.user,
            Place::Namespace(_) => limit.namespace(),
        };
        let [party, user, all] = self.counts(resource);
        if !take(party, of_party + extra) {
            return Err(match self.origin.place {
                Place::Here | Place::Unknown => Exhausted::User(resource),
                Place::Namespace(_) => Exhausted::Namespace(resource),
            });
        }
        if !take(user, limit.user + extra) {
            give_back(party);
            return Err(Exhausted::User(resource));
        }
        if !take(all, limit.all + extra) {
            give_back(party);
            give_back(user);
            return Err(Exhausted::All(resource));
        }
        Ok(())
    }

    fn counts(&self, resource: Resource) -> [&AtomicUsize; 3] {
        let of_all = &self.budget().counts;
        [&self.party.counts, &self.user.counts, of_all].map(|counts| counts.of(resource))
    }

    fn give_up(&self) {
        if !self.is_given_up.swap(true, Ordering::AcqRel) {
            self.counts(Resource::Connections).into_iter().for_each(give_back);
            give_back(&self.process.counts.connections);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { seat, resource, holds } = self;
        seat.counts(*resource).into_iter().for_each(give_back);
        if *holds {
            seat.open.fetch_sub(1, Ordering::AcqRel);
            seat.idle_since.store(seat.budget().tick(), Ordering::Release);
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        // Another connection of the same holder may have begun a new count in the meantime.
        let mut usages = self.budget.usages();
        if usages.get(&self.holder).is_some_and(|usage| usage.strong_count() == 0) {
            usages.remove(&self.holder);
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

fn take(count: &AtomicUsize, limit: usize) -> bool {
    let more = |now: usize| (now < limit).then(|| now + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

fn give_back(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::AcqRel);
}

#[cfg(test)]
mod tests;
