//! Forgets what has expired, now and then.

use std::sync::Arc;
use std::time::Duration;

use steeple::clock::Clock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::registry::Registry;
use crate::registry::housekeeping::NodePurge;

/// How often.
const INTERVAL: Duration = Duration::from_secs(300);

/// Forgets entries and join tokens whose time ran out, until `stop`.
pub(super) async fn run(registry: Registry, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => purge(&registry, &*clock).await,
        }
    }
}

async fn purge(registry: &Registry, clock: &dyn Clock) {
    match registry.purge_expired(NodePurge::Never, clock.now()).await {
        Ok(purged) if purged.entries + purged.join_tokens == 0 => {}
        Ok(purged) => {
            info!(entries = purged.entries, join_tokens = purged.join_tokens, "expired forgotten");
        }
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "expired not forgotten");
        }
    }
}
