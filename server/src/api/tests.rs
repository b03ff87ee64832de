//! The RPCs as clients see them: the real tonic clients and handlers in one process, over memory.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::{KeyAlgorithm, MemoryKeyStore, PrivateKey};
use steeple::tasks::Tasks;
use steeple::telemetry::Level;
use steeple::x509::csr::{self, Wish};
use steeple::x509::{Name, Subject};
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use super::caller::{Caller, Process};
use super::guard::{Guard, Shared};
use super::inflow::Inflow;
use super::*;
use crate::app::ledger::RegistryLedger;
use crate::audit::{Config as AuditConfig, Durability};
use crate::ca::own_svid::OwnSvid;
use crate::ca::rotation::{self, Rotation};
use crate::datastore::memory::MemoryDatastore;
use crate::datastore::{NewSerial, Node};
use crate::node_attest::join_token::JoinTokens;
use crate::node_attest::{AttestError, Attested, Conversation};

mod abandoned;
mod access;
mod agents;
mod authorities;
mod batches;
mod bundles;
mod downstream;
mod entries;
mod guarded;
mod local;
mod masks;
mod nodes;
mod pages;
mod relationships;
mod svids;

const NOW: i64 = 2_000_000_000;

/// A server without a network.
struct Server {
    deps: Arc<Deps>,
    shared: Arc<Shared>,
    clock: Arc<TokioClock>,
    tasks: Tasks,
    directory: tempfile::TempDir,
}

impl Server {
    async fn new() -> Self {
        Self::recording(log).await
    }

    /// A server that makes no tokens.
    async fn without_tokens() -> Self {
        Self::with(log, None).await
    }

    /// A server with this audit log.
    async fn recording(audit: impl FnOnce(PathBuf, Arc<TokioClock>) -> Audit) -> Self {
        Self::with(audit, Some(KeyAlgorithm::EcP256)).await
    }

    async fn with(
        audit: impl FnOnce(PathBuf, Arc<TokioClock>) -> Audit,
        jwt_key: Option<KeyAlgorithm>,
    ) -> Self {
        let tasks = Tasks::new();
        let clock = Arc::new(TokioClock::new(from_unix_seconds(NOW)));
        let directory = tempfile::tempdir().unwrap();
        let audit = Arc::new(audit(directory.path().join("audit.jsonl"), clock.clone()));
        let datastore = Arc::new(MemoryDatastore::new());
        let registry = Registry::open(td(), datastore, &tasks).await.unwrap();
        let limits = Arc::new(Limits::new(limits::Config {
            attestation: true,
            signing: std::env::var_os("MEASURE").is_none(),
        }));
        let refusals = Arc::new(Refusals::new(limits.clone(), audit.clone(), clock.clone()));
        let shared = Arc::new(Shared {
            refusals: refusals.clone(),
            registry: registry.clone(),
            admin_ids: [id("spiffe://other/admin")].into(),
            disable_jwt_svids: jwt_key.is_none(),
            inflow: Inflow::default(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        let tokens: Arc<dyn NodeAttestor> =
            Arc::new(JoinTokens::new(registry.clone(), clock.clone()));
        let echo: Arc<dyn NodeAttestor> = Arc::new(Echo);
        let rotation = authorities(&registry, &audit, &clock, jwt_key).await;
        let ca = Ca::new(rotation.authorities(), audit.clone(), clock.clone());
        let control = rotation.control();
        tasks.spawn(tracing::Span::none(), |stop| rotation.run(stop));
        let ttl = Duration::from_secs(3_600);
        let own_svid = OwnSvid::start(ca.clone(), ttl, clock.clone()).await.unwrap().material();
        let deps = Arc::new(Deps {
            ca,
            authorities: control,
            reports: Reports::default(),
            servers_below: ServersBelow::default(),
            ttl: TtlConfig {
                x509_svid: Duration::from_secs(3_600),
                jwt_svid: Duration::from_secs(300),
                agent: Duration::from_secs(7_200),
            },
            jwt_issuer: None,
            upstream: None,
            registry,
            audit,
            attestors: [(tokens.kind(), tokens), (echo.kind(), echo)].into(),
            limits,
            refusals,
            clock: clock.clone(),
            started: Instant::now(),
            own_svid,
            log: LogLevel::unattached(Level::Warn),
            tasks: tasks.clone(),
        });
        Self { deps, shared, clock, tasks, directory }
    }

    /// A connection of this caller.
    fn connect(&self, caller: Caller) -> Channel {
        let reach = match caller {
            Caller::Local(_) => Reach::AdminSocket,
            Caller::Anonymous(_) | Caller::Peer(_) | Caller::Unnamed { .. } => Reach::Everywhere,
        };
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let guard = Guard::new(routes(&self.deps, reach), Arc::new(caller), self.shared.clone());
        self.tasks.spawn(tracing::Span::none(), |stop| connection::serve(server, guard, stop));
        let client = Mutex::new(Some(client));
        let connect = move |_: Uri| {
            let client = client.lock().unwrap().take();
            async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::other("once")) }
        };
        Endpoint::from_static("http://server")
            .connect_with_connector_lazy(tower::service_fn(connect))
    }

    fn local(&self) -> Channel {
        self.connect(Caller::Local(Process { uid: 0, gid: 0, pid: Some(1) }))
    }

    fn anonymous(&self) -> Channel {
        self.connect(Caller::Anonymous("192.0.2.1:1".parse().unwrap()))
    }

    /// A connection of somebody with this ID and serial number.
    fn peer(&self, id: &str, serial: &str) -> Channel {
        self.connect(Caller::Peer(Peer {
            id: id.parse().unwrap(),
            serial: serial.into(),
            not_after: NOW + 1_000,
            address: "192.0.2.1:1".parse().unwrap(),
        }))
    }

    /// An attested agent and its connection.
    async fn agent(&self, name: &str) -> Channel {
        let node = node(name);
        self.deps.registry.put_node(node.clone(), None, self.clock.now()).await.unwrap();
        self.peer(node.id.as_str(), "1")
    }

    /// The events in the audit log, without those of the server itself.
    fn records(&self) -> Vec<serde_json::Value> {
        let records = self.all_records().into_iter();
        records.filter(|record| record["caller"]["class"] != "server").collect()
    }

    /// How many refusals the audit log says that it leaves out.
    fn left_out(&self) -> u64 {
        let records = self.all_records().into_iter();
        let left_out = records.filter(|record| record["event"] == "refusals_left_out");
        left_out.map(|record| record["count"].as_u64().unwrap()).sum()
    }

    fn all_records(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.directory.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The names of all events in the audit log.
    fn audited(&self) -> Vec<String> {
        self.records().iter().map(|record| record["event"].as_str().unwrap().into()).collect()
    }
}

fn td() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn wire_id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid { trust_domain: "td".into(), path: path.into() })
}

