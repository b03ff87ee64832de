//! What a node does when whoever answers is not the server that it believes: perhaps it believes anew
//! what is configured.
//!
//! Nothing is given up for that. What this node is and believes changes in one step, once another
//! server has proved by the configured trust bundle what it is, and has taken this node for an agent.

use std::time::SystemTime;

use steeple::backoff::random_fraction;
use steeple::clock::end_of_wait;
use steeple::telemetry::with_causes;
use tracing::{info, warn};

use super::Node;
use crate::node::plan::{self, Rebootstrap};
use crate::node::saved::Saved;
use crate::server_api::MAX_RETRY_AFTER;

impl Node {
    /// When to bootstrap anew, as things are.
    pub(super) fn rebootstrap_at(&mut self) -> Option<SystemTime> {
        let now = self.deps.clock.now();
        // A clock that was set back shortens nothing.
        self.distrusted_since = self.distrusted_since.map(|since| since.min(now));
        let not_before = end_of_wait(self.rebootstrap_after, MAX_RETRY_AFTER, now);
        plan::rebootstrap_at(self.config.rebootstrap, self.distrusted_since, not_before)
    }

    pub(super) fn distrust_changed(&mut self) {
        let is_distrusted = *self.channels.distrust.borrow_and_update();
        self.heard_of(!is_distrusted);
    }

    /// Notes whether whoever answers is believed.
    pub(super) fn heard_of(&mut self, is_trusted: bool) {
        let since = self.distrusted_since;
        match (is_trusted, since, self.config.rebootstrap) {
            (false, None, mode) => {
                self.distrusted_since = Some(self.deps.clock.now());
                if let Rebootstrap::After(delay) = mode {
                    warn!(after = ?delay, "the server is not trusted, and rebootstrapping if that lasts");
                }
            }
            (true, Some(_), _) => {
                info!("the server is trusted again");
                self.distrusted_since = None;
                self.rebootstrap_again.reset();
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
                // What the other server said last is not to be believed any more.
                self.channels.bundle.mark_unchanged();
            }
            Err(failure) => {
                let wait = self.rebootstrap_again.wait(random_fraction());
                self.rebootstrap_after = self.deps.clock.now() + wait;
                let trouble = with_causes(&failure);
                warn!(error = trouble, retry_in = ?wait, "rebootstrapping failed, and nothing is given up");
                self.publish(Some(format!(
                    "the server is not trusted, and rebootstrapping failed: {trouble}"
                )));
            }
        }
    }
}
