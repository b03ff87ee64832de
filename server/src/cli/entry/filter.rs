//! Which entries are meant.

use clap::Args;
use steeple::convert::id_to_proto;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::Selector;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;

use crate::cli::args::{Match, trust_domain};

/// What has to be true of an entry; all of it.
#[derive(Args, Debug)]
pub(super) struct Filter {
    /// Entries that give this identity
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: Option<SpiffeId>,
    /// Entries with this parent
    #[arg(long, value_name = "SPIFFE ID", alias = "parentID")]
    parent_id: Option<SpiffeId>,
    /// Entries with this selector; may be repeated
    #[arg(long, value_name = "TYPE:VALUE")]
    selector: Vec<Selector>,
    /// How the selectors of an entry fit those that are given
    #[arg(
        long,
        value_name = "HOW",
        alias = "matchSelectorsOn",
        default_value = "superset",
        ignore_case = true
    )]
    match_selectors_on: Match,
    /// Entries that federate with this trust domain; may be repeated
    #[arg(long, value_name = "TRUST DOMAIN", alias = "federatesWith", value_parser = trust_domain)]
    federates_with: Vec<TrustDomain>,
    /// How the trust domains of an entry fit those that are given
    #[arg(
        long,
        value_name = "HOW",
        alias = "matchFederatesWithOn",
        default_value = "superset",
        ignore_case = true
    )]
    match_federates_with_on: Match,
    /// Entries of downstream servers
    #[arg(long)]
    downstream: bool,
    /// Entries with this hint
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
}

impl Filter {
    pub(super) fn for_list(&self) -> Option<pb::list_entries_request::Filter> {
        let filter = pb::list_entries_request::Filter {
            by_spiffe_id: self.spiffe_id.as_ref().map(id_to_proto),
            by_parent_id: self.parent_id.as_ref().map(id_to_proto),
            by_selectors: self.selectors(),
            by_federates_with: self.trust_domains(),
            by_hint: self.hint.clone(),
            by_downstream: self.downstream.then_some(true),
        };
        (filter != pb::list_entries_request::Filter::default()).then_some(filter)
    }

    pub(super) fn for_count(&self) -> Option<pb::count_entries_request::Filter> {
        self.for_list().map(|filter| pb::count_entries_request::Filter {
            by_spiffe_id: filter.by_spiffe_id,
            by_parent_id: filter.by_parent_id,
            by_selectors: filter.by_selectors,
            by_federates_with: filter.by_federates_with,
            by_hint: filter.by_hint,
            by_downstream: filter.by_downstream,
        })
    }

    fn selectors(&self) -> Option<types::SelectorMatch> {
        let selector = |selector: &Selector| types::Selector {
            r#type: selector.kind().to_owned(),
            value: selector.value().to_owned(),
        };
        (!self.selector.is_empty()).then(|| types::SelectorMatch {
            selectors: self.selector.iter().map(selector).collect(),
            r#match: self.match_selectors_on.of_selectors(),
        })
    }

    fn trust_domains(&self) -> Option<types::FederatesWithMatch> {
        (!self.federates_with.is_empty()).then(|| types::FederatesWithMatch {
            trust_domains: self.federates_with.iter().map(ToString::to_string).collect(),
            r#match: self.match_federates_with_on.of_trust_domains(),
        })
    }
}
