//! What a server is told: a TOML file becomes checked settings. Every default is here.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steeple::config::survey::Survey;
use steeple::config::{ConfigError, Source, text};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::KeyAlgorithm;
use steeple::telemetry::Settings;
use steeple::x509::Subject;

use crate::api::limits;
use crate::audit::{self, Durability};
use crate::upstream;

pub mod flags;
mod home;
mod key_store;
mod raw;

pub use home::default_data_dir;
pub use key_store::{KeyStoreConfig, PinSource, Pkcs11Config};

use self::flags::Flags;

/// The trust domain of a server that was not told another. It is reserved for examples (RFC 2606).
pub const DEFAULT_TRUST_DOMAIN: &str = "example.org";

/// The port that agents expect.
pub const DEFAULT_PORT: u16 = 8081;

/// The shortest lifetime of an authority that leaves time to rotate it.
const MIN_CA_TTL: Duration = Duration::from_secs(30);

/// The longest lifetime that is accepted for anything: ten years.
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The longest path of a Unix socket that the kernel takes, without the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

/// All that a server is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The trust domain that it serves.
    pub trust_domain: TrustDomain,
    /// Where it keeps what it must not forget.
    pub data_dir: PathBuf,
    /// Where agents reach it.
    pub address: SocketAddr,
    /// Where admins reach it.
    pub socket_path: PathBuf,
    /// Its authorities.
    pub ca: CaConfig,
    /// How long what they sign is valid.
    pub ttl: TtlConfig,
    /// The `iss` of its JWT-SVIDs.
    pub jwt_issuer: Option<String>,
    /// Who may administer it over the network, besides holders of entries that say so.
    pub admin_ids: BTreeSet<SpiffeId>,
    /// Where its keys live.
    pub key_store: KeyStoreConfig,
    /// What stands above it, if something does.
    pub upstream_authority: Option<UpstreamConfig>,
    /// Where its records live.
    pub datastore: DatastoreConfig,
    /// How nodes may become agents.
    pub node_attestors: Vec<NodeAttestorConfig>,
    /// Which agents are forgotten.
    pub prune: PruneConfig,
    /// How often one address may ask for what is expensive.
    pub rate_limits: limits::Config,
    /// The audit log.
    pub audit: AuditConfig,
    /// The diagnostic log.
    pub log: Settings,
}

/// What the authorities are like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaConfig {
    /// How long each lives.
    pub ttl: Duration,
    /// The kind of key that signs certificates.
    pub x509_key: KeyAlgorithm,
    /// The kind of key that signs tokens; none where it makes no tokens.
    pub jwt_key: Option<KeyAlgorithm>,
    /// What their certificates say of them.
    pub subject: Subject,
}

/// Lifetimes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TtlConfig {
    /// Of X.509-SVIDs whose entry does not say.
    pub x509_svid: Duration,
    /// Of JWT-SVIDs whose entry does not say.
    pub jwt_svid: Duration,
    /// Of the certificates of agents.
    pub agent: Duration,
}

/// Which agents are forgotten some time after their certificate expired. Banned ones never are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PruneConfig {
    /// How long after; `None` for none.
    pub nodes_expired_for: Option<Duration>,
    /// Whether those as well that could not attest again.
    pub tofu_nodes: bool,
}

/// What stands above a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpstreamConfig {
    /// A CA in files.
    Disk(upstream::disk::Config),
    /// Another server.
    Spire(upstream::spire::Config),
}

/// Where records live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatastoreConfig {
    /// In an SQLite database.
    Sqlite(PathBuf),
    /// In memory, so that every start begins with nothing.
    Memory,
}

impl fmt::Display for DatastoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Memory => f.write_str("the datastore in memory"),
        }
    }
}

/// A way to become an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeAttestorConfig {
    /// With a token that an administrator made.
    JoinToken,
    /// With a certificate of an existing PKI.
    X509Pop(X509PopConfig),
}

/// Settings of `x509pop`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509PopConfig {
    /// The files with the CAs, in PEM.
    pub ca_bundle_paths: Vec<PathBuf>,
    /// The most certificates between a node's and a CA.
    pub max_intermediates: usize,
    /// The largest RSA key of a node, in bits.
    pub max_rsa_bits: usize,
    /// The path of the agents.
    pub path: crate::node_attest::path_template::PathTemplate,
}

/// Settings of the audit log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditConfig {
    /// Its file.
    pub path: PathBuf,
    /// What survives a loss of power.
    pub durability: Durability,
}

impl Config {
    /// Reads the file that the flags name, or takes the defaults for everything if they name none,
    /// and puts the flags over it.
    ///
    /// # Errors
    /// The file cannot be read, or a value will not do.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let file = match &flags.config {
            Some(path) => Source::of((&text(path)?, path), flags.expand_env).read()?,
            None => raw::Config::default(),
        };
        flags.over(file).check()
    }

    /// Reads the same, and tells all that is wrong with it.
    #[must_use]
    pub fn survey(flags: &Flags) -> Survey<Self> {
        let path = flags.config.as_deref();
        match path.map_or_else(|| Ok(String::new()), text) {
            Ok(text) => {
                let source = (&*text, path.unwrap_or(Path::new("")));
                Survey::of(&Source::of(source, flags.expand_env), |raw, wrong| {
                    flags.over(raw).without(wrong).check()
                })
            }
            Err(error) => Survey::of_nothing(error),
        }
    }

    /// Reads settings that came from `path`.
    ///
    /// # Errors
    /// A value will not do.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Source::of((text, path), false).read::<raw::Config>()?.check()
    }

    /// Lifetimes that authorities cannot always give, with what would be kept: an authority signs
    /// nothing beyond its own end, and is used until a sixth of its life is left.
    #[must_use]
    pub fn shortened_ttls(&self) -> Vec<(&'static str, Duration)> {
        let longest = Duration::from_secs((self.ca.ttl.as_secs() / 6).min(7 * 24 * 3_600));
        let jwt_svid = self.ca.jwt_key.map(|_| self.ttl.jwt_svid);
        [
            ("default_x509_svid_ttl", Some(self.ttl.x509_svid)),
            ("default_jwt_svid_ttl", jwt_svid),
            ("agent_ttl", Some(self.ttl.agent)),
        ]
        .into_iter()
        .filter(|(_, ttl)| ttl.is_some_and(|ttl| ttl > longest))
        .map(|(key, _)| (key, longest))
        .collect()
    }
}

impl From<&AuditConfig> for audit::Config {
    fn from(config: &AuditConfig) -> Self {
        Self { path: config.path.clone(), durability: config.durability }
    }
}

/// The admin socket of a server with this data directory, unless its configuration names another.
#[must_use]
pub fn socket_in(data_dir: &Path) -> PathBuf {
    data_dir.join("private/admin.sock")
}

#[cfg(test)]
mod tests;
