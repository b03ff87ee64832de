//! The composition root: who works with whom, in which order they start, and how they stop.
//!
//! The socket is there before anything else, so that a workload that comes early is told to wait
//! and not that there is nobody. The server need not be there at all.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use steeple::clock::{Clock, SystemClock};
use steeple::locked::LockedFile;
use steeple::tasks::Tasks;
use steeple::telemetry::{self, Log, LogLevel};
use steeple::tls::{ConnectorError, Material};
use steeple::x509::verify::AnchorSet;
use steeple_proto::spire::agent::debug::v1::debug_server::DebugServer;
use steeple_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use steeple_proto::spire::api::agent::logger::v1::logger_server::LoggerServer;
use steeple_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tracing::{info, info_span, warn};

use crate::admin::debug::{self, DebugApi};
use crate::admin::logger::LoggerApi;
use crate::attest::{Attestors, unix};
use crate::census;
use crate::complaints::Complaints;
use crate::config::{AdminConfig, Config};
use crate::endpoint::budget::{Origin, Place};
use crate::endpoint::limits::Limit;
use crate::endpoint::{self, Endpoint};
use crate::health::{self, HealthApi};
use crate::identity::{self, Capacity, Holders, Snapshot};
use crate::node::contact::{self, ServerContact};
use crate::node::task::Node;
use crate::node::{self, NodeError, NodeStatus, OwnBundle};
use crate::peer::nesting::Nesting;
use crate::peer::{Peer, PeerError};
use crate::server_api::link::Listeners;
use crate::server_api::{Denial, ServerApi};
use crate::sync::{self, Sync, SyncStatus};
use crate::workload::{self, DelegatedIdentityApi, WorkloadApi};

mod signals;
pub mod surroundings;

use self::signals::Signals;

/// How many threads answer requests. An agent is small, and shares its node with what it serves;
/// a second thread would mostly be woken to find that the first has done the work.
const THREADS: usize = 1;

/// How many threads read files, look up names of users and resolve that of the server. If every file
/// system and every directory of users hangs, there are threads left to find the server.
const BLOCKING_THREADS: usize = unix::digest::HASHINGS + unix::names::LOOKUPS + 4;

/// How long tasks may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Files of the data directory.
const AGENT_FILE: &str = "agent.json";
const VIEW_FILE: &str = "view.bin";
const LOCK_FILE: &str = "lock";

/// What leads from one part to another.
struct Wires {
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    stop: CancellationToken,
    material: watch::Sender<Option<Arc<Material>>>,
    anchors: watch::Sender<Arc<AnchorSet>>,
    distrust: watch::Sender<bool>,
    status: watch::Sender<NodeStatus>,
    bundle: watch::Sender<Option<OwnBundle>>,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    synced: watch::Sender<SyncStatus>,
    refresh: Arc<Notify>,
}

/// What runs, and how it is stopped.
struct Running {
    tasks: Tasks,
    stop: CancellationToken,
    node: JoinHandle<Result<(), NodeError>>,
    sync: JoinHandle<()>,
    endpoints: Vec<JoinHandle<()>>,
    endpoint_ended: CancellationToken,
}

/// The sockets, bound, and what their services need besides the wires.
struct Sockets {
    workload: Option<Endpoint>,
    /// How many clients that takes on, or would.
    clients: Limit,
    admin: Option<Endpoint>,
    log: LogLevel,
}

