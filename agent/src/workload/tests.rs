//! The Workload API over a real socket, to clients that know nothing but the standard: the rows
//! WEP-…, WAPI-… and H060 to H078 of the compliance checklist.
//!
//! The server is in this process and really signs; what a caller is, the tests say.

mod again;
mod client;
mod delegated;
mod streams;
mod tokens;
mod validation;
mod x509;

use std::time::Duration;

use steeple_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest,
    X509BundlesRequest, X509svidRequest,
};
use tonic::Code;

use self::client::{Bench, Mood, code, federating, first, foreign, request, web};
use super::Verifiers;
use crate::identity::Snapshot;
use crate::server_api::ServerError;

/// How each call of the X.509 and JWT profiles ends: those of a stream with its first message.
async fn codes(bench: &Bench) -> [Code; 5] {
    let mut api = bench.api();
    let tokens = JwtsvidRequest { audience: vec!["db".into()], ..Default::default() };
    let validation = ValidateJwtsvidRequest { audience: "db".into(), svid: bench.token() };
    [
        code(first(api.fetch_x509svid(request(X509svidRequest {})).await).await),
        code(first(api.fetch_x509_bundles(request(X509BundlesRequest {})).await).await),
        code(api.fetch_jwtsvid(request(tokens)).await),
        code(first(api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await).await),
        code(api.validate_jwtsvid(request(validation)).await),
    ]
}

/// WEP-01, WEP-06, WEP-07, WEP-18, WAPI-01: a client without TLS, secrets or configuration.
#[tokio::test(start_paused = true)]
async fn every_call_of_both_profiles_answers_whoever_is_registered() {
    let bench = Bench::new(vec![web()]).await;
    assert_eq!(codes(&bench).await, [Code::Ok; 5]);
}

/// WAPI-02, H078: and the same client on the same connection is served otherwise.
#[tokio::test(start_paused = true)]
async fn the_wit_profile_is_not_implemented() {
    let bench = Bench::new(vec![web()]).await;
    let mut api = bench.api();
    let svids = api.fetch_witsvid(request(WitsvidRequest::default())).await;
    assert_eq!(code(svids), Code::Unimplemented);
    let bundles = api.fetch_wit_bundles(request(WitBundlesRequest {})).await;
    assert_eq!(code(bundles), Code::Unimplemented);
    assert_eq!(code(first(api.fetch_x509svid(request(X509svidRequest {})).await).await), Code::Ok);
}

/// WEP-15, WAPI-20, WAPI-30, WAPI-34, WAPI-48, H067: no identity is no message, and is said so.
/// Tokens of the own trust domain anybody may validate, as its keys are no secret.
#[tokio::test(start_paused = true)]
async fn who_is_not_registered_is_denied() {
    let bench = Bench::new(vec![web()]).await;
    let [denied, ok] = [Code::PermissionDenied, Code::Ok];
    bench.attestor.is(Mood::Finds(&["u:2"]));
    assert_eq!(codes(&bench).await, [denied, denied, denied, denied, ok]);
    let refused = first(bench.api().fetch_x509svid(request(X509svidRequest {})).await).await;
    assert_eq!(refused.unwrap_err().message(), "no identity issued");
    bench.attestor.is(Mood::Finds(&["u:1"]));
    assert_eq!(codes(&bench).await, [ok; 5]);
}

/// It is as final, and another reason than that somebody is not registered.
#[tokio::test(start_paused = true)]
async fn on_a_banned_node_everybody_is_denied_and_told_why() {
    let bench = Bench::new(vec![web()]).await;
    let banned = Snapshot::new("td".parse().unwrap(), Vec::new(), [bench.node.bundle.clone()]);
    bench.node.snapshot.send_replace(Some(std::sync::Arc::new(banned.of_banned_node())));
    let [denied, ok] = [Code::PermissionDenied, Code::Ok];
    assert_eq!(codes(&bench).await, [denied, denied, denied, denied, ok]);
    let refused = first(bench.api().fetch_x509svid(request(X509svidRequest {})).await).await;
    let message = "no identity issued: the server has banned this node";
    assert_eq!(refused.unwrap_err().message(), message);
}

/// What is public anyway is given to who only verifies others, if that is configured.
#[tokio::test(start_paused = true)]
async fn who_is_not_registered_may_be_given_the_own_bundle_and_no_other() {
    let entries = vec![federating(web(), &["b"])];
    let bench = Bench::with(entries.clone(), Verifiers::Anybody).await;
    bench.publish(entries, vec![foreign("b").bundle]);
    let [denied, ok, unknown] = [Code::PermissionDenied, Code::Ok, Code::Unavailable];
    bench.attestor.is(Mood::Finds(&["u:2"]));
    assert_eq!(codes(&bench).await, [denied, ok, denied, ok, ok]);
    assert_eq!(told(&bench).await, [["spiffe://td"], ["spiffe://td"]]);
    bench.attestor.is(Mood::Finds(&["u:1"]));
    assert_eq!(told(&bench).await, [["spiffe://b", "spiffe://td"], ["spiffe://b", "spiffe://td"]]);
    // It may be entitled to more than that.
    bench.attestor.is(Mood::Fails);
    assert_eq!(codes(&bench).await, [unknown, unknown, unknown, unknown, ok]);
}

