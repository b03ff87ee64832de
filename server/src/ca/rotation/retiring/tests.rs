//! Servers that make no tokens, from the start or from a restart on.

use std::time::Duration;

use steeple::bundle::JwtAuthority;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};

use crate::audit::event::Caller;
use crate::ca::control::{Change, ControlError};
use crate::ca::journal::Journal;
use crate::ca::request::{JwtRequest, Refusal, TokenId};
use crate::ca::rotation::tests::{check_accepted, history, issue, run, sleep};
use crate::ca::rotation::{Config, Health};
use crate::ca::slots::{Kind, Status};
use crate::ca::testing::tiers::{HOUR, Tier};
use crate::ca::testing::upstream::FakeUpstream;
use crate::ca::testing::{Bench, NOW, config};
use crate::ca::{IssueError, Ledger as _, Order};

const BY: Caller = Caller::Local { uid: 7, gid: 8, pid: None };

/// Authorities that live for an hour, and none of them for tokens.
fn without_tokens() -> Config {
    Config { jwt_key: None, ..config(HOUR) }
}

fn key_ids(bench: &Bench) -> Vec<String> {
    let bundle = bench.ledger.own_bundle();
    bundle.jwt_authorities.iter().map(|key| key.key_id.clone()).collect()
}

/// The names in the key store of keys that sign tokens.
async fn jwt_signers(bench: &Bench) -> Vec<String> {
    let names = bench.keys.list().await.unwrap().into_iter().map(|name| name.as_str().to_owned());
    names.filter(|name| name.starts_with("JWT")).collect()
}

