//! The server's side of a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ServerDeps, refusal, server_config};
use crate::x509::verify::{PeerError, VerifiedPeer};
use crate::x509::{Certificate, hex};

/// Accepts TLS connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    deadline: Duration,
}

/// A connection whose handshake succeeded.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub stream: TlsStream<S>,
    /// Who is at the other end.
    pub client: Client,
}

/// Who opened a connection.
#[derive(Clone, Debug)]
pub enum Client {
    /// Somebody who presented nothing.
    Anonymous,
    /// Somebody with an SVID.
    Peer(VerifiedPeer),
    /// Somebody with a certificate that an authority signed and that is nobody's SVID. It entitles to
    /// nothing but to hear that.
    Unnamed(Unnamed),
}

/// A certificate that is nobody's, and should not have been signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unnamed {
    /// What is wrong with it.
    pub why: PeerError,
    /// Its serial number in decimal.
    pub serial: String,
    /// The ID of the authority that signed it, where it says so.
    pub authority_key_id: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// The client took too long.
    #[error("the handshake took too long")]
    Deadline,
    /// The client is not trusted.
    #[error("the client is not trusted")]
    Peer(#[source] PeerError),
    /// The handshake failed in another way; mostly the client left.
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
}

impl Unnamed {
    fn new(chain: &[CertificateDer<'_>], why: PeerError) -> Result<Self, PeerError> {
        let leaf = Certificate::parse(chain.first().ok_or(PeerError::NoCertificate)?)?;
        let authority_key_id = leaf.authority_key_id().map(hex);
        Ok(Self { why, serial: leaf.serial().to_string(), authority_key_id })
    }
}

impl Acceptor {
    /// An acceptor that gives each handshake until `deadline`.
    pub fn new(deps: ServerDeps, deadline: Duration) -> Result<Self, rustls::Error> {
        Ok(Self { config: server_config(deps)?, deadline })
    }

    /// Makes the handshake on a connection that was accepted.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.config.clone()).accept(stream);
        let stream = match timeout(self.deadline, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(match refusal(&error) {
                    Some(refusal) => AcceptError::Peer(refusal),
                    None => AcceptError::Handshake(error),
                });
            }
            Err(_elapsed) => return Err(AcceptError::Deadline),
        };
        // There is no resumption, so this very handshake has verified the chain.
        let client = match stream.get_ref().1.peer_certificates() {
            None => Client::Anonymous,
            Some(chain) => match VerifiedPeer::of_handshake(chain) {
                Ok(peer) => Client::Peer(peer),
                Err(why) if why.is_of_name() => {
                    Client::Unnamed(Unnamed::new(chain, why).map_err(AcceptError::Peer)?)
                }
                Err(error) => return Err(AcceptError::Peer(error)),
            },
        };
        Ok(Accepted { stream, client })
    }
}
