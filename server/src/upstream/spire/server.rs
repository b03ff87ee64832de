//! The calls to the server above this one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::Clock;
use steeple::convert::{
    ConvertError, bundle_from_proto, bundle_to_proto, jwt_authority_from_proto,
};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::tls::{ClientDeps, Connector, ConnectorError, ExpectedServer, Material, Trust};
use steeple::x509::verify::AnchorSet;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::bundle::v1::{GetBundleRequest, PublishJwtAuthorityRequest};
use steeple_proto::spire::api::server::svid::v1::NewDownstreamX509caRequest;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::ca::upstream::{CaRequest, MintedCa, Published, UpstreamError, Vouched};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a call waits for the first SVID, so that a server may start together with its agent.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest answer in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What this server is to the one above, as it is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// What is shown.
    pub(super) material: watch::Receiver<Option<Arc<Material>>>,
    /// Whom the other server may be vouched for by.
    pub(super) anchors: watch::Receiver<Arc<AnchorSet>>,
    /// Whom that names.
    pub(super) name: watch::Receiver<Option<Name>>,
    /// Why there is nothing to show.
    pub(super) fault: watch::Receiver<Option<String>>,
}

/// Whom an SVID names, and how many the agent offered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name {
    pub(super) spiffe_id: SpiffeId,
    pub(super) offered: usize,
}

/// The server above this one.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
    trust_domain: TrustDomain,
    connector: Connector,
    identity: Identity,
    /// The connection, and what was shown on it.
    current: Mutex<Option<(Arc<Material>, Channel)>>,
}

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub(super) enum CallError {
    /// There is nothing to show yet.
    #[error("no SVID of a local agent yet: {0}")]
    NoSvid(String),
    /// There was no answer.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// The other server does not take this one for a server below it.
    #[error(
        "{address} takes this server for nobody who may do that: {message}; there has to be an \
         entry for its SVID that is marked as downstream; it showed {name}"
    )]
    Forbidden { address: String, message: String, name: String },
    /// The call failed.
    #[error("{address}: {message} ({code:?})")]
    Failed {
        address: String,
        code: Code,
        message: String,
        #[source]
        source: Box<Status>,
    },
    /// The answer makes no sense.
    #[error("{0}")]
    Convert(#[from] ConvertError),
    /// The bundle is of another trust domain.
    #[error("the bundle is that of `{0}`")]
    ForeignBundle(TrustDomain),
    /// The bundle vouches for nobody.
    #[error("the bundle has no X.509 authority")]
    NoRoot,
}

