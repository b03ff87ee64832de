//! The server's side of a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ServerDeps, refusal, server_config};
use crate::x509::verify::{PeerError, VerifiedPeer};

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
    /// Somebody with a certificate that an authority signed and that is nobody's SVID, and why. It
    /// entitles to nothing but to hear that.
    Unnamed(PeerError),
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
                Err(error) if error.is_of_name() => Client::Unnamed(error),
                Err(error) => return Err(AcceptError::Peer(error)),
            },
        };
        Ok(Accepted { stream, client })
    }
}
