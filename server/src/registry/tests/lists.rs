//! Lists answer to filters, in pages that stay whole while rows come and go.

use steeple::entry::Hint;

use super::*;
use crate::entries::filter::Match;
use crate::registry::bundles::BundleWrite;
use crate::registry::nodes::NodeFilter;

/// Five entries, `a` to `e`.
async fn five() -> Registry {
    let registry = empty().await;
    registry.write_bundles(vec![BundleWrite::Set(Bundle::empty(name("f1")))]).await;
    registry.write_bundles(vec![BundleWrite::Set(Bundle::empty(name("f2")))]).await;
    let add = async |id: &str, ids: [&str; 2], selectors: &[&str], names: &[&str]| {
        let mut content = content(ids[0], ids[1], selectors);
        content.federates_with = names.iter().map(|text| name(text)).collect();
        content.downstream = id == "d";
        content.hint = Hint::new(if id == "c" { "internal" } else { "" }).unwrap();
        create(&registry, id, content).await.unwrap();
    };
    add("a", ["/w1", "/p1"], &["s:1"], &[]).await;
    add("b", ["/w1", "/p2"], &["s:1", "s:2"], &["f1"]).await;
    add("c", ["/w2", "/p1"], &["s:2"], &["f1", "f2"]).await;
    add("d", ["/w3", "/p2"], &["s:1", "s:2", "s:3"], &["f2"]).await;
    add("e", ["/w4", "/p1"], &["s:4"], &[]).await;
    registry
}

fn ids(page: &Page<Arc<Entry>>) -> String {
    page.items.iter().map(|entry| entry.id.as_str()).collect()
}

#[tokio::test]
async fn a_filter_picks_entries() {
    let registry = five().await;
    let check = |filter: EntryFilter, expected: &str| {
        let page = registry.list_entries(&filter, &PageRequest::default()).unwrap();
        assert_eq!(ids(&page), expected, "{filter:?}");
        assert_eq!(registry.count_entries(&filter), expected.len(), "{filter:?}");
        for (n, expected) in expected.char_indices() {
            // Page by page it is the same.
            let mut page = registry.list_entries(&filter, &PageRequest::new(1, "").unwrap());
            for _ in 0..n {
                let request = PageRequest::new(1, &page.unwrap().next_token).unwrap();
                page = registry.list_entries(&filter, &request);
            }
            assert_eq!(ids(&page.unwrap()), expected.to_string());
        }
    };
    let any = EntryFilter::default;
    check(any(), "abcde");
    check(EntryFilter { spiffe_id: Some(id("/w1")), ..any() }, "ab");
    check(EntryFilter { parent_id: Some(id("/p1")), ..any() }, "ace");
    let both = EntryFilter { spiffe_id: Some(id("/w1")), parent_id: Some(id("/p1")), ..any() };
    check(both, "a");
    check(EntryFilter { hint: Some("internal".into()), ..any() }, "c");
    check(EntryFilter { downstream: Some(true), ..any() }, "d");
    check(EntryFilter { downstream: Some(false), ..any() }, "abce");

    let selectors = |texts: &[&str], how| EntryFilter {
        selectors: Some((texts.iter().map(|text| text.parse().unwrap()).collect(), how)),
        ..any()
    };
    check(selectors(&["s:1", "s:2"], Match::Exact), "b");
    check(selectors(&["s:2", "s:1"], Match::Subset), "abc");
    check(selectors(&["s:2", "s:1"], Match::Superset), "bd");
    check(selectors(&["s:3", "s:4"], Match::Any), "de");
    check(selectors(&["s:9"], Match::Any), "");

    let names = |texts: &[&str], how| EntryFilter {
        federates_with: Some((texts.iter().map(|text| name(text)).collect(), how)),
        ..any()
    };
    check(names(&["f1"], Match::Exact), "b");
    check(names(&["f1"], Match::Subset), "b");
    check(names(&["f1"], Match::Superset), "bc");
    check(names(&["f1", "f2"], Match::Any), "bcd");
}