fn node(name: &str) -> Node {
    Node {
        id: id(&format!("spiffe://td/spire/agent/{name}")),
        attestation_type: "x509pop".into(),
        serial: Some("1".into()),
        not_after: NOW + 1_000,
        new_serial: None,
        selectors: ["x509pop:a:1".parse().unwrap()].into_iter().collect(),
        can_reattest: false,
        agent_version: String::new(),
    }
}

/// An entry below an agent.
fn entry(path: &str, parent: &str) -> types::Entry {
    types::Entry {
        spiffe_id: wire_id(path),
        parent_id: wire_id(parent),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
        ..types::Entry::default()
    }
}

#[track_caller]
fn check_status<T: std::fmt::Debug>(found: Result<T, Status>, code: Code, message: &str) {
    let status = found.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}

fn log(path: PathBuf, clock: Arc<TokioClock>) -> Audit {
    let config = AuditConfig { path, durability: Durability::Background };
    Audit::open(config, clock).unwrap()
}

/// Authorities that live for a day, with keys in memory.
async fn authorities(
    registry: &Registry,
    audit: &Arc<Audit>,
    clock: &Arc<TokioClock>,
    jwt_key: Option<KeyAlgorithm>,
) -> Rotation<RegistryLedger> {
    let config = rotation::Config {
        trust_domain: td(),
        lifetime: Duration::from_secs(86_400),
        ca_key: KeyAlgorithm::EcP256,
        jwt_key,
        ca_subject: Subject::default(),
    };
    let deps = rotation::Deps {
        ledger: RegistryLedger::new(registry.clone(), clock.clone()),
        keys: Arc::new(MemoryKeyStore::default()),
        upstream: None,
        audit: audit.clone(),
        clock: clock.clone(),
    };
    Rotation::start(config, deps).await.unwrap()
}

/// A request for a certificate, with a key of its own.
fn request_for(spiffe_id: Option<&str>, dns_names: &[&str]) -> Vec<u8> {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let spiffe_id = spiffe_id.map(id);
    let dns_names: Vec<_> = dns_names.iter().map(ToString::to_string).collect();
    let subject = Name::from(&Subject::default());
    let wish = Wish { subject: &subject, spiffe_id: spiffe_id.as_ref(), dns_names: &dns_names };
    csr::make(&key, &wish).unwrap()
}

/// Believes whoever repeats the payload twice, in answer to two challenges, and names the agent by
/// it.
#[derive(Debug)]
struct Echo;

#[tonic::async_trait]
impl NodeAttestor for Echo {
    fn kind(&self) -> &'static str {
        "echo"
    }

    async fn attest(
        &self,
        payload: &[u8],
        node: &mut dyn Conversation,
    ) -> Result<Attested, AttestError> {
        for _ in 0..2 {
            if node.challenge(payload.to_vec()).await? != payload {
                return Err(AttestError::NoPossession);
            }
        }
        Ok(Attested {
            agent_id: id(std::str::from_utf8(payload).unwrap()),
            name: None,
            selectors: ["echo:a:1".parse().unwrap()].into_iter().collect(),
            can_reattest: true,
        })
    }
}
