//! SVIDs and bundles in the form of the Delegated Identity API.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use steeple::clock::unix_seconds;
use steeple::convert::id_to_proto;
use steeple::entry::Entry;
use steeple_proto::spire::api::agent::delegatedidentity::v1::{
    SubscribeToJwtBundlesResponse, SubscribeToX509BundlesResponse, SubscribeToX509sviDsResponse,
    X509svidWithKey,
};
use steeple_proto::spire::api::types;
use tokio::sync::watch;

use super::party::{Delegate, Delegation};
use crate::attest::Attested;
use crate::identity::{Holdings, PreparedBundle, X509Credential};
use crate::workload::WorkloadError;
use crate::workload::caller::{Caller, Lives, Party as _};
use crate::workload::updates::View;
use crate::workload::x509::{Credentials, hint};

/// The X.509-SVIDs of whom a delegate asks for.
pub(super) struct Svids {
    delegation: Delegation,
    credentials: Credentials,
}

/// All bundles that this agent has, of one kind.
pub(super) struct Bundles<M> {
    delegate: Delegate,
    kind: Kind<M>,
}

/// A kind of bundle, and the message that shows all of them.
pub(super) struct Kind<M> {
    /// The bundle as it is sent; nothing if there is nothing of that kind in it.
    document: fn(&PreparedBundle) -> &[u8],
    message: fn(BTreeMap<String, Vec<u8>>) -> M,
}

impl Svids {
    pub(super) fn new(delegation: Delegation) -> Self {
        Self { delegation, credentials: Credentials::default() }
    }
}

#[tonic::async_trait]
impl View for Svids {
    type Message = SubscribeToX509sviDsResponse;

    fn caller(&self) -> &Caller {
        self.delegation.caller()
    }

    fn lives(&self) -> Lives {
        self.delegation.lives()
    }

    fn known(&mut self) -> Vec<&mut Attested> {
        self.delegation.known()
    }

    fn learned(&mut self) {
        self.credentials = Credentials::default();
    }

    async fn compute(&mut self) -> Result<Self::Message, WorkloadError> {
        let (entitlement, held) = self.credentials.of(&self.delegation).await?;
        let held = entitlement.entries.iter().zip(held);
        let held = held.filter_map(|(entry, credential)| Some((entry, credential?)));
        let svids = held.map(|(entry, credential)| svid(entry, &credential)).collect();
        let federated = entitlement.snapshot.federated(&entitlement.entries);
        Ok(SubscribeToX509sviDsResponse {
            x509_svids: svids,
            federates_with: federated
                .map(|bundle| bundle.trust_domain().id().to_string())
                .collect(),
        })
    }

    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        self.credentials.watch()
    }
}

impl Kind<SubscribeToX509BundlesResponse> {
    pub(super) fn x509() -> Self {
        let message = |ca_certificates| SubscribeToX509BundlesResponse { ca_certificates };
        Self { document: PreparedBundle::x509_der, message }
    }
}

impl Kind<SubscribeToJwtBundlesResponse> {
    pub(super) fn jwt() -> Self {
        let message = |bundles| SubscribeToJwtBundlesResponse { bundles };
        Self { document: PreparedBundle::jwks, message }
    }
}

impl<M> Bundles<M> {
    pub(super) fn new(delegate: Delegate, kind: Kind<M>) -> Self {
        Self { delegate, kind }
    }
}

#[tonic::async_trait]
impl<M: Message + Default + 'static> View for Bundles<M> {
    type Message = M;

    fn caller(&self) -> &Caller {
        &self.delegate.caller
    }

    fn known(&mut self) -> Vec<&mut Attested> {
        vec![self.delegate.caller.attested_mut()]
    }

    async fn compute(&mut self) -> Result<M, WorkloadError> {
        let snapshot = self.delegate.authorize()?.snapshot;
        let bundles = snapshot.bundles().map(|bundle| (bundle, (self.kind.document)(bundle)));
        let bundles = bundles.filter(|(_, document)| !document.is_empty());
        let named = |(bundle, document): (&Arc<PreparedBundle>, &[u8])| {
            (bundle.trust_domain().id().to_string(), document.to_vec())
        };
        Ok((self.kind.message)(bundles.map(named).collect()))
    }

    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        None
    }
}

fn svid(entry: &Entry, credential: &X509Credential) -> X509svidWithKey {
    let chain = credential.svid().chain().certificates();
    X509svidWithKey {
        x509_svid: Some(types::X509svid {
            cert_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            id: Some(id_to_proto(&entry.content.spiffe_id)),
            expires_at: unix_seconds(credential.not_after()),
            hint: hint(entry),
        }),
        x509_svid_key: credential.key().expose().to_vec(),
    }
}
