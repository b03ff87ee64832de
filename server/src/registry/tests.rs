//! What the registry promises, over a datastore in memory.

use std::time::SystemTime;

use steeple::clock::from_unix_seconds;
use steeple::entry::EntryContent;

use super::entries::{EntryUpdate, EntryWriteError};
use super::*;
use crate::datastore::memory::MemoryDatastore;

const NOW: i64 = 1_800_000_000;

fn now() -> SystemTime {
    from_unix_seconds(NOW)
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&td(), path).unwrap()
}

fn td() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn content(spiffe_id: &str, parent_id: &str, selectors: &[&str]) -> EntryContent {
    EntryContent {
        spiffe_id: id(spiffe_id),
        parent_id: id(parent_id),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: None,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

async fn open(datastore: &Arc<MemoryDatastore>) -> Registry {
    Registry::open(td(), Arc::clone(datastore) as Arc<dyn Datastore>, &Tasks::new()).await.unwrap()
}

#[tokio::test]
async fn a_batch_has_one_result_for_each_item_and_never_half_of_one() {
    let datastore = Arc::new(MemoryDatastore::new());
    let registry = open(&datastore).await;
    let mut items: Vec<_> = (0..500)
        .map(|n| (None, content(&format!("/w{n}"), "/spire/agent/a", &["unix:uid:1"])))
        .collect();
    items[17].1.federates_with.insert(TrustDomain::parse("other").unwrap());
    items[400].1 = items[3].1.clone();
    let results = registry.create_entries(items, now()).await;

    assert_eq!(results.len(), 500);
    for (n, result) in results.iter().enumerate() {
        match (n, result) {
            (17, Err(EntryWriteError::NoFederatedBundle(name))) => {
                assert_eq!(name.as_str(), "other")
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
async fn an_update_counts_revisions_and_can_insist_on_one() {
    let registry = open(&Arc::new(MemoryDatastore::new())).await;
    let created = registry.create_entries(vec![(None, content("/w", "/p", &["a:1"]))], now()).await;
    let entry = created[0].as_ref().unwrap().clone();
    let update = |expected_revision, admin| EntryUpdate {
        id: entry.id.clone(),
        expected_revision,
        change: Box::new(move |content| content.admin = admin),
    };
    let results = registry
        .update_entries(vec![update(Some(0), true), update(Some(0), false), update(None, true)])
        .await;
    assert_eq!(results[0].as_ref().unwrap().revision, 1);
    assert!(matches!(results[1], Err(EntryWriteError::Revision { found: 1 })));
    assert_eq!(results[2].as_ref().unwrap().revision, 1, "nothing changed");
    assert!(registry.is_admin(&id("/w")));
}
