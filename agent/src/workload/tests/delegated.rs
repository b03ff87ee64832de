//! The Delegated Identity API, to a delegate (which is `web`) and to others.

use std::process::{Child, Command, Stdio};

use steeple::entry::{Entry, Hint};
use steeple::keys::{PrivateKey, Signer as _};
use steeple::x509::Certificate;
use steeple_proto::spire::api::agent::delegatedidentity::v1::{
    FetchJwtsviDsRequest, SubscribeToJwtBundlesRequest, SubscribeToX509BundlesRequest,
    SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
};
use steeple_proto::spire::api::types;
use tonic::{Code, Status, Streaming};

use super::client::{Bench, Mood, code, federating, first, foreign, web};
use crate::identity::tests::entry;

/// A process that does nothing until it is told to end.
struct Idle(Child);

impl Idle {
    fn new() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn selector(value: &str) -> types::Selector {
    types::Selector { r#type: "u".into(), value: value.into() }
}

/// For whoever has the selector `u:9`.
fn nine() -> SubscribeToX509sviDsRequest {
    SubscribeToX509sviDsRequest { selectors: vec![selector("9")], pid: 0 }
}

fn of_process(pid: i32) -> SubscribeToX509sviDsRequest {
    SubscribeToX509sviDsRequest { selectors: Vec::new(), pid }
}

fn db() -> Entry {
    entry("db", 5, &["u:9"])
}

async fn subscribe(
    bench: &Bench,
    request: SubscribeToX509sviDsRequest,
) -> Result<Streaming<SubscribeToX509sviDsResponse>, Status> {
    Ok(bench.delegated().subscribe_to_x509svi_ds(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<SubscribeToX509sviDsResponse>) -> Vec<String> {
    let message = stream.message().await.unwrap().unwrap();
    let path = |svid: &types::X509svid| svid.id.as_ref().unwrap().path.clone();
    message.x509_svids.iter().map(|svid| path(svid.x509_svid.as_ref().unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delegate_gets_what_others_with_the_selectors_would_get() {
    let mut hinted = [db(), entry("db2", 6, &["u:9"])];
    for entry in &mut hinted {
        entry.content.hint = Hint::new("same").unwrap();
    }
    let [db, db2] = hinted;
    let mut admin = entry("admin", 7, &["u:9"]);
    admin.content.admin = true;
    let mut downstream = entry("downstream", 8, &["u:9"]);
    downstream.content.downstream = true;
    let bench = Bench::new(vec![web()]).await;
    let entries = vec![web(), federating(db, &["b"]), db2, admin, downstream];
    bench.publish(entries, vec![foreign("b").bundle, foreign("c").bundle]);
    let mut stream = subscribe(&bench, nine()).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    // Neither are hints unique here, nor do credentials leave that give power over the server.
    assert_eq!(message.x509_svids.len(), 2);
    assert_eq!(message.federates_with, ["spiffe://b"]);
    let svid = message.x509_svids[0].x509_svid.as_ref().unwrap();
    assert_eq!((svid.id.as_ref().unwrap().path.as_str(), svid.hint.as_str()), ("/db", "same"));
    let leaf = Certificate::parse(&svid.cert_chain[0]).unwrap();
    let key = PrivateKey::from_pkcs8(&message.x509_svids[0].x509_svid_key).unwrap();
    assert_eq!(leaf.spki_der(), key.public_key().spki_der());
    assert_eq!(svid.expires_at, bench.now() + 3_600);
}

#[tokio::test(start_paused = true)]
async fn to_match_nothing_is_an_answer_until_something_matches() {
    let bench = Bench::new(vec![web()]).await;
    let mut stream = subscribe(&bench, nine()).await.unwrap();
    assert!(next(&mut stream).await.is_empty());
    bench.publish(vec![web(), db()], Vec::new());
    assert_eq!(next(&mut stream).await, ["/db"]);
    bench.publish(vec![web()], Vec::new());
    assert!(next(&mut stream).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_no_delegate_gets_nothing() {
    let bench = Bench::new(vec![web(), entry("other", 0, &["u:2"]), db()]).await;
    for (is, words) in
        [("u:2", "caller not configured as an authorized delegate"), ("u:3", "no identity issued")]
    {
        bench.attestor.is(Mood::Finds(if is == "u:2" { &["u:2"] } else { &["u:3"] }));
        let mut api = bench.delegated();
        let tokens = FetchJwtsviDsRequest {
            audience: vec!["a".into()],
            selectors: vec![selector("9")],
            pid: 0,
        };
        let refusals = [
            api.subscribe_to_x509svi_ds(nine()).await.map(drop),
            api.subscribe_to_x509_bundles(SubscribeToX509BundlesRequest {}).await.map(drop),
            api.subscribe_to_jwt_bundles(SubscribeToJwtBundlesRequest {}).await.map(drop),
            api.fetch_jwtsvi_ds(tokens).await.map(drop),
        ];
        for refusal in refusals {
            let status = refusal.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, words));
        }
    }
    assert_eq!(bench.node.signed(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_permission_goes_with_the_entry() {
    let bench = Bench::new(vec![web(), db()]).await;
    let mut stream = subscribe(&bench, nine()).await.unwrap();
    assert_eq!(next(&mut stream).await, ["/db"]);
    let mut renamed = web();
    renamed.content.spiffe_id = "spiffe://td/other".parse().unwrap();
    bench.publish(vec![renamed, db()], Vec::new());
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn a_request_names_selectors_or_a_process() {
    let bench = Bench::new(vec![web()]).await;
    let both = SubscribeToX509sviDsRequest { pid: 1, ..nine() };
    let bad = SubscribeToX509sviDsRequest { selectors: vec![selector("")], pid: 0 };
    for (request, expected) in [
        (both, Code::InvalidArgument),
        (SubscribeToX509sviDsRequest::default(), Code::InvalidArgument),
        (of_process(-1), Code::InvalidArgument),
        (bad, Code::InvalidArgument),
        (of_process(i32::MAX), Code::Internal),
    ] {
        assert_eq!(subscribe(&bench, request).await.map(drop).unwrap_err().code(), expected);
    }
}

#[tokio::test]
async fn a_process_is_served_through_its_delegate_until_it_ends() {
    let bench = Bench::new(vec![web()]).await;
    let idle = Idle::new();
    let pid = idle.pid();
    let mut stream = subscribe(&bench, of_process(pid)).await.unwrap();
    assert_eq!(next(&mut stream).await, ["/web"]);
    drop(idle);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::NotFound);
    let refused = subscribe(&bench, of_process(pid)).await.map(drop);
    assert_eq!(refused.unwrap_err().code(), Code::Internal);
    while bench.node.holders.count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_those_of_a_delegation_and_go_with_its_last_stream() {
    let bench = Bench::new(vec![web(), db()]).await;
    let key = async |stream: &mut Streaming<SubscribeToX509sviDsResponse>| {
        stream.message().await.unwrap().unwrap().x509_svids.remove(0).x509_svid_key
    };
    let [mut a, mut b] =
        [subscribe(&bench, nine()).await.unwrap(), subscribe(&bench, nine()).await.unwrap()];
    let first_key = key(&mut a).await;
    assert_eq!(key(&mut b).await, first_key, "one delegation has one key");
    let selectors = vec![selector("9"), selector("8")];
    let others = SubscribeToX509sviDsRequest { selectors, pid: 0 };
    let mut c = subscribe(&bench, others).await.unwrap();
    assert_ne!(key(&mut c).await, first_key, "another has another");
    assert_eq!(bench.node.holders.count(), 2);
    drop((a, b, c));
    while bench.node.holders.count() > 0 {
        tokio::task::yield_now().await;
    }
    let mut again = subscribe(&bench, nine()).await.unwrap();
    assert_ne!(key(&mut again).await, first_key);
}

#[tokio::test(start_paused = true)]
async fn a_delegate_gets_every_bundle() {
    let bench = Bench::new(vec![web()]).await;
    let mut without_x509 = foreign("b").bundle;
    without_x509.x509_authorities.clear();
    bench.publish(vec![web()], vec![without_x509, foreign("c").bundle]);
    let mut api = bench.delegated();
    let x509 = first(api.subscribe_to_x509_bundles(SubscribeToX509BundlesRequest {}).await).await;
    let names: Vec<_> = x509.unwrap().ca_certificates.into_keys().collect();
    assert_eq!(names, ["spiffe://c", "spiffe://td"]);
    let jwt = first(api.subscribe_to_jwt_bundles(SubscribeToJwtBundlesRequest {}).await).await;
    let names: Vec<_> = jwt.unwrap().bundles.into_keys().collect();
    assert_eq!(names, ["spiffe://b", "spiffe://c", "spiffe://td"]);
}

#[tokio::test(start_paused = true)]
async fn a_delegate_fetches_tokens_which_are_kept_for_it() {
    let bench = Bench::new(vec![web(), db()]).await;
    let fetch = async |audience: &[&str], value: &str| {
        let request = FetchJwtsviDsRequest {
            audience: audience.iter().map(ToString::to_string).collect(),
            selectors: vec![selector(value)],
            pid: 0,
        };
        bench.delegated().fetch_jwtsvi_ds(request).await.map(|answer| answer.into_inner().svids)
    };
    let first = fetch(&["a"], "9").await.unwrap();
    assert_eq!(first[0].id.as_ref().unwrap().path, "/db");
    assert_eq!((first[0].issued_at, first[0].expires_at), (bench.now(), bench.now() + 300));
    assert_eq!(fetch(&["a"], "9").await.unwrap()[0].token, first[0].token);
    assert_eq!(bench.node.signed(), 1);
    assert_eq!(code(fetch(&["a"], "8").await), Code::PermissionDenied);
    assert_eq!(code(fetch(&[], "9").await), Code::InvalidArgument);
    assert_eq!(code(fetch(&[""], "9").await), Code::InvalidArgument);
}

/// Its permission may go while a token is signed, as may whom it asks for.
#[tokio::test(start_paused = true)]
async fn a_token_leaves_only_while_the_delegate_and_the_entry_are_there() {
    for (left, expected) in [
        (vec![web(), db()], Code::Ok),
        (vec![web()], Code::PermissionDenied),
        (vec![db()], Code::PermissionDenied),
    ] {
        let bench = Bench::new(vec![web(), db()]).await;
        let request = FetchJwtsviDsRequest {
            audience: vec!["a".into()],
            selectors: vec![selector("9")],
            pid: 0,
        };
        let mut api = bench.delegated();
        let (fetched, ()) = tokio::join!(api.fetch_jwtsvi_ds(request), async {
            bench.a_mint_begins().await;
            bench.node.learns(left, (**bench.node.bundle.bundle()).clone());
        });
        assert_eq!(code(fetched), expected);
    }
}
