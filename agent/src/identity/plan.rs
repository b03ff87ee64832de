//! Decides what an instance mints, keeps and drops; performs no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::backoff::Backoff;
use steeple::clock::end_of_wait;
use steeple::entry::{Entry, EntryId};
use steeple::selector::SelectorSet;

use super::{Holdings, Snapshot, X509Credential};

/// The first wait after a failed mint; it doubles up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// What the instance has asked for, by entry.
pub(super) type Asked = BTreeMap<EntryId, Wanted>;

/// How far an X.509-SVID that was asked for has come.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What whoever asked was known to be. The entry may be for others by now.
    selectors: SelectorSet,
    pub(super) in_flight: bool,
    backoff: Backoff,
    retry_at: Option<SystemTime>,
}

/// What is to be done now.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    /// Entries to mint for.
    pub(super) mint: Vec<EntryId>,
    /// How many of these have something that is tainted.
    pub(super) tainted: usize,
    /// Entries whose credential is to be wiped: the entry is gone or for others, gives another
    /// identity, or the credential has expired or is no longer vouched for.
    pub(super) wipe: Vec<EntryId>,
    /// Entries that are no longer asked for, as they are gone or for others.
    pub(super) forget: Vec<EntryId>,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<SystemTime>,
}

impl Wanted {
    /// Asked for by whoever has these selectors.
    pub(super) fn new(selectors: SelectorSet) -> Self {
        let backoff = Backoff::new(FIRST_RETRY, MAX_RETRY);
        Self { selectors, in_flight: false, backoff, retry_at: None }
    }

    /// Asked for again.
    pub(super) fn asked_by(&mut self, selectors: SelectorSet) {
        self.selectors = selectors;
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::new(self.selectors.clone());
    }

    pub(super) fn failed(&mut self, now: SystemTime, random: f64) {
        self.in_flight = false;
        self.retry_at = Some(now + self.backoff.wait(random));
    }

    /// Whether a mint was tried, failed, and is not to be tried again yet.
    pub(super) fn is_waiting(&self, now: SystemTime) -> bool {
        self.retry_at(now).is_some_and(|retry_at| now < retry_at)
    }

    fn retry_at(&self, now: SystemTime) -> Option<SystemTime> {
        self.retry_at.map(|retry_at| end_of_wait(retry_at, MAX_RETRY, now))
    }
}

/// What an instance that has asked for `asked` and holds `holdings` does `now`.
pub(super) fn plan(
    asked: &Asked,
    holdings: &Holdings,
    snapshot: &Snapshot,
    now: SystemTime,
) -> Plan {
    let mut plan = Plan::default();
    for (id, wanted) in asked {
        let held = holdings.x509.get(id);
        let is_theirs =
            |entry: &&Arc<Entry>| entry.content.selectors.is_subset_of(&wanted.selectors);
        let Some(entry) = snapshot.entry(id).filter(is_theirs) else {
            plan.forget.push(id.clone());
            plan.wipe.extend(held.map(|_| id.clone()));
            continue;
        };
        let own = snapshot.own_bundle();
        let serves = held.is_some_and(|credential| {
            let vouched = own.is_none_or(|bundle| credential.is_vouched_for(bundle, now));
            vouched && credential.serves(entry, now)
        });
        if held.is_some() && !serves {
            plan.wipe.push(id.clone());
        }
        let tainted = |credential: &Arc<X509Credential>| {
            own.is_some_and(|bundle| credential.is_tainted(bundle))
        };
        let is_tainted = held.is_some_and(tainted);
        let due = held.filter(|_| serves).map_or(now, |credential| {
            if credential.revision() != entry.revision || is_tainted {
                now
            } else {
                credential.renew_at()
            }
        });
        if !wanted.in_flight {
            let due = wanted.retry_at(now).map_or(due, |retry_at| due.max(retry_at));
            if due <= now {
                plan.mint.push(id.clone());
                plan.tainted += usize::from(is_tainted);
            } else {
                wake_at(&mut plan.wake, due);
            }
        }
        // Also while a mint is under way: an expired credential is never served.
        if let Some(credential) = held.filter(|_| serves) {
            wake_at(&mut plan.wake, credential.not_after());
        }
    }
    plan
}

fn wake_at(wake: &mut Option<SystemTime>, at: SystemTime) {
    *wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
}
