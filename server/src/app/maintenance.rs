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

#[cfg(test)]
mod tests {
    use steeple::clock::{TokioClock, from_unix_seconds, unix_seconds};
    use steeple::id::TrustDomain;
    use steeple::tasks::Tasks;

    use super::*;
    use crate::datastore::memory::MemoryDatastore;
    use crate::datastore::{JoinToken, TokenHash};
    use crate::registry::tokens::TokenError;

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_forgotten_within_minutes() {
        let (tasks, clock) = (Tasks::new(), Arc::new(TokioClock::new(from_unix_seconds(1_000))));
        let own = TrustDomain::parse("td").unwrap();
        let store = Arc::new(MemoryDatastore::new());
        let registry = Registry::open(own, store, &tasks).await.unwrap();
        let token = |name, ttl| {
            let expires_at = unix_seconds(clock.now()) + ttl;
            JoinToken { hash: TokenHash::of(name), expires_at, agent_id: None }
        };
        registry.create_join_token(token("short", 60)).await.unwrap();
        registry.create_join_token(token("long", 600)).await.unwrap();
        let (memory, time) = (registry.clone(), clock.clone());
        tasks.spawn(tracing::Span::none(), |stop| run(memory, time, stop));
        tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;

        let used = |name| registry.consume_join_token(TokenHash::of(name), clock.now());
        assert!(matches!(used("short").await, Err(TokenError::Unknown)));
        assert!(used("long").await.is_ok());
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}
