//! Which entries and nodes a list or count is about.

use std::collections::BTreeSet;

use steeple::entry::EntryContent;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::SelectorSet;

/// How what is stored compares with what was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// Both are the same set.
    Exact,
    /// What is stored is a subset of what was asked for.
    Subset,
    /// What is stored is a superset of what was asked for.
    Superset,
    /// At least one is in both.
    Any,
}

/// What entries have to be to be listed: all that is not `None`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EntryFilter {
    /// The identity that is given.
    pub spiffe_id: Option<SpiffeId>,
    /// The parent.
    pub parent_id: Option<SpiffeId>,
    /// The selectors.
    pub selectors: Option<(SelectorSet, Match)>,
    /// The foreign trust domains.
    pub federates_with: Option<(BTreeSet<TrustDomain>, Match)>,
    /// The hint; the empty text is the lack of one.
    pub hint: Option<String>,
    /// Whether the holder is a downstream server.
    pub downstream: Option<bool>,
}

impl EntryFilter {
    /// Whether this content is asked for.
    #[must_use]
    pub fn admits(&self, content: &EntryContent) -> bool {
        let hint = content.hint.as_ref().map_or("", |hint| hint.as_str());
        wanted(self.spiffe_id.as_ref(), &content.spiffe_id)
            && wanted(self.parent_id.as_ref(), &content.parent_id)
            && wanted(self.downstream.as_ref(), &content.downstream)
            && self.hint.as_ref().is_none_or(|wanted| wanted == hint)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(wanted, how)| selectors_match(&content.selectors, wanted, *how))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|(wanted, how)| domains_match(&content.federates_with, wanted, *how))
    }
}

/// Whether `stored` compares with `asked` as wanted.
#[must_use]
pub fn selectors_match(stored: &SelectorSet, asked: &SelectorSet, how: Match) -> bool {
    match how {
        Match::Exact => stored == asked,
        Match::Subset => stored.is_subset_of(asked),
        Match::Superset => asked.is_subset_of(stored),
        Match::Any => asked.iter().any(|selector| stored.contains(selector)),
    }
}

fn domains_match(
    stored: &BTreeSet<TrustDomain>,
    asked: &BTreeSet<TrustDomain>,
    how: Match,
) -> bool {
    match how {
        Match::Exact => stored == asked,
        // Who federates with nobody is not asked for by the name of somebody.
        Match::Subset => !stored.is_empty() && stored.is_subset(asked),
        Match::Superset => stored.is_superset(asked),
        Match::Any => !stored.is_disjoint(asked),
    }
}

fn wanted<T: PartialEq>(wanted: Option<&T>, stored: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == stored)
}
