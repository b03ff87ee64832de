//! Stores what a node is, again and again where that fails.

use std::error::Error;

use steeple::backoff::random_fraction;
use steeple::telemetry::with_causes;
use tracing::{error, info};

use super::Node;
use crate::node::saved::{self, SavedError};

impl Node {
    /// Stores what this node is; if that fails it is tried again after a while.
    pub(super) fn store(&mut self) -> Result<(), SavedError> {
        // Some milliseconds, in a task that nobody waits for.
        let stored = saved::store(&self.config.file, &self.config.trust_domain, &self.saved);
        self.store_at = match &stored {
            Ok(()) => {
                self.store_again.reset();
                None
            }
            Err(_) => Some(self.deps.clock.now() + self.store_again.wait(random_fraction())),
        };
        stored
    }

    pub(super) fn store_again(&mut self) {
        match self.store() {
            Ok(()) => {
                info!("what this node is was stored at last");
                self.publish(None);
            }
            Err(error) => self.not_stored(&error),
        }
    }

    pub(super) fn not_stored(&self, error: &SavedError) {
        error!(error = error as &dyn Error, "the agent's SVID was not stored, trying again");
        self.publish(Some(format!("the agent's SVID was not stored: {}", with_causes(error))));
    }
}
