//! Entries are created, changed and deleted, item by item.

use steeple::entry::EntryError;

use super::*;
use crate::registry::bundles::BundleWrite;
use crate::registry::entries::EntryUpdate;
use crate::registry::housekeeping::{NodePurge, Purged};

#[tokio::test]
async fn a_batch_has_one_result_for_each_item_and_never_half_of_one() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let mut items: Vec<_> = (0..500)
        .map(|n| (None, content(&format!("/w{n}"), "/spire/agent/a", &["unix:uid:1"])))
        .collect();
    items[17].1.federates_with.insert(name("other"));
    items[400].1 = items[3].1.clone();
    let results = registry.create_entries(items, now()).await;

    assert_eq!(results.len(), 500);
    for (n, result) in results.iter().enumerate() {
        match (n, result) {
            (17, Err(EntryWriteError::NoFederatedBundle(name))) => {
                assert_eq!(name.as_str(), "other");
            }
            (400, Err(EntryWriteError::Similar(entry))) => {
                assert_eq!(entry.id, results[3].as_ref().unwrap().id);
            }
            (_, Ok(entry)) => assert_eq!(registry.entry(&entry.id).as_ref(), Some(entry)),
            (_, Err(error)) => panic!("{n}: {error}"),
        }
    }
    assert_eq!(registry.count_entries(&EntryFilter::default()), 498);
    assert_eq!(registry.revision(), Revision(1));
    assert_eq!(datastore.load().await.unwrap().entries.len(), 498);
    assert_eq!(registry.authorized(&id("/spire/agent/a")).entries().len(), 498);
}

