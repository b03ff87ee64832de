//! Who gets through, what others are told, and what becomes of certificates.

use prost::Message as _;
use steeple_proto::google::rpc;
use steeple_proto::spire::api::server::agent::v1 as agent_pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::debug::v1::GetInfoRequest;
use steeple_proto::spire::api::server::debug::v1::debug_client::DebugClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use steeple_proto::spire::api::server::localauthority::v1::{
    GetJwtAuthorityStateRequest, GetWitAuthorityStateRequest, PrepareJwtAuthorityRequest,
};
use steeple_proto::spire::api::server::svid::v1 as svid_pb;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::spire::api::types::PermissionDeniedDetails;
use steeple_proto::spire::api::types::permission_denied_details::Reason;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;

const COUNT: &str = "/spire.api.server.entry.v1.Entry/CountEntries";
const STATUS: &str = "/spire.api.server.agent.v1.Agent/PostStatus";

async fn count(channel: Channel) -> Result<i32, Status> {
    let mut client = EntryClient::new(channel);
    let count = client.count_entries(entry_pb::CountEntriesRequest::default());
    count.await.map(|answer| answer.into_inner().count)
}

async fn post_status(channel: Channel) -> Result<(), Status> {
    let request = agent_pb::PostStatusRequest { agent_version: "1".into(), ..Default::default() };
    AgentClient::new(channel).post_status(request).await.map(drop)
}

/// The reason that goes with a refusal.
pub(super) fn reason(status: &Status) -> Option<Reason> {
    let details = rpc::Status::decode(status.details()).unwrap();
    assert_eq!(details.message, status.message());
    let details: PermissionDeniedDetails = details.details.first()?.to_msg().unwrap();
    Reason::try_from(details.reason).ok()
}

#[track_caller]
fn check_denied(found: Result<(), Status>, method: &str, expected: Option<Reason>) {
    let status = found.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.message(), format!("authorization denied for method {method}"));
    let found = if status.details().is_empty() { None } else { reason(&status) };
    assert_eq!(found, expected);
}

