//! A server as a process: from its configuration until a signal ends it.

use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use steeple::clock::SystemClock;
use steeple::telemetry::{self, Log, Reopening};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{Process, Server, data_dir};
use crate::config::Config;

/// How many threads answer calls. Signing is the only thing that takes time, and more threads than
/// cores do not make it faster.
const MAX_WORKERS: usize = 4;

/// Runs a server with this configuration until SIGTERM or SIGINT. SIGHUP opens the audit log again,
/// and SIGUSR2, which this thread holds until then, the log file.
pub fn run(config: &Config) -> anyhow::Result<()> {
    data_dir::make(&config.data_dir)?;
    let log = telemetry::start(&config.log).context("starting the log")?;
    raise_file_limit();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, MAX_WORKERS))
        .enable_all()
        .build()
        .context("starting threads")?;
    runtime.block_on(async {
        let mut signals = Signals::catch(&log).context("catching signals")?;
        let process = Process { clock: Arc::new(SystemClock), log: log.level };
        let server = Server::start(config, process).await?;
        signals.wait(&server).await;
        server.stop().await;
        Ok(())
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reload: Signal,
    log: Reopening,
}

impl Signals {
    fn catch(log: &Log) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: signal(SignalKind::user_defined1())?,
            log: log.catch_signal()?,
        })
    }

    /// Waits for the signal that ends the server.
    async fn wait(&mut self, server: &Server) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return info!(signal = "SIGTERM", "stopping"),
                _ = self.interrupt.recv() => return info!(signal = "SIGINT", "stopping"),
                _ = self.hang_up.recv() => reopen(server).await,
                // SPIRE's reads configurations of plug-ins anew.
                _ = self.reload.recv() => {
                    info!("SIGUSR1 is of no effect: a configuration is read when the server starts");
                }
                never = self.log.run() => match never {},
            }
        }
    }
}

async fn reopen(server: &Server) {
    if let Err(error) = server.audit().reopen().await {
        warn!(error = &error as &dyn std::error::Error, "audit log not reopened");
    }
}

/// Each agent holds a connection open, and the usual limit is 1024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(error = &error as &dyn std::error::Error, "the limit on open files stays low");
    }
}
