//! Puts a server together, and takes it apart again: the only place that knows every part.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit};
use steeple::clock::Clock;
use steeple::tasks::Tasks;
use steeple::telemetry::{self, LogLevel};
use steeple::tls::{Acceptor, Material, ServerDeps};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, info_span, warn};

use self::data_dir::DataDir;
use self::key_store::Keys;
use self::ledger::RegistryLedger;
use self::maintenance::Maintenance;
use crate::api::authority_use::below::ServersBelow;
use crate::api::authority_use::reports::Reports;
use crate::api::guard::Shared;
use crate::api::inflow::Inflow;
use crate::api::limits::Limits;
use crate::api::listener::{Bounds, HANDSHAKE, Listener};
use crate::api::refusals::Refusals;
use crate::api::socket::AdminSocket;
use crate::api::{Deps, routes};
use crate::audit::Audit;
use crate::audit::event::{self, Event};
use crate::authz::operation::Reach;
use crate::ca::Ca;
use crate::ca::control::AuthorityControl;
use crate::ca::own_svid::OwnSvid;
use crate::ca::rotation::{self, Rotation};
use crate::ca::upstream::UpstreamAuthority;
use crate::config::{Config, DatastoreConfig, NodeAttestorConfig};
use crate::datastore::Datastore;
use crate::datastore::memory::MemoryDatastore;
use crate::datastore::sqlite::SqliteDatastore;
use crate::node_attest::NodeAttestor;
use crate::node_attest::join_token::JoinTokens;
use crate::node_attest::x509pop::authorities::Authorities;
use crate::node_attest::x509pop::{self, X509Pop};
use crate::registry::Registry;

mod anchors;
mod data_dir;
mod key_store;
pub(crate) mod ledger;
mod lock;
mod maintenance;
mod signals;
mod trust_domain;
mod upstream;

pub use self::signals::run;

/// How long calls may take to end when the server stops.
const FRONT_PATIENCE: Duration = Duration::from_secs(12);

/// How long what is below them may take after that.
const CORE_PATIENCE: Duration = Duration::from_secs(10);

/// What a server has in common with all else in its process.
#[derive(Clone, Debug)]
pub struct Process {
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// How much is logged.
    pub log: LogLevel,
}

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    socket_path: PathBuf,
    audit: Arc<Audit>,
    refusals: Arc<Refusals>,
    /// Listeners and connections, which end first.
    front: Tasks,
    /// What they need to end well.
    core: Tasks,
    _keys: Keys,
    _data_dir: DataDir,
}

impl Server {
    /// Starts a server, which answers when this returns.
    pub async fn start(config: &Config, process: Process) -> anyhow::Result<Self> {
        let data_dir = DataDir::take(&config.data_dir)?;
        let keys = Keys::open(&config.key_store, &config.data_dir).await?;
        let (front, core) = (Tasks::new(), Tasks::new());
        let tasks = (&front, &core);
        let Assembled { audit, refusals, address } =
            match assemble(config, process, &keys, tasks).await {
                Ok(assembled) => assembled,
                Err(error) => {
                    if let Err(left) = core.shutdown(CORE_PATIENCE).await {
                        warn!(left, "tasks cut off");
                    }
                    return Err(error);
                }
            };
        let socket_path = config.socket_path.clone();
        info!(%address, socket_path = %socket_path.display(), trust_domain = %config.trust_domain,
            "Starting Server APIs");
        Ok(Self {
            address,
            socket_path,
            audit,
            refusals,
            front,
            core,
            _keys: keys,
            _data_dir: data_dir,
        })
    }

    /// Where agents reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Lets the calls that are going on end, and stops.
    pub async fn stop(self) {
        if let Err(left) = self.front.shutdown(FRONT_PATIENCE).await {
            warn!(left, "connections cut off");
        }
        self.refusals.flush().await;
        let stopped = self.audit.record(&event::Caller::Server, &[Event::ServerStopped]).await;
        if let Err(error) = stopped {
            warn!(error = &error as &dyn std::error::Error, "the end is not in the audit log");
        }
        if let Err(left) = self.core.shutdown(CORE_PATIENCE).await {
            warn!(left, "tasks cut off");
        }
        info!(socket_path = %self.socket_path.display(), "Server APIs have stopped");
    }
}

