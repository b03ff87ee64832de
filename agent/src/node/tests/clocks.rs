//! What a clock that is set does to a node.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_expires_the_svid() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.fails((0..1_000).map(|_| away()));
    world.clock.set(from_unix_seconds(2_000_000));
    let started = tokio::time::Instant::now();
    node.until(Standing::Expired).await;
    assert!(started.elapsed() <= Duration::from_secs(31));
    node.stop().await;
}

/// As it happens where a machine starts with the wrong time, or a time server errs.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_and_back_costs_no_token() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.clock.set(from_unix_seconds(2_000_000));
    node.until(Standing::Expired).await;
    seconds(60).await;
    assert!(!node.presents());
    world.clock.set(from_unix_seconds(1_000_100));
    node.until(Standing::Attested).await;
    assert!(node.presents());
    assert_eq!(world.calls().into_iter().filter(|(call, _)| *call == Call::Attest).count(), 1);
    node.stop().await;
}
