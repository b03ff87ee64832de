//! In what two entries differ.

use std::collections::BTreeSet;
use std::fmt;

use steeple::shown;
use steeple_proto::spire::api::types;

use crate::cli::pretty;

/// A field that is not the same in two entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Difference {
    pub(super) field: Field,
    /// What it is.
    pub(super) from: String,
    /// What it is to be.
    pub(super) to: String,
}

/// The fields of an entry that an administrator decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    SpiffeId,
    ParentId,
    Selectors,
    X509SvidTtl,
    JwtSvidTtl,
    FederatesWith,
    Admin,
    Downstream,
    ExpiresAt,
    DnsNames,
    StoreSvid,
    Hint,
    DisableX509SvidPrefetch,
    JwtSvidIncludeJti,
}

impl Field {
    const ALL: [Self; 14] = [
        Self::SpiffeId,
        Self::ParentId,
        Self::Selectors,
        Self::X509SvidTtl,
        Self::JwtSvidTtl,
        Self::FederatesWith,
        Self::Admin,
        Self::Downstream,
        Self::ExpiresAt,
        Self::DnsNames,
        Self::StoreSvid,
        Self::Hint,
        Self::DisableX509SvidPrefetch,
        Self::JwtSvidIncludeJti,
    ];

    /// Its name, as files of entries have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SpiffeId => "spiffe_id",
            Self::ParentId => "parent_id",
            Self::Selectors => "selectors",
            Self::X509SvidTtl => "x509_svid_ttl",
            Self::JwtSvidTtl => "jwt_svid_ttl",
            Self::FederatesWith => "federates_with",
            Self::Admin => "admin",
            Self::Downstream => "downstream",
            Self::ExpiresAt => "expires_at",
            Self::DnsNames => "dns_names",
            Self::StoreSvid => "store_svid",
            Self::Hint => "hint",
            Self::DisableX509SvidPrefetch => "disable_x509_svid_prefetch",
            Self::JwtSvidIncludeJti => "jwt_svid_include_jti",
        }
    }

    /// Switches the field on in a mask.
    pub(super) fn mark(self, mask: &mut types::EntryMask) {
        let bit = match self {
            Self::SpiffeId => &mut mask.spiffe_id,
            Self::ParentId => &mut mask.parent_id,
            Self::Selectors => &mut mask.selectors,
            Self::X509SvidTtl => &mut mask.x509_svid_ttl,
            Self::JwtSvidTtl => &mut mask.jwt_svid_ttl,
            Self::FederatesWith => &mut mask.federates_with,
            Self::Admin => &mut mask.admin,
            Self::Downstream => &mut mask.downstream,
            Self::ExpiresAt => &mut mask.expires_at,
            Self::DnsNames => &mut mask.dns_names,
            Self::StoreSvid => &mut mask.store_svid,
            Self::Hint => &mut mask.hint,
            Self::DisableX509SvidPrefetch | Self::JwtSvidIncludeJti => {
                &mut mask.additional_attributes
            }
        };
        *bit = true;
    }

    /// What the field is in an entry. What is a set has one order here, whatever its order was.
    fn of(self, entry: &types::Entry) -> String {
        let attributes = entry.additional_attributes.unwrap_or_default();
        let set = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join(", ");
        match self {
            Self::SpiffeId => shown::spiffe_id(entry.spiffe_id.as_ref()),
            Self::ParentId => shown::spiffe_id(entry.parent_id.as_ref()),
            Self::Selectors => set(entry.selectors.iter().map(pretty::selector_text).collect()),
            Self::X509SvidTtl => entry.x509_svid_ttl.to_string(),
            Self::JwtSvidTtl => entry.jwt_svid_ttl.to_string(),
            Self::FederatesWith => set(entry.federates_with.iter().cloned().collect()),
            Self::Admin => entry.admin.to_string(),
            Self::Downstream => entry.downstream.to_string(),
            Self::ExpiresAt => entry.expires_at.to_string(),
            Self::DnsNames => entry.dns_names.join(", "),
            Self::StoreSvid => entry.store_svid.to_string(),
            Self::Hint => entry.hint.clone(),
            Self::DisableX509SvidPrefetch => attributes.disable_x509_svid_prefetch.to_string(),
            Self::JwtSvidIncludeJti => attributes.jwt_svid_include_jti.to_string(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, not {}", self.field.name(), shown(&self.from), shown(&self.to))
    }
}

/// The text of a field, which may be empty, for people.
pub(super) fn shown(text: &str) -> String {
    if text.is_empty() { "(none)".to_owned() } else { shown::plain(text) }
}

/// In what an entry that is there differs from one that is wanted.
pub(super) fn between(actual: &types::Entry, wanted: &types::Entry) -> Vec<Difference> {
    let differences = Field::ALL.into_iter().filter_map(|field| {
        let (from, to) = (field.of(actual), field.of(wanted));
        (from != to).then_some(Difference { field, from, to })
    });
    differences.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    #[track_caller]
    fn check(change: impl FnOnce(&mut types::Entry), expected: &[&str]) {
        let mut wanted = testing::full_entry();
        change(&mut wanted);
        let found: Vec<_> = between(&testing::full_entry(), &wanted);
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn entries_differ_in_what_an_administrator_decides() {
        check(|entry| entry.revision_number += 1, &[]);
        check(|entry| entry.selectors.reverse(), &[]);
        check(|entry| entry.id.clear(), &[]);
        check(|entry| entry.hint.clear(), &["hint is h, not (none)"]);
        check(|entry| entry.x509_svid_ttl = 5, &["x509_svid_ttl is 60, not 5"]);
        check(
            |entry| entry.selectors.truncate(1),
            &["selectors is unix:uid:1, unix:user:a:b, not unix:uid:1"],
        );
        check(
            |entry| entry.additional_attributes = None,
            &[
                "disable_x509_svid_prefetch is true, not false",
                "jwt_svid_include_jti is true, not false",
            ],
        );
        check(|entry| entry.hint = "\x1b[2J".into(), &["hint is h, not \\u{1b}[2J"]);
    }

    #[test]
    fn every_field_is_compared_and_has_a_bit_of_its_own() {
        let differences = between(&testing::full_entry(), &types::Entry::default());
        assert_eq!(differences.len(), Field::ALL.len(), "{differences:?}");
        let mut mask = types::EntryMask::default();
        differences.iter().for_each(|difference| difference.field.mark(&mut mask));
        let all = steeple::convert::all_entry_fields();
        assert_eq!(types::EntryMask { revision_number: true, created_at: true, ..mask }, all);
    }
}