fn key(key_id: &str) -> JwtAuthority {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let public_key = key.public_key().spki_der().to_vec();
    JwtAuthority {
        key_id: key_id.into(),
        public_key,
        expires_at: Some(NOW + 9_999),
        tainted: false,
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_tokens_are_made_there_is_no_key_and_certificates_go_on() {
    let bench = Bench::new();
    let rotation = bench.start_with(without_tokens()).await.unwrap();
    let (authorities, health) = (rotation.authorities(), rotation.health());
    let (ca, control) = (bench.ca(&rotation), rotation.control());
    let first = authorities.borrow().x509().id().clone();
    let tasks = run(rotation);
    // The next CA is prepared a minute later.
    sleep(179 * 60).await;
    assert_ne!(*authorities.borrow().x509().id(), first);
    assert_eq!(*health.borrow(), Health::Rotating);
    // What was replaced is removed, though there is nothing of the other kind.
    assert_eq!(bench.keys.list().await.unwrap().len(), 1);
    assert_eq!((key_ids(&bench), jwt_signers(&bench).await), (vec![], vec![]));
    let history = history(&bench);
    assert!(!history.iter().any(|event| event.contains("jwt_key")), "{history:?}");

    let spiffe_id = "spiffe://example.org/web".parse().unwrap();
    let (audience, ttl) = (["a".to_owned()], Duration::from_secs(60));
    let token_id = TokenId::Omitted;
    let request =
        JwtRequest { spiffe_id: &spiffe_id, audience: &audience, ttl, token_id, issuer: None };
    let refused = ca.issue_jwt(&BY, &Order { request, entry_id: None }).await;
    assert!(matches!(refused, Err(IssueError::Refused(Refusal::NoTokens))), "{refused:?}");
    let not_made = |refused| matches!(refused, Err(ControlError::NotMade(Kind::JwtKey)));
    assert!(not_made(control.state(Kind::JwtKey).map(|state| state.active)));
    assert!(not_made(control.prepare(BY, Kind::JwtKey).await));
    for change in [Change::Activate, Change::Taint, Change::Revoke] {
        assert!(not_made(control.change(BY, change, (Kind::JwtKey, "kid")).await), "{change:?}");
    }
    let refusals = bench.events().into_iter().filter(|event| event["event"] == "authority_refused");
    assert_eq!(refusals.count(), 4);
    control.prepare(BY, Kind::X509Ca).await.unwrap();
    tasks.shutdown(HOUR).await.unwrap();
}

/// The keys of others are none of this server's business: they go up and come down.
#[tokio::test(start_paused = true)]
async fn a_branch_that_makes_no_tokens_knows_the_keys_of_those_who_do() {
    let root = Tier::root();
    let mut bench = Bench::new();
    let upstream = FakeUpstream::new(bench.clock.clone(), root.below("td", 9 * HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    bench.upstream = Some(upstream.clone());
    let rotation = bench.start_with(without_tokens()).await.unwrap();
    let control = rotation.control();
    let tasks = run(rotation);
    upstream.say(&[(&root, false)], &[key("above")]);
    sleep(1).await;
    assert_eq!(key_ids(&bench), ["above"]);
    control.publish(BY, key("below")).await.unwrap();
    assert_eq!(key_ids(&bench), ["above", "below"]);
    sleep(11).await;
    assert_eq!(upstream.state().keys, Some(Vec::new()));
    tasks.shutdown(HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_from_before_no_tokens_were_made_go_when_what_they_signed_has_expired() {
    let bench = Bench::new();
    let rotation = bench.start(HOUR).await.unwrap();
    let (ca, control) = (bench.ca(&rotation), rotation.control());
    let tasks = run(rotation);
    let web = "spiffe://example.org/web".parse().unwrap();
    let held = issue(&ca, &web, HOUR).await;
    let next = control.prepare(BY, Kind::JwtKey).await.unwrap().id.to_string();
    tasks.shutdown(HOUR).await.unwrap();
    let before = key_ids(&bench);
    assert_eq!((before.len(), &before[1]), (2, &next));

    let rotation = bench.start_with(without_tokens()).await.unwrap();
    assert!(rotation.authorities().borrow().jwt().is_none());
    assert_eq!(rotation.control().old(Kind::JwtKey).len(), 2);
    let tasks = run(rotation);
    sleep(11).await;
    assert_eq!(jwt_signers(&bench).await, Vec::<String>::new());
    let retired: Vec<_> =
        history(&bench).into_iter().filter(|event| event.contains("retired")).collect();
    assert_eq!(retired, ["0 retired jwt_key -", "0 retired jwt_key -"]);
    // Nobody knows what else they signed, so that they stay until they would have ended.
    sleep(3_580).await;
    assert_eq!(key_ids(&bench), before);
    check_accepted(&held, &bench.ledger.own_bundle(), NOW + 3_591);
    sleep(2 * 3_600).await;
    assert_eq!(key_ids(&bench), Vec::<String>::new());
    tasks.shutdown(HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_makes_tokens_again_has_a_new_key_beside_the_old_ones() {
    let bench = Bench::new();
    let first = bench.start(HOUR).await.unwrap();
    let first = first.authorities().borrow().jwt().unwrap().id().to_string();
    drop(bench.start_with(without_tokens()).await.unwrap());
    // A restart in the same state finds nothing to do.
    drop(bench.start_with(without_tokens()).await.unwrap());
    let rotation = bench.start(HOUR).await.unwrap();
    let second = rotation.authorities().borrow().jwt().unwrap().id().to_string();
    assert_ne!(second, first);
    assert_eq!(key_ids(&bench), [first.clone(), second.clone()]);
    let journal = Journal::decode(&bench.ledger.stored().unwrap()).unwrap();
    let status = |id: &str| journal.named(Kind::JwtKey, id).unwrap().status;
    assert_eq!((status(&first), status(&second)), (Status::Old, Status::Active));

    let ca = bench.ca(&rotation);
    let tasks = run(rotation);
    sleep(11).await;
    assert_eq!(jwt_signers(&bench).await.len(), 1);
    let web = "spiffe://example.org/web".parse().unwrap();
    let held = issue(&ca, &web, Duration::from_secs(60)).await;
    check_accepted(&held, &bench.ledger.own_bundle(), NOW + 12);
    tasks.shutdown(HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_retired_keep_the_server_from_starting() {
    let bench = Bench::new();
    drop(bench.start(HOUR).await.unwrap());
    bench.ledger.fail(true);
    assert!(bench.start_with(without_tokens()).await.is_err());
    bench.ledger.fail(false);
    let rotation = bench.start_with(without_tokens()).await.unwrap();
    assert!(rotation.authorities().borrow().jwt().is_none());
}
