//! Decides what may be done with an authority, and what that changes; performs no I/O.

use std::time::SystemTime;

use steeple::bundle::{Bundle, JwtAuthority};
use steeple::clock::unix_seconds;
use steeple::x509::Certificate;

use super::vouched::removals;
use crate::ca::BundleChange;
use crate::ca::authorities::AuthorityId;
use crate::ca::control::{ControlError, Standing};
use crate::ca::journal::{Journal, Record};
use crate::ca::slots::{Kind, Slot, Slots, Status};

/// The most JWT keys that the bundle may have for another one to be taken from below.
const MAX_JWT_KEYS: usize = 1_000;

/// What answers a request for an authority that can sign next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Preparation {
    /// The one that is prepared.
    Ready,
    /// A new one in this slot.
    New(Slot),
}

/// How an authority loses what it is relied on for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Withdrawal {
    /// It stays vouched for until all that it signed is replaced.
    Taint,
    /// It is no longer vouched for, and forgotten.
    Revoke,
}

/// What a withdrawal comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Effect {
    /// How.
    pub(super) withdrawal: Withdrawal,
    /// The authority.
    pub(super) standing: Standing,
    /// What happens to the bundle; nothing where it was done before.
    pub(super) changes: Vec<BundleChange>,
}

/// Whether a new authority has to be made, and where.
pub(super) fn prepare(
    journal: &Journal,
    (kind, slots): (Kind, &Slots),
    now: SystemTime,
) -> Result<Preparation, ControlError> {
    if slots.prepared(now).is_some() {
        return Ok(Preparation::Ready);
    }
    let active = journal.active(kind).and_then(|active| active.slot);
    Ok(Preparation::New(active.ok_or(ControlError::Initializing)?.other()))
}

/// Where the authority is that is to sign.
pub(super) fn activate(
    journal: &Journal,
    (kind, slots): (Kind, &Slots),
    id: &str,
    now: SystemTime,
) -> Result<Slot, ControlError> {
    let record = named(journal, kind, id)?.ok_or(ControlError::Unknown)?;
    match record.status {
        Status::Active => Err(ControlError::Active),
        Status::Old => Err(ControlError::Old),
        Status::Prepared => slots.prepared(now).ok_or(ControlError::Unusable),
    }
}

/// What vouches for the key of a server below this one; nothing where it is vouched for already.
pub(in crate::ca) fn publish(
    journal: &Journal,
    bundle: &Bundle,
    key: &JwtAuthority,
) -> Result<Vec<BundleChange>, ControlError> {
    if let Some(known) = bundle.jwt_authorities.iter().find(|known| known.key_id == key.key_id) {
        let is_same = known.public_key == key.public_key;
        return if is_same { Ok(Vec::new()) } else { Err(ControlError::Taken) };
    }
    if journal.is_revoked(Kind::JwtKey, &key.key_id) {
        return Err(ControlError::Revoked);
    }
    if bundle.jwt_authorities.len() >= MAX_JWT_KEYS {
        return Err(ControlError::TooMany);
    }
    Ok(vec![BundleChange::AddJwt(key.clone())])
}

/// What becomes of the key of a server below this one that was revoked above; nothing where it is
/// not vouched for, or is this server's own.
pub(super) fn leave(journal: &Journal, bundle: &Bundle, key: &JwtAuthority) -> Option<Effect> {
    let is_it =
        |known: &&JwtAuthority| known.key_id == key.key_id && known.public_key == key.public_key;
    let known = bundle.jwt_authorities.iter().find(is_it)?;
    if journal.named(Kind::JwtKey, &known.key_id).is_some() {
        return None;
    }
    let changes = vec![BundleChange::RemoveJwt(known.key_id.clone())];
    Some(Effect { withdrawal: Withdrawal::Revoke, standing: other(known), changes })
}

/// What is tainted. A JWT key may be another server's.
pub(super) fn taint(
    journal: &Journal,
    bundle: &Bundle,
    (kind, id): (Kind, &str),
) -> Result<Effect, ControlError> {
    let (standing, tainted, taint) = match (named(journal, kind, id)?, kind) {
        (Some(record), Kind::X509Ca) => {
            let taint = BundleChange::TaintX509(record.public.clone().into());
            (record.into(), old(record, bundle)?, taint)
        }
        (Some(record), Kind::JwtKey) => {
            (record.into(), old(record, bundle)?, BundleChange::TaintJwt(id.to_owned()))
        }
        (None, Kind::JwtKey) => {
            let (standing, tainted) = other_key(bundle, id)?;
            (standing, tainted, BundleChange::TaintJwt(id.to_owned()))
        }
        (None, Kind::X509Ca) => return Err(ControlError::Unknown),
    };
    let changes = if tainted { Vec::new() } else { vec![taint] };
    Ok(Effect { withdrawal: Withdrawal::Taint, standing, changes })
}

