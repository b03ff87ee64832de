//! What only those at the admin socket are served: the log level, how the server is doing, health.

use futures_util::FutureExt as _;
use steeple::health::detail;
use steeple_proto::spire::api::server::debug::v1 as debug_pb;
use steeple_proto::spire::api::server::debug::v1::debug_client::DebugClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::logger::v1 as logger_pb;
use steeple_proto::spire::api::server::logger::v1::logger_client::LoggerClient;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::*;

fn levels(logger: &types::Logger) -> (i32, i32) {
    (logger.current_level, logger.launch_level)
}

#[tokio::test]
async fn the_log_level_is_shown_set_and_reset() {
    let server = Server::new().await;
    let mut client = LoggerClient::new(server.local());
    let (warn, trace) = (types::LogLevel::Warn.into(), types::LogLevel::Trace.into());
    let shown = client.get_logger(logger_pb::GetLoggerRequest {}).await.unwrap();
    assert_eq!(levels(shown.get_ref()), (warn, warn));
    let set = |new_level| logger_pb::SetLogLevelRequest { new_level };
    let shown = client.set_log_level(set(trace)).await.unwrap();
    assert_eq!(levels(shown.get_ref()), (trace, warn));
    assert_eq!(server.deps.log.current(), Level::Trace);
    for wrong in [0, 8, -1] {
        let expected = "new_level: must be PANIC, FATAL, ERROR, WARN, INFO, DEBUG or TRACE";
        check_status(client.set_log_level(set(wrong)).await, Code::InvalidArgument, expected);
    }
    let shown = client.get_logger(logger_pb::GetLoggerRequest {}).await.unwrap();
    assert_eq!(levels(shown.get_ref()), (trace, warn));
    let shown = client.reset_log_level(logger_pb::ResetLogLevelRequest {}).await.unwrap();
    assert_eq!(levels(shown.get_ref()), (warn, warn));
    let records: Vec<_> =
        server.records().into_iter().map(|record| record["level"].clone()).collect();
    assert_eq!(records, ["trace", "warn"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_tells_how_it_is_doing() {
    let server = Server::new().await;
    server.agent("a").await;
    let entries = vec![entry("/a", "/spire/agent/a"), entry("/b", "/spire/agent/a")];
    let request = entry_pb::BatchCreateEntryRequest { entries, output_mask: None };
    EntryClient::new(server.local()).batch_create_entry(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(90)).await;
    let mut client = DebugClient::new(server.local());
    let info = client.get_info(debug_pb::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.uptime, 90);
    // Its own bundle is one of them, as with SPIRE.
    let counts = (info.agents_count, info.entries_count, info.federated_bundles_count);
    assert_eq!(counts, (1, 2, 1));
    let [own, authority] = info.svid_chain.as_slice() else { panic!("{info:?}") };
    assert_eq!((own.id.clone(), own.expires_at), (wire_id("/spire/server"), NOW + 3_600));
    let td = types::Spiffeid { trust_domain: "td".into(), path: String::new() };
    assert_eq!((authority.id.clone(), authority.expires_at), (Some(td), NOW + 86_400));
    assert!(authority.subject.starts_with("SERIALNUMBER="), "{}", authority.subject);
}

#[tokio::test]
async fn health_is_about_the_whole_server() {
    let server = Server::new().await;
    let mut client = HealthClient::new(server.local());
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    assert_eq!(detail(&answer), "all is well");
    server.clock.set(from_unix_seconds(NOW + 86_401));
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(detail(&answer), "the X.509 authority has expired, and there is no other yet");
    server.clock.set(from_unix_seconds(NOW + 1));
    let one = HealthCheckRequest { service: "spire.api.server.entry.v1.Entry".into() };
    let expected = "per-service health is not supported";
    check_status(client.check(one.clone()).await, Code::InvalidArgument, expected);
    check_status(client.watch(one).await, Code::InvalidArgument, expected);
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_of_every_change() {
    let server = Server::new().await;
    let mut client = HealthClient::new(server.local());
    let mut changes = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = |answer: Option<HealthCheckResponse>| answer.unwrap().status();
    assert_eq!(status(changes.message().await.unwrap()), ServingStatus::Serving);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(changes.message().now_or_never().is_none(), "nothing changed");
    server.clock.set(from_unix_seconds(NOW + 86_401)); // its authorities have expired
    assert_eq!(status(changes.message().await.unwrap()), ServingStatus::NotServing);
    server.clock.set(from_unix_seconds(NOW + 1));
    assert_eq!(status(changes.message().await.unwrap()), ServingStatus::Serving);
}
