//! How the server is doing, for those at the admin socket.

use std::sync::Arc;

use steeple::clock::unix_seconds;
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::x509::{Certificate, Name};
use steeple_proto::spire::api::server::debug::v1 as pb;
use steeple_proto::spire::api::server::debug::v1::debug_server;
use steeple_proto::spire::api::server::debug::v1::get_info_response::Cert;
use tonic::{Request, Response, Status};

use super::Deps;
use crate::entries::filter::EntryFilter;
use crate::registry::nodes::NodeFilter;

/// Answers the RPC.
#[derive(Debug)]
pub(super) struct DebugService(pub(super) Arc<Deps>);

impl DebugService {
    /// The server's own SVID, and all that leads from it to an authority of its bundle.
    fn svid_chain(&self) -> Vec<Cert> {
        let material = self.0.own_svid.borrow().clone();
        let bundle = self.0.registry.own_bundle();
        let chain = material.chain().certificates().iter().map(|der| &**der);
        let mut chain: Vec<_> = chain.filter_map(|der| Certificate::parse(der).ok()).collect();
        let authorities = bundle.x509_authorities.iter();
        let mut authorities =
            authorities.filter_map(|authority| Certificate::parse(&authority.certificate).ok());
        let signer = chain.last().and_then(Certificate::authority_key_id);
        chain.extend(signer.and_then(|id| authorities.find(|ca| ca.subject_key_id() == Some(id))));
        chain.iter().map(shown).collect()
    }
}

#[tonic::async_trait]
impl debug_server::Debug for DebugService {
    /// As with SPIRE, the bundles that are counted as federated include the server's own: its
    /// clients compare the number with `CountBundles`, which includes it as well.
    async fn get_info(
        &self,
        _: Request<pb::GetInfoRequest>,
    ) -> Result<Response<pb::GetInfoResponse>, Status> {
        let registry = &self.0.registry;
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Response::new(pb::GetInfoResponse {
            svid_chain: self.svid_chain(),
            uptime: i32::try_from(self.0.started.elapsed().as_secs()).unwrap_or(i32::MAX),
            agents_count: number(registry.count_nodes(&NodeFilter::default())),
            federated_bundles_count: number(registry.bundles().len()),
            entries_count: number(registry.count_entries(&EntryFilter::default())),
        }))
    }
}

fn shown(certificate: &Certificate<'_>) -> Cert {
    let id = certificate.uris().first().and_then(|uri| SpiffeId::from_bytes(uri).ok());
    let subject = Name::from_der(certificate.subject());
    Cert {
        id: id.map(|id| id_to_proto(&id)),
        expires_at: unix_seconds(certificate.not_after()),
        subject: subject.map(|name| name.to_string()).unwrap_or_default(),
    }
}
