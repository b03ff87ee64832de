//! What a node does when whoever answers is not the server that it believes: perhaps it believes anew
//! what is configured.
//!
//! Nothing is given up for that. What this node is and believes changes in one step, once another
//! server has proved by the configured trust bundle what it is, and has taken this node for an agent.

use std::time::{Duration, SystemTime};

use steeple::backoff::{Backoff, random_fraction};
use steeple::clock::end_of_wait;
use steeple::telemetry::with_causes;
use tracing::{info, warn};

use super::{Node, RETRY};
use crate::node::plan::{self, Rebootstrap, Verdict};
use crate::node::saved::Saved;
use crate::server_api::MAX_RETRY_AFTER;

/// How long whoever answers has not been believed, and what follows.
#[derive(Debug)]
pub(super) struct Distrust {
    since: Option<SystemTime>,
    /// Spreads the first tries of many nodes that began to distrust at once.
    random: f64,
    /// When the next try to bootstrap anew may be made.
    not_before: SystemTime,
    again: Backoff,
}

impl Distrust {
    pub(super) fn new(now: SystemTime) -> Self {
        let again = Backoff::new(RETRY.0, RETRY.1);
        Self { since: None, random: 0.0, not_before: now, again }
    }
}

impl Node {
    /// When to bootstrap anew, as things are.
    pub(super) fn rebootstrap_at(&mut self) -> Option<SystemTime> {
        let now = self.deps.clock.now();
        // A clock that was set back shortens nothing.
        self.distrust.since = self.distrust.since.map(|since| since.min(now));
        let not_before = end_of_wait(self.distrust.not_before, MAX_RETRY_AFTER, now);
        let mode = self.config.rebootstrap.spread(self.distrust.random);
        plan::rebootstrap_at(mode, self.distrust.since, not_before)
    }

    pub(super) fn distrust_changed(&mut self) {
        let is_distrusted = *self.channels.distrust.borrow_and_update();
        self.heard_of(!is_distrusted);
    }

    /// Notes whether whoever answers is believed.
    pub(super) fn heard_of(&mut self, is_trusted: bool) {
        let since = self.distrust.since;
        match (is_trusted, since, self.config.rebootstrap) {
            (false, None, mode) => {
                self.distrust.since = Some(self.deps.clock.now());
                self.distrust.random = random_fraction();
                if let Rebootstrap::After(delay) = mode {
                    warn!(after = ?delay, "the server is not trusted, and rebootstrapping if that lasts");
                }
            }
            (true, Some(_), _) => {
                info!("the server is trusted again");
                self.distrust.since = None;
                self.distrust.again.reset();
            }
            (false, Some(_), _) | (true, None, _) => {}
        }
    }

    /// Believes what is configured as at a first contact, and becomes an agent of whatever server
    /// proves to be the one by that.
    pub(super) async fn rebootstrap(&mut self) {
        // Evidence that was used is worth nothing at any server.
        let stranger = Saved { spent: self.saved.spent.clone(), ..Saved::default() };
        info!("Rebootstrapping: the server has not been trusted for too long");
        match self.attestation().attest(&stranger).await {
            Ok(attested) => {
                self.bootstraps += 1;
                self.attested(attested);
            }
            Err(failure) => {
                let after = match failure.verdict() {
                    Verdict::Retry(after) => after.unwrap_or_default(),
                    Verdict::Refused | Verdict::Banned => Duration::ZERO,
                };
                let wait = self.distrust.again.wait(random_fraction()).max(after);
                self.distrust.not_before = self.deps.clock.now() + wait;
                let trouble = with_causes(&failure);
                warn!(error = trouble, retry_in = ?wait, "rebootstrapping failed, and nothing is given up");
                self.publish(Some(format!(
                    "the server is not trusted, and rebootstrapping failed: {trouble}"
                )));
            }
        }
    }
}
