//! Whom the keys belong to that a delegate fetches by selectors.
//!
//! There is no process to name, so it is the *delegation*: one run of the delegate's program and
//! one set of selectors. Streams that ask the same share its keys; no other process does. It ends,
//! and its keys are wiped, with the last of its streams or with the delegate, whichever is first.
//! Tokens are fetched by calls that end at once: those of the last few delegations are kept, so
//! that a delegate that asks again is not signed for again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use steeple::selector::SelectorSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::attest::Attested;
use crate::attest::instance::Instance;
use crate::peer::process::ProcessId;

/// How many delegations keep their tokens between calls.
const MAX_KEPT: usize = 64;

/// What a delegation is for. Keys and tokens of one set of selectors end apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// X.509-SVIDs, for as long as a stream shows them.
    Keys,
    /// JWT-SVIDs.
    Tokens,
}

/// All delegations that there are. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Delegations(Arc<Mutex<Known>>);

/// A delegation. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    instance: Instance,
    selectors: SelectorSet,
    _ends: DropGuard,
}

type Key = (ProcessId, SelectorSet);

#[derive(Debug, Default)]
struct Known {
    streaming: HashMap<Key, Weak<Lease>>,
    kept: VecDeque<(Key, Arc<Lease>)>,
    count: u64,
}

impl Delegations {
    /// The delegation of this delegate for these selectors. It comes into being with the first call.
    pub(super) fn of(
        &self,
        delegate: &Attested,
        selectors: &SelectorSet,
        purpose: Purpose,
    ) -> Arc<Lease> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (delegate.peer().process_id(), selectors.clone());
        let found = match purpose {
            Purpose::Keys => known.streaming.get(&key).and_then(Weak::upgrade),
            Purpose::Tokens => {
                let at = known.kept.iter().position(|(kept, _)| *kept == key);
                at.and_then(|at| known.kept.remove(at)).map(|(_, lease)| lease)
            }
        };
        let lease = found.unwrap_or_else(|| known.begin(delegate, selectors));
        match purpose {
            Purpose::Keys => {
                known.streaming.retain(|_, lease| lease.strong_count() > 0);
                known.streaming.insert(key, Arc::downgrade(&lease));
            }
            Purpose::Tokens => {
                known.kept.retain(|(_, lease)| lease.instance.is_alive());
                known.kept.push_back((key, lease.clone()));
                if known.kept.len() > MAX_KEPT {
                    known.kept.pop_front();
                }
            }
        }
        lease
    }
}

impl Known {
    fn begin(&mut self, delegate: &Attested, selectors: &SelectorSet) -> Arc<Lease> {
        self.count += 1;
        let ended = CancellationToken::new();
        Arc::new(Lease {
            instance: Instance::delegated(delegate.peer(), self.count, ended.clone()),
            selectors: selectors.clone(),
            _ends: ended.drop_guard(),
        })
    }
}

impl Lease {
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(super) fn selectors(&self) -> &SelectorSet {
        &self.selectors
    }
}
