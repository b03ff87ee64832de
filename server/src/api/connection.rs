//! Serves HTTP/2 on one connection, within bounds, until it is old or the server stops.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use steeple::backoff::random_fraction;
use steeple::gathered::Gathered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;
use tracing::debug;

use super::caller::Caller;
use super::guard::Guard;

/// How long a connection is used. Agents come back at once, and look their server's address up
/// again.
const AGE: Duration = Duration::from_secs(180);

/// How long calls may go on after a connection was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// The most calls at one time on one connection: of somebody known, and of somebody who is not, who
/// has two calls to make.
const MAX_STREAMS: u32 = 100;
const MAX_ANONYMOUS_STREAMS: u32 = 8;

/// The most bytes of headers of one call.
const MAX_HEADERS: u32 = 16 * 1024;

/// How much a caller may send ahead of the server: on one call, and on all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How often a silent caller is asked whether it is still there, and how long it may take to say.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);

/// Serves the calls of one caller. Small: there are as many of these as agents.
pub fn serve<S>(
    stream: S,
    guard: Guard<Routes>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = match guard.caller() {
        Caller::Local(_) | Caller::Peer(_) => MAX_STREAMS,
        Caller::Anonymous(_) | Caller::Unnamed { .. } => MAX_ANONYMOUS_STREAMS,
    };
    let service = guard.map_request(|request: http::Request<_>| request.map(Body::new));
    let service = TowerToHyperService::new(service);
    let mut connection =
        Box::pin(http(streams).serve_connection(TokioIo::new(Gathered::new(stream)), service));
    async move {
        tokio::select! {
            ended = &mut connection => return log(ended),
            () = tokio::time::sleep(AGE.mul_f64(0.9 + 0.2 * random_fraction())) => {}
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        match tokio::time::timeout(GRACE, connection).await {
            Ok(ended) => log(ended),
            Err(_) => debug!("calls cut off, as their connection had to end"),
        }
    }
}

fn http(streams: u32) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    http
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(error = &error as &dyn std::error::Error, "connection failed");
    }
}
