//! What the bundle says of authorities: which vouch for this server's, and which are left over.

use std::collections::HashMap;
use std::time::Duration;

use steeple::bundle::Bundle;
use steeple::clock::unix_seconds;
use steeple::x509::Certificate;

use crate::ca::BundleChange;
use crate::ca::authorities::{AuthorityId, Tail};
use crate::ca::journal::{Journal, Record};
use crate::ca::slots::{Kind, Status};

/// How long after its end an authority that is not this server's own is still left alone.
pub(super) const FOREIGN_GRACE: i64 = 24 * 60 * 60;

/// An authority that the bundle has and that does not sign here.
#[derive(Debug)]
pub(super) struct Vouched {
    pub(super) id: AuthorityId,
    pub(super) kind: Kind,
    pub(super) lifetime: Duration,
    pub(super) not_after: i64,
    pub(super) end: i64,
    pub(super) removals: Vec<BundleChange>,
}

/// Whether the bundle has what vouches for the authority, and nobody has marked it as no longer to
/// be relied on.
pub(super) fn is_vouched(record: &Record, bundle: &Bundle) -> bool {
    let mut x509 = bundle.x509_authorities.iter().filter(|vouched| !vouched.tainted);
    match (record.kind, &record.upstream_authority_id) {
        (Kind::X509Ca, None) => x509.any(|vouched| *vouched.certificate == *record.public),
        (Kind::X509Ca, Some(upstream)) => x509.any(|vouched| {
            let certificate = Certificate::parse(&vouched.certificate);
            let id = certificate.ok().and_then(|certificate| certificate.subject_key_id_hex());
            id.as_deref() == Some(upstream.as_str())
        }),
        (Kind::JwtKey, _) => bundle.jwt_authorities.iter().any(|vouched| {
            vouched.key_id == record.authority_id.as_str()
                && vouched.public_key == record.public
                && !vouched.tainted
        }),
    }
}

/// What takes an authority of this server out of the bundle. What an upstream authority vouches for
/// is not in it.
pub(super) fn removals(record: &Record) -> Vec<BundleChange> {
    match (record.kind, &record.upstream_authority_id) {
        (Kind::X509Ca, None) => vec![BundleChange::RemoveX509(record.public.clone().into())],
        (Kind::X509Ca, Some(_)) => Vec::new(),
        (Kind::JwtKey, _) => vec![BundleChange::RemoveJwt(record.authority_id.to_string())],
    }
}

/// Those of this server that no longer sign.
pub(super) fn retired(
    journal: &Journal,
    tails: &HashMap<(Kind, AuthorityId), Tail>,
) -> impl Iterator<Item = Vouched> {
    let retired = journal.records().iter().filter(|r| r.status == Status::Old);
    retired.map(|record| {
        let lifetime = record.not_after.abs_diff(record.issued_at);
        let signed = tails.get(&(record.kind, record.authority_id.clone())).map(Tail::end);
        Vouched {
            id: record.authority_id.clone(),
            kind: record.kind,
            lifetime: Duration::from_secs(lifetime),
            not_after: record.not_after,
            end: signed.unwrap_or(record.not_after).min(record.not_after),
            removals: removals(record),
        }
    })
}

/// Those in the bundle that this server does not know as its own, or as vouching for its own.
pub(super) fn foreign(journal: &Journal, bundle: &Bundle) -> Vec<Vouched> {
    let is_own = |kind: Kind, id: &AuthorityId| {
        let names = |record: &Record| {
            record.authority_id == *id || record.upstream_authority_id.as_ref() == Some(id)
        };
        journal.records().iter().any(|record| record.kind == kind && names(record))
    };
    let vouched = |id: AuthorityId, kind, not_after: i64, removal| Vouched {
        id,
        kind,
        lifetime: Duration::MAX,
        not_after,
        end: not_after.saturating_add(FOREIGN_GRACE),
        removals: vec![removal],
    };
    let x509 = bundle.x509_authorities.iter().filter_map(|authority| {
        let certificate = Certificate::parse(&authority.certificate).ok()?;
        let id = certificate.subject_key_id_hex()?.into();
        let removal = BundleChange::RemoveX509(authority.certificate.clone());
        Some(vouched(id, Kind::X509Ca, unix_seconds(certificate.not_after()), removal))
    });
    let jwt = bundle.jwt_authorities.iter().filter_map(|key| {
        let removal = BundleChange::RemoveJwt(key.key_id.clone());
        Some(vouched(key.key_id.clone().into(), Kind::JwtKey, key.expires_at?, removal))
    });
    x509.chain(jwt).filter(|vouched| !is_own(vouched.kind, &vouched.id)).collect()
}

/// What the bundle calls a root.
pub(super) fn root_id(certificate: &[u8]) -> Option<AuthorityId> {
    Some(Certificate::parse(certificate).ok()?.subject_key_id_hex()?.into())
}

#[cfg(test)]
mod tests {
    use steeple::bundle::JwtAuthority;

    use super::*;
    use crate::ca::slots::Slot;
    use crate::ca::testing::tiers::td;

    /// Whoever publishes a key may call it as a CA is called.
    #[test]
    fn a_foreign_key_with_the_name_of_a_ca_is_foreign() {
        let record = |kind, slot| Record {
            kind,
            slot: Some(slot),
            status: Status::Prepared,
            authority_id: "id".to_owned().into(),
            issued_at: 0,
            not_before: 0,
            not_after: 9,
            public: Vec::new(),
            upstream_chain: Vec::new(),
            upstream_authority_id: None,
        };
        let mut bundle = Bundle::empty(td("td"));
        bundle.jwt_authorities.push(JwtAuthority {
            key_id: "id".into(),
            public_key: vec![1],
            expires_at: Some(9),
            tainted: false,
        });
        for (kind, expected) in [(Kind::X509Ca, 1), (Kind::JwtKey, 0)] {
            let journal = Journal::default().with_prepared(record(kind, Slot::A));
            assert_eq!(foreign(&journal, &bundle).len(), expected, "{kind}");
        }
    }
}
