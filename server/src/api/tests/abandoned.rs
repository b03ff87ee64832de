//! Calls whose callers go away, are banned or send without end while they are made, and calls that
//! cannot be recorded.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use steeple_proto::spire::api::server::agent::v1 as agent_pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::svid::v1 as svid_pb;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic_prost::ProstCodec;
use tower_service::Service as _;

use super::*;

const BAN: &str = "/spire.api.server.agent.v1.Agent/BanAgent";
const BUNDLE: &str = "/spire.api.server.bundle.v1.Bundle/GetBundle";
const COUNT: &str = "/spire.api.server.entry.v1.Entry/CountEntries";
const RENEW: &str = "/spire.api.server.agent.v1.Agent/RenewAgent";

/// Whether the handler of a call comes to its end when its caller has gone.
async fn ends_without_its_caller(path: &'static str) -> bool {
    let server = Server::new().await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ended = Arc::new(AtomicBool::new(false));
    let handler = {
        let (begun, go_on, ended) = (begun.clone(), go_on.clone(), ended.clone());
        tower::service_fn(move |_: http::Request<Body>| {
            let (begun, go_on, ended) = (begun.clone(), go_on.clone(), ended.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                ended.store(true, Ordering::Release);
                Ok::<_, Infallible>(http::Response::new(Body::empty()))
            }
        })
    };
    let caller = Arc::new(Caller::Local(Process { uid: 0, gid: 0, pid: None }));
    let mut guard = Guard::new(handler, caller, server.shared.clone());
    let mut call = guard.call(http::Request::builder().uri(path).body(Body::empty()).unwrap());
    tokio::select! {
        _ = &mut call => panic!("it waits"),
        () = begun.notified() => {}
    }
    drop(call);
    go_on.notify_one();
    server.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    ended.load(Ordering::Acquire)
}

#[tokio::test]
async fn what_changes_something_is_done_to_its_end_and_recorded() {
    assert!(ends_without_its_caller(BAN).await);
    assert!(!ends_without_its_caller(COUNT).await);
}

/// Calls a method with whatever message.
async fn call<T: prost::Message + Default + 'static>(
    channel: Channel,
    path: &'static str,
    messages: impl tokio_stream::Stream<Item = T> + Send + 'static,
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = ProstCodec::<T, ()>::default();
    grpc.client_streaming(Request::new(messages), path, codec).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_banned_while_it_asks_is_refused() {
    let server = Server::new().await;
    let channel = server.agent("a").await;
    let (sender, requests) = mpsc::channel(1);
    let renewal = server
        .tasks
        .spawn(tracing::Span::none(), |_| call(channel, RENEW, ReceiverStream::new(requests)));
    // The server waits for the request by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.deps.registry.ban_node(node("a").id).await.unwrap();
    let params = Some(agent_pb::AgentX509svidParams { csr: request_for(None, &[]) });
    sender.send(agent_pb::RenewAgentRequest { params }).await.unwrap();
    drop(sender);
    let denied = format!("authorization denied for method {RENEW}");
    check_status(renewal.await.unwrap(), Code::PermissionDenied, &denied);
    assert_eq!(server.audited(), ["call_refused"]); // H147
}

#[tokio::test]
async fn a_request_is_as_long_as_it_may_be() {
    let server = Server::new().await;
    let long = |length| {
        let message = types::Entry { hint: "x".repeat(length), ..types::Entry::default() };
        tokio_stream::once(message)
    };
    let short = call(server.anonymous(), BUNDLE, long(1_000_000)).await;
    assert!(short.is_ok(), "{short:?}");
    let refused = call(server.anonymous(), BUNDLE, long(1_100_000)).await;
    let told = "the request is longer than 1048576 bytes";
    check_status(refused, Code::ResourceExhausted, told);
    assert!(call(server.local(), COUNT, long(1_100_000)).await.is_ok());
}

#[tokio::test]
async fn nothing_is_granted_while_it_cannot_be_recorded_but_much_can_be_taken_away() {
    let usual = Server::new().await;
    let log = usual.directory.path().join("audit.jsonl");
    let started = std::fs::read_to_string(log).unwrap().lines().count();
    let full = |_, _| audit::tests::full_after(started, 100);
    let server = Server::recording(full).await;
    server.agent("a").await;
    let create = || async {
        let entries = vec![entry("/web", "/spire/agent/a")];
        let request = entry_pb::BatchCreateEntryRequest { entries, output_mask: None };
        EntryClient::new(server.local()).batch_create_entry(request).await
    };
    let csr = request_for(Some("spiffe://td/web"), &[]);
    let mint = svid_pb::MintX509svidRequest { csr, ttl: 60 };
    let minted = SvidClient::new(server.local()).mint_x509svid(mint).await;
    check_status(minted, Code::Unavailable, "not signed: the audit log cannot be written");

    let refused = "nothing was done, as the audit log cannot be written";
    check_status(create().await, Code::Unavailable, refused);
    let mut agents = AgentClient::new(server.local());
    let token = agent_pb::CreateJoinTokenRequest { ttl: 60, ..Default::default() };
    check_status(agents.create_join_token(token).await, Code::Unavailable, refused);
    let ban = agent_pb::BanAgentRequest { id: wire_id("/spire/agent/a") };
    agents.ban_agent(ban).await.unwrap();
    assert!(server.deps.registry.node(&node("a").id).unwrap().is_banned());
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_does_not_hold_up_a_server_that_stops() {
    const ATTEST: &str = "/spire.api.server.agent.v1.Agent/AttestAgent";
    const SYNC: &str = "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries";
    let server = Server::new().await;
    let agent = server.agent("a").await;
    let (attesting, syncing) = (Tasks::new(), Tasks::new());
    let attest =
        call::<agent_pb::AttestAgentRequest>(server.anonymous(), ATTEST, tokio_stream::pending());
    let attest = attesting.spawn(tracing::Span::none(), |_| attest);
    let sync = call::<entry_pb::SyncAuthorizedEntriesRequest>(agent, SYNC, tokio_stream::pending());
    let sync = syncing.spawn(tracing::Span::none(), |_| sync);
    // The server waits for both by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    let told = "the server is shutting down";
    check_status(sync.await.unwrap(), Code::Unavailable, told);
    check_status(attest.await.unwrap(), Code::Unavailable, &format!("failed to attest: {told}"));
}
