//! A Steeple agent, and processes that ask it as workloads do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use steeple_proto::workload::X509svidRequest;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::caller::{self, Call, Caller, Kind};
use crate::cli;
use crate::kit::Kit;
use crate::meter::Meter;
use crate::process::{Helper, Process};
use crate::server::{Server, TRUST_DOMAIN};

/// How long an agent may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that runs.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Process,
    socket: PathBuf,
    log: PathBuf,
    started: Instant,
}

/// Processes that each hold a stream open.
#[derive(Debug, Default)]
pub(crate) struct Holders(Vec<Helper>);

impl Agent {
    /// Starts an agent over what `directory` holds; it joins by a token if it has to.
    pub(crate) fn start(kit: &Kit, directory: &Path, server: &Server) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let bundle = directory.join("bundle.pem");
        let pem = server.authorities().iter().map(|der| steeple::x509::pem("CERTIFICATE", der));
        fs::write(&bundle, pem.collect::<String>())?;
        let (config, socket) = (directory.join("agent.toml"), directory.join("agent.sock"));
        let text = format!(
            "server = {:?}\n\
             trust_domain = {TRUST_DOMAIN:?}\n\
             trust_bundle = {bundle:?}\n\
             join_token_file = {:?}\n\
             data_dir = {:?}\n\
             socket_path = {socket:?}\n",
            server.address(),
            directory.join("token"),
            directory.join("data"),
        );
        fs::write(&config, text)?;
        let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let log = directory.join("agent.log");
        let started = Instant::now();
        let process = Process::start(&kit.binary("steeple-agent"), &args, &log)?;
        Ok(Self { process, socket, log, started })
    }

    /// Leaves a token where an agent finds it that has not joined yet.
    pub(crate) async fn invite(directory: &Path, server: &Server) -> anyhow::Result<String> {
        fs::create_dir_all(directory)?;
        let token = server.join_token().await?;
        fs::write(directory.join("token"), &token)?;
        Ok(token)
    }

    /// Waits until the agent knows what this node may serve.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        loop {
            self.check()?;
            if let Ok(channel) = caller::connect(self.socket.clone()).await {
                let request = HealthCheckRequest { service: String::new() };
                let mut client = HealthClient::new(channel);
                let answer = client.check(request).await.map(|answer| answer.into_inner().status);
                if answer.is_ok_and(|status| status == ServingStatus::Serving as i32) {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the agent has so many entries; how long that took from its start.
    pub(crate) async fn synced(&mut self, entries: usize) -> anyhow::Result<Duration> {
        let wanted = format!("synced entries={entries} ");
        loop {
            self.check()?;
            if fs::read_to_string(&self.log)?.contains(&wanted) {
                return Ok(self.started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How long it took from the start to the first SVID of this process, which asks again and
    /// again.
    pub(crate) async fn first_svid(&mut self) -> anyhow::Result<Duration> {
        loop {
            self.check()?;
            if let Ok(mut caller) = Caller::connect(self.socket.clone()).await {
                match caller.call(&fetch_x509()).await {
                    Ok(_) => return Ok(self.started.elapsed()),
                    Err(status) if status.code() == Code::Unavailable => {}
                    Err(status) if status.code() == Code::PermissionDenied => {}
                    Err(status) => return Err(status).context("asking for the first SVID"),
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()?;
        ensure!(self.started.elapsed() < PATIENCE, "the agent does not become ready");
        Ok(())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn meter(&self) -> Meter {
        self.process.meter()
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

impl Holders {
    /// Starts processes until there are so many, each of which has an SVID when this returns.
    pub(crate) fn grow(&mut self, count: u32, socket: &Path) -> anyhow::Result<()> {
        let missing = (count as usize).saturating_sub(self.0.len());
        let start = || Helper::start(&["hold".as_ref(), "--socket".as_ref(), socket.as_os_str()]);
        let new = (0..missing).map(|_| start()).collect::<anyhow::Result<Vec<_>>>()?;
        for mut helper in new {
            helper.hear()?;
            self.0.push(helper);
        }
        Ok(())
    }
}

/// The call that most workloads make.
pub(crate) fn fetch_x509() -> Call {
    Call::new(Kind::Watch, "/SpiffeWorkloadAPI/FetchX509SVID", &X509svidRequest {})
}

/// Runs a new process that makes this one call on a new connection.
pub(crate) fn call_once(socket: &Path, echo: bool) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("call").arg("--socket").arg(socket);
    if echo {
        command.arg("--echo");
    }
    let mut child: Child = command.stdin(Stdio::null()).spawn()?;
    let status = child.wait()?;
    ensure!(status.success(), "a workload failed: {status}");
    Ok(())
}

/// The process of [`call_once`].
pub(crate) async fn call(socket: PathBuf, echo: bool) -> anyhow::Result<()> {
    let call = fetch_x509();
    let call = if echo { call.to_echo() } else { call };
    Caller::connect(socket).await?.call(&call).await?;
    Ok(())
}

/// The process of a holder: says when it has an SVID, and holds the stream until its input ends.
pub(crate) async fn hold(socket: PathBuf) -> anyhow::Result<()> {
    let mut caller = Caller::connect(socket).await?;
    let (_svid, mut updates) = caller.watch(&fetch_x509()).await?;
    cli::say("held")?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop));
    let updates = async { while updates.message().await.is_ok_and(|update| update.is_some()) {} };
    tokio::select! {
        ended = ended => Ok(ended?),
        () = updates => anyhow::bail!("a stream ended"),
    }
}
