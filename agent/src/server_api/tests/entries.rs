//! How entries are kept up to date by asking for no more than has changed.

use super::*;

fn wire(id: &str, revision: i64) -> types::Entry {
    let path = |path: &str| Some(types::Spiffeid { trust_domain: "td".into(), path: path.into() });
    types::Entry {
        id: id.into(),
        spiffe_id: path("/web"),
        parent_id: path("/spire/agent/x"),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
        revision_number: revision,
        created_at: 7,
        ..types::Entry::default()
    }
}

fn full(entries: &[types::Entry], more: bool) -> entry::SyncAuthorizedEntriesResponse {
    entry::SyncAuthorizedEntriesResponse { entries: entries.to_vec(), more, ..Default::default() }
}

fn listed(revisions: &[(&str, i64)], more: bool) -> entry::SyncAuthorizedEntriesResponse {
    let revision = |(id, revision): &(&str, i64)| entry::EntryRevision {
        id: (*id).into(),
        revision_number: *revision,
        created_at: 7,
    };
    entry::SyncAuthorizedEntriesResponse {
        entry_revisions: revisions.iter().map(revision).collect(),
        more,
        ..Default::default()
    }
}

fn known(entries: &[types::Entry]) -> KnownEntries {
    let read = |entry| Arc::new(stored_entry_from_proto(entry).unwrap());
    entries.iter().map(read).map(|entry| (entry.id.clone(), entry)).collect()
}

fn names(entries: &[Arc<Entry>]) -> Vec<(&str, i64)> {
    entries.iter().map(|entry| (entry.id.as_str(), entry.revision)).collect()
}

#[tokio::test]
async fn few_entries_come_in_full_and_unchanged_ones_stay_the_same_value() {
    let script = Script::default();
    script.page(vec![full(&[wire("b", 1), wire("a", 0)], false)]);
    let known = known(&[wire("a", 0), wire("b", 0), wire("gone", 0)]);
    let entries = script.client().sync_entries(&known).await.unwrap();
    assert_eq!(names(&entries), [("a", 0), ("b", 1)]);
    assert!(Arc::ptr_eq(&entries[0], &known[&entries[0].id]));
    let asked = script.asked.lock().unwrap();
    let mask = asked[0].output_mask.unwrap();
    assert!(asked[0].ids.is_empty() && mask.revision_number && mask.selectors && mask.parent_id);
}

#[tokio::test]
async fn of_many_entries_only_the_missing_and_the_changed_are_asked_for() {
    let script = Script::default();
    script.page(vec![
        listed(&[("a", 0), ("b", 1)], true),
        listed(&[("c", 0), ("dropped", 0)], false),
    ]);
    script.page(vec![full(&[wire("b", 1)], true), full(&[wire("c", 0)], false)]);
    let known = known(&[wire("a", 0), wire("b", 0), wire("gone", 0)]);
    let entries = script.client().sync_entries(&known).await.unwrap();
    assert_eq!(names(&entries), [("a", 0), ("b", 1), ("c", 0)]);
    assert_eq!(script.asked.lock().unwrap()[1].ids, ["b", "c", "dropped"]);
}

#[tokio::test]
async fn what_changed_is_asked_for_in_pages() {
    let ids: Vec<String> = (0..1_200).map(|number| format!("e{number:04}")).collect();
    let script = Script::default();
    let revisions: Vec<_> = ids.iter().map(|id| (id.as_str(), 0)).collect();
    script.page(vec![listed(&revisions, false)]);
    for page in ids.chunks(500) {
        let entries: Vec<_> = page.iter().map(|id| wire(id, 0)).collect();
        script.page(vec![full(&entries, false)]);
    }
    let entries = script.client().sync_entries(&KnownEntries::new()).await.unwrap();
    assert_eq!(entries.len(), 1_200);
    let asked: Vec<_> = script.asked.lock().unwrap().iter().map(|r| r.ids.len()).collect();
    assert_eq!(asked, [0, 500, 500, 200]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_harms_no_other() {
    let script = Script::default();
    let broken = types::Entry { spiffe_id: None, ..wire("broken", 0) };
    script.page(vec![full(&[broken, wire("a", 0)], false)]);
    let entries = script.client().sync_entries(&KnownEntries::new()).await.unwrap();
    assert_eq!(names(&entries), [("a", 0)]);
}

#[tokio::test]
async fn fields_that_were_not_asked_for_may_be_missing() {
    let script = Script::default();
    let entry = stored_entry_from_proto(&wire("a", 0)).unwrap();
    let mask = types::EntryMask { dns_names: false, x509_svid_ttl: false, ..all_entry_fields() };
    script.page(vec![full(&[entry_to_proto(&entry, &mask)], false)]);
    let entries = script.client().sync_entries(&KnownEntries::new()).await.unwrap();
    assert_eq!(*entries[0], entry);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let script = Script::default();
    script.refusals.lock().unwrap().push_back(Status::unavailable("going away"));
    let error = script.client().sync_entries(&KnownEntries::new()).await.unwrap_err();
    assert_eq!(error, ServerError::Unavailable("going away".into()));
}

#[tokio::test]
async fn a_server_without_differential_sync_is_asked_for_everything() {
    let script = Script::default();
    script.refusals.lock().unwrap().push_back(Status::unimplemented(""));
    script.page(vec![full(&[wire("a", 0)], false)]);
    script.page(vec![full(&[wire("b", 0)], false)]);
    let client = script.client();
    for name in ["a", "b"] {
        let entries = client.sync_entries(&KnownEntries::new()).await.unwrap();
        assert_eq!(names(&entries), [(name, 0)]);
    }
}
