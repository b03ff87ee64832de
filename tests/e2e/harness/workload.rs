//! The Workload API as this very process calls it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use steeple::x509::{Certificate, split_certificates};
use steeple_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use steeple_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::PATIENCE;

pub(crate) type Client = SpiffeWorkloadApiClient<Channel>;

/// A client with one connection to the agent at `socket`.
pub(crate) async fn connect(socket: &Path) -> Client {
    try_connect(socket).await.unwrap()
}

/// The same, where there may be no agent.
pub(crate) async fn try_connect(socket: &Path) -> Result<Client, Status> {
    let socket = PathBuf::from(socket);
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(SpiffeWorkloadApiClient::new(channel))
}

/// A request with the header that every Workload API call has (Workload Endpoint 4.1).
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// A stream of X.509-SVIDs, and its first message.
pub(crate) async fn watch(
    client: &mut Client,
) -> Result<(X509svidResponse, Streaming<X509svidResponse>), Status> {
    let mut stream = client.fetch_x509svid(request(X509svidRequest {})).await?.into_inner();
    let first = next(&mut stream).await?;
    Ok((first, stream))
}

/// The next message of a stream that goes on.
pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("a message comes in time")?.ok_or_else(|| Status::ok("the stream has ended"))
}

/// The first answer to this process, once it is registered and the agent has heard of it.
pub(crate) async fn first_answer(socket: &Path) -> (X509svidResponse, Streaming<X509svidResponse>) {
    let deadline = Instant::now() + PATIENCE;
    let mut client = connect(socket).await;
    loop {
        match watch(&mut client).await {
            Ok(answer) => return answer,
            Err(status) => assert_eq!(status.code(), Code::PermissionDenied, "{status}"),
        }
        assert!(Instant::now() < deadline, "the agent has not heard of the entry in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The X.509-SVIDs of this process now.
pub(crate) async fn fetch(socket: &Path) -> Result<Vec<X509svid>, Status> {
    let (first, _) = watch(&mut connect(socket).await).await?;
    Ok(first.svids)
}

/// The serial number of an SVID, which no two have in common.
pub(crate) fn serial(svid: &X509svid) -> String {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    Certificate::parse(&chain[0]).unwrap().serial().to_string()
}
