//! What this server shows to the one above it: an SVID of its own from a local agent, kept fresh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple::backoff::{Backoff, random_fraction};
use steeple::id::{ParseError, SpiffeId, TrustDomain};
use steeple::keys::{PrivateKey, PrivateKeyError};
use steeple::tls::{Material, MaterialError};
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple::x509::{Chain, ChainError, split_certificates};
use steeple_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use steeple_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tracing::{info, warn};

use super::server::Name;

/// The first and the longest wait before the agent is asked again.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The most roots of a trust domain that are read.
const MAX_ROOTS: usize = 1_000;

/// Fetches SVIDs.
#[derive(Debug)]
pub(super) struct OwnSvid {
    pub(super) socket: PathBuf,
    pub(super) trust_domain: TrustDomain,
    /// What is shown.
    pub(super) material: watch::Sender<Option<Arc<Material>>>,
    /// Whom the server above may be vouched for by.
    pub(super) anchors: watch::Sender<Arc<AnchorSet>>,
    /// Whom that names.
    pub(super) name: watch::Sender<Option<Name>>,
    /// Why there is no SVID, or no newer one.
    pub(super) fault: watch::Sender<Option<String>>,
}

/// Why there is no SVID.
#[derive(Debug, Error)]
enum OwnSvidError {
    /// There is no agent.
    #[error("the Workload API cannot be reached")]
    Connect(#[source] tonic::transport::Error),
    /// The agent gives none.
    #[error("the agent gave no SVID to this server; an entry has to match it")]
    Refused(#[source] Box<Status>),
    /// The agent ended the stream.
    #[error("the agent ended the stream")]
    Ended,
    /// What it gave cannot be used.
    #[error("the SVID from the agent cannot be used")]
    Unusable(#[from] UnusableSvid),
}

/// Why an answer of the agent cannot be used.
#[derive(Clone, Debug, Error)]
enum UnusableSvid {
    #[error("there is none in the answer")]
    Missing,
    #[error("`{0}` is not in trust domain `{1}`, as this server is")]
    ForeignTrustDomain(SpiffeId, TrustDomain),
    #[error(transparent)]
    Id(#[from] ParseError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    #[error(transparent)]
    Material(#[from] MaterialError),
}

/// An answer that can be used.
struct Read {
    spiffe_id: SpiffeId,
    material: Material,
    anchors: AnchorSet,
}

impl OwnSvid {
    /// Follows the agent until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let error = match self.stream(&mut backoff).await {
                Ok(()) => OwnSvidError::Ended,
                Err(error) => error,
            };
            let fault = steeple::telemetry::with_causes(&error);
            let is_news = self.fault.borrow().as_ref() != Some(&fault);
            if is_news {
                let (socket, error) = (self.socket.display(), &error as &dyn std::error::Error);
                warn!(%socket, error, "no SVID to show to the upstream server, or no newer one");
            }
            self.fault.send_replace(Some(fault));
            tokio::time::sleep(backoff.wait(random_fraction())).await;
        }
    }

    async fn stream(&self, backoff: &mut Backoff) -> Result<(), OwnSvidError> {
        let channel = self.connect().await.map_err(OwnSvidError::Connect)?;
        let mut request = Request::new(X509svidRequest {});
        // Workload Endpoint 4.1.
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let refused = |status| OwnSvidError::Refused(Box::new(status));
        let answers = SpiffeWorkloadApiClient::new(channel).fetch_x509svid(request).await;
        let mut answers = answers.map_err(refused)?.into_inner();
        while let Some(answer) = answers.message().await.map_err(refused)? {
            let Read { spiffe_id, material, anchors } = read(&answer, &self.trust_domain)?;
            let offered = answer.svids.len();
            info!(%spiffe_id, offered, "SVID for the upstream server received");
            self.name.send_replace(Some(Name { spiffe_id, offered }));
            self.anchors.send_replace(Arc::new(anchors));
            self.material.send_replace(Some(Arc::new(material)));
            self.fault.send_replace(None);
            backoff.reset();
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let socket = self.socket.clone();
        let connect = move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        };
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(WAITS.1);
        endpoint.connect_with_connector(tower::service_fn(connect)).await
    }
}

/// The SVID that the agent names first, which is the default one (Workload API 5.2.1).
fn read(answer: &X509svidResponse, own: &TrustDomain) -> Result<Read, UnusableSvid> {
    let svid: &X509svid = answer.svids.first().ok_or(UnusableSvid::Missing)?;
    let spiffe_id: SpiffeId = svid.spiffe_id.parse()?;
    if spiffe_id.trust_domain() != own {
        return Err(UnusableSvid::ForeignTrustDomain(spiffe_id, own.clone()));
    }
    let chain = Chain::from_concatenated(&svid.x509_svid)?;
    let key = Arc::new(PrivateKey::from_pkcs8(&svid.x509_svid_key)?);
    let roots = split_certificates(&svid.bundle, MAX_ROOTS)?;
    Ok(Read {
        spiffe_id,
        material: Material::new(&chain, key)?,
        anchors: AnchorSet::of(own.clone(), Anchors::new(&roots)),
    })
}

#[cfg(test)]
mod tests;
