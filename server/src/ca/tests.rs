//! The way to a signature: recorded before, recorded after, or not taken.

use std::time::Duration;

use serde_json::Value;
use steeple::clock::{TokioClock, from_unix_seconds, unix_seconds};
use steeple::id::SpiffeId;
use steeple::jwt::keys::JwtKeys;
use steeple::jwt::verify::{Expected, verify};
use steeple::keys::{KeyAlgorithm, PrivateKey, PublicKey, Signer as _};
use steeple::x509::verify::{AnchorSet, Role, verify_peer};

use super::request::TokenId;
use super::rotation::Config;
use super::testing::{Bench, NOW, config, trust_domain};
use super::*;

const LIFE: Duration = Duration::from_secs(1000);
const TTL: Duration = Duration::from_secs(100);

fn key() -> PublicKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key().clone()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&trust_domain(), path).unwrap()
}

fn caller() -> Caller {
    Caller::Agent { id: id("/spire/agent/x"), address: "192.0.2.1:7".parse().unwrap() }
}

fn x509<'a>(
    spiffe_id: &'a SpiffeId,
    public_key: &'a PublicKey,
    entry_id: &'a EntryId,
) -> Order<'a, X509Request<'a>> {
    let request = X509Request::Workload { spiffe_id, public_key, ttl: TTL, dns_names: &[] };
    Order { request, entry_id: Some(entry_id) }
}

fn jwt<'a>(spiffe_id: &'a SpiffeId, audience: &'a [String]) -> Order<'a, JwtRequest<'a>> {
    let (token_id, issuer) = (TokenId::Unique, Some("https://issuer.example"));
    let request = JwtRequest { spiffe_id, audience, ttl: TTL, token_id, issuer };
    Order { request, entry_id: None }
}

fn verify_x509(svid: &X509Svid, bundle: &Bundle, now: i64) {
    let bundles = [(trust_domain(), Arc::new(bundle.clone()))].into();
    let anchors = AnchorSet::from_bundles(&bundles);
    let chain = svid.chain().certificates();
    let peer = verify_peer(chain, Role::Client, &anchors, from_unix_seconds(now)).unwrap();
    assert_eq!(peer.spiffe_id(), svid.spiffe_id());
}

fn verify_jwt(token: &str, bundle: &Bundle, now: i64) -> SpiffeId {
    let own = &trust_domain();
    let keys = JwtKeys::new(&bundle.jwt_authorities);
    let expected = Expected { audience: "db", own };
    let verified = verify(token, &expected, |_| Some(&keys), from_unix_seconds(now));
    verified.unwrap().id().clone()
}

/// The events after those of the start, each with what tells them apart.
fn told(bench: &Bench) -> Vec<Value> {
    let events = bench.events();
    events.into_iter().filter(|event| event["caller"]["class"] == "agent").collect()
}

