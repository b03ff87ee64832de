//! What the server says of this node, as one immutable value.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use steeple::entry::{Entry, EntryId};
use steeple::id::TrustDomain;
use steeple::selector::{Selector, SelectorSet};

use super::PreparedBundle;
use crate::attest::interest::Interest;

/// The entries and bundles of this node, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    own: TrustDomain,
    entries: Vec<Arc<Entry>>,
    by_selector: HashMap<Selector, Vec<usize>>,
    by_id: HashMap<EntryId, usize>,
    bundles: BTreeMap<TrustDomain, Arc<PreparedBundle>>,
    interest: Interest,
    of_banned: bool,
}

impl Snapshot {
    /// Entries in any order, and the bundles of the own and of foreign trust domains.
    #[must_use]
    pub fn new(
        own: TrustDomain,
        mut entries: Vec<Arc<Entry>>,
        bundles: impl IntoIterator<Item = Arc<PreparedBundle>>,
    ) -> Self {
        // The oldest first, so that the default identity stays the same when entries are added.
        entries.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let mut by_selector: HashMap<Selector, Vec<usize>> = HashMap::new();
        let mut by_id = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            by_id.insert(entry.id.clone(), index);
            // An entry can match only who has all its selectors, so one of them finds it.
            if let Some(selector) = entry.content.selectors.iter().last() {
                by_selector.entry(selector.clone()).or_default().push(index);
            }
        }
        let bundles =
            bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle)).collect();
        let named = entries.iter().flat_map(|entry| entry.content.selectors.iter());
        let interest = named.map(Interest::of).collect();
        Self { own, entries, by_selector, by_id, bundles, interest, of_banned: false }
    }

    /// That of a node which the server has banned: nobody on it has an identity.
    #[must_use]
    pub fn of_banned_node(self) -> Self {
        Self { of_banned: true, ..self }
    }

    /// Whether the server has banned this node.
    #[must_use]
    pub fn is_of_banned_node(&self) -> bool {
        self.of_banned
    }

    /// The trust domain of this node.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.own
    }

    /// All entries, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entry of this name.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(id).and_then(|index| self.entries.get(*index))
    }

    /// What of a process tells which of the entries are for it.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// The bundle of this node's trust domain. Without it nothing can be served.
    #[must_use]
    pub fn own_bundle(&self) -> Option<&Arc<PreparedBundle>> {
        self.bundles.get(&self.own)
    }

    /// The bundle of a trust domain. Bundles are never pooled.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<PreparedBundle>> {
        self.bundles.get(trust_domain)
    }

    /// All bundles, in the order of their names.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<PreparedBundle>> {
        self.bundles.values()
    }

    /// The entries of whom these selectors are known, the oldest first: the first is the default
    /// identity (Workload API 8).
    ///
    /// Of entries with the same hint only the oldest is there, as hints are unique in a response
    /// (Workload API 5.2.1). `now` is in seconds since 1970.
    #[must_use]
    pub fn entitled(&self, selectors: &SelectorSet, now: i64) -> Vec<Arc<Entry>> {
        let mut hints = HashSet::new();
        let mut found = self.matching(selectors, now);
        found.retain(|entry| {
            entry.content.hint.as_ref().is_none_or(|hint| hints.insert(hint.clone()))
        });
        found
    }

    /// The entries of whom these selectors are known, the oldest first, whatever their hints.
    #[must_use]
    pub fn matching(&self, selectors: &SelectorSet, now: i64) -> Vec<Arc<Entry>> {
        let mut found: Vec<usize> = selectors
            .iter()
            .filter_map(|selector| self.by_selector.get(selector))
            .flatten()
            .copied()
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .filter_map(|index| self.entries.get(index))
            .filter(|entry| {
                let content = &entry.content;
                !content.store_svid
                    && content.expires_at.is_none_or(|expires_at| expires_at > now)
                    && content.selectors.is_subset_of(selectors)
            })
            .cloned()
            .collect()
    }

    /// The bundles of the foreign trust domains that any of `entries` federates with.
    pub fn federated<'a>(
        &'a self,
        entries: &'a [Arc<Entry>],
    ) -> impl Iterator<Item = &'a Arc<PreparedBundle>> {
        let wanted = |name: &TrustDomain| {
            *name != self.own
                && entries.iter().any(|entry| entry.content.federates_with.contains(name))
        };
        self.bundles.iter().filter(move |(name, _)| wanted(name)).map(|(_, bundle)| bundle)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use steeple::bundle::Bundle;
    use steeple::entry::{EntryContent, Hint};

    use super::*;

    pub(crate) fn entry(id: &str, created_at: i64, selectors: &[&str]) -> Entry {
        Entry {
            id: EntryId::new(id).unwrap(),
            revision: 0,
            created_at,
            content: EntryContent {
                spiffe_id: format!("spiffe://td/{id}").parse().unwrap(),
                parent_id: "spiffe://td/spire/agent/x".parse().unwrap(),
                selectors: selectors.iter().map(|text| text.parse::<Selector>().unwrap()).collect(),
                x509_svid_ttl: None,
                jwt_svid_ttl: None,
                federates_with: BTreeSet::new(),
                admin: false,
                downstream: false,
                expires_at: None,
                dns_names: Vec::new(),
                store_svid: false,
                hint: None,
                disable_x509_svid_prefetch: false,
                jwt_svid_include_jti: false,
            },
        }
    }

    fn snapshot(entries: Vec<Entry>) -> Snapshot {
        let own = TrustDomain::parse("td").unwrap();
        Snapshot::new(own, entries.into_iter().map(Arc::new).collect(), [])
    }

    #[track_caller]
    fn check(entries: Vec<Entry>, selectors: &[&str], expected: &[&str]) {
        let selectors =
            selectors.iter().map(|text| text.parse::<Selector>().unwrap()).collect::<SelectorSet>();
        let found = snapshot(entries).entitled(&selectors, 100);
        assert_eq!(found.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_entry_matches_who_has_all_its_selectors() {
        let entries = || vec![entry("a", 0, &["u:1"]), entry("b", 0, &["u:1", "g:1"])];
        check(entries(), &["u:1"], &["a"]);
        check(entries(), &["g:1"], &[]);
        check(entries(), &["u:1", "g:1", "x:1"], &["a", "b"]);
        check(entries(), &[], &[]);
    }

    #[test]
    fn the_oldest_entry_is_the_default_identity() {
        let entries =
            vec![entry("a", 9, &["u:1"]), entry("c", 5, &["u:1"]), entry("b", 5, &["u:1"])];
        check(entries, &["u:1"], &["b", "c", "a"]); // WAPI-29
    }

    #[test]
    fn of_equal_hints_the_oldest_entry_stays() {
        let hinted = |id: &str, created_at: i64, hint: &str| {
            let mut entry = entry(id, created_at, &["u:1"]);
            entry.content.hint = Hint::new(hint).unwrap();
            entry
        };
        let entries = vec![
            hinted("young", 9, "x"),
            hinted("old", 1, "x"),
            hinted("other", 9, "y"),
            hinted("plain1", 9, ""),
            hinted("plain2", 9, ""),
        ];
        check(entries, &["u:1"], &["old", "other", "plain1", "plain2"]); // WAPI-27, H071
    }

    #[test]
    fn expired_entries_and_those_for_a_store_are_not_for_workloads() {
        let mut expired = entry("expired", 0, &["u:1"]);
        expired.content.expires_at = Some(100);
        let mut later = entry("later", 0, &["u:1"]);
        later.content.expires_at = Some(101);
        let mut stored = entry("stored", 0, &["u:1"]);
        stored.content.store_svid = true;
        check(vec![expired, later, stored], &["u:1"], &["later"]);
    }

    #[test]
    fn foreign_bundles_are_those_that_an_entry_names() {
        let prepared = |name: &str| {
            let bundle = Bundle::empty(TrustDomain::parse(name).unwrap());
            Arc::new(PreparedBundle::new(Arc::new(bundle)))
        };
        let mut federated = entry("a", 0, &["u:1"]);
        federated.content.federates_with =
            ["td", "b", "missing"].map(|name| TrustDomain::parse(name).unwrap()).into();
        let entries = vec![Arc::new(federated)];
        let own = TrustDomain::parse("td").unwrap();
        let snapshot =
            Snapshot::new(own, entries.clone(), [prepared("td"), prepared("b"), prepared("c")]);
        let names: Vec<_> =
            snapshot.federated(&entries).map(|bundle| bundle.trust_domain().as_str()).collect();
        assert_eq!(names, ["b"]);
        assert_eq!(snapshot.federated(&[]).count(), 0);
    }
}
