//! Which entries an administrator wants to see.

use std::collections::BTreeSet;

use steeple::convert::{id_from_proto, trust_domain_from_proto};
use steeple::id::TrustDomain;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::federates_with_match::MatchBehavior as DomainMatch;

use crate::api::error::ApiError;
use crate::api::selector_match;
use crate::entries::filter::{EntryFilter, Match};

/// The filter of a list or count, which are two messages of the same fields.
#[derive(Debug, Default)]
pub(super) struct Wire {
    spiffe_id: Option<types::Spiffeid>,
    parent_id: Option<types::Spiffeid>,
    selectors: Option<types::SelectorMatch>,
    federates_with: Option<types::FederatesWithMatch>,
    hint: Option<String>,
    downstream: Option<bool>,
}

impl From<pb::count_entries_request::Filter> for Wire {
    fn from(filter: pb::count_entries_request::Filter) -> Self {
        Self {
            spiffe_id: filter.by_spiffe_id,
            parent_id: filter.by_parent_id,
            selectors: filter.by_selectors,
            federates_with: filter.by_federates_with,
            hint: filter.by_hint,
            downstream: filter.by_downstream,
        }
    }
}

impl From<pb::list_entries_request::Filter> for Wire {
    fn from(filter: pb::list_entries_request::Filter) -> Self {
        Self {
            spiffe_id: filter.by_spiffe_id,
            parent_id: filter.by_parent_id,
            selectors: filter.by_selectors,
            federates_with: filter.by_federates_with,
            hint: filter.by_hint,
            downstream: filter.by_downstream,
        }
    }
}

/// Reads a filter; none admits everything.
pub(super) fn from_proto(filter: Option<Wire>) -> Result<EntryFilter, ApiError> {
    let filter = filter.unwrap_or_default();
    let id = |id: Option<types::Spiffeid>, field| {
        id.map(|id| id_from_proto(Some(&id), field)).transpose()
    };
    Ok(EntryFilter {
        spiffe_id: id(filter.spiffe_id, "by_spiffe_id")?,
        parent_id: id(filter.parent_id, "by_parent_id")?,
        selectors: filter.selectors.map(|selectors| selector_match(&selectors)).transpose()?,
        federates_with: filter.federates_with.map(|domains| domain_match(&domains)).transpose()?,
        hint: filter.hint,
        // SPIRE's command line sends `false` when nobody asked for it.
        downstream: filter.downstream.filter(|downstream| *downstream),
    })
}

fn domain_match(
    wanted: &types::FederatesWithMatch,
) -> Result<(BTreeSet<TrustDomain>, Match), ApiError> {
    let field = "by_federates_with";
    if wanted.trust_domains.is_empty() {
        return Err(ApiError::Invalid { field, expected: "at least one trust domain" });
    }
    let how = match DomainMatch::try_from(wanted.r#match) {
        Ok(DomainMatch::MatchExact) => Match::Exact,
        Ok(DomainMatch::MatchSubset) => Match::Subset,
        Ok(DomainMatch::MatchSuperset) => Match::Superset,
        Ok(DomainMatch::MatchAny) => Match::Any,
        Err(_) => return Err(ApiError::Invalid { field, expected: "a match that is known" }),
    };
    let names = wanted.trust_domains.iter().map(|name| trust_domain_from_proto(name, field));
    Ok((names.collect::<Result<_, _>>()?, how))
}