/// Runs an agent until it is told to stop, on the thread that holds SIGUSR2.
pub fn run(config: Config) -> anyhow::Result<()> {
    // It may be where the log file is to be made.
    let _lock = lock_data_dir(&config.data_dir)?;
    let log = telemetry::start(&config.log).context("starting the log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(serve(config, log));
    // What still blocks a thread has nothing to finish.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, log: Log) -> anyhow::Result<()> {
    let mut signals = Signals::catch(&log).context("listening for signals")?;
    let socket = endpoint::Config::new(config.socket_path.clone()).fit();
    let clients = socket.limits.connections;
    let workload = if config.disable_workload_api {
        None
    } else {
        Some(Endpoint::bind(socket).await.context("opening the workload socket")?)
    };
    let admin = match &config.admin {
        Some(admin) => {
            let socket = endpoint::Config::for_administrators(admin.socket_path.clone());
            Some(Endpoint::bind(socket).await.context("opening the admin socket")?)
        }
        None => None,
    };
    let mut running = start(config, Sockets { workload, clients, admin, log: log.level })?;
    let outcome = tokio::select! {
        () = signals.end() => Ok(()),
        ended = &mut running.node => match ended {
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) | Err(_) => Err(anyhow::anyhow!("the task of this node's SVID has ended")),
        },
        _ = &mut running.sync => Err(anyhow::anyhow!("the synchronisation has ended")),
        () = running.endpoint_ended.cancelled() => {
            Err(anyhow::anyhow!("a socket is no longer served"))
        }
    };
    info!("stopping");
    running.stop().await;
    outcome
}

fn start(config: Config, sockets: Sockets) -> anyhow::Result<Running> {
    let wires = Wires::new();
    let (denials, heard) = mpsc::channel(1);
    let listeners = Listeners { denials, distrust: wires.distrust.clone() };
    let contact = wires.contact(&config, listeners).context("setting up TLS")?;
    let server = contact.server();
    let sync = wires.sync(&config, server.clone());
    let workload = wires.workload(&config, server.clone(), sockets.clients);
    let in_use = census::Deps {
        server,
        holders: workload.holders.clone(),
        snapshot: wires.snapshot.subscribe(),
        material: wires.material.subscribe(),
    };
    let endpoint = sockets.workload.map(|endpoint| (endpoint, wires.routes(&workload)));
    let mut endpoints = Vec::from_iter(endpoint);
    if let (Some(endpoint), Some(admin)) = (sockets.admin, &config.admin) {
        endpoints.push((endpoint, wires.admin_routes(workload, admin, sockets.log)));
    }
    let channels = wires.node_channels(heard);
    let node = Node::load(
        node::Deps {
            contact: Arc::new(contact),
            attestor: config.node_attestor.build(),
            clock: wires.clock,
        },
        node::Config {
            trust_domain: config.trust_domain,
            trust: config.trust,
            rebootstrap: config.rebootstrap,
            file: config.data_dir.join(AGENT_FILE),
        },
        channels,
    )?;
    let (tasks, stop) = (wires.tasks, wires.stop);
    let endpoint_ended = CancellationToken::new();
    let serve = |(endpoint, routes): (Endpoint, Routes)| {
        info!(socket = %endpoint.path().display(), "Starting agent APIs");
        let ended = endpoint_ended.clone().drop_guard();
        let serve = endpoint.serve(routes, pin, stop.clone());
        tasks.spawn(info_span!("endpoint"), |_| async move {
            let _ended = ended;
            serve.await;
        })
    };
    let endpoints = endpoints.into_iter().map(serve).collect();
    tasks.spawn(info_span!("census"), |stop| census::run(in_use, stop));
    Ok(Running {
        node: tasks.spawn(info_span!("node"), |stop| node.run(stop)),
        sync: tasks.spawn(info_span!("sync"), |stop| sync.run(stop)),
        endpoints,
        endpoint_ended,
        tasks,
        stop,
    })
}

