//! Keys that sign tokens and were revoked above.

use super::*;
use crate::ca::testing::upstream::Revoked;

/// An administrator above has tainted and revoked the key that signs here, in one go or while this
/// server was away: what it signs is refused everywhere else.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_revoked_above_is_replaced_as_soon_as_that_is_known() {
    for restarted in [false, true] {
        let root = Tier::root();
        let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
        upstream.state().keys = Some(Vec::new());
        let (mut control, mut tasks) = run(bench.start(HOUR).await.unwrap());
        let first = control.state(Kind::JwtKey).unwrap().active.id.to_string();
        let other = [jwt_key("other")];
        upstream.say(&[(&root, false)], &[&upstream.keys()[..], &other].concat());
        sleep(1).await;
        if restarted {
            tasks.shutdown(HOUR).await.unwrap();
        }
        upstream.state().revoked = Revoked::These(vec![first.clone()]);
        upstream.state().keys = Some(Vec::new());
        upstream.say(&[(&root, false)], &other);
        if restarted {
            (control, tasks) = run(bench.start(HOUR).await.unwrap());
        }
        sleep(1).await;
        let second = control.state(Kind::JwtKey).unwrap().active.id.to_string();
        assert_ne!(second, first);
        let bundle = bench.ledger.own_bundle();
        let ids: Vec<_> = bundle.jwt_authorities.iter().map(|key| key.key_id.clone()).collect();
        assert_eq!(ids, ["other".to_owned(), second.clone()]);
        // The new one is known above at once, and stays.
        assert_eq!(upstream.keys().iter().map(|key| &key.key_id).collect::<Vec<_>>(), [&second]);
        sleep(600).await;
        assert_eq!(control.state(Kind::JwtKey).unwrap().active.id.to_string(), second);
        let events = bench.events();
        let revoked = events.iter().filter(|event| event["event"] == "authority_revoked");
        assert_eq!(revoked.map(|event| &event["authority_id"]).collect::<Vec<_>>(), [&first]);
        tasks.shutdown(HOUR).await.unwrap();
    }
}

/// Scenario: the disk is full in the middle of it.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_revoked_above_goes_once_that_can_be_saved() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    let (control, _tasks) = run(bench.start(24 * HOUR).await.unwrap());
    let first = control.state(Kind::JwtKey).unwrap().active.id.to_string();
    bench.ledger.keep_keys(true);
    upstream.state().revoked = Revoked::These(vec![first.clone()]);
    upstream.state().keys = Some(Vec::new());
    upstream.say(&[(&root, false)], &[]);
    sleep(75).await;
    bench.ledger.keep_keys(false);
    sleep(75).await;
    let second = control.state(Kind::JwtKey).unwrap().active.id.to_string();
    assert_ne!(second, first);
    let bundle = bench.ledger.own_bundle();
    let ids: Vec<_> = bundle.jwt_authorities.iter().map(|key| &key.key_id).collect();
    assert_eq!(ids, [&second]);
    let events = bench.events();
    let told = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(told("authority_revoked"), 1);
    assert_eq!(journal(&bench).records().len(), 3);
}

/// Whoever says so of every key does not make this server produce more of them.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_never_known_above_is_not_replaced_because_it_is_refused() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    upstream.state().revoked = Revoked::All;
    let (control, _tasks) = run(bench.start(24 * HOUR).await.unwrap());
    let first = control.state(Kind::JwtKey).unwrap().active.id;
    sleep(600).await;
    assert_eq!(control.state(Kind::JwtKey).unwrap().active.id, first);
    assert_eq!(journal(&bench).records().len(), 2);
}