/// Puts the parts together, those that are below others first.
async fn assemble(
    config: &Config,
    Process { clock, log }: Process,
    keys: &Keys,
    (front, core): (&Tasks, &Tasks),
) -> anyhow::Result<Assembled> {
    let audit = Arc::new(Audit::open((&config.audit).into(), Arc::clone(&clock))?);
    core.spawn(info_span!("audit"), |stop| Arc::clone(&audit).run(stop));
    let datastore = datastore(&config.datastore).await?;
    let trust_domain = config.trust_domain.clone();
    let registry = Registry::open(trust_domain.clone(), datastore, core).await?;
    trust_domain::settle(&registry, &config.datastore.to_string()).await?;
    let started = Event::ServerStarted { version: env!("CARGO_PKG_VERSION"), trust_domain };
    audit.record(&event::Caller::Server, &[started]).await?;

    let upstream = upstream::build(config, &clock, core)?;
    let base = Base { registry, upstream, audit: Arc::clone(&audit), clock, log };
    let (ca, control, own_svid) = authorities(config, &base, keys, core).await?;
    let presented = own_svid.material();
    let deps = ServerDeps {
        material: presented.clone(),
        anchors: anchors::watch(&base.registry, config, core),
        clock: Arc::clone(&base.clock),
    };
    let acceptor = Acceptor::new(deps, HANDSHAKE).context("setting up TLS")?;
    core.spawn(info_span!("own_svid"), |stop| own_svid.run(stop));
    let maintenance = Maintenance {
        registry: base.registry.clone(),
        prune: config.prune,
        audit: Arc::clone(&base.audit),
        clock: Arc::clone(&base.clock),
    };
    core.spawn(info_span!("maintenance"), |stop| maintenance.run(stop));
    for (key, longest) in config.shortened_ttls() {
        warn!(key, longest = %humantime::format_duration(longest),
            "SVIDs may live shorter than configured, as ca_ttl is short");
    }
    let limits = Arc::new(Limits::new(config.rate_limits));
    let refusals = Refusals::new(Arc::clone(&limits), Arc::clone(&audit), Arc::clone(&base.clock));
    let refusals = Arc::new(refusals);
    let telling = Arc::clone(&refusals);
    core.spawn(info_span!("refusals"), |stop| telling.run(stop));
    let calls = Calls { limits, refusals: Arc::clone(&refusals) };
    let signing = Signing { ca, control, acceptor, presented };
    let address = listen(config, base, (signing, calls), front).await?;
    Ok(Assembled { audit, refusals, address })
}