#[tokio::test]
async fn a_page_starts_where_the_one_before_ended() {
    let registry = five().await;
    let list = |size, token: &str| {
        let request = PageRequest::new(size, token).unwrap();
        registry.list_entries(&EntryFilter::default(), &request).unwrap()
    };
    let first = list(2, "");
    assert_eq!(ids(&first), "ab");
    registry.delete_entries(vec![entry_id("b"), entry_id("c")]).await;
    create(&registry, "aa", content("/x", "/p", &["a:1"])).await.unwrap();
    create(&registry, "bb", content("/y", "/p", &["a:1"])).await.unwrap();
    let second = list(2, &first.next_token);
    assert_eq!(ids(&second), "bbd");
    let third = list(2, &second.next_token);
    assert_eq!((ids(&third).as_str(), third.next_token.as_str()), ("e", ""));
    assert_eq!(list(5, "").next_token, "", "no token for a page of nothing");
    assert_eq!(ids(&list(0, &first.next_token)), "bbde");
}

#[tokio::test]
async fn a_page_that_was_never_promised_is_refused() {
    let registry = five().await;
    registry.put_node(node("/spire/agent/a/1", &[]), None, now()).await.unwrap();
    registry.put_node(node("/spire/agent/a/2", &[]), None, now()).await.unwrap();
    assert_eq!(PageRequest::new(-1, ""), Err(PageError::Size));
    let nodes =
        registry.list_nodes(&NodeFilter::default(), &PageRequest::new(1, "").unwrap()).unwrap();
    assert!(!nodes.next_token.is_empty());
    for token in ["1", "x", "!", &nodes.next_token, "ZTo", "ZTphIGI"] {
        let request = PageRequest::new(1, token).unwrap();
        let refused = registry.list_entries(&EntryFilter::default(), &request);
        assert_eq!(refused, Err(PageError::Token(token.into())));
    }
}

#[tokio::test]
async fn a_filter_picks_nodes() {
    let registry = empty().await;
    let one = node("/spire/agent/a/1", &["s:1"]);
    let two = Node {
        attestation_type: "join_token".into(),
        can_reattest: false,
        not_after: NOW,
        ..node("/spire/agent/a/2", &["s:1", "s:2"])
    };
    let three = node("/spire/agent/a/3", &["s:3"]);
    for node in [three, one, two] {
        registry.put_node(node, None, now()).await.unwrap();
    }
    registry.ban_node(id("/spire/agent/a/3")).await.unwrap();
    let check = |filter: NodeFilter, expected: &str| {
        let mut found = String::new();
        let mut token = String::new();
        loop {
            let request = PageRequest::new(1, &token).unwrap();
            let page = registry.list_nodes(&filter, &request).unwrap();
            found.extend(page.items.iter().filter_map(|node| node.id.path().chars().last()));
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(registry.count_nodes(&filter), expected.len());
    };
    let any = NodeFilter::default;
    check(any(), "123");
    check(NodeFilter { attestation_type: Some("x509pop".into()), ..any() }, "13");
    check(NodeFilter { banned: Some(true), ..any() }, "3");
    check(NodeFilter { banned: Some(false), ..any() }, "12");
    check(NodeFilter { can_reattest: Some(false), ..any() }, "2");
    check(NodeFilter { expires_before: Some(NOW), ..any() }, "");
    check(NodeFilter { expires_before: Some(NOW + 1), ..any() }, "2");
    let selectors = ["s:1".parse().unwrap()].into_iter().collect();
    check(NodeFilter { selectors: Some((selectors, Match::Superset)), ..any() }, "12");
}

#[tokio::test]
async fn the_bundles_of_others_are_listed_without_the_own() {
    let registry = empty().await;
    for text in ["a", "z", "m"] {
        registry.write_bundles(vec![BundleWrite::Set(Bundle::empty(name(text)))]).await;
    }
    registry.save_journal(Vec::new(), Vec::new(), now()).await.unwrap();
    let first = registry.list_federated_bundles(&PageRequest::new(2, "").unwrap()).unwrap();
    let names = |page: &Page<Arc<Bundle>>| -> String {
        page.items.iter().map(|bundle| bundle.trust_domain.as_str().to_owned()).collect()
    };
    assert_eq!(names(&first), "am");
    let request = PageRequest::new(2, &first.next_token).unwrap();
    let second = registry.list_federated_bundles(&request).unwrap();
    assert_eq!((names(&second).as_str(), second.next_token.as_str()), ("z", ""));
}