#[tokio::test]
async fn ids_that_are_made_up_grow_though_the_clock_stands_still_or_is_set_back() {
    let registry = empty().await;
    let mut ids = Vec::new();
    for (batch, seconds) in [0, 0, 1, -3_600].into_iter().enumerate() {
        let contents = (0..100).map(|n| content(&format!("/{batch}/{n}"), "/p", &["a:1"]));
        let now = from_unix_seconds(NOW + seconds);
        let created = registry.create_entries(contents.map(|new| (None, new)).collect(), now).await;
        ids.extend(created.into_iter().map(|entry| entry.unwrap().id.clone()));
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[tokio::test]
async fn what_cannot_be_is_not_created() {
    let registry = empty().await;
    let good = content("/w", "/p", &["a:1"]);
    create(&registry, "first", good.clone()).await.unwrap();

    let refused = create(&registry, "first", content("/v", "/p", &["a:1"])).await;
    assert!(
        matches!(&refused, Err(EntryWriteError::IdTaken(entry)) if entry.content == good),
        "{refused:?}"
    );
    let refused = create(&registry, "second", good.clone()).await;
    assert!(
        matches!(&refused, Err(EntryWriteError::Similar(entry)) if entry.id.as_str() == "first"),
        "{refused:?}"
    );
    let refused = create(&registry, "second", content("/spire/x", "/p", &["a:1"])).await;
    assert!(matches!(refused, Err(EntryWriteError::Invalid(EntryError::Reserved))), "{refused:?}");
    assert_eq!(registry.revision(), Revision(1), "nothing was written but the first");

    for similar_but_for_one_thing in [
        content("/w2", "/p", &["a:1"]),
        content("/w", "/p2", &["a:1"]),
        content("/w", "/p", &["a:1", "a:2"]),
    ] {
        registry.create_entries(vec![(None, similar_but_for_one_thing)], now()).await[0]
            .as_ref()
            .unwrap();
    }
}

#[tokio::test]
async fn a_created_entry_is_dated_and_named() {
    let registry = empty().await;
    let made = registry.create_entries(vec![(None, content("/w", "/p", &["a:1"]))], now()).await;
    let made = made[0].as_ref().unwrap();
    assert_eq!((made.revision, made.created_at), (0, NOW));
    assert_eq!(made.id.as_str().len(), 36);
    let chosen = create(&registry, "mine", content("/w", "/p", &["a:2"])).await.unwrap();
    assert_eq!(chosen.id.as_str(), "mine");
}

#[tokio::test]
async fn an_update_counts_revisions_and_can_insist_on_one() {
    let registry = empty().await;
    create(&registry, "e", content("/w", "/p", &["a:1"])).await.unwrap();
    let update = |expected_revision, admin| EntryUpdate {
        id: entry_id("e"),
        expected_revision,
        change: Box::new(move |content| content.admin = admin),
    };
    let results = registry
        .update_entries(vec![update(Some(0), true), update(Some(0), false), update(None, true)])
        .await;
    assert_eq!(results[0].as_ref().unwrap().revision, 1);
    assert!(matches!(results[1], Err(EntryWriteError::Revision { found: 1, .. })));
    assert_eq!(results[2].as_ref().unwrap().revision, 1, "nothing changed");
    assert!(registry.is_admin(&id("/w"), NOW));
    assert!(!registry.is_admin(&id("/p"), NOW));

    let unknown = EntryUpdate { id: entry_id("x"), ..update(None, true) };
    let results = registry.update_entries(vec![unknown, update(None, false)]).await;
    assert!(matches!(&results[0], Err(EntryWriteError::NotFound(id)) if id.as_str() == "x"));
    assert_eq!(results[1].as_ref().unwrap().revision, 2);
    assert_eq!(registry.entry(&entry_id("e")).unwrap().created_at, NOW);
    assert!(!registry.is_admin(&id("/w"), NOW));
}

#[tokio::test]
async fn an_update_is_checked_like_a_new_entry() {
    let registry = empty().await;
    create(&registry, "e", content("/w", "/p", &["a:1"])).await.unwrap();
    let update = |change: fn(&mut EntryContent)| {
        let change = Box::new(change);
        EntryUpdate { id: entry_id("e"), expected_revision: None, change }
    };
    let results = registry
        .update_entries(vec![
            update(|content| content.selectors = Default::default()),
            update(|content| {
                content.federates_with.insert(name("other"));
            }),
        ])
        .await;
    assert!(matches!(results[0], Err(EntryWriteError::Invalid(EntryError::NoSelectors))));
    assert!(matches!(results[1], Err(EntryWriteError::NoFederatedBundle(_))));
    assert_eq!(registry.entry(&entry_id("e")).unwrap().revision, 0);

    registry.write_bundles(vec![BundleWrite::Set(Bundle::empty(name("other")))]).await;
    let results = registry
        .update_entries(vec![update(|content| {
            content.federates_with.insert(name("other"));
        })])
        .await;
    assert_eq!(results[0].as_ref().unwrap().revision, 1);
}

#[tokio::test]
async fn an_update_moves_an_entry_in_every_index() {
    let registry = empty().await;
    create(&registry, "e", content("/w", "/p", &["a:1"])).await.unwrap();
    let moved = content("/w2", "/p2", &["a:2"]);
    let to = moved.clone();
    let change = Box::new(move |content: &mut EntryContent| content.clone_from(&to));
    registry
        .update_entries(vec![EntryUpdate { id: entry_id("e"), expected_revision: None, change }])
        .await;
    let count = |filter: EntryFilter| registry.count_entries(&filter);
    let at = |path: &str| Some(id(path));
    assert_eq!(count(EntryFilter { spiffe_id: at("/w"), ..Default::default() }), 0);
    assert_eq!(count(EntryFilter { spiffe_id: at("/w2"), ..Default::default() }), 1);
    assert_eq!(count(EntryFilter { parent_id: at("/p"), ..Default::default() }), 0);
    assert_eq!(count(EntryFilter { parent_id: at("/p2"), ..Default::default() }), 1);
    assert!(create(&registry, "f", content("/w", "/p", &["a:1"])).await.is_ok());
    assert!(matches!(create(&registry, "g", moved).await, Err(EntryWriteError::Similar(_))));
}

#[tokio::test]
async fn a_deleted_entry_is_gone_everywhere() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let mut downstream = content("/w", "/spire/agent/a", &["a:1"]);
    downstream.downstream = true;
    create(&registry, "e", downstream.clone()).await.unwrap();
    assert_eq!(registry.downstream_entry(&id("/w"), NOW).unwrap().id.as_str(), "e");
    let results = registry.delete_entries(vec![entry_id("x"), entry_id("e"), entry_id("e")]).await;
    assert!(matches!(results[0], Err(EntryWriteError::NotFound(_))));
    assert_eq!(results[1].as_ref().unwrap().content, downstream);
    assert!(matches!(results[2], Err(EntryWriteError::NotFound(_))));
    assert_eq!(registry.entry(&entry_id("e")), None);
    assert!(!registry.is_downstream(&id("/w"), NOW));
    assert!(registry.authorized(&id("/spire/agent/a")).entries().is_empty());
    assert!(open(&datastore).await.entry(&entry_id("e")).is_none());
    create(&registry, "e", downstream).await.unwrap();
}

#[tokio::test]
async fn an_entry_gives_no_power_after_its_time() {
    let registry = empty().await;
    let mut powerful = content("/w", "/p", &["a:1"]);
    (powerful.admin, powerful.downstream) = (true, true);
    powerful.expires_at = Some(NOW + 5);
    create(&registry, "e", powerful).await.unwrap();
    let power = |now| {
        let id = id("/w");
        (registry.is_admin(&id, now), registry.is_downstream(&id, now))
    };
    assert_eq!([power(NOW + 4), power(NOW + 5)], [(true, true), (false, false)]);
    assert_eq!(registry.downstream_entry(&id("/w"), NOW + 5), None);
}

#[tokio::test]
async fn entries_are_forgotten_after_their_time() {
    let registry = empty().await;
    let until = |expires_at| EntryContent {
        expires_at,
        ..content(&format!("/w{}", expires_at.unwrap_or(0)), "/p", &["a:1"])
    };
    for (id, expires_at) in [("past", Some(NOW - 1)), ("now", Some(NOW)), ("never", None)] {
        create(&registry, id, until(expires_at)).await.unwrap();
    }
    for n in 0..2_500 {
        // More than one commit forgets.
        let mut old = until(Some(1));
        old.selectors = [format!("a:{n}").parse().unwrap()].into_iter().collect();
        registry.create_entries(vec![(None, old)], now()).await[0].as_ref().unwrap();
    }
    for (forgotten, more) in [(1_000, true), (1_000, true), (501, false)] {
        let purged = registry.purge_expired(NodePurge::Never, now()).await.unwrap();
        assert_eq!((purged.entries.len(), purged.more), (forgotten, more));
    }
    let page = registry.list_entries(&EntryFilter::default(), &PageRequest::default()).unwrap();
    let left: Vec<_> = page.items.iter().map(|entry| entry.id.as_str().to_owned()).collect();
    assert_eq!(left, ["never", "now"]);
    let revision = registry.revision();
    let purged = registry.purge_expired(NodePurge::Never, now()).await.unwrap();
    assert_eq!((purged, registry.revision()), (Purged::default(), revision));
}
