//! What an agent knows after a restart.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_knows_what_it_knew_while_the_server_is_away() {
    let world = World::new();
    world.entries(&[("e1", &["a"])]);
    world.foreign("a", Ok(Some(world.foreign_bundle("a"))));
    let mut sync = world.start();
    sync.next().await;
    sync.stop().await;

    world.fails(Some(away()));
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e1"], &["td", "a"]));
    // The node's own trust has to come from the server.
    assert_eq!(*sync.bundle.borrow(), None);
    assert_eq!(sync.status.borrow().last_success, None);
    sync.stop().await;

    // Refused is not away, but what was known is known.
    world.is(Standing::Refused(Denial::NotAttested));
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e1"], &["td", "a"]));
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_asks_before_it_shows_what_it_knew() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    sync.next().await;
    sync.stop().await;

    world.entries(&[("e2", &[])]);
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    sync.stop().await;

    *world.server.hangs.lock().unwrap() = true;
    let started = tokio::time::Instant::now();
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    assert_eq!(started.elapsed(), FIRST_TRY);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_and_is_damaged_is_not_used() {
    let world = World::new();
    std::fs::write(world.directory.path().join("view"), b"garbage").unwrap();
    world.fails(Some(away()));
    let mut sync = world.start();
    seconds(10).await;
    assert!(sync.is_quiet());
    world.fails(None);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    sync.stop().await;
}

/// A view that lacks an entry refuses who has an identity, which clients take for final.
#[tokio::test(start_paused = true)]
async fn a_restarted_agent_becomes_one_again_before_it_shows_what_it_knew() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    sync.next().await;
    sync.stop().await;

    world.entries(&[("e2", &[])]);
    world.is(Standing::Unattested);
    let mut sync = world.start();
    seconds(1).await;
    world.is(Standing::Attested);
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    sync.stop().await;

    world.is(Standing::Unattested);
    let started = tokio::time::Instant::now();
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    assert_eq!(started.elapsed(), FIRST_TRY);
    sync.stop().await;
}

/// A disk that was full does not leave the view of before there until there is another one.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_kept_is_kept_with_a_later_answer() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    // A file cannot take the place of a directory.
    let in_the_way = world.directory.path().join("view");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut sync = world.start();
    sync.next().await;
    seconds(60).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    seconds(60).await;
    assert!(sync.is_quiet());
    sync.stop().await;

    world.fails(Some(away()));
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e1"], &["td"]));
    sync.stop().await;
}
