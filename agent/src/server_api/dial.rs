//! How a connection to the server comes about: what can go wrong, and the seam for tests.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use steeple::gathered::Gathered;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::ServerError;

/// A connection that is ready for HTTP/2.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections to one server.
#[tonic::async_trait]
pub trait Dial: fmt::Debug + Send + Sync {
    /// A new connection, authenticated with what is known now. Ends within seconds.
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError>;
}

/// Why there is no connection.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DialError {
    /// Nobody answers there in time.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever answered did not prove to be the server.
    #[error("{0}")]
    Untrusted(String),
    /// The handshake failed for another reason.
    #[error("{0}")]
    Handshake(String),
}

impl From<DialError> for ServerError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Untrusted(cause) => Self::Untrusted(cause),
            DialError::Unreachable(cause) | DialError::Handshake(cause) => Self::Unavailable(cause),
        }
    }
}

/// A [`Dial`] as tonic takes it.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Arc<dyn Dial>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Gathered<Box<dyn Stream>>>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dial = Arc::clone(&self.0);
        Box::pin(async move { Ok(TokioIo::new(Gathered::new(dial.dial().await?))) })
    }
}
