//! SPIRE's agent debug API: what this agent is and how much it holds.

use std::sync::Arc;

use steeple::clock::{Clock, unix_seconds};
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::tls::Material;
use steeple::x509::{Certificate, Name};
use steeple_proto::spire::agent::debug::v1::debug_server::Debug;
use steeple_proto::spire::agent::debug::v1::{GetInfoRequest, GetInfoResponse, get_info_response};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::identity::Holders;
use crate::sync::SyncStatus;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Deps {
    /// What this node presents to its server, if it is an agent.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// How synchronisation goes.
    pub sync: watch::Receiver<SyncStatus>,
    /// Who has the credentials.
    pub holders: Holders,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The service.
#[derive(Clone, Debug)]
pub struct DebugApi {
    deps: Deps,
    started: Instant,
}

impl DebugApi {
    /// The service of an agent that starts now.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self { deps, started: Instant::now() }
    }
}

#[tonic::async_trait]
impl Debug for DebugApi {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let material = self.deps.material.borrow().clone();
        let chain = material.as_ref().map(|material| material.chain().certificates());
        let certificates = chain.into_iter().flatten();
        let certificates = certificates.filter_map(|der| Certificate::parse(der).ok());
        let last_sync = self.deps.sync.borrow().last_success;
        let held = self.deps.holders.held(self.deps.clock.now());
        Ok(Response::new(GetInfoResponse {
            svid_chain: certificates.map(|certificate| shown(&certificate)).collect(),
            uptime: count(self.started.elapsed().as_secs()),
            svids_count: count(held.x509),
            // SPIRE's zero time is that of the year 1, which nothing can make sense of.
            last_sync_success: last_sync.map_or(0, unix_seconds),
            cached_x509_svids_count: count(held.x509),
            cached_jwt_svids_count: count(held.jwt),
            cached_svidstore_x509_svids_count: 0,
        }))
    }
}

fn shown(certificate: &Certificate<'_>) -> get_info_response::Cert {
    let id = certificate.uris().first().and_then(|uri| SpiffeId::from_bytes(uri).ok());
    let subject = Name::from_der(certificate.subject());
    get_info_response::Cert {
        id: id.map(|id| id_to_proto(&id)),
        expires_at: unix_seconds(certificate.not_after()),
        subject: subject.map(|name| name.to_string()).unwrap_or_default(),
    }
}

/// A number as it goes into the answer.
fn count(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