impl Server {
    pub(super) fn new(
        address: &str,
        trust_domain: TrustDomain,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectorError> {
        let deps = ClientDeps {
            material: identity.material.clone(),
            server: ExpectedServer {
                spiffe_id: trust_domain.server_id(),
                trust: Trust::Anchors(identity.anchors.clone()),
            },
            clock,
        };
        let connector = Connector::new(address, deps, CONNECT)?;
        let (address, current) = (address.to_owned(), Mutex::new(None));
        Ok(Self { address, trust_domain, connector, identity, current })
    }

    /// Has a CA certificate made.
    pub(super) async fn mint_ca(&self, wish: CaRequest) -> Result<MintedCa, UpstreamError> {
        let preferred_ttl = i32::try_from(wish.ttl.as_secs()).unwrap_or(i32::MAX);
        let request = NewDownstreamX509caRequest { csr: wish.csr, preferred_ttl };
        let answer = self.call(|channel| async move {
            let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.new_downstream_x509ca(Request::new(request)).await
        });
        let answer = answer.await?;
        let root = |der: Vec<u8>| X509Authority { certificate: der.into(), tainted: false };
        Ok(MintedCa {
            chain: answer.ca_cert_chain.into_iter().map(CertificateDer::from).collect(),
            roots: answer.x509_authorities.into_iter().map(root).collect(),
        })
    }

    /// Publishes a key, and says which ones there are then. SPIRE's server takes any key again; ours
    /// has one answer for one that was revoked, and for nothing else.
    pub(super) async fn publish(&self, key: &JwtAuthority) -> Result<Published, UpstreamError> {
        let mut bundle = Bundle::empty(self.trust_domain.clone());
        bundle.jwt_authorities.push(key.clone());
        let jwt_authority = bundle_to_proto(&bundle, None).jwt_authorities.pop();
        let request = PublishJwtAuthorityRequest { jwt_authority };
        let answer = self.call(|channel| async move {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.publish_jwt_authority(Request::new(request)).await
        });
        let keys = match answer.await {
            Err(CallError::Failed { code: Code::FailedPrecondition, .. }) => {
                return Ok(Published::Revoked);
            }
            answer => answer?.jwt_authorities,
        };
        let keys = keys.iter().map(jwt_authority_from_proto).collect::<Result<_, _>>();
        Ok(Published::Keys(keys.map_err(CallError::from)?))
    }

    /// What the server vouches for, and the number of that.
    pub(super) async fn vouched(&self) -> Result<(u64, Vouched), UpstreamError> {
        let answer = self.call(|channel| async move {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.get_bundle(Request::new(GetBundleRequest { output_mask: None })).await
        });
        let bundle = bundle_from_proto(&answer.await?).map_err(CallError::from)?;
        if bundle.trust_domain != self.trust_domain {
            return Err(CallError::ForeignBundle(bundle.trust_domain).into());
        }
        // That it vouches for nobody any more would cut off everybody here for good.
        if bundle.x509_authorities.is_empty() {
            return Err(CallError::NoRoot.into());
        }
        let (roots, jwt_keys) = (bundle.x509_authorities, bundle.jwt_authorities);
        Ok((bundle.sequence, Vouched { roots, jwt_keys }))
    }

    async fn call<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.channel().await?;
        match timeout(DEADLINE, call(channel)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(status)),
            Err(_elapsed) => {
                // The connection may be dead without anybody having said so.
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(CallError::Timeout(self.address.clone()))
            }
        }
    }

    /// A connection on which the newest SVID was shown: who calls is looked at once for each.
    async fn channel(&self) -> Result<Channel, CallError> {
        let mut material = self.identity.material.clone();
        let waited = timeout(PATIENCE, material.wait_for(Option::is_some)).await;
        let shown = waited.ok().and_then(|shown| shown.ok()?.clone());
        let Some(material) = shown else {
            let fault = self.identity.fault.borrow().clone();
            return Err(CallError::NoSvid(fault.unwrap_or_else(|| "it has not answered".into())));
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((shown, channel)) = &*current
            && Arc::ptr_eq(shown, &material)
        {
            return Ok(channel.clone());
        }
        // The name is for the `:authority` alone: where it leads is the connector's business.
        let channel = Endpoint::from_static("http://spire-server")
            .connect_with_connector_lazy(self.connector.clone());
        *current = Some((material, channel.clone()));
        Ok(channel)
    }

    fn failed(&self, status: Status) -> CallError {
        let (address, code) = (self.address.clone(), status.code());
        let message = status.message().chars().take(400).collect();
        if matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
            let name = self.identity.name.borrow().as_ref().map(ToString::to_string);
            let name = name.unwrap_or_else(|| "an SVID".into());
            return CallError::Forbidden { address, message, name };
        }
        CallError::Failed { address, code, message, source: Box::new(status) }
    }

    /// Whether a call that ended so would end so again.
    fn is_final(code: Code) -> bool {
        matches!(
            code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.spiffe_id)?;
        match self.offered {
            0 | 1 => Ok(()),
            offered => write!(f, " (the first of {offered} that the agent has for this server)"),
        }
    }
}

impl From<CallError> for UpstreamError {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::NoSvid(_) | CallError::Timeout(_) => Self::Unavailable(error.into()),
            CallError::Forbidden { .. } => Self::Refused(error.into()),
            CallError::Failed { code, .. } if Server::is_final(*code) => {
                Self::Refused(error.into())
            }
            CallError::Failed { .. } => Self::Unavailable(error.into()),
            CallError::Convert(_) | CallError::ForeignBundle(_) | CallError::NoRoot => {
                Self::Answer(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
