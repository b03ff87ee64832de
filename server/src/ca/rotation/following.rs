//! Decides what becomes of the own bundle when upstream vouches for something else; performs no I/O.
//!
//! What upstream adds, is added. What it taints or revokes, is tainted or revoked here, but not
//! before this server signs with something else: whoever learns of a taint asks for a new SVID at
//! once, and has to get one that is worth more.

use std::collections::BTreeSet;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::unix_seconds;
use steeple::x509::Certificate;

use crate::ca::BundleChange;
use crate::ca::authorities::AuthorityId;
use crate::ca::journal::Journal;
use crate::ca::slots::{Kind, Status};
use crate::ca::upstream::Vouched;

/// What is to be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Following {
    /// What is new upstream.
    pub(super) additions: Vec<BundleChange>,
    /// What is no longer to be relied on.
    pub(super) withdrawals: Vec<Withdrawn>,
}

/// An authority that is no longer to be relied on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Withdrawn {
    pub(super) kind: Kind,
    pub(super) id: AuthorityId,
    pub(super) revoked: bool,
    pub(super) change: BundleChange,
}

/// What is known before upstream says something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The authorities of this server.
    pub(super) journal: &'a Journal,
    /// The own bundle.
    pub(super) bundle: &'a Bundle,
    /// What upstream said before, in the life of this process.
    pub(super) said: Option<&'a Vouched>,
}

/// What follows from what upstream vouches for now.
pub(super) fn follow(known: Known<'_>, says: &Vouched, now: i64) -> Following {
    let mut following = Following::default();
    roots(known, says, now, &mut following);
    jwt_keys(known, says, now, &mut following);
    following
}

impl Following {
    /// The CAs of which no SVID and no CA below may be signed any more.
    pub(super) fn distrusted(&self) -> BTreeSet<&AuthorityId> {
        let roots = self.withdrawals.iter().filter(|withdrawn| withdrawn.kind == Kind::X509Ca);
        roots.map(|withdrawn| &withdrawn.id).collect()
    }
}

fn roots(known: Known<'_>, says: &Vouched, now: i64, following: &mut Following) {
    let ours = &known.bundle.x509_authorities;
    for root in &says.roots {
        let Some((id, not_after)) = named(root) else { continue };
        let is = |other: &&X509Authority| other.certificate == root.certificate;
        let before = ours.iter().find(is);
        // What upstream has had before and is no longer here was revoked here.
        let is_news = !known.said.is_some_and(|said| said.roots.iter().any(|root| is(&root)))
            && !known.journal.is_revoked(Kind::X509Ca, id.as_str());
        if before.is_none() && is_news && now <= not_after {
            following.additions.push(BundleChange::AddX509(root.certificate.clone()));
        }
        let is_clean = before.map_or(is_news, |before| !before.tainted);
        if root.tainted && is_clean && now <= not_after {
            let change = BundleChange::TaintX509(root.certificate.clone());
            following.withdrawals.push(Withdrawn {
                kind: Kind::X509Ca,
                id,
                revoked: false,
                change,
            });
        }
    }
    for root in ours {
        let is = |other: &X509Authority| other.certificate == root.certificate;
        let Some((id, _)) = named(root).filter(|_| !says.roots.iter().any(is)) else { continue };
        let was_upstream = known.said.is_some_and(|said| said.roots.iter().any(is));
        let records: Vec<_> =
            known.journal.records().iter().filter(|r| r.kind == Kind::X509Ca).collect();
        let is_own = records.iter().any(|record| record.authority_id == id);
        let vouches = records.iter().any(|r| r.upstream_authority_id.as_ref() == Some(&id));
        if !is_own && (was_upstream || vouches || root.tainted) {
            let change = BundleChange::RemoveX509(root.certificate.clone());
            following.withdrawals.push(Withdrawn { kind: Kind::X509Ca, id, revoked: true, change });
        }
    }
}

fn jwt_keys(known: Known<'_>, says: &Vouched, now: i64, following: &mut Following) {
    let ours = &known.bundle.jwt_authorities;
    let of_id = |keys: &[JwtAuthority], id: &str| keys.iter().any(|key| key.key_id == id);
    let withdrawn = |key: &JwtAuthority, revoked, change| Withdrawn {
        kind: Kind::JwtKey,
        id: key.key_id.clone().into(),
        revoked,
        change,
    };
    for key in says.jwt_keys.iter().filter(|key| key.expires_at.is_none_or(|end| now < end)) {
        let before = ours.iter().find(|ours| ours.key_id == key.key_id);
        let is_news = !known.said.is_some_and(|said| of_id(&said.jwt_keys, &key.key_id))
            && !known.journal.is_revoked(Kind::JwtKey, &key.key_id);
        if before.is_none() && is_news {
            let fresh = JwtAuthority { tainted: false, ..key.clone() };
            following.additions.push(BundleChange::AddJwt(fresh));
        }
        if key.tainted && before.map_or(is_news, |before| !before.tainted) {
            let change = BundleChange::TaintJwt(key.key_id.clone());
            following.withdrawals.push(withdrawn(key, false, change));
        }
    }
    for key in ours.iter().filter(|key| !of_id(&says.jwt_keys, &key.key_id)) {
        let was_upstream = known.said.is_some_and(|said| of_id(&said.jwt_keys, &key.key_id));
        let mut records = known.journal.records().iter();
        // A key of this server that is not known upstream, or was and is no longer: it is published
        // again, unless it has signed before and was revoked there.
        let in_use = records.any(|record| {
            record.kind == Kind::JwtKey
                && record.authority_id.as_str() == key.key_id
                && record.status != Status::Old
        });
        if was_upstream && !in_use {
            let change = BundleChange::RemoveJwt(key.key_id.clone());
            following.withdrawals.push(withdrawn(key, true, change));
        }
    }
}

/// The name of a root, and until when it is valid.
fn named(root: &X509Authority) -> Option<(AuthorityId, i64)> {
    let certificate = Certificate::parse(&root.certificate).ok()?;
    let id = certificate.subject_key_id_hex().filter(|_| certificate.is_ca())?;
    Some((id.into(), unix_seconds(certificate.not_after())))
}

#[cfg(test)]
mod tests;
