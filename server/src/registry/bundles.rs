//! Writes of trust bundles: the server's own, together with the journal of its authorities, and
//! those of other trust domains.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock;
use steeple::entry::Entry;
use steeple::id::TrustDomain;
use thiserror::Error;

use super::Registry;
use super::draft::Draft;
use super::writer::{WriteError, spread};

/// A change of the server's own bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnBundleChange {
    /// Adds authorities. One that is there already stays as it is.
    Append {
        /// CA certificates.
        x509: Vec<X509Authority>,
        /// Keys that sign JWT-SVIDs.
        jwt: Vec<JwtAuthority>,
    },
    /// Removes authorities.
    Remove(Authorities),
    /// Marks authorities as no longer to be relied on.
    Taint(Authorities),
}

/// Names authorities of a bundle.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authorities {
    /// CA certificates in DER.
    pub x509: Vec<Vec<u8>>,
    /// The IDs of keys that sign JWT-SVIDs.
    pub jwt: Vec<String>,
}

/// A write of the bundle of another trust domain.
pub enum BundleWrite {
    /// Stores it if there is none yet.
    Create(Bundle),
    /// Stores it, whatever there was.
    Set(Bundle),
    /// Changes the one that there is.
    Update {
        /// Whose.
        trust_domain: TrustDomain,
        /// Turns what it is into what it is to be. It may be called several times.
        change: Box<dyn Fn(&mut Bundle) + Send + Sync>,
    },
}

/// What becomes of entries that federate with a trust domain whose bundle is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteMode {
    /// While there are any, the bundle stays.
    Restrict,
    /// They are deleted as well.
    Delete,
    /// They no longer federate with it.
    Dissociate,
}

/// Why a bundle was not written.
#[derive(Clone, Debug, Error)]
pub enum BundleWriteError {
    /// There is one already.
    #[error("bundle already exists")]
    Exists,
    /// There is none.
    #[error("bundle not found")]
    NotFound,
    /// Entries federate with it.
    #[error("cannot delete bundle; federated with {0} registration entries")]
    InUse(usize),
    /// It is the server's own.
    #[error("the bundle of the server's own trust domain is written by its authorities alone")]
    Own,
    /// It could not be stored.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
}

impl Registry {
    /// Changes the server's own bundle, which is then returned.
    pub async fn change_own_bundle(
        &self,
        change: OwnBundleChange,
        now: SystemTime,
    ) -> Result<Arc<Bundle>, WriteError> {
        self.write_own(None, vec![change], now).await
    }

    /// Saves the journal of the authorities, and with it the changes of the bundle that go with it:
    /// both or neither. The bundle is returned.
    pub async fn save_journal(
        &self,
        journal: Vec<u8>,
        changes: Vec<OwnBundleChange>,
        now: SystemTime,
    ) -> Result<Arc<Bundle>, WriteError> {
        self.write_own(Some(journal.into()), changes, now).await
    }

    /// Writes bundles of other trust domains. Results are in the order of items.
    pub async fn write_bundles(
        &self,
        items: Vec<BundleWrite>,
    ) -> Vec<Result<Arc<Bundle>, BundleWriteError>> {
        let own = self.trust_domain.clone();
        let count = items.len();
        let written = self
            .write(move |draft| items.iter().map(|item| write(draft, &own, item)).collect())
            .await;
        spread(written, count)
    }

    /// Deletes bundles of other trust domains. Results are in the order of items, each the entries
    /// that were deleted or changed with it.
    pub async fn delete_bundles(
        &self,
        names: Vec<TrustDomain>,
        mode: DeleteMode,
    ) -> Vec<Result<Vec<Arc<Entry>>, BundleWriteError>> {
        let own = self.trust_domain.clone();
        let count = names.len();
        let written = self
            .write(move |draft| names.iter().map(|name| delete(draft, &own, name, mode)).collect())
            .await;
        spread(written, count)
    }

    async fn write_own(
        &self,
        journal: Option<Arc<[u8]>>,
        changes: Vec<OwnBundleChange>,
        now: SystemTime,
    ) -> Result<Arc<Bundle>, WriteError> {
        let own = self.trust_domain.clone();
        let now = u64::try_from(clock::unix_seconds(now)).unwrap_or(0);
        self.write(move |draft| {
            if let Some(journal) = &journal {
                draft.put_journal(Arc::clone(journal));
            }
            let former = draft.bundle(&own).cloned();
            let former = former.unwrap_or_else(|| Arc::new(Bundle::empty(own.clone())));
            let mut bundle = Bundle::clone(&former);
            changes.iter().for_each(|change| change.apply(&mut bundle));
            if bundle.same_content(&former) {
                return former;
            }
            // A database restored from a backup must not give out a number twice.
            bundle.sequence = former.sequence.saturating_add(1).max(now);
            draft.put_bundle(bundle)
        })
        .await
    }
}