impl Wires {
    fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            tasks: Tasks::new(),
            stop: CancellationToken::new(),
            material: watch::Sender::new(None),
            anchors: watch::Sender::default(),
            distrust: watch::Sender::default(),
            status: watch::Sender::default(),
            bundle: watch::Sender::new(None),
            snapshot: watch::Sender::new(None),
            synced: watch::Sender::default(),
            refresh: Arc::new(Notify::new()),
        }
    }

    fn contact(
        &self,
        config: &Config,
        listeners: Listeners,
    ) -> Result<ServerContact, ConnectorError> {
        let deps = contact::Deps {
            address: Arc::clone(&config.server),
            trust_domain: config.trust_domain.clone(),
            material: self.material.subscribe(),
            anchors: self.anchors.subscribe(),
            clock: self.clock.clone(),
        };
        ServerContact::new(deps, listeners)
    }

    fn sync(&self, config: &Config, server: Arc<dyn ServerApi>) -> Sync {
        let deps = sync::Deps {
            server,
            node: self.status.subscribe(),
            refresh: self.refresh.clone(),
            clock: self.clock.clone(),
        };
        let numbers = sync::Config {
            trust_domain: config.trust_domain.clone(),
            interval: config.sync_interval,
            file: config.data_dir.join(VIEW_FILE),
        };
        let channels = sync::Channels {
            snapshot: self.snapshot.clone(),
            bundle: self.bundle.clone(),
            status: self.synced.clone(),
        };
        Sync::new(deps, numbers, channels)
    }

    fn node_channels(&self, denials: mpsc::Receiver<Denial>) -> node::Channels {
        node::Channels {
            material: self.material.clone(),
            anchors: self.anchors.clone(),
            status: self.status.clone(),
            denials,
            distrust: self.distrust.subscribe(),
            bundle: self.bundle.subscribe(),
        }
    }

    fn workload(
        &self,
        config: &Config,
        server: Arc<dyn ServerApi>,
        clients: Limit,
    ) -> workload::Deps {
        let deps = identity::Deps {
            server,
            snapshot: self.snapshot.subscribe(),
            refresh: self.refresh.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            key_algorithm: config.workload_key,
        };
        let capacity = Capacity { all: clients.all, user: clients.user };
        workload::Deps {
            attestors: Attestors::of_config(&config.workload_attestors, &self.clock),
            snapshot: self.snapshot.subscribe(),
            holders: Holders::new(deps, capacity),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            complaints: Complaints::default(),
            verifiers: config.verifiers,
        }
    }

    /// What workloads are served.
    fn routes(&self, workload: &workload::Deps) -> Routes {
        let workload = WorkloadApi::new(workload.clone());
        Routes::new(SpiffeWorkloadApiServer::new(workload)).add_service(self.health())
    }

    fn health(&self) -> HealthServer<HealthApi> {
        HealthServer::new(HealthApi::new(health::Deps {
            node: self.status.subscribe(),
            sync: self.synced.subscribe(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
        }))
    }

    /// What administrators and delegates are served.
    fn admin_routes(
        &self,
        workload: workload::Deps,
        config: &AdminConfig,
        log: LogLevel,
    ) -> Routes {
        let debug = DebugApi::new(debug::Deps {
            material: self.material.subscribe(),
            sync: self.synced.subscribe(),
            holders: workload.holders.clone(),
            clock: self.clock.clone(),
        });
        let delegated = DelegatedIdentityApi::new(workload, config.delegates.clone());
        Routes::new(DebugServer::new(debug))
            .add_service(LoggerServer::new(LoggerApi::new(log)))
            .add_service(DelegatedIdentityServer::new(delegated))
            .add_service(self.health())
    }
}

impl Running {
    /// Streams end first, with a status that tells clients to come back; then all else.
    async fn stop(self) {
        self.stop.cancel();
        for endpoint in self.endpoints {
            if endpoint.await.is_err() {
                warn!("an endpoint has failed");
            }
        }
        if let Err(left) = self.tasks.shutdown(PATIENCE).await {
            warn!(tasks = left, "tasks that did not stop in time");
        }
    }
}

/// Pins who has connected, and says where it comes from.
pub(crate) fn pin(socket: &OwnedFd) -> Result<(Peer, Origin), PeerError> {
    let peer = Peer::of(socket)?;
    let place = match peer.process().nesting() {
        Nesting::Here => Place::Here,
        Nesting::Below(namespace) => Place::Namespace(namespace.inode()),
        Nesting::Unknown => Place::Unknown,
    };
    let origin = Origin { pid: peer.pid(), user: peer.uid(), place };
    Ok((peer, origin))
}

/// Makes the data directory if need be, and keeps other agents out of it.
fn lock_data_dir(path: &Path) -> anyhow::Result<LockedFile> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the data directory {}", path.display()))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .with_context(|| format!("writing to the data directory {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(LockedFile::new(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "another agent uses the data directory {}; stop it, or give this one another by \
             --data-dir",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking the data directory {}", path.display()))
        }
    }
}