/// What is revoked. A tainted JWT key may be another server's.
pub(super) fn revoke(
    journal: &Journal,
    bundle: &Bundle,
    (kind, id): (Kind, &str),
) -> Result<Effect, ControlError> {
    let (standing, tainted, changes) = match (named(journal, kind, id)?, kind) {
        (Some(record), _) => (record.into(), old(record, bundle)?, removals(record)),
        (None, Kind::JwtKey) => {
            let (standing, tainted) = other_key(bundle, id)?;
            (standing, tainted, vec![BundleChange::RemoveJwt(id.to_owned())])
        }
        (None, Kind::X509Ca) => return Err(ControlError::Unknown),
    };
    if !tainted {
        return Err(ControlError::Untainted);
    }
    Ok(Effect { withdrawal: Withdrawal::Revoke, standing, changes })
}

/// What becomes of a root that vouches for CAs of this server, as long as none of them is to sign.
pub(super) fn withdraw_upstream(
    journal: &Journal,
    bundle: &Bundle,
    (withdrawal, id): (Withdrawal, &str),
) -> Result<Effect, ControlError> {
    if id.is_empty() {
        return Err(ControlError::NoId);
    }
    let depends = |record: &&Record| {
        record.upstream_authority_id.as_ref().is_some_and(|root| root.as_str() == id)
    };
    let mut is_known = false;
    for record in journal.records().iter().filter(depends) {
        match record.status {
            Status::Active => return Err(ControlError::Active),
            Status::Prepared => return Err(ControlError::Prepared),
            Status::Old => is_known = true,
        }
    }
    let roots = bundle.x509_authorities.iter().filter_map(|root| {
        let certificate = Certificate::parse(&root.certificate).ok()?;
        let is_it = certificate.subject_key_id_hex().as_deref() == Some(id);
        is_it.then(|| (root, unix_seconds(certificate.not_after())))
    });
    let roots: Vec<_> = roots.collect();
    let Some(expires_at) = roots.iter().map(|(_, not_after)| *not_after).max() else {
        return Err(ControlError::Unknown);
    };
    if !is_known {
        return Err(ControlError::Unknown);
    }
    let (tainted, clean): (Vec<_>, Vec<_>) = roots.iter().partition(|(root, _)| root.tainted);
    let changes = match withdrawal {
        Withdrawal::Revoke if !clean.is_empty() => return Err(ControlError::Untainted),
        Withdrawal::Revoke => tainted
            .iter()
            .map(|(root, _)| BundleChange::RemoveX509(root.certificate.clone()))
            .collect(),
        Withdrawal::Taint => clean
            .iter()
            .map(|(root, _)| BundleChange::TaintX509(root.certificate.clone()))
            .collect(),
    };
    let (id, upstream_authority_id) = (AuthorityId::from(id.to_owned()), None);
    let standing = Standing { id, expires_at: Some(expires_at), upstream_authority_id };
    Ok(Effect { withdrawal, standing, changes })
}

fn named<'a>(
    journal: &'a Journal,
    kind: Kind,
    id: &str,
) -> Result<Option<&'a Record>, ControlError> {
    if id.is_empty() { Err(ControlError::NoId) } else { Ok(journal.named(kind, id)) }
}

/// Whether an authority that no longer signs is tainted in the bundle.
fn old(record: &Record, bundle: &Bundle) -> Result<bool, ControlError> {
    if record.upstream_authority_id.is_some() {
        return Err(ControlError::HasUpstream);
    }
    match record.status {
        Status::Active => return Err(ControlError::Active),
        Status::Prepared => return Err(ControlError::Prepared),
        Status::Old => {}
    }
    let tainted = match record.kind {
        Kind::X509Ca => {
            let mut authorities = bundle.x509_authorities.iter();
            let vouched = authorities.find(|vouched| *vouched.certificate == *record.public);
            vouched.map(|vouched| vouched.tainted)
        }
        Kind::JwtKey => {
            let mut authorities = bundle.jwt_authorities.iter();
            let vouched = authorities.find(|key| key.key_id == record.authority_id.as_str());
            vouched.map(|vouched| vouched.tainted)
        }
    };
    tainted.ok_or(ControlError::Unknown)
}

/// A key in the bundle that is not this server's, and whether it is tainted.
fn other_key(bundle: &Bundle, id: &str) -> Result<(Standing, bool), ControlError> {
    let key = bundle.jwt_authorities.iter().find(|key| key.key_id == id);
    let key = key.ok_or(ControlError::Unknown)?;
    Ok((other(key), key.tainted))
}

fn other(key: &JwtAuthority) -> Standing {
    let id = AuthorityId::from(key.key_id.clone());
    Standing { id, expires_at: key.expires_at, upstream_authority_id: None }
}

#[cfg(test)]
mod tests;
