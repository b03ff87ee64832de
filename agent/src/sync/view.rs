//! One view of this node: what is compared, published and kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::unix_seconds;
use steeple::entry::Entry;
use steeple::id::TrustDomain;
use steeple::keys::PublicKey;
use steeple::x509::Certificate;
use tracing::{debug, warn};

use crate::identity::{PreparedBundle, Snapshot};
use crate::server_api::KnownEntries;
use crate::server_api::kept::Kept;

/// Entries and bundles.
#[derive(Clone, Debug)]
pub(super) struct View {
    own: TrustDomain,
    entries: KnownEntries,
    bundles: BTreeMap<TrustDomain, Arc<PreparedBundle>>,
}

impl View {
    pub(super) fn empty(own: &TrustDomain) -> Self {
        Self { own: own.clone(), entries: KnownEntries::new(), bundles: BTreeMap::new() }
    }

    /// The view that was kept, if it is one of this trust domain.
    pub(super) fn of_kept(own: &TrustDomain, kept: Kept, now: SystemTime) -> Option<Self> {
        let nothing = Self::empty(own);
        let bundles = kept.bundles.iter().map(|bundle| nothing.prepare(bundle, now)).collect();
        let view = nothing.next(kept.entries, bundles);
        view.own_bundle().is_some().then_some(view)
    }

    /// A view in which nobody has an identity.
    pub(super) fn without_entries(&self) -> Self {
        Self { entries: KnownEntries::new(), ..self.clone() }
    }

    /// What this view becomes by newer entries and bundles. Bundles that no entry names are not in
    /// it.
    pub(super) fn next(&self, entries: Vec<Arc<Entry>>, bundles: Vec<Arc<PreparedBundle>>) -> Self {
        let bundles = bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle));
        let entries = entries.into_iter().map(|entry| (entry.id.clone(), entry));
        Self { own: self.own.clone(), entries: entries.collect(), bundles: bundles.collect() }
    }

    /// A bundle without what nobody could use; the very one that is there, if it says the same.
    pub(super) fn prepare(&self, bundle: &Bundle, now: SystemTime) -> Arc<PreparedBundle> {
        let usable = usable(bundle, now);
        if let Some(known) = self.bundles.get(&bundle.trust_domain)
            && known.bundle().same_content(&usable)
        {
            return Arc::clone(known);
        }
        // One that has expired was of use before: that is the ordinary end of each.
        let left_out = bundle.x509_authorities.iter().filter(|a| end_of_x509(a).is_none()).count()
            + bundle.jwt_authorities.iter().filter(|a| !is_jwt_authority(a)).count();
        if left_out > 0 {
            let trust_domain = bundle.trust_domain.as_str();
            warn!(trust_domain, left_out, "a bundle has authorities that cannot be used");
        }
        Arc::new(PreparedBundle::new(Arc::new(usable)))
    }

    pub(super) fn differs(&self, other: &Self) -> bool {
        !same(&self.entries, &other.entries) || !same(&self.bundles, &other.bundles)
    }

    /// Logs which entries are new, changed or gone since `before`.
    pub(super) fn tell(&self, before: &Self) {
        let tell = |entry: &Entry, what| {
            let (entry_id, spiffe_id) = (&entry.id, &entry.content.spiffe_id);
            debug!(%entry_id, %spiffe_id, "Entry {what}");
        };
        for (id, entry) in &self.entries {
            match before.entries.get(id) {
                None => tell(entry, "created"),
                Some(known) if !Arc::ptr_eq(known, entry) => tell(entry, "updated"),
                Some(_) => {}
            }
        }
        let is_gone = |(id, _): &(_, _)| !self.entries.contains_key(*id);
        before.entries.iter().filter(is_gone).for_each(|(_, entry)| tell(entry, "removed"));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let entries = self.entries.values().cloned().collect();
        Snapshot::new(self.own.clone(), entries, self.bundles.values().cloned())
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            entries: self.entries.values().cloned().collect(),
            bundles: self.bundles.values().map(|bundle| Arc::clone(bundle.bundle())).collect(),
        }
    }

    pub(super) fn own(&self) -> &TrustDomain {
        &self.own
    }

    pub(super) fn entries(&self) -> &KnownEntries {
        &self.entries
    }

    pub(super) fn bundles(&self) -> &BTreeMap<TrustDomain, Arc<PreparedBundle>> {
        &self.bundles
    }

    pub(super) fn own_bundle(&self) -> Option<Arc<Bundle>> {
        self.own_prepared().map(|bundle| Arc::clone(bundle.bundle()))
    }

    pub(super) fn own_prepared(&self) -> Option<&Arc<PreparedBundle>> {
        self.bundles.get(&self.own)
    }
}

/// Whether both maps have the very same values.
fn same<K: Ord, V>(one: &BTreeMap<K, Arc<V>>, other: &BTreeMap<K, Arc<V>>) -> bool {
    one.len() == other.len()
        && one.values().zip(other.values()).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// What of a bundle somebody could verify with: authorities that are some and have not expired,
/// each once (checklists of X509-SVID 4.1 and JWT-SVID 4).
fn usable(bundle: &Bundle, now: SystemTime) -> Bundle {
    let mut usable = Bundle {
        x509_authorities: Vec::with_capacity(bundle.x509_authorities.len()),
        jwt_authorities: Vec::with_capacity(bundle.jwt_authorities.len()),
        ..bundle.clone()
    };
    for authority in &bundle.x509_authorities {
        let is_new = usable.x509_authorities.iter().all(|a| a.certificate != authority.certificate);
        if is_new && is_usable_x509(authority, now) {
            usable.x509_authorities.push(authority.clone());
        }
    }
    let jwt = bundle.jwt_authorities.iter().filter(|authority| is_usable_jwt(authority, now));
    usable.jwt_authorities.extend(jwt.cloned());
    usable
}

fn is_usable_x509(authority: &X509Authority, now: SystemTime) -> bool {
    end_of_x509(authority).is_some_and(|not_after| not_after >= now)
}

/// When the authority expires, if it is one.
fn end_of_x509(authority: &X509Authority) -> Option<SystemTime> {
    let certificate = Certificate::parse(&authority.certificate).ok()?;
    certificate.is_ca().then(|| certificate.not_after())
}

fn is_usable_jwt(authority: &JwtAuthority, now: SystemTime) -> bool {
    is_jwt_authority(authority)
        && authority.expires_at.is_none_or(|expires_at| expires_at > unix_seconds(now))
}

fn is_jwt_authority(authority: &JwtAuthority) -> bool {
    PublicKey::from_spki(&authority.public_key).is_ok()
}