#[tokio::test]
async fn admins_are_local_configured_or_named_by_an_entry() {
    let server = Server::new().await;
    assert_eq!(count(server.local()).await.unwrap(), 0);
    assert_eq!(count(server.peer("spiffe://other/admin", "1")).await.unwrap(), 0);
    check_denied(count(server.anonymous()).await.map(drop), COUNT, None);
    check_denied(count(server.peer("spiffe://td/admin", "1")).await.map(drop), COUNT, None); // H146
    check_denied(count(server.agent("a").await).await.map(drop), COUNT, None);

    let channel = server.peer("spiffe://td/admin", "1");
    let admin = types::Entry { admin: true, ..entry("/admin", "/spire/agent/a") };
    let request = entry_pb::BatchCreateEntryRequest { entries: vec![admin], output_mask: None };
    EntryClient::new(server.local()).batch_create_entry(request).await.unwrap();
    assert_eq!(count(channel).await.unwrap(), 1); // on a connection that was there before
    assert_eq!(server.audited(), ["call_refused", "call_refused", "call_refused", "entry_created"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_are_too_many_to_be_recorded_are_counted() {
    let server = Server::new().await;
    let channel = server.anonymous();
    for _ in 0..80 {
        check_denied(count(channel.clone()).await.map(drop), COUNT, None);
    }
    server.deps.refusals.flush().await;
    let (recorded, left_out) = (server.audited(), server.left_out());
    assert!((50..80).contains(&recorded.len()), "{recorded:?}");
    assert!(recorded.iter().all(|event| event == "call_refused"), "{recorded:?}");
    assert_eq!(u64::try_from(recorded.len()).unwrap() + left_out, 80);
}

#[tokio::test]
async fn without_jwt_svids_no_call_is_about_them() {
    let server = Server::without_tokens().await;
    let disabled = "JWT functionality is disabled";
    let (mut local, agent) = (SvidClient::new(server.local()), server.agent("a").await);
    let minted = local.mint_jwtsvid(svid_pb::MintJwtsvidRequest::default()).await;
    check_status(minted, Code::Unimplemented, disabled);
    let request = svid_pb::NewJwtsvidRequest::default();
    let minted = SvidClient::new(agent.clone()).new_jwtsvid(request).await;
    check_status(minted, Code::Unimplemented, disabled);
    let mut authorities = LocalAuthorityClient::new(server.local());
    let state = authorities.get_jwt_authority_state(GetJwtAuthorityStateRequest {}).await;
    check_status(state, Code::Unimplemented, disabled);
    // Whoever may not ask is not told, and everything else goes on.
    let minted = SvidClient::new(agent).mint_jwtsvid(svid_pb::MintJwtsvidRequest::default()).await;
    assert_eq!(minted.unwrap_err().code(), Code::PermissionDenied);
    let minted = local.mint_x509svid(svid_pb::MintX509svidRequest::default()).await;
    check_status(minted, Code::InvalidArgument, "csr: missing CSR");
}

/// Whoever calls is stopped before that. What is behind knows by itself that there is no key.
#[tokio::test]
async fn without_jwt_svids_there_is_nothing_that_could_sign_one() {
    let mut server = Server::without_tokens().await;
    Arc::get_mut(&mut server.shared).unwrap().disable_jwt_svids = false;
    let disabled = "JWT functionality is disabled";
    let request = svid_pb::MintJwtsvidRequest {
        id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/web".into() }),
        audience: vec!["a".into()],
        ttl: 60,
    };
    let minted = SvidClient::new(server.local()).mint_jwtsvid(request).await;
    check_status(minted, Code::Unimplemented, &format!("not signed: {disabled}"));
    let mut authorities = LocalAuthorityClient::new(server.local());
    let state = authorities.get_jwt_authority_state(GetJwtAuthorityStateRequest {}).await;
    check_status(state, Code::Unimplemented, disabled);
    let prepared = authorities.prepare_jwt_authority(PrepareJwtAuthorityRequest {}).await;
    check_status(prepared, Code::Unimplemented, disabled);
    assert_eq!(server.deps.registry.own_bundle().jwt_authorities, []);
    let mut health = HealthClient::new(server.local());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_is_refused() {
    let server = Server::new().await;
    let (admin, agent) = (server.peer("spiffe://other/admin", "1"), server.agent("a").await);
    assert!(count(admin.clone()).await.is_ok());
    assert!(post_status(agent.clone()).await.is_ok());
    server.clock.set(from_unix_seconds(NOW + 1_001));
    check_denied(count(admin).await.map(drop), COUNT, None);
    check_denied(post_status(agent).await, STATUS, Some(Reason::AgentExpired));
}

#[tokio::test]
async fn an_agent_is_refused_with_the_reason_as_soon_as_there_is_one() {
    let server = Server::new().await;
    let channel = server.agent("a").await;
    assert!(post_status(channel.clone()).await.is_ok());
    let other = server.peer("spiffe://td/spire/agent/a", "2");
    check_denied(post_status(other).await, STATUS, Some(Reason::AgentNotActive));
    let stranger = server.peer("spiffe://td/spire/agent/b", "1");
    check_denied(post_status(stranger).await, STATUS, Some(Reason::AgentNotAttested));
    let foreign = server.peer("spiffe://other/spire/agent/a", "1");
    check_denied(post_status(foreign).await, STATUS, None);
    let workload = server.peer("spiffe://td/web", "1");
    check_denied(post_status(workload).await, STATUS, None); // H146

    let registry = &server.deps.registry;
    registry.ban_node(node("a").id).await.unwrap();
    check_denied(post_status(channel.clone()).await, STATUS, Some(Reason::AgentBanned)); // H147
    registry.evict_node(node("a").id).await.unwrap();
    check_denied(post_status(channel).await, STATUS, Some(Reason::AgentNotAttested)); // H147
}

#[tokio::test]
async fn the_older_certificate_of_an_agent_dies_when_the_newer_is_used() {
    let server = Server::new().await;
    let old = server.agent("a").await;
    let new_serial = NewSerial { serial: "2".into(), not_after: NOW + 2_000 };
    server.deps.registry.renew_node(node("a").id, "1".into(), new_serial).await.unwrap();
    assert!(post_status(old.clone()).await.is_ok());
    let new = server.peer("spiffe://td/spire/agent/a", "2");
    assert!(post_status(new.clone()).await.is_ok());
    check_denied(post_status(old).await, STATUS, Some(Reason::AgentNotActive));
    assert!(post_status(new).await.is_ok());
    let node = server.deps.registry.node(&node("a").id).unwrap();
    assert_eq!((node.serial.as_deref(), node.not_after), (Some("2"), NOW + 2_000));
    assert_eq!(node.new_serial, None);
}

#[tokio::test]
async fn anybody_reads_the_bundle() {
    let server = Server::new().await;
    for channel in [server.anonymous(), server.local(), server.peer("spiffe://td/web", "1")] {
        let mut client = BundleClient::new(channel);
        let bundle = client.get_bundle(bundle_pb::GetBundleRequest::default());
        assert_eq!(bundle.await.unwrap().into_inner().trust_domain, "td");
    }
}

#[tokio::test]
async fn what_is_not_served_says_so_to_those_who_might_ask() {
    let server = Server::new().await;
    let state = |channel| async move {
        let request = GetWitAuthorityStateRequest {};
        LocalAuthorityClient::new(channel).get_wit_authority_state(request).await
    };
    assert_eq!(state(server.local()).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(state(server.anonymous()).await.unwrap_err().code(), Code::PermissionDenied);
    let info = |channel| async move {
        DebugClient::new(channel).get_info(GetInfoRequest {}).await.unwrap_err().code()
    };
    assert_eq!(info(server.anonymous()).await, Code::Unimplemented);
    assert_eq!(info(server.peer("spiffe://other/admin", "1")).await, Code::Unimplemented);
    let health = HealthClient::new(server.anonymous()).check(HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let server = Server::new().await;
    let channel = server.agent("a").await;
    for _ in 0..10 {
        post_status(channel.clone()).await.unwrap();
    }
    let status = post_status(channel).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "rate limit exceeded; try again in 1 s");
    let hint = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    assert!((1..=100).contains(&hint.parse::<u64>().unwrap()), "{hint}");
    let details = rpc::Status::decode(status.details()).unwrap();
    let retry: rpc::RetryInfo = details.details[0].to_msg().unwrap();
    assert!(retry.retry_delay.unwrap().nanos > 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_it_is_old_and_the_client_comes_back() {
    let server = Server::new().await;
    let channel = server.local();
    assert!(count(channel.clone()).await.is_ok());
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert!(count(channel.clone()).await.is_ok());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let gone = count(channel).await.unwrap_err(); // the connector of this test connects once
    assert_eq!(gone.code(), Code::Unavailable);
}

#[tokio::test]
async fn refusals_do_not_fill_the_audit_log() {
    let server = Server::new().await;
    let channel = server.anonymous();
    for _ in 0..60 {
        check_denied(count(channel.clone()).await.map(drop), COUNT, None);
    }
    assert!((50..60).contains(&server.audited().len()), "{}", server.audited().len());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_say_what_it_wants_is_cut_off() {
    let server = Server::new().await;
    let mut grpc = tonic::client::Grpc::new(server.local());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<types::Entry, types::Entry>::default();
    let nothing = tokio_stream::pending::<types::Entry>();
    let path = http::uri::PathAndQuery::from_static(COUNT);
    let answer = grpc.client_streaming(Request::new(nothing), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
}
