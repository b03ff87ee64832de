//! TLS between SPIFFE peers, from material that changes while it is used.
//!
//! Certificates, keys and trust anchors are watched: the next handshake uses what is there then,
//! and nothing is restarted. There is no resumption, so that every connection verifies its peer
//! anew. Names of hosts mean nothing; SPIFFE IDs do, save for a client of the Web.

use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::id::SpiffeId;
use crate::keys::Signer;
use crate::x509::verify::{AnchorSet, PeerError};
use crate::x509::{Certificate, CertificateError, Chain};

mod acceptor;
mod connector;
mod signing;
mod verifier;

pub use self::acceptor::{AcceptError, Accepted, Acceptor, Client, Unnamed};
pub use self::connector::{Connected, Connector, ConnectorError};

const ALPN_HTTP2: &[u8] = b"h2";

/// What one side presents: a chain and the key of its leaf.
#[derive(Clone)]
pub struct Material {
    chain: Chain,
    certified: Arc<CertifiedKey>,
}

/// What a server works with.
#[derive(Clone, Debug)]
pub struct ServerDeps {
    /// What it presents.
    pub material: watch::Receiver<Arc<Material>>,
    /// Who its clients may be. A client need not present anything; one that does has to be of one
    /// of these trust domains.
    pub anchors: watch::Receiver<Arc<AnchorSet>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What a client works with.
#[derive(Clone, Debug)]
pub struct ClientDeps {
    /// What it presents, if anything.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// Who the server has to be.
    pub server: ExpectedServer,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Who the server has to be, whatever its address is.
#[derive(Clone, Debug)]
pub struct ExpectedServer {
    /// Its SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// What makes the ID believable.
    pub trust: Trust,
}

/// Why a server's SPIFFE ID is believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Its chain leads to an authority of its trust domain.
    Anchors(watch::Receiver<Arc<AnchorSet>>),
    /// Its chain leads to an authority that is part of what it presents, the certificate of which
    /// has this SHA-256 hash: the administrator said so.
    PinnedAuthority([u8; 32]),
    /// It says so, and the administrator wants to believe it, for a first contact.
    Unverified,
}

/// Why a chain and a key cannot be presented.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MaterialError {
    /// The leaf cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The leaf is for another key.
    #[error("the certificate and the key do not belong together")]
    Key,
}

impl Material {
    /// What presents `chain`, the leaf of which is for `key`.
    pub fn new(chain: &Chain, key: Arc<dyn Signer>) -> Result<Self, MaterialError> {
        let leaf = Certificate::parse(chain.leaf())?;
        if leaf.spki_der() != key.public_key().spki_der() {
            return Err(MaterialError::Key);
        }
        let key = Arc::new(signing::TlsKey::new(key));
        let certified = Arc::new(CertifiedKey::new(chain.certificates().to_vec(), key));
        Ok(Self { chain: chain.clone(), certified })
    }

    /// The chain that is presented.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// What was wrong with the peer, where that is why a handshake failed.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<PeerError> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    verifier::refusal(error)
}

/// The TLS configuration of a server that speaks HTTP/2.
pub fn server_config(deps: ServerDeps) -> Result<Arc<ServerConfig>, rustls::Error> {
    let time = Arc::new(ClockTime(deps.clock));
    let clients = Arc::new(verifier::Clients::new(deps.anchors));
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(signing::ServerMaterial(deps.material)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// The TLS configuration of a client that speaks HTTP/2.
pub fn client_config(deps: ClientDeps) -> Result<Arc<ClientConfig>, rustls::Error> {
    client_config_of(deps, rustls::ALL_VERSIONS)
}

fn client_config_of(
    deps: ClientDeps,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let time = Arc::new(ClockTime(deps.clock));
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier::Server::new(deps.server)))
        .with_client_cert_resolver(Arc::new(signing::ClientMaterial(deps.material)));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// The TLS configuration of a client of the Web, where names of hosts mean something: it believes
/// what `roots` vouch for, and speaks HTTP/1.1.
pub fn web_client_config(
    roots: RootCertStore,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// The clock as TLS asks for it.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let elapsed = self.0.now().duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(elapsed))
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
