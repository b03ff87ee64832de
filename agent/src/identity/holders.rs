//! The holders of all instances of this node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use steeple::turns::Turns;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info_span, warn};

use super::deps::Deps;
use super::holder::{Holder, IdentityError};
use super::holdings::{Held, Holdings};
use super::mint::Mint;
use super::minter::Minter;
use super::owner::Owner;
use crate::attest::instance::{Instance, InstanceId};

/// How many asks of one holder may wait.
const MAX_ASKS: usize = 64;

/// How many JWT-SVIDs one user's processes may have minted at a time. The server signs these one by
/// one, for all users of this node over one connection.
const JWTS_AT_ONCE: usize = 16;

/// How many instances may hold credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// In all.
    pub all: usize,
    /// Processes of one user. Each costs a descriptor for as long as it lives, whether it is
    /// connected or not.
    pub user: usize,
}

/// One holder for each instance that has asked for something. Clones are the same holders.
#[derive(Clone, Debug)]
pub struct Holders {
    deps: Deps,
    minter: Minter,
    jwt_turns: Turns,
    capacity: Capacity,
    live: Arc<Mutex<Live>>,
}

/// How much of what is held depends on each authority.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InUse {
    /// X.509-SVIDs, by the key identifier of each CA that they depend on, up to the root.
    pub x509: BTreeMap<String, u32>,
    /// The CAs that signed X.509-SVIDs themselves, by their key identifiers.
    pub x509_issuers: BTreeSet<String>,
    /// JWT-SVIDs, by the ID of the key.
    pub jwt: BTreeMap<String, u32>,
}

#[derive(Debug, Default)]
struct Live {
    holders: HashMap<InstanceId, Holder>,
    of_user: HashMap<u32, usize>,
}

impl Holders {
    /// None yet.
    #[must_use]
    pub fn new(deps: Deps, capacity: Capacity) -> Self {
        let minter = Minter::start(deps.server.clone(), deps.key_algorithm, &deps.tasks);
        let (jwt_turns, live) = (Turns::new(JWTS_AT_ONCE), Arc::default());
        Self { deps, minter, jwt_turns, capacity, live }
    }

    /// How much of what all instances hold depends on each authority.
    #[must_use]
    pub fn authorities_in_use(&self) -> InUse {
        let mut found = InUse::default();
        let held: Vec<_> = {
            let live = lock(&self.live);
            live.holders.values().map(|holder| holder.holdings.borrow().clone()).collect()
        };
        let count = |of_kind: &mut BTreeMap<String, u32>, id: &str| match of_kind.get_mut(id) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(of_kind.insert(id.to_owned(), 1)),
        };
        for holdings in held {
            for credential in holdings.x509.values() {
                credential.issuers().iter().for_each(|id| count(&mut found.x509, id));
                found.x509_issuers.extend(credential.issuers().first().cloned());
            }
            holdings.jwt.values().for_each(|token| count(&mut found.jwt, &token.key_id));
        }
        found
    }

    /// The holder of this instance. It comes into being with the first call.
    ///
    /// # Errors
    /// [`IdentityError::TooMany`] if there are as many as there may be.
    pub fn of(&self, instance: &Instance) -> Result<Holder, IdentityError> {
        let mut live = lock(&self.live);
        match live.holders.get(instance.id()) {
            Some(holder) if !holder.has_ended() => return Ok(holder.clone()),
            // Its task has panicked, or is just being cleaned up after.
            Some(_) => live.remove(instance),
            None => {}
        }
        if !live.has_room(instance, self.capacity) {
            warn!(id = %instance.id(), "too many processes hold SVIDs");
            return Err(IdentityError::TooMany);
        }
        let holder = self.start(instance.clone());
        live.insert(instance, holder.clone());
        Ok(holder)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.live).holders.len()
    }

    /// How much all of them hold that may be served `now`.
    #[must_use]
    pub fn held(&self, now: SystemTime) -> Held {
        let live = lock(&self.live);
        live.holders.values().fold(Held::default(), |sum, holder| {
            let held = holder.holdings.borrow().count(now);
            Held { x509: sum.x509 + held.x509, jwt: sum.jwt + held.jwt }
        })
    }

    /// Leaves a holder behind whose task is gone, as a panic would.
    #[cfg(test)]
    pub(super) fn break_off(&self, instance: &Instance) {
        if let Some(holder) = lock(&self.live).holders.get_mut(instance.id()) {
            holder.asks = mpsc::channel(1).0;
        }
    }

    fn start(&self, instance: Instance) -> Holder {
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let (published, holdings) = watch::channel(Arc::new(Holdings::default()));
        let turns = instance.user().map(|user| (self.jwt_turns.clone(), user));
        let mint = Mint::new(self.deps.clone(), self.minter.clone(), turns);
        let owner = Owner::new(self.deps.clone(), mint, published);
        let live = self.live.clone();
        let span = info_span!("instance", instance_id = %instance.id());
        let _task = self.deps.tasks.spawn(span, |stop| async move {
            owner.run(instance.clone(), asked, stop).await;
            let mut live = lock(&live);
            // Another may have taken its place between the two.
            if live.holders.get(instance.id()).is_some_and(Holder::has_ended) {
                live.remove(&instance);
            }
            debug!("the instance has ended");
        });
        Holder { asks, holdings }
    }
}

impl Live {
    fn has_room(&self, instance: &Instance, capacity: Capacity) -> bool {
        let own = instance.user().and_then(|user| self.of_user.get(&user));
        self.holders.len() < capacity.all && own.is_none_or(|count| *count < capacity.user)
    }

    fn insert(&mut self, instance: &Instance, holder: Holder) {
        self.holders.insert(instance.id().clone(), holder);
        if let Some(user) = instance.user() {
            *self.of_user.entry(user).or_default() += 1;
        }
    }

    fn remove(&mut self, instance: &Instance) {
        let gone = self.holders.remove(instance.id());
        let Some(user) = instance.user().filter(|_| gone.is_some()) else {
            return;
        };
        if let Some(count) = self.of_user.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                self.of_user.remove(&user);
            }
        }
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}
