//! What an agent does when the server no longer takes it for one.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_never_was_an_agent_gives_up_when_it_is_refused() {
    for error in [
        ServerError::Invalid("join token does not exist or has already been used".into()),
        ServerError::Forbidden("agent is banned".into()),
    ] {
        let world = World::new(false);
        world.fails([error.clone()]);
        let failed = world.start().ended.await.unwrap().unwrap_err().to_string();
        assert!(failed.contains(&error.to_string()) && failed.contains("ask somebody"), "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_token_is_not_presented_again_but_a_new_one_is() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.calls();
    world.fails([ServerError::Denied(Denial::NotAttested)]);
    node.denials.send(Denial::NotAttested).await.unwrap();
    let refused = Standing::Refused(Denial::NotAttested);
    let status = node.until(refused).await;
    assert!(status.trouble.unwrap().contains("ask somebody"));
    // What it has is valid for who asks the agent, so it is kept.
    assert!(node.presents());
    seconds(1).await;
    assert_eq!(world.calls(), [(Call::PostStatus, 0)]);

    *world.evidence.0.lock().unwrap() = Some("another token");
    node.until(Standing::Attested).await;
    let calls = world.calls();
    assert_eq!(calls.last().unwrap().0, Call::Attest);
    assert!(calls.last().unwrap().1 <= 60);
    node.stop().await;
}

/// A token lives for ten minutes, and so may the wait before the next try last.
#[tokio::test(start_paused = true)]
async fn a_new_token_is_presented_within_seconds_however_long_the_refusal_has_lasted() {
    for (denial, standing) in [
        (Denial::Banned, Standing::Banned),
        (Denial::NotAttested, Standing::Refused(Denial::NotAttested)),
    ] {
        let world = World::new(false);
        let mut node = world.start();
        node.until(Standing::Attested).await;
        world.fails((0..1_000).map(|_| ServerError::Denied(denial)));
        node.denials.send(denial).await.unwrap();
        node.until(standing).await;
        seconds(1_500).await;
        // One that the server does not take is presented again as anything is; it may be by an appeal
        // that was due, before it is seen to be new.
        *world.evidence.0.lock().unwrap() = Some("another token");
        seconds(100).await;
        let tries = world.calls().into_iter().filter(|(call, _)| *call == Call::Attest).count();
        assert!((1..=4).contains(&tries), "{tries}");
        // Nor is the one that was used up, where that is put back.
        *world.evidence.0.lock().unwrap() = Some("token");
        seconds(1_200).await;
        let calls = world.calls();
        assert!(calls.len() < 10, "{calls:?}");
        world.server.script.lock().unwrap().clear();
        *world.evidence.0.lock().unwrap() = Some("a third token");
        seconds(6).await;
        assert_eq!(node.status.borrow().standing, Standing::Attested);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_taken_back_is_over() {
    // Servers of SPIRE's had no PostStatus for long, and say so to whom they take for an agent.
    for answers in [vec![], vec![ServerError::Unsupported("not implemented".into()); 20]] {
        let world = World::new(false);
        let mut node = world.start();
        node.until(Standing::Attested).await;
        world.fails([ServerError::Denied(Denial::NotActive)].into_iter().chain(answers));
        node.denials.send(Denial::NotActive).await.unwrap();
        node.until(Standing::Refused(Denial::NotActive)).await;
        node.until(Standing::Attested).await;
        assert_eq!(world.calls().last().unwrap().0, Call::PostStatus);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_can_attest_again_does_so_when_it_is_denied() {
    let world = World::new(true);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.calls();
    node.denials.send(Denial::MustReattest).await.unwrap();
    seconds(1).await;
    assert_eq!(world.calls(), [(Call::Attest, 0)]);
    node.until(Standing::Attested).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_banned_node_destroys_what_it_has_and_comes_back_when_it_may() {
    let world = World::new(true);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.calls();
    world.fails((0..2).map(|_| ServerError::Forbidden("agent is banned".into())));
    node.denials.send(Denial::Banned).await.unwrap();
    let status = node.until(Standing::Banned).await;
    assert_eq!((status.not_after, node.presents()), (None, false));
    let file = world.directory.path().join("agent.json");
    let own = "td".parse().unwrap();
    // The task writes before it waits again.
    seconds(1).await;
    assert!(saved::load(&file, &own).unwrap().identity.is_none());

    node.until(Standing::Attested).await;
    let calls = world.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(calls[0].1 >= 15 && calls[2].1 >= 60, "{calls:?}");
    node.stop().await;
}

/// The server that was not asked has nothing in its log.
#[tokio::test(start_paused = true)]
async fn a_node_without_evidence_is_not_sent_to_the_server() {
    let world = World::new(false);
    *world.evidence.0.lock().unwrap() = Some("none");
    let failed = world.start().ended.await.unwrap().unwrap_err().to_string();
    assert!(
        failed.contains("there is no join token") && !failed.contains("ask somebody"),
        "{failed}"
    );
    assert_eq!(world.calls(), []);
}
