//! The RPCs as clients see them: the real tonic clients and handlers in one process, over memory.

use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::tasks::Tasks;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use super::caller::{Caller, Process};
use super::guard::{Guard, Shared};
use super::*;
use crate::audit::{Config as AuditConfig, Durability};
use crate::datastore::memory::MemoryDatastore;
use crate::datastore::{NewSerial, Node};

mod agents;
mod bundles;
mod entries;
mod guarded;

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
        let tasks = Tasks::new();
        let clock = Arc::new(TokioClock::new(from_unix_seconds(NOW)));
        let directory = tempfile::tempdir().unwrap();
        let audit = AuditConfig {
            path: directory.path().join("audit.jsonl"),
            durability: Durability::Background,
        };
        let audit = Arc::new(Audit::open(audit, clock.clone()).unwrap());
        let datastore = Arc::new(MemoryDatastore::new());
        let registry = Registry::open(td(), datastore, &tasks).await.unwrap();
        let shared = Arc::new(Shared {
            registry: registry.clone(),
            admin_ids: [id("spiffe://other/admin")].into(),
            audit: audit.clone(),
            clock: clock.clone(),
        });
        let deps = Arc::new(Deps {
            registry,
            audit,
            attestors: BTreeMap::new(),
            limits: Limits::new(limits::Config { attestation: true, signing: true }),
            clock: clock.clone(),
        });
        Self { deps, shared, clock, tasks, directory }
    }

    /// A connection of this caller.
    fn connect(&self, caller: Caller) -> Channel {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let guard = Guard::new(routes(&self.deps), Arc::new(caller), self.shared.clone());
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

    /// The names of all events in the audit log.
    fn audited(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("audit.jsonl")).unwrap();
        let event = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"].as_str().unwrap().to_owned()
        };
        text.lines().map(event).collect()
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
