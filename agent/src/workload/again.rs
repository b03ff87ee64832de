//! Finds out what could not be found out of a caller when its stream was opened.
//!
//! An attestor may fail because its engine is just being started anew; a stream may live for months.

use std::pin::Pin;
use std::time::Duration;

use steeple::backoff::{Backoff, random_fraction};
use tokio::time::sleep;
use tracing::info;

use crate::attest::{AttestError, Attested, Attestors};

/// How long the first wait is at most, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Looks, and ends when more is known.
pub(super) type Again = Pin<Box<dyn Future<Output = Learned> + Send>>;

/// More is known of one of some processes.
pub(super) struct Learned {
    of: usize,
    attested: Attested,
}

impl Learned {
    /// Puts it in its place among these processes, which are those that were looked at.
    pub(super) fn put_into(self, known: Vec<&mut Attested>) {
        if let Some(attested) = known.into_iter().nth(self.of) {
            *attested = self.attested;
        }
    }
}

/// Looks again at those of some processes of which something could not be found out; `None` if all
/// is known. What was found out of them is not forgotten before all of that was found again.
pub(super) fn again(attestors: &Attestors, known: Vec<&mut Attested>) -> Option<Again> {
    let has_gaps = |(_, attested): &(usize, &mut Attested)| !attested.gaps().is_empty();
    let unsure = known.into_iter().enumerate().filter(has_gaps);
    let unsure: Vec<_> = unsure.map(|(at, attested)| (at, attested.clone())).collect();
    (!unsure.is_empty()).then(|| Box::pin(learn(attestors.clone(), unsure)) as Again)
}

async fn learn(attestors: Attestors, mut unsure: Vec<(usize, Attested)>) -> Learned {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    loop {
        sleep(backoff.wait(random_fraction())).await;
        let mut index = 0;
        while let Some((of, before)) = unsure.get(index) {
            match attestors.attest_again(before.peer()).await {
                Ok(attested) if is_more(&attested, before) => {
                    let (pid, gaps) = (attested.peer().pid(), attested.gaps());
                    info!(pid, ?gaps, "more is known of a process that has a stream");
                    return Learned { of: *of, attested };
                }
                // It is not what it was, and is told so when something is to leave.
                Err(AttestError::Peer(_)) => drop(unsure.swap_remove(index)),
                Ok(_)
                | Err(
                    AttestError::Deadline(_)
                    | AttestError::Panicked
                    | AttestError::Engine(_)
                    | AttestError::Locate(_)
                    | AttestError::Nobody,
                ) => index += 1,
            }
        }
        if unsure.is_empty() {
            return std::future::pending().await;
        }
    }
}

/// Whether something was found out that was not before, and nothing less.
fn is_more(now: &Attested, before: &Attested) -> bool {
    let (now, before) = (now.gaps(), before.gaps());
    now.len() < before.len() && now.iter().all(|gap| before.contains(gap))
}
