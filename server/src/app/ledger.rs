//! The memory of the authorities, in the registry.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use steeple::bundle::{Bundle, X509Authority};
use steeple::clock::Clock;

use crate::ca::{BundleChange, Ledger, LedgerError};
use crate::registry::Registry;
use crate::registry::bundles::{Authorities, OwnBundleChange};

/// A registry as the authorities see it.
#[derive(Debug)]
pub(crate) struct RegistryLedger {
    registry: Registry,
    clock: Arc<dyn Clock>,
}

impl RegistryLedger {
    pub(crate) fn new(registry: Registry, clock: Arc<dyn Clock>) -> Self {
        Self { registry, clock }
    }
}

impl Ledger for RegistryLedger {
    async fn journal(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.registry.journal().map(|journal| journal.to_vec()))
    }

    fn own_bundle(&self) -> Arc<Bundle> {
        self.registry.own_bundle()
    }

    async fn save(&self, journal: Vec<u8>, changes: Vec<BundleChange>) -> Result<(), LedgerError> {
        let changes = changes.into_iter().map(change).collect();
        let saved = self.registry.save_journal(journal, changes, self.clock.now()).await;
        saved.map(drop).map_err(|error| LedgerError(error.into()))
    }
}

fn change(change: BundleChange) -> OwnBundleChange {
    let x509 = |certificate: CertificateDer<'_>| Authorities {
        x509: vec![certificate.to_vec()],
        jwt: Vec::new(),
    };
    let jwt = |key_id| Authorities { x509: Vec::new(), jwt: vec![key_id] };
    match change {
        BundleChange::AddX509(certificate) => {
            let added = X509Authority { certificate, tainted: false };
            OwnBundleChange::Append { x509: vec![added], jwt: Vec::new() }
        }
        BundleChange::AddJwt(key) => OwnBundleChange::Append { x509: Vec::new(), jwt: vec![key] },
        BundleChange::TaintX509(certificate) => OwnBundleChange::Taint(x509(certificate)),
        BundleChange::TaintJwt(key_id) => OwnBundleChange::Taint(jwt(key_id)),
        BundleChange::RemoveX509(certificate) => OwnBundleChange::Remove(x509(certificate)),
        BundleChange::RemoveJwt(key_id) => OwnBundleChange::Remove(jwt(key_id)),
    }
}
