//! Reads a document from a web server, which is believed as the Web PKI of this machine says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use steeple::clock::Clock;
use steeple::tls;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the whole exchange may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The most bytes of a document.
const MAX_DOCUMENT: usize = 4 << 20;

/// Why there is no document.
#[derive(Debug, Error)]
pub enum WebError {
    /// It took longer than half a minute.
    #[error("no answer within 30 s")]
    Deadline,
    /// This machine believes no certification authority.
    #[error("this machine has no CA certificates; install ca-certificates or set SSL_CERT_FILE")]
    NoRoots,
    /// There is no connection, or the server is not believed.
    #[error("connecting")]
    Connect(#[source] io::Error),
    /// The name of the server is none.
    #[error("the host is neither a name nor an IP address")]
    Host,
    /// The exchange broke off.
    #[error("the exchange broke off")]
    Http(#[source] hyper::Error),
    /// The server answered something else than the document.
    #[error("the server answered {0}; a redirection is not followed")]
    Status(StatusCode),
    /// The document breaks off, or has more than 4 MiB.
    #[error("the document breaks off or has more than 4 MiB")]
    Body,
    /// TLS cannot be set up.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
}

/// Those whom this machine believes.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be used is one less to believe.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Whether this is the address of a document that [`get`] can read.
#[must_use]
pub fn is_address(url: &Uri) -> bool {
    let has_host = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    url.scheme_str() == Some("https") && has_host
}

/// The document at `url`, an `https` one, from a server that one of `roots` vouches for.
pub async fn get(
    url: &Uri,
    roots: RootCertStore,
    clock: Arc<dyn Clock>,
) -> Result<Bytes, WebError> {
    if roots.is_empty() {
        return Err(WebError::NoRoots);
    }
    let config = tls::web_client_config(roots, clock).map_err(WebError::Tls)?;
    let exchange = exchange(url, TlsConnector::from(config));
    tokio::time::timeout(DEADLINE, exchange).await.unwrap_or(Err(WebError::Deadline))
}

async fn exchange(url: &Uri, connector: TlsConnector) -> Result<Bytes, WebError> {
    let host = url.host().ok_or(WebError::Host)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).or(Err(WebError::Host))?;
    let port = url.port_u16().unwrap_or(443);
    let stream = TcpStream::connect((bare, port)).await.map_err(WebError::Connect)?;
    let stream = connector.connect(name, stream).await.map_err(WebError::Connect)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(WebError::Http)?;
    let asked = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, url.authority().map_or(host, |authority| authority.as_str()))
        .body(Empty::<Bytes>::new());
    let asked = asked.or(Err(WebError::Host))?;
    let document = async { read(sender.send_request(asked).await.map_err(WebError::Http)?).await };
    tokio::pin!(document);
    // The connection makes the answer come; its own end is nothing that the answer does not say.
    tokio::select! {
        document = &mut document => document,
        _ended = connection => document.await,
    }
}

async fn read(answer: http::Response<Incoming>) -> Result<Bytes, WebError> {
    if answer.status() != StatusCode::OK {
        return Err(WebError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
    Ok(body.or(Err(WebError::Body))?.to_bytes())
}

#[cfg(test)]
mod tests;
