//! When a stream sends a message, and how it ends.

use std::time::Duration;

use steeple::clock::Clock as _;
use steeple::x509::Certificate;
use steeple_proto::workload::{
    JwtBundlesRequest, X509BundlesRequest, X509svidRequest, X509svidResponse,
};
use tokio::time::Instant;
use tonic::{Code, Streaming};

use super::client::{Bench, federating, foreign, request, web, younger};
use super::x509::check;
use crate::identity::tests::node::TTL;

async fn open(bench: &Bench) -> Streaming<X509svidResponse> {
    bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap().into_inner()
}

async fn ids(stream: &mut Streaming<X509svidResponse>) -> Vec<String> {
    let message = stream.message().await.unwrap().unwrap();
    message.svids.into_iter().map(|svid| svid.spiffe_id).collect()
}

/// WAPI-05, WAPI-06, PIT-16: every message is everything, and comes with a change alone.
#[tokio::test(start_paused = true)]
async fn a_change_brings_the_whole_state_and_nothing_else_brings_any() {
    let bench = Bench::new(vec![web()]).await;
    let mut stream = open(&bench).await;
    let [web_id, db_id] = ["web", "db"].map(|name| format!("spiffe://td/{name}"));
    assert_eq!(ids(&mut stream).await, std::slice::from_ref(&web_id));
    bench.publish(vec![web(), younger("db")], Vec::new());
    assert_eq!(ids(&mut stream).await, [web_id.clone(), db_id.clone()]);
    // What differs for others only, and what does not differ, is no message: the next one is the
    // one after.
    bench.publish(vec![web(), younger("db")], vec![foreign("b").bundle]);
    bench.publish(vec![web(), younger("db")], Vec::new());
    tokio::time::sleep(Duration::from_secs(60)).await;
    bench.publish(vec![younger("db")], Vec::new());
    assert_eq!(ids(&mut stream).await, [db_id]);
    // A bundle that goes is a message without it.
    bench.publish(vec![federating(web(), &["b"])], vec![foreign("b").bundle]);
    assert_eq!(stream.message().await.unwrap().unwrap().federated_bundles.len(), 1);
    bench.publish(vec![federating(web(), &["b"])], Vec::new());
    let redacted = stream.message().await.unwrap().unwrap();
    assert!(redacted.federated_bundles.is_empty());
    assert_eq!(redacted.svids.len(), 1);
}

/// WAPI-04: what is held is sent at once, again and again.
#[tokio::test(start_paused = true)]
async fn the_first_message_waits_for_nothing() {
    let bench = Bench::new(vec![web()]).await;
    open(&bench).await.message().await.unwrap().unwrap();
    let begun = Instant::now();
    for _ in 0..100 {
        open(&bench).await.message().await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(bench.node.signed(), 1);
}

/// WAPI-07, H070, PIT-13: who loses the last identity is told so, and the stream of who keeps one
/// goes on.
#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_last_identity() {
    let bench = Bench::new(vec![web(), younger("db")]).await;
    let mut svids = open(&bench).await;
    let mut api = bench.api();
    let fetched = api.fetch_x509_bundles(request(X509BundlesRequest {})).await;
    let mut bundles = fetched.unwrap().into_inner();
    let fetched = api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await;
    let mut jwt_bundles = fetched.unwrap().into_inner();
    assert_eq!(ids(&mut svids).await.len(), 2);
    bundles.message().await.unwrap().unwrap();
    jwt_bundles.message().await.unwrap().unwrap();
    bench.publish(vec![younger("db")], Vec::new());
    assert_eq!(ids(&mut svids).await.len(), 1);
    bench.publish(Vec::new(), Vec::new());
    for ended in [
        svids.message().await.map(drop),
        bundles.message().await.map(drop),
        jwt_bundles.message().await.map(drop),
    ] {
        let status = ended.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "no identity issued")
        );
    }
}

/// WAPI-36: a new key and SVID before half of the life is over, and never an expired one.
#[tokio::test(start_paused = true)]
async fn a_rotation_is_a_message_long_before_the_end() {
    let bench = Bench::new(vec![web()]).await;
    let mut stream = open(&bench).await;
    let mut last = stream.message().await.unwrap().unwrap().svids.remove(0);
    for _ in 0..5 {
        let began = Instant::now();
        let next = stream.message().await.unwrap().unwrap().svids.remove(0);
        assert!((TTL / 3..TTL / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_ne!(next.x509_svid_key, last.x509_svid_key);
        check(&next, &bench);
        // The old one is good still, for whoever is slow to change.
        let old = Certificate::parse(&last.x509_svid).unwrap();
        assert!(old.not_after() > bench.node.clock.now());
        last = next;
    }
}

/// PIT-02, PIT-05: a stop is said as something that passes.
#[tokio::test(start_paused = true)]
async fn a_stop_makes_streams_unavailable() {
    let bench = Bench::new(vec![web()]).await;
    let mut stream = open(&bench).await;
    stream.message().await.unwrap().unwrap();
    bench.stop.cancel();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
}

/// WAPI-11: streams that are left leave nothing behind.
#[tokio::test(start_paused = true)]
async fn streams_may_be_left_at_any_time() {
    let bench = Bench::new(vec![web()]).await;
    // Far more than a connection may have at once.
    for _ in 0..1000 {
        let opened = bench.api().fetch_x509_bundles(request(X509BundlesRequest {})).await;
        drop(opened.unwrap());
    }
    assert_eq!(ids(&mut open(&bench).await).await.len(), 1);
    assert_eq!(bench.node.holders.count(), 1);
}