/// The trust domains whose bundles a caller is told, of either kind.
async fn told(bench: &Bench) -> [Vec<String>; 2] {
    let mut api = bench.api();
    let x509 = first(api.fetch_x509_bundles(request(X509BundlesRequest {})).await).await.unwrap();
    let jwt = first(api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await).await.unwrap();
    [x509.bundles.into_keys().collect(), jwt.bundles.into_keys().collect()]
}

/// WEP-14, H068: an agent that has heard nothing yet is not ready, which is not a denial.
#[tokio::test(start_paused = true)]
async fn an_agent_that_has_not_synchronised_is_unavailable() {
    let bench = Bench::new(vec![web()]).await;
    let known = bench.node.snapshot.send_replace(None);
    assert_eq!(codes(&bench).await, [Code::Unavailable; 5]);
    bench.node.snapshot.send_replace(known);
    assert_eq!(codes(&bench).await, [Code::Ok; 5]);
}

/// WEP-14: a server that cannot be reached, and nothing that was minted before.
#[tokio::test(start_paused = true)]
async fn an_agent_without_a_server_has_nothing_new_to_give() {
    let bench = Bench::new(vec![web()]).await;
    let [ok, unavailable] = [Code::Ok, Code::Unavailable];
    *bench.node.server.away.lock().unwrap() = true;
    assert_eq!(codes(&bench).await, [unavailable, ok, unavailable, ok, ok]);
    *bench.node.server.away.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(codes(&bench).await, [ok; 5]);
    // What is held is served without it.
    *bench.node.server.away.lock().unwrap() = true;
    assert_eq!(codes(&bench).await, [ok; 5]);
}

/// H069: not to know what a caller is, is not to know that it is nobody.
#[tokio::test(start_paused = true)]
async fn an_attestor_that_fails_makes_nobody_of_nobody() {
    let bench = Bench::new(vec![web()]).await;
    for mood in [Mood::Fails, Mood::Hangs, Mood::Panics] {
        bench.attestor.is(mood);
        let [ok, unknown] = [Code::Ok, Code::Unavailable];
        // Whoever validates a token of the own trust domain need not be known.
        assert_eq!(codes(&bench).await, [unknown, unknown, unknown, unknown, ok], "{mood:?}");
        // The other attestor may know enough.
        bench.second.is(Mood::Finds(&["u:1"]));
        assert_eq!(codes(&bench).await, [Code::Ok; 5], "{mood:?}");
        bench.second.is(Mood::Finds(&["x:1"]));
        assert_eq!(codes(&bench).await[..4], [Code::Unavailable; 4], "{mood:?}");
        bench.second.is(Mood::Fails);
    }
}

/// H074: never an empty bundle, which clients take for a broken message.
#[tokio::test(start_paused = true)]
async fn a_trust_domain_without_authority_is_unavailable() {
    let bench = Bench::new(vec![web()]).await;
    let mut own = (**bench.node.bundle.bundle()).clone();
    let authorities = std::mem::take(&mut own.x509_authorities);
    bench.publish_own(own.clone());
    let [ok, unavailable] = [Code::Ok, Code::Unavailable];
    assert_eq!(codes(&bench).await[1..], [unavailable, ok, ok, ok]);
    own.x509_authorities = authorities;
    bench.publish_own(own);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(codes(&bench).await, [ok; 5]);
}

/// H073: an answer that no client would read is refused, not cut.
#[tokio::test(start_paused = true)]
async fn an_answer_beyond_what_clients_read_is_not_sent() {
    let bench = Bench::new(vec![web()]).await;
    // The federated bundles of one caller, which every message has.
    let mut large = foreign("b").bundle;
    let one = large.x509_authorities[0].certificate.len();
    large.x509_authorities = vec![large.x509_authorities[0].clone(); 4 * 1024 * 1024 / one];
    bench.publish(vec![federating(web(), &["b"])], vec![large.clone()]);
    let [ok, unavailable] = [Code::Ok, Code::Unavailable];
    assert_eq!(codes(&bench).await, [unavailable, unavailable, ok, ok, ok]);
    large.x509_authorities.truncate(1000);
    bench.publish(vec![federating(web(), &["b"])], vec![large]);
    assert_eq!(codes(&bench).await, [ok; 5]);
}

/// A server that fails is not a caller without identity.
#[tokio::test(start_paused = true)]
async fn a_failure_of_the_server_is_never_a_denial() {
    for error in [ServerError::Timeout, ServerError::Unavailable("full".into())] {
        let bench = Bench::new(vec![web()]).await;
        bench.node.server.errors.lock().unwrap().push_back(error);
        let answer = first(bench.api().fetch_x509svid(request(X509svidRequest {})).await).await;
        assert_eq!(code(answer), Code::Unavailable);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(codes(&bench).await, [Code::Ok; 5]);
    }
}
