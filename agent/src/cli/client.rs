//! A Workload API client for the command line.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::bail;
use http::Uri;
use hyper_util::rt::TokioIo;
use steeple_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower_service::Service;

use super::address::Address;

/// The longest message that is read, as in other clients.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// A connection to an agent.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    channel: Channel,
    timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Clone)]
struct Connector(Address);

impl Client {
    /// Connects; `hint` says what would help if there is nobody.
    pub(super) async fn connect(
        address: &Address,
        timeout: Duration,
        hint: &'static str,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(timeout);
        let connected = endpoint.connect_with_connector(Connector(address.clone())).await;
        let channel = connected.map_err(|error| explain_connect(address, &error, hint))?;
        Ok(Self { address: address.clone(), channel, timeout })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn workload_api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The answer to one call, with what to do about it if there is none.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(explain(&status)),
            Err(_) => bail!(
                "the agent at {} did not answer within {}; see its log, or wait longer with \
                 --timeout",
                self.address,
                humantime::format_duration(self.timeout)
            ),
        }
    }
}

/// A request with the header that every Workload API call has (Workload Endpoint 4.1).
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// What a status means to somebody at a terminal.
pub(super) fn explain(status: &Status) -> anyhow::Error {
    let message = status.message();
    let hint = match status.code() {
        Code::PermissionDenied if message.contains("banned") => {
            "no process of this node has an identity until an administrator lets it in again, as by \
             `steeple-server agent evict`; `steeple-agent healthcheck` says more"
        }
        Code::PermissionDenied => {
            "no registration entry of this node matches this process; `steeple-server entry show` \
             lists the entries, the agent's log says what is known of the process"
        }
        Code::Unavailable => {
            "this may pass; `steeple-agent healthcheck` and the agent's log say why"
        }
        Code::Unimplemented => "this agent does not have that call",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => return anyhow::anyhow!("{message} ({:?})", status.code()),
    };
    anyhow::anyhow!("{message} ({:?}): {hint}", status.code())
}

fn explain_connect(
    address: &Address,
    error: &tonic::transport::Error,
    hint: &str,
) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    anyhow::anyhow!("cannot connect to an agent at {address}: {cause}; is it running? {hint}")
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            };
            Ok(TokioIo::new(stream))
        })
    }
}
