//! What an agent is told: flags and a TOML file become checked settings. Every default is here.
//!
//! A flag wins over the same setting of the file. What belongs together goes together: a trust
//! source or a way to join that is given by a flag replaces whatever the file says of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steeple::config::survey::Survey;
use steeple::config::{ConfigError, Source, text};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::KeyAlgorithm;
use steeple::telemetry::Settings;

use crate::attest::AttestorConfig;
use crate::node::attestor::NodeAttestor;
use crate::node::join_token::JoinToken;
use crate::node::plan::Rebootstrap;
use crate::node::trust::TrustSource;
use crate::node::x509pop::X509Pop;
use crate::workload::Verifiers;

mod flags;
pub mod home;
mod raw;
mod rebootstrap;
mod sockets;
mod stand_in;

pub use self::flags::Flags;

/// How often the server is asked for changes.
pub const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// All that an agent is told.
#[derive(Debug)]
pub struct Config {
    /// The server: host and port.
    pub server: Arc<str>,
    /// The trust domain of the server and this node.
    pub trust_domain: TrustDomain,
    /// Why the server is believed at the first contact.
    pub trust: TrustSource,
    /// Whether that is believed again where the server proves to be another one.
    pub rebootstrap: Rebootstrap,
    /// How this node proves what it is.
    pub node_attestor: NodeAttestorConfig,
    /// Where the agent keeps what makes it the same agent after a restart.
    pub data_dir: PathBuf,
    /// Where workloads find it, unless that is not to be.
    pub socket_path: PathBuf,
    /// Whether there is the admin socket alone.
    pub disable_workload_api: bool,
    /// Who is given bundles.
    pub verifiers: Verifiers,
    /// Where administrators and delegates find it, if they are to.
    pub admin: Option<AdminConfig>,
    /// How often the server is asked for changes.
    pub sync_interval: Duration,
    /// What keys workloads get.
    pub workload_key: KeyAlgorithm,
    /// How processes are attested.
    pub workload_attestors: Vec<AttestorConfig>,
    /// The diagnostic log.
    pub log: Settings,
}

/// The admin socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminConfig {
    /// Where it is.
    pub socket_path: PathBuf,
    /// Who may ask for the identities of others there.
    pub delegates: BTreeSet<SpiffeId>,
}

/// How this node proves what it is.
#[derive(Debug)]
pub enum NodeAttestorConfig {
    /// By a join token.
    JoinToken(JoinToken),
    /// By a certificate of an existing PKI.
    X509Pop(X509Pop),
}

impl Config {
    /// Reads the file that the flags name, if they do, and puts the flags over it.
    ///
    /// # Errors
    /// The file cannot be read, or something is missing or will not do.
    pub fn load(flags: Flags) -> Result<Self, ConfigError> {
        let file = match &flags.config {
            Some(path) => Source::of((&text(path)?, path), flags.expand_env).read()?,
            None => raw::Config::default(),
        };
        raw::check(flags.over(file)?)
    }

    /// Reads the same, and tells all that is wrong with it.
    #[must_use]
    pub fn survey(flags: &Flags) -> Survey<Self> {
        let path = flags.config.as_deref();
        match path.map_or_else(|| Ok(String::new()), text) {
            Ok(text) => {
                let source = (&*text, path.unwrap_or(Path::new("")));
                Survey::of(&Source::of(source, flags.expand_env), |raw, wrong| {
                    let raw = stand_in::flags(flags, wrong).over(raw)?;
                    raw::check(stand_in::settings(raw, wrong))
                })
            }
            Err(error) => Survey::of_nothing(error),
        }
    }

    /// Reads settings that came from `path`.
    ///
    /// # Errors
    /// Something is missing or will not do.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        raw::check(Source::of((text, path), false).read()?)
    }
}

impl NodeAttestorConfig {
    /// The attestor.
    #[must_use]
    pub fn build(self) -> Arc<dyn NodeAttestor> {
        match self {
            Self::JoinToken(token) => Arc::new(token),
            Self::X509Pop(files) => Arc::new(files),
        }
    }
}

fn invalid(key: &'static str, found: impl ToString, must_be: &'static str) -> ConfigError {
    ConfigError::Invalid { key, found: found.to_string(), must_be }
}

#[cfg(test)]
mod tests;
