//! The limit *echo*: a bare tonic server with one prepared answer, in a process of its own, on a
//! Unix socket as the agent's or by TLS as the server's.

use std::ffi::OsString;
use std::future::{Future, Ready, ready};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use steeple::clock::SystemClock;
use steeple::tls::{Acceptor, ServerDeps};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use crate::caller::Verbatim;
use crate::meter::Meter;
use crate::node::Node;
use crate::process::Helper;

/// As many as the agent has.
const THREADS: usize = 2;

/// The process.
#[derive(Debug)]
pub(crate) struct Echo {
    helper: Helper,
    /// Where it listens: a path, or a host and a port.
    address: String,
}

impl Echo {
    /// An echo on a Unix socket at this path, the answer of which has this length.
    pub(crate) fn local(socket: PathBuf, answer: usize) -> anyhow::Result<Self> {
        Self::start("--socket", socket.into(), answer)
    }

    /// An echo by TLS, which presents what is in `directory`.
    pub(crate) fn tls(directory: &Path, answer: usize) -> anyhow::Result<Self> {
        Self::start("--tls", directory.into(), answer)
    }

    fn start(how: &str, place: OsString, answer: usize) -> anyhow::Result<Self> {
        let args = ["echo".into(), how.into(), place, "--answer".into(), answer.to_string().into()];
        let mut helper = Helper::start(&args)?;
        let address = helper.hear()?;
        Ok(Self { helper, address })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn meter(&self) -> Meter {
        self.helper.meter()
    }
}

/// Where the process listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// On a Unix socket.
    Socket(PathBuf),
    /// By TLS, with what a [`Node`] left in a directory.
    Tls(PathBuf),
}

/// The process itself: says where it listens, and serves until it is killed.
pub(crate) fn serve(place: Place, answer: usize) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let service = Answers(vec![7; answer].into());
    runtime.block_on(async {
        let server = Server::builder().add_service(service);
        match place {
            Place::Socket(path) => {
                let listener = UnixListener::bind(&path)?;
                crate::cli::say(&path.display().to_string())?;
                let incoming = stream::unfold(listener, |listener| async {
                    Some((listener.accept().await.map(|(stream, _)| stream), listener))
                });
                server.serve_with_incoming(incoming).await?;
            }
            Place::Tls(directory) => {
                let acceptor = acceptor(&Node::load(&directory)?)?;
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                crate::cli::say(&listener.local_addr()?.to_string())?;
                let incoming = stream::unfold((listener, acceptor), |(listener, acceptor)| async {
                    Some((accept(&listener, &acceptor).await, (listener, acceptor)))
                });
                server.serve_with_incoming(incoming).await?;
            }
        }
        Ok(())
    })
}

fn acceptor(node: &Node) -> anyhow::Result<Acceptor> {
    let deps = ServerDeps {
        material: tokio::sync::watch::Sender::new(Arc::clone(&node.material)).subscribe(),
        anchors: tokio::sync::watch::Sender::new(Arc::clone(&node.anchors)).subscribe(),
        clock: Arc::new(SystemClock),
    };
    Acceptor::new(deps, Duration::from_secs(10)).context("setting up TLS")
}

async fn accept(listener: &TcpListener, acceptor: &Acceptor) -> io::Result<Bare> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let accepted = acceptor.accept(stream).await.map_err(io::Error::other)?;
    Ok(Bare(accepted.stream))
}

/// Answers whatever is asked with these bytes.
#[derive(Clone, Debug)]
struct Answers(Bytes);

impl NamedService for Answers {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answers, mut grpc) = (self.clone(), Grpc::new(Verbatim));
        match request.uri().path() {
            "/bench.Echo/Unary" => Box::pin(async move { Ok(grpc.unary(answers, request).await) }),
            "/bench.Echo/Watch" => {
                Box::pin(async move { Ok(grpc.server_streaming(answers, request).await) })
            }
            "/bench.Echo/Exchange" => {
                Box::pin(async move { Ok(grpc.streaming(answers, request).await) })
            }
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

impl UnaryService<Bytes> for Answers {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

impl ServerStreamingService<Bytes> for Answers {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let one = stream::iter([Ok(self.0.clone())]);
        ready(Ok(Response::new(one.chain(stream::pending()).boxed())))
    }
}

impl StreamingService<Bytes> for Answers {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let answer = self.0.clone();
        let answers = request.into_inner().map(move |message| message.map(|_| answer.clone()));
        ready(Ok(Response::new(answers.boxed())))
    }
}

/// A TLS connection, as tonic wants it.
struct Bare(TlsStream<TcpStream>);

impl Connected for Bare {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Bare {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bare {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
