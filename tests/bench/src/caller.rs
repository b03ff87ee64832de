//! A gRPC client that knows no messages: what it sends is prepared, and what comes is bytes. It
//! calls Steeple and the echo alike.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tower_service::Service;

/// The longest answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How a method is called, and what for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One message, one answer.
    Unary,
    /// The first answer of many, after which the call is cancelled.
    Watch,
    /// The first answer to the first of many messages, after which the call is cancelled.
    Exchange,
}

/// A call, ready to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) path: PathAndQuery,
    pub(crate) message: Bytes,
}

/// What makes calls on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Grpc<Channel>);

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verbatim;

/// Connects to a Unix socket.
#[derive(Clone, Debug)]
pub(crate) struct Connector(pub(crate) PathBuf);

impl Call {
    pub(crate) fn new(kind: Kind, path: &'static str, message: &impl Message) -> Self {
        let message = message.encode_to_vec().into();
        Self { kind, path: PathAndQuery::from_static(path), message }
    }

    /// The same call of the echo.
    pub(crate) fn to_echo(&self) -> Self {
        let path = PathAndQuery::from_static(match self.kind {
            Kind::Unary => "/bench.Echo/Unary",
            Kind::Watch => "/bench.Echo/Watch",
            Kind::Exchange => "/bench.Echo/Exchange",
        });
        Self { path, ..self.clone() }
    }
}

impl Caller {
    /// Calls over a channel that is open.
    pub(crate) fn new(channel: Channel) -> Self {
        let grpc = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
        Self(grpc.max_encoding_message_size(MAX_ANSWER))
    }

    /// Calls over a new connection to a Unix socket.
    pub(crate) async fn connect(socket: PathBuf) -> anyhow::Result<Self> {
        Ok(Self::new(connect(socket).await?))
    }

    /// Makes a call; its answer, or the first of its answers.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<Bytes, Status> {
        match call.kind {
            Kind::Unary => {
                self.ready().await?;
                let request = request(call.message.clone());
                Ok(self.0.unary(request, call.path.clone(), Verbatim).await?.into_inner())
            }
            Kind::Watch => Ok(self.watch(call).await?.0),
            Kind::Exchange => {
                self.ready().await?;
                let (messages, stream) = mpsc::channel(1);
                let ended = |_| Status::unavailable("the call has ended");
                messages.send(call.message.clone()).await.map_err(ended)?;
                let request = request(ReceiverStream::new(stream));
                let answers = self.0.streaming(request, call.path.clone(), Verbatim).await?;
                first(&mut answers.into_inner()).await
            }
        }
    }

    /// The first answer of a stream, and the stream.
    pub(crate) async fn watch(&mut self, call: &Call) -> Result<(Bytes, Streaming<Bytes>), Status> {
        self.ready().await?;
        let request = request(call.message.clone());
        let answers = self.0.server_streaming(request, call.path.clone(), Verbatim).await?;
        let mut answers = answers.into_inner();
        Ok((first(&mut answers).await?, answers))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// A channel over a new connection to a Unix socket.
pub(crate) async fn connect(socket: PathBuf) -> Result<Channel, tonic::transport::Error> {
    endpoint().connect_with_connector(Connector(socket)).await
}

/// A connection on which any number of calls may be cancelled while their answers are on the way.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost").http2_max_local_error_reset_streams(None)
}

/// Servers of other things than the Workload API overlook its header.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = "workload.spiffe.io";
    request.metadata_mut().insert(name, MetadataValue::from_static("true"));
    request
}

async fn first(answers: &mut Streaming<Bytes>) -> Result<Bytes, Status> {
    let answer = answers.message().await?;
    answer.ok_or_else(|| Status::unavailable("the answer has no message"))
}

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}
