//! Holders in virtual time, against a server in this process that really signs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use steeple::bundle::Bundle;
use steeple::clock::Clock as _;
use steeple::entry::Entry;
use steeple::id::TrustDomain;
use steeple::keys::{PrivateKey, Signer as _};

use self::node::{Node, TTL};
pub(crate) use super::snapshot::tests::entry;
use super::*;
use crate::server_api::ServerError;

mod bounds;
mod crowd;
pub(crate) mod node;

fn web() -> Entry {
    entry("web", 0, &["u:1"])
}

#[tokio::test(start_paused = true)]
async fn concurrent_asks_of_one_instance_make_one_mint() {
    let node = Node::new(vec![web()]).await;
    let found = futures_util::future::join_all((0..20).map(|_| node.x509())).await;
    let first = found[0].as_ref().unwrap()[0].svid().serial();
    assert!(found.iter().all(|held| held.as_ref().unwrap()[0].svid().serial() == first));
    assert_eq!(node.signed(), 1);
    node.x509().await.unwrap();
    assert_eq!(node.signed(), 1);
}

/// X509-28
#[tokio::test(start_paused = true)]
async fn a_credential_fits_its_entry_and_key() {
    let node = Node::new(vec![web()]).await;
    let held = node.x509().await.unwrap();
    let key = PrivateKey::from_pkcs8(held[0].key().expose()).unwrap();
    let leaf = steeple::x509::Certificate::parse(held[0].chain()).unwrap();
    assert_eq!(leaf.spki_der(), key.public_key().spki_der());
    assert_eq!(held[0].svid().spiffe_id().as_str(), "spiffe://td/web");
}

