//! Forgets what has expired, now and then.

use std::sync::Arc;
use std::time::Duration;

use steeple::clock::{Clock, unix_seconds};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::audit::Audit;
use crate::audit::event::{Caller, Event};
use crate::config::PruneConfig;
use crate::registry::Registry;
use crate::registry::housekeeping::{NodePurge, Purged};
use crate::registry::writer::WriteError;

/// How often.
const INTERVAL: Duration = Duration::from_secs(300);

/// Forgets entries and join tokens whose time ran out, and nodes as the configuration says.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) registry: Registry,
    pub(super) prune: PruneConfig,
    pub(super) audit: Arc<Audit>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Maintenance {
    /// Does so until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if let Err(error) = self.purge().await {
                warn!(error = &error as &dyn std::error::Error, "expired not forgotten");
            }
        }
    }

    async fn purge(&self) -> Result<(), WriteError> {
        let now = self.clock.now();
        loop {
            let purged = self.registry.purge_expired(self.nodes(unix_seconds(now)), now).await?;
            let more = purged.more;
            self.tell(purged).await;
            if !more {
                return Ok(());
            }
        }
    }

    /// Which nodes are forgotten at `now`, in seconds since 1970.
    fn nodes(&self, now: i64) -> NodePurge {
        let Some(expired_for) = self.prune.nodes_expired_for else { return NodePurge::Never };
        let expired_for = i64::try_from(expired_for.as_secs()).unwrap_or(i64::MAX);
        let expired_before = now.saturating_sub(expired_for);
        if self.prune.tofu_nodes {
            NodePurge::All { expired_before }
        } else {
            NodePurge::Reattestable { expired_before }
        }
    }

    async fn tell(&self, purged: Purged) {
        let Purged { entries, nodes, join_tokens, .. } = purged;
        if entries.len() + nodes.len() + join_tokens == 0 {
            return;
        }
        info!(entries = entries.len(), nodes = nodes.len(), join_tokens, "expired forgotten");
        let entries = entries.iter().map(|entry| Event::of_deleted(entry));
        let nodes = nodes.iter().map(|node| Event::AgentPurged {
            agent_id: node.id.clone(),
            expired_at: node.expires_at(),
        });
        let events: Vec<_> = entries.chain(nodes).collect();
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.audit.record(&Caller::Server, &events).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "what was forgotten is not in the audit log"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use steeple::entry::EntryContent;
    use steeple::selector::SelectorSet;
    use steeple::tasks::Tasks;

    use super::*;
    use crate::ca::testing::{Bench, NOW, trust_domain};
    use crate::datastore::memory::MemoryDatastore;
    use crate::datastore::{JoinToken, Node, TokenHash};
    use crate::registry::tokens::TokenError;

    const DAY: i64 = 86_400;

    /// A registry that is looked after, with its audit log.
    async fn looked_after(prune: PruneConfig) -> (Registry, Bench, Tasks) {
        let (tasks, bench) = (Tasks::new(), Bench::new());
        let store = Arc::new(MemoryDatastore::new());
        let registry = Registry::open(trust_domain(), store, &tasks).await.unwrap();
        let (audit, clock) = (bench.audit.clone(), bench.clock.clone());
        let maintenance = Maintenance { registry: registry.clone(), prune, audit, clock };
        tasks.spawn(tracing::Span::none(), |stop| maintenance.run(stop));
        (registry, bench, tasks)
    }

    fn entry(name: &str, expires_at: i64) -> EntryContent {
        EntryContent {
            spiffe_id: format!("spiffe://example.org/{name}").parse().unwrap(),
            parent_id: "spiffe://example.org/spire/agent/x".parse().unwrap(),
            selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: Some(expires_at),
            dns_names: Vec::new(),
            store_svid: false,
            hint: None,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    fn node(name: &str, not_after: i64, can_reattest: bool) -> Node {
        Node {
            id: format!("spiffe://example.org/spire/agent/{name}").parse().unwrap(),
            attestation_type: "test".into(),
            serial: Some("1".into()),
            not_after,
            new_serial: None,
            selectors: SelectorSet::default(),
            can_reattest,
            agent_version: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_forgotten_within_minutes_and_that_is_recorded() {
        let (registry, bench, tasks) = looked_after(PruneConfig::default()).await;
        let token = |name, ttl| {
            let expires_at = NOW + ttl;
            JoinToken { hash: TokenHash::of(name), expires_at, agent_id: None }
        };
        registry.create_join_token(token("short", 60)).await.unwrap();
        registry.create_join_token(token("long", 600)).await.unwrap();
        let entries = vec![(None, entry("past", NOW + 60)), (None, entry("later", NOW + 600))];
        registry.create_entries(entries, bench.clock.now()).await;
        registry.put_node(node("x", NOW - DAY, true), None, bench.clock.now()).await.unwrap();
        tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;

        let used = |name| registry.consume_join_token(TokenHash::of(name), bench.clock.now());
        assert!(matches!(used("short").await, Err(TokenError::Unknown)));
        assert!(used("long").await.is_ok());
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
        let events = bench.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["event"], "entry_deleted");
        assert_eq!(events[0]["spiffe_id"], "spiffe://example.org/past");
        assert_eq!(events[0]["caller"]["class"], "server");
    }

    #[tokio::test(start_paused = true)]
    async fn agents_are_forgotten_as_long_after_their_end_as_configured() {
        let check = async |tofu_nodes, expected: &[&str]| {
            let nodes_expired_for = Some(Duration::from_secs(DAY.unsigned_abs()));
            let (registry, bench, tasks) =
                looked_after(PruneConfig { nodes_expired_for, tofu_nodes }).await;
            let gone = NOW - DAY;
            for node in [node("a", gone, true), node("b", gone, false), node("c", NOW, true)] {
                registry.put_node(node, None, bench.clock.now()).await.unwrap();
            }
            tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
            tasks.shutdown(Duration::from_secs(1)).await.unwrap();
            let purged: Vec<_> = bench
                .events()
                .iter()
                .map(|event| format!("{} {}", event["event"], event["agent_id"]).replace('"', ""))
                .collect();
            let expected = expected
                .iter()
                .map(|name| format!("agent_purged spiffe://example.org/spire/agent/{name}"));
            assert_eq!(purged, expected.collect::<Vec<_>>());
        };
        check(false, &["a"]).await;
        check(true, &["a", "b"]).await;
    }
}
