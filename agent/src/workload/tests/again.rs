//! Streams that were opened while an attestor failed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use steeple::entry::Entry;
use steeple_proto::spire::api::agent::delegatedidentity::v1::SubscribeToX509sviDsRequest;
use steeple_proto::workload::{JwtBundlesRequest, X509BundlesRequest, X509svidRequest};
use tokio::time::Instant;

use super::client::{Bench, Mood, federating, foreign, request, web};
use crate::identity::tests::entry;
use crate::identity::tests::node::TTL;

/// Of a caller of which the second attestor finds `x:1`.
fn boxed() -> Entry {
    entry("boxed", 5, &["u:1", "x:1"])
}

/// A caller that is `web`, and of which it is not known that it is `boxed` as well.
async fn half_known() -> Bench {
    let bench = Bench::new(vec![web()]).await;
    bench.publish(vec![web(), federating(boxed(), &["b"])], vec![foreign("b").bundle]);
    bench.second.is(Mood::Fails);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_stream_learns_what_could_not_be_found_out_when_it_was_opened() {
    let bench = half_known().await;
    let mut api = bench.api();
    let mut svids = api.fetch_x509svid(request(X509svidRequest {})).await.unwrap().into_inner();
    let bundles = api.fetch_x509_bundles(request(X509BundlesRequest {})).await;
    let mut bundles = bundles.unwrap().into_inner();
    let jwt_bundles = api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await;
    let mut jwt_bundles = jwt_bundles.unwrap().into_inner();
    let subject = SubscribeToX509sviDsRequest {
        pid: i32::try_from(std::process::id()).unwrap(),
        selectors: Vec::new(),
    };
    let delegated = bench.delegated().subscribe_to_x509svi_ds(subject).await;
    let mut delegated = delegated.unwrap().into_inner();
    for (found, expected) in [(Mood::Fails, [1, 1, 1, 1]), (Mood::Finds(&["x:1"]), [2, 2, 2, 2])] {
        bench.second.is(found);
        let count = [
            svids.message().await.unwrap().unwrap().svids.len(),
            bundles.message().await.unwrap().unwrap().bundles.len(),
            jwt_bundles.message().await.unwrap().unwrap().bundles.len(),
            delegated.message().await.unwrap().unwrap().x509_svids.len(),
        ];
        assert_eq!(count, expected);
    }
}

/// Keys are those of the container, once it is known that there is one.
#[tokio::test(start_paused = true)]
async fn who_proves_to_be_a_container_gets_the_keys_of_that() {
    let bench = half_known().await;
    let mut stream = bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap();
    let mut key =
        async || stream.get_mut().message().await.unwrap().unwrap().svids.remove(0).x509_svid_key;
    let of_process = key().await;
    bench.second.is(Mood::FindsContainer(&["x:1"]));
    let of_container = key().await;
    assert_ne!(of_container, of_process);
    let mut again = bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap();
    let again = again.get_mut().message().await.unwrap().unwrap().svids.remove(0);
    assert_eq!(again.x509_svid_key, of_container);
    // It is these that the stream follows.
    let renewed = async { while key().await == of_container {} };
    tokio::time::timeout(TTL, renewed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_known_is_not_looked_at_again() {
    let bench = Bench::new(vec![web()]).await;
    let mut stream = bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap();
    for _ in 0..3 {
        stream.get_mut().message().await.unwrap().unwrap();
    }
    assert_eq!(bench.second.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attestor_that_goes_on_failing_is_asked_ever_less() {
    let bench = half_known().await;
    let _stream = bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap();
    let begun = Instant::now();
    let mut last = Duration::ZERO;
    for count in 1..20 {
        while bench.second.asked.load(Ordering::SeqCst) < count + 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let waited = begun.elapsed() - last;
        let whole = Duration::from_secs(1 << (count - 1).min(6)).min(Duration::from_secs(60));
        let slack = Duration::from_millis(200);
        assert!((whole / 2 - slack..whole + slack).contains(&waited), "{count}: {waited:?}");
        last = begun.elapsed();
    }
}

/// An attestor that fails where another had, is no reason to forget what this one had found.
#[tokio::test(start_paused = true)]
async fn what_is_known_is_not_forgotten_for_what_is_learned() {
    let bench = half_known().await;
    let mut stream = bench.api().fetch_x509svid(request(X509svidRequest {})).await.unwrap();
    let mut count = async || stream.get_mut().message().await.unwrap().unwrap().svids.len();
    assert_eq!(count().await, 1);
    bench.attestor.is(Mood::Fails);
    bench.second.is(Mood::Finds(&["x:1"]));
    let asked = bench.second.asked.load(Ordering::SeqCst);
    while bench.second.asked.load(Ordering::SeqCst) < asked + 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bench.publish(vec![web(), boxed(), entry("other", 9, &["u:1"])], Vec::new());
    assert_eq!(count().await, 2);
    bench.attestor.is(Mood::Finds(&["u:1"]));
    assert_eq!(count().await, 3);
}
