//! A client of the server's admin socket.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{anyhow, bail};
use http::Uri;
use hyper_util::rt::TokioIo;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::debug::v1::debug_client::DebugClient;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use steeple_proto::spire::api::server::logger::v1::logger_client::LoggerClient;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use steeple_proto::steeple::authority::v1::authority_use_client::AuthorityUseClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tower_service::Service;

use super::output::{PATIENCE, Terminal};
use steeple::shown::plain;

/// The longest answer that is read: a page of very large entries.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    channel: Channel,
    timeout: Duration,
    terminal: Terminal,
}

#[derive(Clone)]
struct Connector(PathBuf);

impl Client {
    pub(super) async fn connect(
        socket: &Path,
        timeout: Duration,
        terminal: Terminal,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(timeout);
        let connected = endpoint.connect_with_connector(Connector(socket.to_owned())).await;
        let channel = connected.map_err(|error| explain_connect(socket, &error))?;
        Ok(Self { socket: socket.to_owned(), channel, timeout, terminal })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn agents(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn authorities(&self) -> LocalAuthorityClient<Channel> {
        LocalAuthorityClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn authority_use(&self) -> AuthorityUseClient<Channel> {
        AuthorityUseClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn bundles(&self) -> BundleClient<Channel> {
        BundleClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn entries(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn svids(&self) -> SvidClient<Channel> {
        SvidClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn trust_domains(&self) -> TrustDomainClient<Channel> {
        TrustDomainClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn loggers(&self) -> LoggerClient<Channel> {
        LoggerClient::new(self.channel())
    }

    pub(super) fn debug(&self) -> DebugClient<Channel> {
        DebugClient::new(self.channel())
    }

    pub(super) fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// The answer to one call, with what to do about it if there is none.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        match self.outcome(call).await? {
            Ok(answer) => Ok(answer),
            Err(status) => Err(explain(&status)),
        }
    }

    /// The answer to one call, or the server's refusal.
    pub(super) async fn outcome<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<Result<T, Status>> {
        let mut call = pin!(tokio::time::timeout(self.timeout, call));
        let answered = match tokio::time::timeout(PATIENCE, &mut call).await {
            Ok(answered) => answered,
            Err(_) => {
                let mut notice = self.terminal.notice();
                notice.show("waiting for the server to answer…");
                call.await
            }
        };
        match answered {
            Ok(answer) => Ok(answer.map(Response::into_inner)),
            Err(_) => bail!(
                "the server at {} did not answer within {}; what was asked for may still be done: \
                 see its log, or wait longer with --timeout",
                self.socket.display(),
                humantime::format_duration(self.timeout)
            ),
        }
    }
}

/// What a status means to somebody at a terminal.
pub(super) fn explain(status: &Status) -> anyhow::Error {
    let message = plain(status.message());
    let code = status.code();
    let hint = match code {
        Code::Unavailable => "the server's log says why; this may pass",
        Code::Internal | Code::Unknown | Code::DataLoss => "the server's log says more",
        Code::Unimplemented => "this server does not have that call",
        Code::PermissionDenied => "the server does not let this socket do that",
        Code::ResourceExhausted => "wait, or ask for less at once",
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => return anyhow!("{message} ({code:?})"),
    };
    anyhow!("{message} ({code:?}); {hint}")
}

fn explain_connect(socket: &Path, error: &tonic::transport::Error) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let hint = match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            "only the user that the server runs as, its group and root may use its admin socket"
        }
        Some(io::ErrorKind::ConnectionRefused) => "the server that made this socket has stopped",
        Some(_) | None => {
            "is the server running? --socket or STEEPLE_SERVER_SOCKET says where its admin socket is"
        }
    };
    anyhow!("cannot connect to a server at {}: {cause}; {hint}", socket.display())
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(socket).await?)) })
    }
}
