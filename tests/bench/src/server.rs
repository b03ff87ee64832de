//! A Steeple server in a directory of its own, and what an administrator asks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustls_pki_types::CertificateDer;
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple_proto::spire::api::server::agent::v1::CreateJoinTokenRequest;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::bundle::v1::GetBundleRequest;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, CountEntriesRequest};
use steeple_proto::spire::api::server::svid::v1::MintX509svidRequest;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::spire::api::types;
use tonic::transport::Channel;

use crate::caller;
use crate::kit::Kit;
use crate::meter::Meter;
use crate::node::trust_domain;
use crate::process::Process;

pub(crate) const TRUST_DOMAIN: &str = "bench.example";

/// How long a process may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    directory: PathBuf,
    address: String,
    admin: Channel,
    authorities: Vec<Vec<u8>>,
    started_in: Duration,
}

impl Server {
    /// Starts a server over what `directory` holds, and waits for its first answer: how many
    /// entries there are.
    pub(crate) async fn start(kit: &Kit, directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let (config, log) = (directory.join("server.toml"), directory.join("server.log"));
        let socket = admin_socket(directory);
        fs::write(&config, configuration(directory, &socket))?;
        fs::write(&log, "")?;
        let started = Instant::now();
        let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let mut process = Process::start(&kit.binary("steeple-server"), &args, &log)?;
        let admin = loop {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            process.check().with_context(said)?;
            ensure!(started.elapsed() < PATIENCE, "the server does not answer: {}", said());
            let Ok(channel) = caller::connect(socket.clone()).await else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            break channel;
        };
        EntryClient::new(admin.clone()).count_entries(CountEntriesRequest::default()).await?;
        let started_in = started.elapsed();
        let request = GetBundleRequest { output_mask: None };
        let bundle = BundleClient::new(admin.clone()).get_bundle(request).await?.into_inner();
        let authorities = bundle.x509_authorities.into_iter().map(|authority| authority.asn1);
        Ok(Self {
            address: address(&log).await?,
            authorities: authorities.collect(),
            directory: directory.to_owned(),
            process,
            admin,
            started_in,
        })
    }

    /// From its start to its first answer.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where agents reach it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where administrators reach it.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        admin_socket(&self.directory)
    }

    /// Its database, which nobody else may touch while it runs.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join("data/datastore.sqlite")
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

    pub(crate) fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }

    pub(crate) fn anchors(&self) -> Arc<AnchorSet> {
        let certificates: Vec<_> =
            self.authorities.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let anchors = Anchors::new(&certificates);
        Arc::new(trust_domain().map_or_else(
            |_| AnchorSet::default(),
            |trust_domain| AnchorSet::of(trust_domain, anchors),
        ))
    }

    pub(crate) fn server_id(&self) -> anyhow::Result<SpiffeId> {
        Ok(trust_domain()?.server_id())
    }

    pub(crate) async fn join_token(&self) -> anyhow::Result<String> {
        let request = CreateJoinTokenRequest { ttl: 600, ..Default::default() };
        let answer = AgentClient::new(self.admin.clone()).create_join_token(request).await?;
        Ok(answer.into_inner().value)
    }

    pub(crate) async fn mint(&self, csr: Vec<u8>) -> anyhow::Result<types::X509svid> {
        let request = MintX509svidRequest { csr, ttl: 0 };
        let answer = SvidClient::new(self.admin.clone()).mint_x509svid(request).await?;
        answer.into_inner().svid.context("no SVID")
    }

    /// Registers entries, in one call; their IDs.
    pub(crate) async fn create(&self, entries: Vec<types::Entry>) -> anyhow::Result<Vec<String>> {
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        let answer = EntryClient::new(self.admin.clone()).batch_create_entry(request).await?;
        let created = answer.into_inner().results.into_iter().map(|result| {
            let status = result.status.unwrap_or_default();
            ensure!(status.code == 0, "an entry was refused: {}", status.message);
            Ok(result.entry.unwrap_or_default().id)
        });
        created.collect()
    }
}

fn admin_socket(directory: &Path) -> PathBuf {
    directory.join("admin/admin.sock")
}

/// An entry for processes of a user, below `parent`.
pub(crate) fn entry(parent: &SpiffeId, n: usize, uid: u32) -> anyhow::Result<types::Entry> {
    let id = SpiffeId::new(&trust_domain()?, &format!("/ns/team-{}/sa/service-{n}", n % 50))?;
    let selectors = [format!("uid:{uid}"), format!("user:user-{uid}")];
    let selectors = selectors.into_iter().take(if uid == own_uid() { 1 } else { 2 });
    Ok(types::Entry {
        spiffe_id: Some(id_to_proto(&id)),
        parent_id: Some(id_to_proto(parent)),
        selectors: selectors
            .map(|value| types::Selector { r#type: "unix".into(), value })
            .collect(),
        ..Default::default()
    })
}

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Without the limits on how often one address may ask for signatures, which this would run into.
fn configuration(directory: &Path, socket: &Path) -> String {
    format!(
        "trust_domain = {TRUST_DOMAIN:?}\n\
         data_dir = {:?}\n\
         bind_address = \"127.0.0.1\"\n\
         bind_port = 0\n\
         socket_path = {socket:?}\n\
         [ratelimit]\n\
         attestation = false\n\
         signing = false\n",
        directory.join("data"),
    )
}

/// Where the server says in its log that it listens, which it may do after its first answer.
async fn address(log: &Path) -> anyhow::Result<String> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let text = fs::read_to_string(log)?;
        let rest = text.split_once("address=").and_then(|(_, rest)| rest.split_once(' '));
        if let Some((address, _)) = rest {
            return Ok(address.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    anyhow::bail!("the server does not say where it is")
}
