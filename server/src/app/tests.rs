//! A whole server in one process: its sockets, its TLS, its files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hyper_util::rt::TokioIo;
use steeple::clock::SystemClock;
use steeple::keys::{KeyAlgorithm, PrivateKey};
use steeple::telemetry::Level;
use steeple::tls::{ClientDeps, Connector, ExpectedServer, Material, Trust};
use steeple::x509::csr::{self, Wish};
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple::x509::{Chain, Name, Subject};
use steeple_proto::spire::api::server::agent::v1 as agent_pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step};
use steeple_proto::spire::api::server::agent::v1::attest_agent_response::Step as Answer;
use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::types;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use super::*;
use crate::api::limits::Source;

mod keys;

fn config(directory: &Path) -> Config {
    let text = format!(
        "trust_domain = 'td'\nbind_address = '127.0.0.1'\nbind_port = 0\ndata_dir = '{}'",
        directory.display()
    );
    Config::parse(&text, Path::new("test.toml")).unwrap()
}

fn process() -> Process {
    Process { clock: Arc::new(SystemClock), log: LogLevel::unattached(Level::Info) }
}

async fn start(directory: &Path) -> anyhow::Result<Server> {
    Server::start(&config(directory), process()).await
}

fn local(directory: &Path) -> Channel {
    let path = crate::config::socket_in(directory);
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://server").connect_with_connector_lazy(tower::service_fn(connect))
}

/// A connection over the network, with a certificate or without.
fn remote(server: &Server, material: Option<Material>, trust: Trust) -> Channel {
    let spiffe_id = "spiffe://td/spire/server".parse().unwrap();
    let (_, material) = watch::channel(material.map(Arc::new));
    let deps = ClientDeps {
        material,
        server: ExpectedServer { spiffe_id, trust },
        clock: Arc::new(SystemClock),
    };
    let address = server.address().to_string();
    let connector = Connector::new(&address, deps, Duration::from_secs(10)).unwrap();
    Endpoint::from_static("http://server").connect_with_connector_lazy(connector)
}

async fn anchors(channel: Channel) -> Trust {
    let request = bundle_pb::GetBundleRequest::default();
    let bundle = BundleClient::new(channel).get_bundle(request).await.unwrap().into_inner();
    let bundle = steeple::convert::bundle_from_proto(&bundle).unwrap();
    let anchors = AnchorSet::of("td".parse().unwrap(), Anchors::from(&bundle));
    Trust::Anchors(watch::channel(Arc::new(anchors)).1)
}

/// Joins with a new token, and gives the key and certificates of the agent.
async fn join(directory: &Path, server: &Server) -> (Arc<PrivateKey>, Chain, types::Spiffeid) {
    let request = agent_pb::CreateJoinTokenRequest { ttl: 60, ..Default::default() };
    let token = AgentClient::new(local(directory)).create_join_token(request).await.unwrap();
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let subject = Name::from(&Subject::default());
    let wish = Wish { subject: &subject, spiffe_id: None, dns_names: &[] };
    let csr = csr::make(&*key, &wish).unwrap();
    let params = Params {
        data: Some(types::AttestationData {
            r#type: "join_token".into(),
            payload: token.into_inner().value.into_bytes(),
        }),
        params: Some(agent_pb::AgentX509svidParams { csr }),
    };
    let step = Some(Step::Params(params));
    let opening = tokio_stream::once(agent_pb::AttestAgentRequest { step });
    let mut client = AgentClient::new(remote(server, None, anchors(local(directory)).await));
    let mut answers = client.attest_agent(opening).await.unwrap().into_inner();
    let Some(Answer::Result(outcome)) = answers.message().await.unwrap().unwrap().step else {
        panic!()
    };
    let svid = outcome.svid.unwrap();
    let chain = Chain::new(svid.cert_chain.into_iter().map(Into::into).collect()).unwrap();
    (key, chain, svid.id.unwrap())
}

async fn entries(channel: Channel) -> Result<usize, tonic::Status> {
    let request = entry_pb::GetAuthorizedEntriesRequest::default();
    let answer = EntryClient::new(channel).get_authorized_entries(request).await?;
    Ok(answer.into_inner().entries.len())
}

