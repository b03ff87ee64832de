//! The client's side of a handshake, and how tonic gets a channel over it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::{ClientDeps, client_config, refusal};
use crate::gathered::Gathered;
use crate::x509::verify::PeerError;

/// Opens TLS connections to one server. It is the connector of a tonic channel:
/// `Endpoint::connect_with_connector_lazy`.
#[derive(Clone, Debug)]
pub struct Connector {
    address: Arc<str>,
    name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
    deadline: Duration,
}

/// A connection whose server is whom it should be.
#[derive(Debug)]
pub struct Connected<S> {
    /// The connection.
    pub stream: TlsStream<S>,
    /// What the server presented, its leaf first.
    pub presented: Vec<CertificateDer<'static>>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectorError {
    /// The address is not `host:port`.
    #[error("a server's address is a host and a port, such as `server.example.org:8081`")]
    Address,
    /// No TLS configuration could be made.
    #[error("TLS cannot be set up")]
    Config(#[from] rustls::Error),
    /// The server cannot be reached, or takes too long.
    #[error("the server at {address} cannot be reached")]
    Unreachable {
        /// Where the server should be.
        address: Arc<str>,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The server is not whom it should be.
    #[error("the server is not trusted")]
    Peer(#[source] PeerError),
    /// The handshake failed in another way.
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
}

impl Connector {
    /// A connector to `address`, a host and a port, that gives each attempt until `deadline`.
    pub fn new(
        address: &str,
        deps: ClientDeps,
        deadline: Duration,
    ) -> Result<Self, ConnectorError> {
        let (host, port) = address.rsplit_once(':').ok_or(ConnectorError::Address)?;
        if port.parse::<u16>().is_err() {
            return Err(ConnectorError::Address);
        }
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Nothing but a hint for whoever forwards connections by name.
        let name = ServerName::try_from(host.to_owned());
        Ok(Self {
            address: address.into(),
            name: name.map_err(|_invalid| ConnectorError::Address)?,
            config: client_config(deps)?,
            deadline,
        })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connected<TcpStream>, ConnectorError> {
        let attempt = async {
            let stream = TcpStream::connect(&*self.address).await;
            let stream = stream.map_err(|source| self.unreachable(source))?;
            stream.set_nodelay(true).map_err(|source| self.unreachable(source))?;
            self.handshake(stream).await
        };
        match timeout(self.deadline, attempt).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Makes the handshake on a connection that is open.
    pub async fn handshake<S>(&self, stream: S) -> Result<Connected<S>, ConnectorError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config.clone());
        match connector.connect(self.name.clone(), stream).await {
            Ok(stream) => {
                let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
                Ok(Connected { presented: presented.to_vec(), stream })
            }
            Err(error) => Err(match refusal(&error) {
                Some(refusal) => ConnectorError::Peer(refusal),
                None => ConnectorError::Handshake(error),
            }),
        }
    }

    fn unreachable(&self, source: io::Error) -> ConnectorError {
        ConnectorError::Unreachable { address: self.address.clone(), source }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Gathered<TlsStream<TcpStream>>>;
    type Error = ConnectorError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Connects to the connector's own address, whatever the URI is.
    fn call(&mut self, _uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let stream = connector.connect().await?.stream;
            Ok(TokioIo::new(Gathered::new(stream)))
        })
    }
}
