//! Remembers what agents are authorised for.
//!
//! The answer depends on the roots alone (the agent's ID and its aliases), so agents that go by the
//! same aliases share one. It stays the answer until the children of an ID that it passed change.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use steeple::id::SpiffeId;

use super::state::State;
use crate::datastore::Revision;
use crate::entries::authorized::Authorized;

/// How many entries the answers of one generation hold in all, as pointers.
const CAPACITY: usize = 1 << 20;

/// What the bookkeeping of one answer weighs beside its entries.
const OVERHEAD: usize = 16;

/// Answers by their roots. Those that were not asked for during a whole generation are forgotten.
#[derive(Debug, Default)]
pub(super) struct AuthorizedCache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Arc<[SpiffeId]>, Cached>,
    old: HashMap<Arc<[SpiffeId]>, Cached>,
    weight: usize,
}

#[derive(Clone, Debug)]
struct Cached {
    authorized: Arc<Authorized>,
    /// The last revision at which this is known to be the answer.
    at: Revision,
}

impl AuthorizedCache {
    /// What `agent` is authorised for in `state`.
    pub(super) fn of(&self, state: &State, agent: &SpiffeId) -> Arc<Authorized> {
        let roots = state.roots(agent);
        let cached = self.with(|generations| generations.find(&roots));
        let authorized = match &cached {
            Some(cached) if cached.at == state.revision => return Arc::clone(&cached.authorized),
            Some(cached) if is_unchanged(cached, state, &roots) => Arc::clone(&cached.authorized),
            Some(_) | None => {
                let authorized = Authorized::below(&state.entries, &roots);
                match cached {
                    Some(former) if former.authorized.is_same(&authorized) => former.authorized,
                    Some(_) | None => Arc::new(authorized),
                }
            }
        };
        let cached = Cached { authorized: Arc::clone(&authorized), at: state.revision };
        self.with(|generations| generations.put(roots.into(), cached));
        authorized
    }

    fn with<T>(&self, act: impl FnOnce(&mut Generations) -> T) -> T {
        act(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generations {
    fn find(&mut self, roots: &[SpiffeId]) -> Option<Cached> {
        if let Some(found) = self.young.get(roots) {
            return Some(found.clone());
        }
        let (roots, found) = self.old.remove_entry(roots)?;
        self.put(roots, found.clone());
        Some(found)
    }

    fn put(&mut self, roots: Arc<[SpiffeId]>, cached: Cached) {
        self.weight += cached.weight();
        if let Some(former) = self.young.insert(roots, cached) {
            self.weight = self.weight.saturating_sub(former.weight());
        }
        if self.weight > CAPACITY {
            self.old = mem::take(&mut self.young);
            self.weight = 0;
        }
    }
}

impl Cached {
    fn weight(&self) -> usize {
        OVERHEAD + self.authorized.entries().len()
    }
}

/// Whether nothing that was written since can have changed the answer: no entry came or went below
/// one of the roots, nor below the identity of an entry of the answer.
///
/// If an entry of the answer changed itself, the children of its parent did, and that parent was
/// passed as well, so following parents up leads to a root or to an entry that is still the same.
fn is_unchanged(cached: &Cached, state: &State, roots: &[SpiffeId]) -> bool {
    if cached.at >= state.entries_revision {
        return true;
    }
    let authorized = &cached.authorized;
    match state.parents_changed_since(cached.at) {
        Some(parents) if parents.len() <= authorized.entries().len().max(8) => {
            let mut parents = parents;
            !parents.any(|parent| {
                roots.contains(parent)
                    || state
                        .entries
                        .with_spiffe_id(parent)
                        .iter()
                        .any(|entry| authorized.get(&entry.id).is_some())
            })
        }
        Some(_) | None => false,
    }
}