/// WAPI-36
#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_with_a_new_key_before_half_of_its_life() {
    let node = Node::new(vec![web()]).await;
    let old = node.x509().await.unwrap();
    node.pass(TTL.mul_f64(0.39)).await;
    assert_eq!(node.held(), Some(old[0].svid().serial().to_hex()));
    node.pass(TTL.mul_f64(0.12)).await;
    let new = node.x509().await.unwrap();
    assert_ne!(new[0].svid().serial(), old[0].svid().serial());
    assert_ne!(new[0].key().expose(), old[0].key().expose());
    assert_eq!(node.signed(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_server_a_credential_is_served_until_it_expires_and_not_after() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    *node.server.away.lock().unwrap() = true;
    node.pass(TTL - Duration::from_secs(5)).await;
    assert_eq!(node.x509().await.unwrap().len(), 1);
    node.pass(Duration::from_secs(10)).await;
    assert!(node.held().is_none());
    let refused = node.x509().await.unwrap_err();
    assert!(matches!(refused, IdentityError::Mint(MintFailure::Unavailable(_))), "{refused:?}");
    *node.server.away.lock().unwrap() = false;
    node.pass(Duration::from_secs(120)).await;
    assert!(node.held().is_some(), "it comes back by itself");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_forward_expires_what_is_held() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    node.clock.set(node.clock.now() + TTL * 2);
    assert!(node.held().is_none()); // H076
    assert!(node.x509().await.is_ok());
}

/// H076: what is not valid yet by the clock of now is good for the others, whose clocks are right,
/// and to mint it anew would change nothing.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_brings_no_storm_of_mints() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    node.clock.set(node.clock.now() - TTL);
    for _ in 0..60 {
        node.pass(Duration::from_secs(60)).await;
        assert!(node.x509().await.is_ok());
    }
    assert!(node.signed() <= 4, "{} mints in an hour", node.signed());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_goes_takes_its_credentials_along() {
    let node = Node::new(vec![web()]).await;
    let holder = node.holders.of(&node.instance).unwrap();
    node.x509().await.unwrap();
    node.jwt(&["a"]).await.unwrap();
    let mut watch = holder.watch();
    watch.mark_unchanged();
    node.publish(Vec::new(), &node.bundle);
    watch.changed().await.unwrap();
    let holdings = watch.borrow();
    assert!(holdings.x509.is_empty() && holdings.jwt.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_changed_entry_is_minted_for_anew() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    let mut changed = web();
    changed.revision = 1;
    changed.content.spiffe_id = "spiffe://td/other".parse().unwrap();
    node.publish(vec![Arc::new(changed)], &node.bundle);
    assert!(node.held().is_none(), "the old identity is not served any more");
    let held = node.x509().await.unwrap();
    assert_eq!(held[0].svid().spiffe_id().as_str(), "spiffe://td/other");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_for_others_now_takes_its_credentials_along() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    let mut changed = entry("web", 0, &["u:2"]);
    changed.revision = 1;
    node.publish(vec![Arc::new(changed)], &node.bundle);
    node.pass(TTL).await;
    assert!(node.held().is_none());
    assert_eq!(node.signed(), 1, "nothing is minted for who may not have it");
}

#[tokio::test(start_paused = true)]
async fn a_tainted_authority_is_moved_off_at_once() {
    let node = Node::new(vec![web()]).await;
    let old = node.x509().await.unwrap();
    let mut bundle = (**node.bundle.bundle()).clone();
    bundle.x509_authorities[0].tainted = true;
    node.publish(node.entries(), &Arc::new(PreparedBundle::new(Arc::new(bundle))));
    node.pass(Duration::from_millis(900)).await;
    assert_ne!(node.held(), Some(old[0].svid().serial().to_hex()));
    // This server signs with the tainted authority still, which must not become a storm.
    node.pass(Duration::from_secs(100)).await;
    assert!((3..15).contains(&node.signed()), "{} mints", node.signed());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_tainted_or_revoked_key_is_dropped_at_once() {
    for revoke in [false, true] {
        let node = Node::new(vec![web()]).await;
        let holder = node.holders.of(&node.instance).unwrap();
        node.jwt(&["a"]).await.unwrap();
        assert_eq!(holder.watch().borrow().jwt.len(), 1);
        let mut bundle = (**node.bundle.bundle()).clone();
        bundle.jwt_authorities[0].tainted = true;
        if revoke {
            bundle.jwt_authorities.clear();
        }
        node.publish(node.entries(), &Arc::new(PreparedBundle::new(Arc::new(bundle))));
        node.pass(Duration::from_millis(1)).await;
        assert!(holder.watch().borrow().jwt.is_empty(), "{revoke}");
    }
}

/// Whoever asks in the same moment in which a key is tainted is not served by what its holder has
/// not dropped yet.
#[tokio::test(start_paused = true)]
async fn a_token_of_a_tainted_key_is_not_served_before_it_is_dropped() {
    let node = Node::new(vec![web()]).await;
    let first = node.jwt(&["a"]).await.unwrap();
    let mut bundle = (**node.bundle.bundle()).clone();
    bundle.jwt_authorities[0].tainted = true;
    node.publish(node.entries(), &Arc::new(PreparedBundle::new(Arc::new(bundle))));
    assert_ne!(node.jwt(&["a"]).await.unwrap().token, first.token);
}

#[tokio::test(start_paused = true)]
async fn what_a_revoked_authority_signed_is_dropped_at_once() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    *node.server.away.lock().unwrap() = true;
    let empty =
        Arc::new(PreparedBundle::new(Arc::new(Bundle::empty(TrustDomain::parse("td").unwrap()))));
    node.publish(node.entries(), &empty);
    node.pass(Duration::from_millis(1)).await;
    assert!(node.held().is_none());
}

/// Whoever names a JWT key chooses its ID, which must neither keep a CA alive nor taint it.
#[tokio::test(start_paused = true)]
async fn an_authority_of_the_other_kind_with_the_same_id_says_nothing() {
    let prepared = |bundle: Bundle| Arc::new(PreparedBundle::new(Arc::new(bundle)));
    let node = Node::new(vec![web()]).await;
    let held = node.x509().await.unwrap();
    let ca_id = held[0].issuers()[0].clone();
    let mut bundle = (**node.bundle.bundle()).clone();
    bundle.jwt_authorities[0].key_id = ca_id.clone();
    bundle.jwt_authorities[0].tainted = true;
    let tainted = prepared(bundle.clone());
    assert!(tainted.jwt_authorities().is_tainted(&ca_id));
    assert_eq!(tainted.jwt_authorities().newly_tainted(None), [&*ca_id]);
    assert!(tainted.x509_authorities().newly_tainted(None).is_empty());
    assert!(!held[0].is_tainted(&tainted));
    *node.server.away.lock().unwrap() = true;
    bundle.x509_authorities.clear();
    node.publish(node.entries(), &prepared(bundle));
    node.pass(Duration::from_millis(1)).await;
    assert!(node.held().is_none(), "its CA is revoked");
}

#[tokio::test(start_paused = true)]
async fn what_the_bundle_does_not_vouch_for_is_never_served() {
    let node = Node::new(vec![web()]).await;
    let empty =
        Arc::new(PreparedBundle::new(Arc::new(Bundle::empty(TrustDomain::parse("td").unwrap()))));
    node.publish(node.entries(), &empty);
    let (served, ()) = tokio::join!(node.x509(), async {
        node.pass(Duration::from_secs(3)).await;
        assert!(node.held().is_none());
        node.publish(node.entries(), &node.bundle);
    });
    assert_eq!(served.unwrap().len(), 1, "it is served once the bundle has come");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_signs_for_somebody_else_is_not_believed() {
    let node = Node::new(vec![web()]).await;
    let mut other = web();
    other.content.spiffe_id = "spiffe://td/other".parse().unwrap();
    *node.server.entries.lock().unwrap() = vec![Arc::new(other)];
    assert_eq!(node.x509().await.unwrap_err(), IdentityError::Mint(MintFailure::Wrong));
    assert_eq!(node.jwt(&["a"]).await.unwrap_err(), IdentityError::Mint(MintFailure::Wrong));
}

#[tokio::test(start_paused = true)]
async fn a_failed_mint_is_answered_at_once_until_it_is_due_again() {
    let node = Node::new(vec![web()]).await;
    node.server.errors.lock().unwrap().push_back(ServerError::Timeout);
    assert!(node.x509().await.is_err());
    assert!(node.x509().await.is_err());
    assert_eq!(node.server.calls.load(Ordering::SeqCst), 1);
    node.pass(Duration::from_secs(2)).await;
    assert!(node.x509().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_puts_off_no_mint() {
    let node = Node::new(vec![web()]).await;
    let right = node.clock.now();
    node.clock.set(right + TTL * 10);
    *node.server.away.lock().unwrap() = true;
    assert!(node.x509().await.is_err());
    node.clock.set(right);
    *node.server.away.lock().unwrap() = false;
    node.pass(Duration::from_secs(2)).await;
    assert!(node.held().is_some());
}

#[tokio::test(start_paused = true)]
async fn many_mints_share_a_call() {
    let entries = (0..300).map(|n| entry(&format!("e{n}"), n, &["u:1"])).collect();
    let node = Node::new(entries).await;
    assert_eq!(node.x509().await.unwrap().len(), 300);
    let calls = node.server.calls.load(Ordering::SeqCst);
    assert!(calls <= 10, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_for_its_audience_set_until_half_of_its_life() {
    let node = Node::new(vec![web()]).await;
    let first = node.jwt(&["a", "b"]).await.unwrap();
    assert_eq!(node.jwt(&["b", "a", "a"]).await.unwrap().token, first.token); // H063, PIT-38
    assert_ne!(node.jwt(&["a"]).await.unwrap().token, first.token);
    node.pass(Duration::from_secs(119)).await;
    assert_eq!(node.jwt(&["a", "b"]).await.unwrap().token, first.token);
    node.pass(Duration::from_secs(31)).await;
    assert_ne!(node.jwt(&["a", "b"]).await.unwrap().token, first.token); // WAPI-45
}

#[tokio::test(start_paused = true)]
async fn without_a_server_a_token_is_served_until_it_expires_and_not_after() {
    let node = Node::new(vec![web()]).await;
    let first = node.jwt(&["a"]).await.unwrap();
    *node.server.away.lock().unwrap() = true;
    node.pass(Duration::from_secs(290)).await;
    assert_eq!(node.jwt(&["a"]).await.unwrap().token, first.token);
    node.pass(Duration::from_secs(11)).await;
    assert!(node.jwt(&["a"]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_token_with_an_id_of_its_own_is_never_shared() {
    let mut unique = web();
    unique.content.jwt_svid_include_jti = true;
    let node = Node::new(vec![unique]).await;
    let (a, b) = tokio::join!(node.jwt(&["a"]), node.jwt(&["a"]));
    assert_ne!(a.unwrap().token, b.unwrap().token);
    assert_eq!(node.signed(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_every_holder() {
    let node = Node::new(vec![web()]).await;
    node.x509().await.unwrap();
    assert_eq!(node.holders.count(), 1);
    assert_eq!(node.tasks.shutdown(Duration::from_secs(5)).await, Ok(()));
    assert_eq!(node.holders.count(), 0);
}

#[test]
fn renewal_is_spread_before_half_of_life() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(credential::renew_at(at(0), at(100), 0.0), at(50));
    assert_eq!(credential::renew_at(at(0), at(100), 1.0), at(40));
    assert_eq!(credential::renew_at(at(100), at(0), 0.5), at(100));
}
