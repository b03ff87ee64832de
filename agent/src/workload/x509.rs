//! X.509-SVIDs and X.509 bundles in the form of the Workload API.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::entry::Entry;
use steeple_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use tokio::sync::watch;

use super::WorkloadError;
use super::caller::{Caller, Entitlement, Party};
use super::updates::View;
use crate::attest::Attested;
use crate::identity::{Holder, Holdings, IdentityError, PreparedBundle, X509Credential};

/// All X.509-SVIDs of a caller, with what it needs to verify others.
pub(super) struct Svids {
    caller: Caller,
    credentials: Credentials,
}

/// The X.509-SVIDs of one party, minted when they are first asked for.
#[derive(Default)]
pub(super) struct Credentials {
    holder: Option<Holder>,
}

/// The X.509 bundles that a caller is entitled to.
pub(super) struct Bundles {
    caller: Caller,
}

impl Svids {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, credentials: Credentials::default() }
    }
}

impl Credentials {
    /// What `party` is entitled to when the answer leaves, and what is held of that.
    pub(super) async fn of(
        &mut self,
        party: &impl Party,
    ) -> Result<(Entitlement, Vec<Option<Arc<X509Credential>>>), WorkloadError> {
        loop {
            let before = party.entitlement()?;
            let held = self.held(party, &before.entries).await;
            // Minting may have taken a while, and an answer is true when it leaves.
            let entitlement = if party.caller().is_current(&before) {
                before
            } else {
                let now = party.entitlement()?;
                let same_view = Arc::ptr_eq(&now.snapshot, &before.snapshot);
                if !same_view && now.entries != before.entries {
                    continue;
                }
                now
            };
            let (held, own, now) =
                (held?, own_bundle(&entitlement)?, party.caller().deps.clock.now());
            if held.iter().flatten().all(|held| held.is_vouched_for(own, now)) {
                return Ok((entitlement, held));
            }
            // Its authority was revoked just now, and whoever holds it is about to drop it.
            tokio::task::yield_now().await;
        }
    }

    /// The credentials for `entries`. Where the server cannot sign at the moment, or will not sign
    /// for one of them, those that are held are better than none.
    async fn held(
        &mut self,
        party: &impl Party,
        entries: &[Arc<Entry>],
    ) -> Result<Vec<Option<Arc<X509Credential>>>, WorkloadError> {
        let deps = &party.caller().deps;
        let now = deps.clock.now();
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let holder = match &self.holder {
            Some(holder) => holder,
            None => self.holder.insert(deps.holders.of(party.instance())?),
        };
        let held = holder.held_x509(entries, now);
        if held.iter().all(Option::is_some) {
            return Ok(held);
        }
        // Nothing is minted for who has gone, or become somebody else.
        party.lives().still_hold()?;
        match holder.x509(entries, party.selectors(), now).await {
            Ok(credentials) => Ok(credentials.into_iter().map(Some).collect()),
            Err(error @ IdentityError::Mint(_)) => {
                let held = holder.held_x509(entries, now);
                if held.iter().all(Option::is_none) { Err(error.into()) } else { Ok(held) }
            }
            Err(error @ (IdentityError::Ended | IdentityError::TooMany)) => Err(error.into()),
        }
    }

    /// Changes with what is held, once something is.
    pub(super) fn watch(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        self.holder.as_ref().map(Holder::watch)
    }
}

#[tonic::async_trait]
impl View for Svids {
    type Message = X509svidResponse;

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn known(&mut self) -> Vec<&mut Attested> {
        vec![self.caller.attested_mut()]
    }

    fn learned(&mut self) {
        self.credentials = Credentials::default();
    }

    async fn compute(&mut self) -> Result<X509svidResponse, WorkloadError> {
        let (entitlement, held) = self.credentials.of(&self.caller).await?;
        let own = own_bundle(&entitlement)?;
        let svid = |(entry, credential): (&Arc<Entry>, Arc<X509Credential>)| X509svid {
            spiffe_id: entry.content.spiffe_id.to_string(),
            x509_svid: credential.chain().to_vec(),
            x509_svid_key: credential.key().expose().to_vec(),
            bundle: own.x509_der().to_vec(),
            hint: hint(entry),
        };
        let held = entitlement.entries.iter().zip(held);
        Ok(X509svidResponse {
            svids: held
                .filter_map(|(entry, credential)| Some((entry, credential?)))
                .map(svid)
                .collect(),
            crl: Vec::new(),
            federated_bundles: federated(&entitlement),
        })
    }

    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        self.credentials.watch()
    }
}

impl Bundles {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller }
    }
}

#[tonic::async_trait]
impl View for Bundles {
    type Message = X509BundlesResponse;

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn known(&mut self) -> Vec<&mut Attested> {
        vec![self.caller.attested_mut()]
    }

    async fn compute(&mut self) -> Result<X509BundlesResponse, WorkloadError> {
        let entitlement = self.caller.entitlement_to_bundles()?;
        let own = own_bundle(&entitlement)?;
        let mut bundles = federated(&entitlement);
        bundles.insert(own.trust_domain().id().to_string(), own.x509_der().to_vec());
        Ok(X509BundlesResponse { crl: Vec::new(), bundles })
    }

    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        None
    }
}

/// The hint of an entry, or the empty text.
pub(super) fn hint(entry: &Entry) -> String {
    entry.content.hint.as_ref().map(|hint| hint.as_str().to_owned()).unwrap_or_default()
}

/// The own bundle, which is never sent empty: clients take that for a broken message.
fn own_bundle(entitlement: &Entitlement) -> Result<&Arc<PreparedBundle>, WorkloadError> {
    let own = entitlement.snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
    if own.x509_der().is_empty() { Err(WorkloadError::NoAuthority) } else { Ok(own) }
}

/// The foreign bundles that have an X.509 authority. One without is left out, as clients take an
/// empty value for a broken message.
fn federated(entitlement: &Entitlement) -> BTreeMap<String, Vec<u8>> {
    entitlement
        .snapshot
        .federated(&entitlement.entries)
        .filter(|bundle| !bundle.x509_der().is_empty())
        .map(|bundle| (bundle.trust_domain().id().to_string(), bundle.x509_der().to_vec()))
        .collect()
}