#[tokio::test(start_paused = true)]
async fn each_of_a_batch_has_a_result_and_a_record() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let ca = bench.ca(&rotation);
    let (key, entry) = (key(), "e-1".parse().unwrap());
    let ids = [id("/a"), id("/spire/server"), id("/b")];
    let orders: Vec<_> = ids.iter().map(|id| x509(id, &key, &entry)).collect();
    let results = ca.issue_x509(&caller(), &orders).await;
    let [Ok(first), Err(IssueError::Refused(refusal)), Ok(last)] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(*refusal, Refusal::Reserved(ids[1].clone()));
    for (issued, id) in [(first, &ids[0]), (last, &ids[2])] {
        assert_eq!(issued.svid.spiffe_id(), id);
        assert_eq!(issued.svid.chain().certificates().len(), 1);
        assert_eq!(unix_seconds(issued.svid.not_after()), NOW + 100);
        verify_x509(&issued.svid, &bench.ledger.own_bundle(), NOW);
    }

    let events = told(&bench);
    let field = |name: &str| events.iter().map(|event| event[name].clone()).collect::<Vec<_>>();
    assert_eq!(
        field("event"),
        ["x509_intent", "x509_refused", "x509_intent", "x509_issued", "x509_issued"]
    );
    let serial = |issued: &IssuedX509| Value::from(issued.svid.serial().to_hex());
    let (a, b) = (serial(first), serial(last));
    assert_eq!(field("serial"), [a.clone(), Value::Null, b.clone(), a, b]);
    let correlations = field("correlation");
    assert_eq!(correlations[0], first.correlation.to_string());
    assert_eq!(correlations[0], correlations[3]);
    assert_eq!(correlations[2], correlations[4]);
    assert_eq!(events[0]["entry_id"], "e-1");
    assert_eq!(events[0]["profile"], "workload");
    assert_eq!(events[0]["authority_id"], ca.authorities().x509().id().as_str());
    assert_eq!(events[1]["why"], refusal.to_string());
    assert_eq!(events[3]["not_after"], NOW + 100);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_recorded_by_its_hash_and_verifies() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let ca = bench.ca(&rotation);
    let (web, audience) = (id("/web"), ["db".to_owned()]);
    let issued = ca.issue_jwt(&caller(), &jwt(&web, &audience)).await.unwrap();
    assert_eq!((issued.issued_at, issued.expires_at), (NOW, NOW + 100));
    assert_eq!(verify_jwt(&issued.token, &bench.ledger.own_bundle(), NOW), web);
    assert_eq!(ca.tally().live(ca.authorities().jwt().unwrap().id(), NOW).count, 1);

    let events = told(&bench);
    let [intent, result] = &events[..] else { panic!("{events:?}") };
    assert_eq!([&intent["event"], &result["event"]], ["jwt_intent", "jwt_issued"]);
    assert_eq!(intent["correlation"], result["correlation"]);
    assert_eq!(intent["jti"], result["jti"]);
    assert_eq!(intent["audience"][0], "db");
    let hash = crate::audit::event::sha256(issued.token.as_bytes());
    assert_eq!(result["token_sha256"], serde_json::to_value(hash).unwrap());
    // The token itself is nowhere.
    let log = std::fs::read_to_string(bench.log()).unwrap();
    let signature = issued.token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_recorded() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let ca = bench.ca(&rotation);
    let web = id("/web");
    let refused = ca.issue_jwt(&caller(), &jwt(&web, &[])).await;
    assert!(matches!(refused, Err(IssueError::Refused(Refusal::NoAudience))));
    let events = told(&bench);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event"], "jwt_refused");
    assert_eq!(events[0]["why"], "a token needs an audience");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_handed_out() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let (key, entry, web, audience) = (key(), "e".parse().unwrap(), id("/web"), ["db".to_owned()]);
    // The log is full before the intent, and before the result.
    for writes in [0, 1] {
        let full = |writes| {
            let audit = Arc::new(crate::audit::tests::full_after(writes, 9));
            Ca::new(rotation.authorities(), audit, bench.clock.clone())
        };
        let results = full(writes).issue_x509(&caller(), &[x509(&web, &key, &entry)]).await;
        let [Err(error @ IssueError::Unrecorded(_))] = &results[..] else { panic!("recorded") };
        assert_eq!(record::chain(error), "the audit log cannot be written: no storage space");
        let result = full(writes).issue_jwt(&caller(), &jwt(&web, &audience)).await;
        assert!(matches!(result, Err(IssueError::Unrecorded(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_key_signs_what_verifies() {
    let pairs = [
        (KeyAlgorithm::EcP256, KeyAlgorithm::EcP384),
        (KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048),
        (KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256),
    ];
    for (ca_key, jwt_key) in pairs {
        let bench = Bench::new();
        let config = Config { ca_key, jwt_key: Some(jwt_key), ..config(LIFE) };
        let rotation = bench.start_with(config).await.unwrap();
        let ca = bench.ca(&rotation);
        let (key, entry, web) = (key(), "e".parse().unwrap(), id("/web"));
        let issued = ca.issue_one_x509(&caller(), &x509(&web, &key, &entry)).await.unwrap();
        verify_x509(&issued.svid, &bench.ledger.own_bundle(), NOW);
        let audience = ["db".to_owned()];
        let issued = ca.issue_jwt(&caller(), &jwt(&web, &audience)).await.unwrap();
        assert_eq!(verify_jwt(&issued.token, &bench.ledger.own_bundle(), NOW), web);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_long_is_signed_aside_in_order() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let (ca, key, entry) = (bench.ca(&rotation), key(), "e".parse().unwrap());
    let ids: Vec<_> = (0..100).map(|number| id(&format!("/w/{number}"))).collect();
    let orders: Vec<_> = ids.iter().map(|id| x509(id, &key, &entry)).collect();
    let results = ca.issue_x509(&caller(), &orders).await;
    let issued = results.iter().map(|result| result.as_ref().unwrap().svid.spiffe_id());
    assert!(issued.eq(&ids));
    let clock: &TokioClock = &bench.clock;
    assert_eq!(unix_seconds(clock.now()), NOW);
    assert_eq!(told(&bench).len(), 200);
}

/// SID-10: an ID of 2048 bytes in a certificate and in a token.
#[tokio::test(start_paused = true)]
async fn the_longest_id_is_signed_for() {
    let bench = Bench::new();
    let rotation = bench.start(LIFE).await.unwrap();
    let (ca, key, entry) = (bench.ca(&rotation), key(), "e".parse().unwrap());
    let room = 2048 - trust_domain().id().as_str().len() - 1;
    let longest = id(&format!("/{}", "a".repeat(room)));
    assert_eq!(longest.as_str().len(), 2048);
    let issued = ca.issue_one_x509(&caller(), &x509(&longest, &key, &entry)).await.unwrap();
    assert_eq!(*issued.svid.spiffe_id(), longest);
    verify_x509(&issued.svid, &bench.ledger.own_bundle(), NOW);
    let audience = ["db".to_owned()];
    let issued = ca.issue_jwt(&caller(), &jwt(&longest, &audience)).await.unwrap();
    assert_eq!(verify_jwt(&issued.token, &bench.ledger.own_bundle(), NOW), longest);
}
