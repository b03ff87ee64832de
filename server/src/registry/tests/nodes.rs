//! Agents join, renew, are banned and forgotten.

use super::*;
use crate::datastore::{JoinToken, NewSerial, TokenHash};
use crate::registry::housekeeping::{NodePurge, Purged};
use crate::registry::nodes::NodeWriteError;
use crate::registry::tokens::TokenError;

const AGENT: &str = "/spire/agent/x509pop/1";

fn renewed(serial: &str) -> NewSerial {
    NewSerial { serial: serial.into(), not_after: NOW + 7_200 }
}

#[tokio::test]
async fn a_new_certificate_counts_from_its_first_use() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    registry.put_node(node(AGENT, &["a:1"]), None, now()).await.unwrap();
    registry.renew_node(id(AGENT), "1".into(), renewed("2")).await.unwrap();
    let stored = registry.node(&id(AGENT)).unwrap();
    assert_eq!((stored.serial.as_deref(), stored.not_after), (Some("1"), NOW + 3_600));
    assert_eq!(stored.new_serial, Some(renewed("2")));
    assert_eq!(stored.expires_at(), NOW + 7_200);

    let before = registry.revision();
    registry.activate_serial(id(AGENT), "1".into()).await.unwrap();
    assert_eq!(registry.revision(), before, "the old one is still in use");
    let refused = registry.activate_serial(id(AGENT), "3".into()).await;
    assert!(matches!(refused, Err(NodeWriteError::NotActive)), "{refused:?}");
    registry.activate_serial(id(AGENT), "2".into()).await.unwrap();
    let refused = registry.activate_serial(id(AGENT), "1".into()).await;
    assert!(matches!(refused, Err(NodeWriteError::NotActive)), "{refused:?}");
    // A renewal that was asked for with the old one, and decided after the new one was used.
    let refused = registry.renew_node(id(AGENT), "1".into(), renewed("3")).await;
    assert!(matches!(refused, Err(NodeWriteError::NotActive)), "{refused:?}");

    let stored = open(&datastore).await.node(&id(AGENT)).unwrap();
    assert_eq!((stored.serial.as_deref(), stored.not_after), (Some("2"), NOW + 7_200));
    assert_eq!(stored.new_serial, None);
}