#[tokio::test]
async fn a_node_joins_calls_survives_a_restart_and_is_banned() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await.unwrap();
    let (key, chain, id) = join(directory.path(), &server).await;
    let material = || Some(Material::new(&chain, key.clone()).unwrap());
    let trust = anchors(local(directory.path())).await;
    assert_eq!(entries(remote(&server, material(), trust.clone())).await.unwrap(), 0);
    // H144: who has no certificate is connected, and may not call.
    let anonymous = entries(remote(&server, None, trust.clone())).await.unwrap_err();
    assert_eq!(anonymous.code(), Code::PermissionDenied);
    server.stop().await;

    // The same authorities vouch for it, and it is remembered.
    let server = start(directory.path()).await.unwrap();
    let channel = remote(&server, material(), trust);
    assert_eq!(entries(channel.clone()).await.unwrap(), 0);
    let ban = agent_pb::BanAgentRequest { id: Some(id) };
    AgentClient::new(local(directory.path())).ban_agent(ban).await.unwrap();
    let banned = entries(channel).await.unwrap_err();
    assert_eq!(banned.code(), Code::PermissionDenied); // H147
    server.stop().await;
}

#[tokio::test]
async fn who_is_not_of_the_trust_domain_does_not_get_a_connection() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let servers =
        [start(directories[0].path()).await.unwrap(), start(directories[1].path()).await.unwrap()];
    let (key, chain, _) = join(directories[0].path(), &servers[0]).await;
    let material = Material::new(&chain, key).unwrap();
    let stranger = remote(&servers[1], Some(material), Trust::Unverified);
    let refused = entries(stranger).await.unwrap_err().code();
    // With TLS 1.3 a client learns of it when it reads the answer to its first call.
    assert!(matches!(refused, Code::Unavailable | Code::Unknown), "{refused:?}");
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_tells_of_the_refusals_that_it_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await.unwrap();
    let source = Source::Address("192.0.2.1".parse().unwrap());
    while server.refusals.is_all_told() {
        let refusal = Event::CallRefused { method: "/a/B", why: "x".into() };
        server.refusals.record(source, &event::Caller::Server, refusal).await;
    }
    server.stop().await;
    let log = std::fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
    let mut last = log.lines().rev();
    assert!(last.next().unwrap().contains("\"event\":\"server_stopped\""), "{log}");
    assert!(last.next().unwrap().contains("\"event\":\"refusals_left_out\""), "{log}");
}

#[tokio::test]
async fn a_data_directory_has_one_server_and_its_files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await.unwrap();
    let second = format!("{:#}", start(directory.path()).await.unwrap_err());
    assert!(second.contains(&format!("process {}", std::process::id())), "{second}");

    let mode = |name: &str| {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("private"), 0o750);
    assert_eq!(mode("private/admin.sock"), 0o770);
    assert_eq!(mode("keys"), 0o700);
    for file in ["audit.jsonl", "datastore.sqlite", "keys/x509-CA-A.key"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    server.stop().await;
    assert!(!directory.path().join("private/admin.sock").exists());
    start(directory.path()).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_server_with_a_setting_that_cannot_work_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let mut broken = config(directory.path());
    let x509pop = "[node_attestor.x509pop]\nca_bundle_paths = ['no.pem']\n";
    let text = format!("data_dir = '{}'\n{x509pop}", directory.path().display());
    broken.node_attestors = Config::parse(&text, Path::new("x")).unwrap().node_attestors;
    let error = Server::start(&broken, process()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("ca_bundle_paths") && error.contains("no.pem"), "{error}");
    assert_eq!(format!("{:#}", check_surroundings(&broken).remove(0)), error);
    assert!(check_surroundings(&config(directory.path())).is_empty());
    let mut no_audit = config(directory.path());
    no_audit.audit.path = "/".into();
    let found = check_surroundings(&no_audit);
    assert!(
        found.len() == 1 && format!("{:#}", found[0]).contains("`audit.path` is /"),
        "{found:?}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut taken_port = config(directory.path());
    taken_port.address = taken.local_addr().unwrap();
    let error = Server::start(&taken_port, process()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains(&taken_port.address.to_string()), "{error}");
}
