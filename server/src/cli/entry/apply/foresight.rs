//! What a server would say to entries, found by its own rules without asking it to do anything.

use std::collections::BTreeSet;

use anyhow::Context as _;
use steeple::convert::entry_from_proto;
use steeple::id::TrustDomain;
use steeple_proto::spire::api::server::bundle::v1 as bundle;
use steeple_proto::spire::api::types;

use crate::api::error::{ApiError, item_status};
use crate::cli::bundle::list::all as all_bundles;
use crate::cli::client::Client;
use crate::registry::entries::check_content;

/// What the rules depend on.
#[derive(Debug)]
pub(super) struct Foresight {
    own: TrustDomain,
    /// The foreign trust domains whose bundles the server has.
    foreign: BTreeSet<String>,
}

impl Foresight {
    /// Asks the server for what is needed to judge these entries.
    pub(super) async fn of(client: &Client, wanted: &[types::Entry]) -> anyhow::Result<Self> {
        let names_alone = Some(types::BundleMask::default());
        let request = bundle::GetBundleRequest { output_mask: names_alone };
        let own = client.answer(client.bundles().get_bundle(request)).await?.trust_domain;
        let own = TrustDomain::parse(&own).context("the server's trust domain")?;
        let federates = wanted.iter().any(|entry| !entry.federates_with.is_empty());
        let foreign = if federates { all_bundles(client, names_alone).await? } else { Vec::new() };
        let foreign = foreign.into_iter().map(|bundle| bundle.trust_domain).collect();
        Ok(Self { own, foreign })
    }

    /// The refusal of an entry that federated with these trust domains before, or nothing.
    pub(super) fn refusal(&self, entry: &types::Entry, before: &[String]) -> Option<types::Status> {
        let before: BTreeSet<_> =
            before.iter().filter_map(|name| TrustDomain::parse(name).ok()).collect();
        let has_bundle = |name: &TrustDomain| self.foreign.contains(name.as_str());
        let judged = entry_from_proto(entry)
            .map_err(ApiError::from)
            .and_then(|(_, content)| Ok(check_content(&self.own, &content, &before, has_bundle)?));
        judged.is_err().then(|| item_status(&judged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::full_entry;

    #[track_caller]
    fn check(change: impl FnOnce(&mut types::Entry), before: &[&str], expected: &str) {
        let own = TrustDomain::parse("td").unwrap();
        let foresight = Foresight { own, foreign: BTreeSet::from(["other".to_owned()]) };
        let mut entry = full_entry();
        change(&mut entry);
        let before: Vec<_> = before.iter().map(ToString::to_string).collect();
        let refusal = foresight.refusal(&entry, &before);
        let found = refusal.map(|status| format!("{} {}", status.code, status.message));
        assert_eq!(found.unwrap_or_default(), expected);
    }

    #[test]
    fn an_entry_is_judged_as_the_server_would_judge_it() {
        check(|_| {}, &[], "");
        check(
            |e| e.parent_id.as_mut().unwrap().trust_domain = "x".into(),
            &[],
            "3 invalid entry: parent ID: must be in trust domain td",
        );
        let third = |e: &mut types::Entry| e.federates_with = vec!["third".into()];
        check(third, &[], "9 unable to find federated bundle \"third\"");
        check(third, &["third"], "");
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let named = |change: fn(&mut types::Entry), part: &str| {
            let foresight =
                Foresight { own: TrustDomain::parse("td").unwrap(), foreign: BTreeSet::new() };
            let mut entry = full_entry();
            change(&mut entry);
            let status = foresight.refusal(&entry, &[]).unwrap();
            assert!(status.message.contains(part), "{status:?}");
        };
        named(|e| e.dns_names = vec!["a b".into()], "DNS names: \"a b\"");
        named(|e| e.x509_svid_ttl = -5, "x509_svid_ttl");
    }
}