#[tokio::test]
async fn a_banned_agent_stays_out_until_it_is_forgotten() {
    let registry = empty().await;
    registry.put_node(node(AGENT, &["a:1"]), None, now()).await.unwrap();
    registry.renew_node(id(AGENT), "1".into(), renewed("2")).await.unwrap();
    let banned = registry.ban_node(id(AGENT)).await.unwrap();
    assert!(banned.is_banned() && banned.new_serial.is_none());
    let it = || Arc::new(node(AGENT, &[]));
    let attempts = [
        registry.put_node(node(AGENT, &["a:1"]), None, now()).await.map(|_| it()),
        registry.renew_node(id(AGENT), "1".into(), renewed("3")).await,
        registry.activate_serial(id(AGENT), "1".into()).await,
        registry.activate_serial(id(AGENT), "2".into()).await,
    ];
    for attempt in attempts {
        assert!(matches!(attempt, Err(NodeWriteError::Banned)), "{attempt:?}");
    }
    assert!(registry.node(&id(AGENT)).unwrap().is_banned());
    let purge = NodePurge::All { expired_before: i64::MAX };
    assert_eq!(registry.purge_expired(purge, now()).await.unwrap(), Purged::default());
    registry.evict_node(id(AGENT)).await.unwrap();
    registry.put_node(node(AGENT, &["a:1"]), None, now()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_agent_is_not_found() {
    let registry = empty().await;
    let it = || Arc::new(node(AGENT, &[]));
    let attempts = [
        registry.renew_node(id(AGENT), "1".into(), renewed("2")).await,
        registry.activate_serial(id(AGENT), "1".into()).await,
        registry.set_agent_version(id(AGENT), "1".into()).await,
        registry.ban_node(id(AGENT)).await,
        registry.evict_node(id(AGENT)).await.map(|_| it()),
    ];
    for attempt in attempts {
        assert!(matches!(attempt, Err(NodeWriteError::NotFound(_))), "{attempt:?}");
    }
    assert_eq!(registry.revision(), Revision(0));
}

#[tokio::test]
async fn an_agent_that_comes_back_is_what_it_proved_now() {
    let registry = empty().await;
    registry.put_node(node(AGENT, &["a:1"]), None, now()).await.unwrap();
    registry.set_agent_version(id(AGENT), "1.2".into()).await.unwrap();
    let before = registry.revision();
    registry.set_agent_version(id(AGENT), "1.2".into()).await.unwrap();
    assert_eq!(registry.revision(), before, "nothing to write");
    let refused = registry.set_agent_version(id(AGENT), "v".repeat(256)).await;
    assert!(matches!(refused, Err(NodeWriteError::AgentVersion)), "{refused:?}");

    registry.renew_node(id(AGENT), "1".into(), renewed("2")).await.unwrap();
    let again = Node { serial: Some("9".into()), ..node(AGENT, &["b:1"]) };
    registry.put_node(again.clone(), None, now()).await.unwrap();
    let expected = Node { agent_version: "1.2".into(), ..again };
    assert_eq!(*registry.node(&id(AGENT)).unwrap(), expected);
}

#[tokio::test]
async fn a_join_token_works_once() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let hash = TokenHash::of("secret");
    let token = JoinToken { hash, expires_at: NOW, agent_id: None };
    registry.create_join_token(token.clone()).await.unwrap();
    let again = registry.create_join_token(token.clone()).await;
    assert!(matches!(again, Err(TokenError::Exists)), "{again:?}");

    let unknown = registry.consume_join_token(TokenHash::of("other"), now()).await;
    assert!(matches!(unknown, Err(TokenError::Unknown)), "{unknown:?}");
    let (a, b) = tokio::join!(
        registry.consume_join_token(hash, now()),
        registry.consume_join_token(hash, now())
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let used = open(&datastore).await.consume_join_token(hash, now()).await;
    assert!(matches!(used, Err(TokenError::Unknown)), "{used:?}");
}

#[tokio::test]
async fn a_join_token_is_not_used_up_until_that_is_written() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let hash = TokenHash::of("secret");
    registry.create_join_token(JoinToken { hash, expires_at: NOW, agent_id: None }).await.unwrap();
    datastore.fail(Fault::Refuse);
    let failed = registry.consume_join_token(hash, now()).await;
    assert!(matches!(failed, Err(TokenError::NotWritten(_))), "{failed:?}");
    assert!(registry.consume_join_token(hash, now()).await.is_ok());
}

#[tokio::test]
async fn an_expired_join_token_is_refused_and_purged() {
    let registry = empty().await;
    for (text, expires_at) in [("used", NOW - 1), ("left", NOW - 1), ("good", NOW)] {
        let hash = TokenHash::of(text);
        registry.create_join_token(JoinToken { hash, expires_at, agent_id: None }).await.unwrap();
    }
    let hash = TokenHash::of("used");
    let expired = registry.consume_join_token(hash, now()).await;
    assert!(matches!(expired, Err(TokenError::Expired)), "{expired:?}");
    let gone = registry.consume_join_token(hash, now()).await;
    assert!(matches!(gone, Err(TokenError::Unknown)), "{gone:?}");
    let purged = registry.purge_expired(NodePurge::Never, now()).await.unwrap();
    assert_eq!(purged, Purged { join_tokens: 1, ..Purged::default() });
    assert!(registry.consume_join_token(TokenHash::of("good"), now()).await.is_ok());
}

#[tokio::test]
async fn the_name_that_came_with_a_join_token_goes_with_the_node() {
    let agent = "/spire/agent/join_token/t";
    let joined = || Node { can_reattest: false, ..node(agent, &[]) };
    for by_purge in [false, true] {
        let registry = empty().await;
        registry.put_node(joined(), Some(id("/db-nodes")), now()).await.unwrap();
        registry.put_node(joined(), Some(id("/db-nodes")), now()).await.unwrap();
        create(&registry, "child", content("/db", "/db-nodes", &["a:1"])).await.unwrap();
        create(&registry, "own", content("/own", agent, &["a:1"])).await.unwrap();
        let spiffe_ids = || {
            let authorized = registry.authorized(&id(agent));
            let mut ids: Vec<_> = authorized
                .entries()
                .iter()
                .map(|e| e.content.spiffe_id.path().to_owned())
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(spiffe_ids(), ["/db", "/db-nodes", "/own"]);
        if by_purge {
            let expired_before = NOW + 3_601;
            let kept = NodePurge::Reattestable { expired_before };
            assert_eq!(registry.purge_expired(kept, now()).await.unwrap(), Purged::default());
            let all = NodePurge::All { expired_before };
            let purged = registry.purge_expired(all, now()).await.unwrap();
            let alias = purged.entries[0].clone();
            assert_eq!(alias.content.spiffe_id, id("/db-nodes"));
            let (nodes, entries) = (vec![Arc::new(joined())], vec![alias]);
            assert_eq!(purged, Purged { nodes, entries, ..Purged::default() });
        } else {
            registry.evict_node(id(agent)).await.unwrap();
        }
        assert_eq!(spiffe_ids(), ["/own"]);
    }
}

#[tokio::test]
async fn nodes_are_purged_after_their_last_certificate() {
    let registry = empty().await;
    registry.put_node(node(AGENT, &[]), None, now()).await.unwrap();
    registry.renew_node(id(AGENT), "1".into(), renewed("2")).await.unwrap();
    for (expired_before, expected) in [(NOW + 7_200, 0), (NOW + 7_201, 1)] {
        let purge = NodePurge::Reattestable { expired_before };
        assert_eq!(registry.purge_expired(purge, now()).await.unwrap().nodes.len(), expected);
    }
    assert_eq!(registry.node(&id(AGENT)), None);
}
