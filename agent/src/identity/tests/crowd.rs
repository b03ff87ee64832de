//! Many that want to be signed for at once, and a server that signs only so many in a second.

use super::node::Limit;
use super::*;
use tokio::time::Instant;

/// How fast the server in these tests signs, as ours does by default.
const PER_SECOND: u32 = 500;

fn limit(burst: usize, says_when: bool) -> Limit {
    Limit { per_second: PER_SECOND, burst, says_when, full_at: Instant::now() }
}

async fn crowd(size: i64, limit: Limit) -> Node {
    let entries = (0..size).map(|n| entry(&format!("e{n}"), n, &["u:1"])).collect();
    let node = Node::new(entries).await;
    *node.server.limit.lock().unwrap() = Some(limit);
    node
}

/// Has all get an SVID at the first try; in which time and with how many calls.
async fn all_are_served(node: &Node) -> (Duration, usize) {
    let begun = Instant::now();
    let held = node.x509().await.unwrap();
    assert_eq!(held.len(), node.entries().len());
    assert_eq!(node.signed(), held.len());
    (begun.elapsed(), node.server.calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_signed_for_as_fast_as_the_server_can() {
    let node = crowd(2_000, limit(500, true)).await;
    let (elapsed, calls) = all_are_served(&node).await;
    // After the first 500 there are 1,500 left, at 500 a second.
    assert!(elapsed >= Duration::from_secs(3) && elapsed < Duration::from_millis(3_600));
    assert!(calls < 70, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_when_it_has_time_is_found_out() {
    let node = crowd(1_000, limit(500, false)).await;
    let (elapsed, calls) = all_are_served(&node).await;
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert!(calls < 60, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_small_burst_is_asked_for_less_at_once() {
    let node = crowd(300, limit(30, true)).await;
    let (elapsed, _) = all_are_served(&node).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_wait_for_a_busy_server_too() {
    let node = Node::new(vec![web()]).await;
    *node.server.limit.lock().unwrap() = Some(limit(50, true));
    let (node, begun) = (&node, Instant::now());
    let token = |n: usize| async move { node.jwt(&[&n.to_string()]).await.map(drop) };
    let tokens = futures_util::future::join_all((0..250).map(token)).await;
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_millis(800), "{elapsed:?} for 200 at 500 a second");
    let calls = node.server.calls.load(Ordering::SeqCst);
    assert!(calls < 500, "{calls} calls for 250 tokens");
}

/// As where many nodes share a limit: each is refused often, though there is time for all.
#[tokio::test(start_paused = true)]
async fn who_is_refused_often_is_still_served_within_a_minute() {
    let node = Node::new(vec![web()]).await;
    let busy = || ServerError::Busy { retry_after: Some(Duration::from_secs(1)) };
    node.server.errors.lock().unwrap().extend((0..6).map(|_| busy()));
    node.x509().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_busy_server() {
    let node = Node::new(vec![web()]).await;
    let busy = |seconds| ServerError::Busy { retry_after: Some(Duration::from_secs(seconds)) };
    let begun = Instant::now();
    node.server.errors.lock().unwrap().push_back(busy(600));
    let refused = node.x509().await.unwrap_err();
    assert!(matches!(refused, IdentityError::Mint(MintFailure::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "who would be too late is told at once");
    // So is who comes later, until it has passed; the server is not asked in vain.
    let refused = node.jwt(&["a"]).await;
    assert!(refused.is_ok(), "tokens have a limit of their own: {refused:?}");
    node.server.errors.lock().unwrap().push_back(busy(600));
    node.jwt(&["b"]).await.unwrap_err();
    let (begun, calls) = (Instant::now(), node.server.calls.load(Ordering::SeqCst));
    let refused = node.jwt(&["b"]).await.unwrap_err().to_string();
    assert!(refused.contains("it is busy, and will be asked again in 1"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(node.server.calls.load(Ordering::SeqCst), calls);
    node.pass(Duration::from_secs(660)).await;
    node.jwt(&["b"]).await.unwrap();

    let node = Node::new(vec![web()]).await;
    let begun = Instant::now();
    node.server.errors.lock().unwrap().extend((0..1_000).map(|_| busy(1)));
    let refused = node.jwt(&["a"]).await.unwrap_err();
    assert!(matches!(refused, IdentityError::Mint(MintFailure::Unavailable(_))), "{refused:?}");
    let calls = node.server.calls.load(Ordering::SeqCst);
    assert!(begun.elapsed() <= Duration::from_secs(60) && calls < 12, "{calls} calls");
}