/// As many connections as the process may have descriptors for.
fn bounds() -> Bounds {
    Bounds::within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// What most parts need.
struct Base {
    registry: Registry,
    upstream: Option<Arc<dyn UpstreamAuthority>>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    log: LogLevel,
}

/// What of the parts is needed to stop them well, and to say that they work.
struct Assembled {
    audit: Arc<Audit>,
    refusals: Arc<Refusals>,
    address: SocketAddr,
}

/// What becomes of those who call too often, or may not.
struct Calls {
    limits: Arc<Limits>,
    refusals: Arc<Refusals>,
}

/// What signs, and what shows to clients what was signed for the server itself.
struct Signing {
    ca: Ca,
    control: AuthorityControl,
    acceptor: Acceptor,
    presented: watch::Receiver<Arc<Material>>,
}

async fn datastore(config: &DatastoreConfig) -> anyhow::Result<Arc<dyn Datastore>> {
    Ok(match config {
        DatastoreConfig::Sqlite(path) => Arc::new(SqliteDatastore::open(path).await?),
        DatastoreConfig::Memory => Arc::new(MemoryDatastore::new()),
    })
}

async fn authorities(
    config: &Config,
    base: &Base,
    keys: &Keys,
    core: &Tasks,
) -> anyhow::Result<(Ca, AuthorityControl, OwnSvid)> {
    let ledger = RegistryLedger::new(base.registry.clone(), Arc::clone(&base.clock));
    let keys = keys.claim(&base.registry, &ledger, &config.datastore).await?;
    let deps = rotation::Deps {
        ledger,
        keys,
        upstream: base.upstream.clone(),
        audit: Arc::clone(&base.audit),
        clock: Arc::clone(&base.clock),
    };
    let settings = rotation::Config {
        trust_domain: config.trust_domain.clone(),
        lifetime: config.ca.ttl,
        ca_key: config.ca.x509_key,
        jwt_key: config.ca.jwt_key,
        ca_subject: config.ca.subject.clone(),
    };
    let rotation = Rotation::start(settings, deps).await?;
    let ca = Ca::new(rotation.authorities(), Arc::clone(&base.audit), Arc::clone(&base.clock));
    let control = rotation.control();
    core.spawn(info_span!("rotation"), |stop| rotation.run(stop));
    let ttl = config.ttl.x509_svid;
    let own_svid = OwnSvid::start(ca.clone(), ttl, Arc::clone(&base.clock)).await?;
    Ok((ca, control, own_svid))
}

async fn listen(
    config: &Config,
    base: Base,
    (signing, calls): (Signing, Calls),
    front: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let Signing { ca, control, acceptor, presented } = signing;
    let attestors = attestors(config, &base)?;
    let Calls { limits, refusals } = calls;
    let shared = Arc::new(Shared {
        refusals: Arc::clone(&refusals),
        registry: base.registry.clone(),
        admin_ids: config.admin_ids.clone(),
        disable_jwt_svids: config.ca.jwt_key.is_none(),
        inflow: Inflow::default(),
        clock: Arc::clone(&base.clock),
        tasks: front.clone(),
    });
    let deps = Arc::new(Deps {
        registry: base.registry,
        ca,
        authorities: control,
        reports: Reports::default(),
        servers_below: ServersBelow::default(),
        ttl: config.ttl,
        jwt_issuer: config.jwt_issuer.clone(),
        upstream: base.upstream,
        audit: base.audit,
        attestors,
        limits,
        refusals,
        clock: base.clock,
        started: Instant::now(),
        own_svid: presented,
        log: base.log,
        tasks: front.clone(),
    });
    let public = routes(&deps, Reach::Everywhere);
    let listener = Listener::bind(config.address, acceptor, public, Arc::clone(&shared), bounds())
        .await
        .with_context(|| {
            format!("listening on {}, as bind_address and bind_port say", config.address)
        })?;
    let address = listener.address()?;
    let socket = AdminSocket::bind(&config.socket_path, routes(&deps, Reach::AdminSocket), shared)?;
    let tasks = front.clone();
    front.spawn(info_span!("listener"), |stop| listener.run(tasks, stop));
    let tasks = front.clone();
    front.spawn(info_span!("socket"), |stop| socket.run(tasks, stop));
    Ok(address)
}

fn attestors(
    config: &Config,
    base: &Base,
) -> anyhow::Result<BTreeMap<&'static str, Arc<dyn NodeAttestor>>> {
    let build = |attestor: &NodeAttestorConfig| -> anyhow::Result<Arc<dyn NodeAttestor>> {
        let clock = Arc::clone(&base.clock);
        Ok(match attestor {
            NodeAttestorConfig::JoinToken => {
                Arc::new(JoinTokens::new(base.registry.clone(), clock))
            }
            NodeAttestorConfig::X509Pop(config_of) => {
                let settings = x509pop::Config {
                    trust_domain: config.trust_domain.clone(),
                    authorities: ca_bundles(&config_of.ca_bundle_paths)?,
                    max_intermediates: config_of.max_intermediates,
                    max_rsa_bits: config_of.max_rsa_bits,
                    path: config_of.path.clone(),
                };
                Arc::new(X509Pop::new(settings, clock))
            }
        })
    };
    let built = config.node_attestors.iter().map(|attestor| {
        let attestor = build(attestor)?;
        Ok((attestor.kind(), attestor))
    });
    built.collect()
}

/// Looks at what the configuration names and what has to be there before a start: files, and the
/// token with the keys. What is wrong with them, each.
#[must_use]
pub fn check_surroundings(config: &Config) -> Vec<anyhow::Error> {
    let bundles = |attestor: &NodeAttestorConfig| match attestor {
        NodeAttestorConfig::JoinToken => Vec::new(),
        NodeAttestorConfig::X509Pop(config) => config.ca_bundle_paths.clone(),
    };
    let bundles = config.node_attestors.iter().flat_map(bundles);
    let problems = bundles.filter_map(|path| ca_bundles(&[path]).err());
    let log = telemetry::check(&config.log, &config.data_dir).err();
    let audit = audit_file(config).err();
    let others = [key_store::check(&config.key_store).err(), upstream::check_files(config).err()];
    let others = others.into_iter().chain([log.map(anyhow::Error::from), audit]);
    others.flatten().chain(problems).collect()
}

/// Whether the audit log could be opened, or made: one that is there is not looked into.
fn audit_file(config: &Config) -> anyhow::Result<()> {
    let path = &config.audit.path;
    telemetry::check_file(path, &config.data_dir)
        .with_context(|| format!("`audit.path` is {}, which cannot be written", path.display()))
}

fn ca_bundles(paths: &[PathBuf]) -> anyhow::Result<Authorities> {
    let mut all = Authorities::default();
    for path in paths {
        let pem = std::fs::read(path)
            .with_context(|| format!("reading `ca_bundle_paths`: {}", path.display()))?;
        let read = Authorities::from_pem(&pem)
            .with_context(|| format!("`ca_bundle_paths`: {}", path.display()))?;
        all = all.and(read);
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