impl OwnBundleChange {
    fn apply(&self, bundle: &mut Bundle) {
        let (x509, jwt) = (&mut bundle.x509_authorities, &mut bundle.jwt_authorities);
        match self {
            Self::Append { x509: new_x509, jwt: new_jwt } => {
                for new in new_x509 {
                    if x509.iter().all(|known| known.certificate != new.certificate) {
                        x509.push(new.clone());
                    }
                }
                for new in new_jwt {
                    if jwt.iter().all(|known| known.key_id != new.key_id) {
                        jwt.push(new.clone());
                    }
                }
            }
            Self::Remove(named) => {
                x509.retain(|authority| !named.has_x509(authority));
                jwt.retain(|authority| !named.has_jwt(authority));
            }
            Self::Taint(named) => {
                let x509 = x509.iter_mut().filter(|authority| named.has_x509(authority));
                x509.for_each(|authority| authority.tainted = true);
                let jwt = jwt.iter_mut().filter(|authority| named.has_jwt(authority));
                jwt.for_each(|authority| authority.tainted = true);
            }
        }
    }
}

impl Authorities {
    fn has_x509(&self, authority: &X509Authority) -> bool {
        self.x509.iter().any(|der| **der == *authority.certificate)
    }

    fn has_jwt(&self, authority: &JwtAuthority) -> bool {
        self.jwt.contains(&authority.key_id)
    }
}

pub(super) fn write(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    item: &BundleWrite,
) -> Result<Arc<Bundle>, BundleWriteError> {
    let name = match item {
        BundleWrite::Create(bundle) | BundleWrite::Set(bundle) => &bundle.trust_domain,
        BundleWrite::Update { trust_domain, .. } => trust_domain,
    };
    if name == own {
        return Err(BundleWriteError::Own);
    }
    let former = draft.bundle(name).cloned();
    let bundle = match (item, &former) {
        (BundleWrite::Create(_), Some(_)) => return Err(BundleWriteError::Exists),
        (BundleWrite::Update { .. }, None) => return Err(BundleWriteError::NotFound),
        (BundleWrite::Create(bundle) | BundleWrite::Set(bundle), _) => bundle.clone(),
        (BundleWrite::Update { change, .. }, Some(former)) => {
            let mut bundle = Bundle::clone(former);
            change(&mut bundle);
            bundle.trust_domain = former.trust_domain.clone();
            bundle
        }
    };
    Ok(match former {
        None => draft.put_bundle(bundle),
        Some(former) => replace(draft, former, bundle),
    })
}

/// Stores `bundle` in place of `former`. Whoever compares sequences sees every change of content.
fn replace(draft: &mut Draft<'_>, former: Arc<Bundle>, mut bundle: Bundle) -> Arc<Bundle> {
    if bundle.same_content(&former) {
        bundle.sequence = bundle.sequence.max(former.sequence);
    } else {
        bundle.sequence = bundle.sequence.max(former.sequence.saturating_add(1));
    }
    if bundle == *former { former } else { draft.put_bundle(bundle) }
}

fn delete(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    name: &TrustDomain,
    mode: DeleteMode,
) -> Result<Vec<Arc<Entry>>, BundleWriteError> {
    if name == own {
        return Err(BundleWriteError::Own);
    }
    if draft.bundle(name).is_none() {
        return Err(BundleWriteError::NotFound);
    }
    let mut entries = draft.federating_with(name);
    match mode {
        DeleteMode::Restrict if !entries.is_empty() => {
            return Err(BundleWriteError::InUse(entries.len()));
        }
        DeleteMode::Restrict => {}
        DeleteMode::Delete => entries.iter().for_each(|entry| draft.delete_entry(&entry.id)),
        DeleteMode::Dissociate => {
            for entry in &mut entries {
                let entry = {
                    let changed = Arc::make_mut(entry);
                    changed.content.federates_with.remove(name);
                    changed.revision = changed.revision.saturating_add(1);
                    entry
                };
                draft.put_entry(Arc::clone(entry));
            }
        }
    }
    draft.delete_bundle(name);
    Ok(entries)
}

impl fmt::Debug for BundleWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(bundle) => f.debug_tuple("Create").field(bundle).finish(),
            Self::Set(bundle) => f.debug_tuple("Set").field(bundle).finish(),
            Self::Update { trust_domain, .. } => {
                f.debug_struct("Update").field("trust_domain", trust_domain).finish_non_exhaustive()
            }
        }
    }
}
