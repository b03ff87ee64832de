//! The flags of an agent, and how they stand over its configuration file.

use std::path::{Path, PathBuf};

use clap::Args;
use steeple::config::ConfigError;
use steeple::telemetry::Level;

use super::{invalid, raw};
use crate::node::join_token::Token;

/// What an agent may be told on its command line.
#[derive(Args, Debug, Default)]
pub struct Flags {
    /// A configuration file; a flag wins over the same setting in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// The trust domain of the server
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// A token from `steeple-server token generate`; better given in a file or the environment
    #[arg(long, value_name = "TOKEN", env = "STEEPLE_JOIN_TOKEN", hide_env_values = true)]
    pub join_token: Option<Token>,
    /// A file with such a token, where a newer one may be put later
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// The server's CA certificates: a file or https URL with PEM or a SPIFFE bundle document
    #[arg(long, value_name = "FILE|URL")]
    pub trust_bundle: Option<String>,
    /// Instead of a bundle: the SHA-256 hash of one of the server's CA certificates
    #[arg(long, value_name = "HEX")]
    pub trust_bundle_fingerprint: Option<String>,
    /// Instead of a bundle: believe the first server that answers. For tests
    #[arg(long)]
    pub insecure_bootstrap: bool,
    /// Where the agent keeps its key, its SVID and what it knows
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where workloads find the agent
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub log_level: Option<Level>,
}

impl Flags {
    /// The file's settings with the flags in their places.
    pub(super) fn over(self, mut file: raw::Config) -> Result<raw::Config, ConfigError> {
        if self.join_token.is_some() && self.join_token_file.is_some() {
            let found = "given by --join-token or STEEPLE_JOIN_TOKEN, and by --join-token-file";
            return Err(invalid("join_token", found, "given once"));
        }
        if self.join_token.is_some() || self.join_token_file.is_some() {
            file.node_attestor = None;
            file.join_token = self.join_token;
            file.join_token_file = self.join_token_file.as_deref().map(absolute);
        }
        let trusts = self.trust_bundle.is_some()
            || self.trust_bundle_fingerprint.is_some()
            || self.insecure_bootstrap;
        if trusts {
            file.trust_bundle = self.trust_bundle.map(|place| {
                let is_url = place.contains("://");
                if is_url { place } else { absolute(Path::new(&place)).display().to_string() }
            });
            file.trust_bundle_fingerprint = self.trust_bundle_fingerprint;
            file.insecure_bootstrap = self.insecure_bootstrap.then_some(true);
        }
        file.server = self.server.or(file.server);
        file.trust_domain = self.trust_domain.or(file.trust_domain);
        file.data_dir = self.data_dir.as_deref().map(absolute).or(file.data_dir);
        file.socket_path = self.socket.as_deref().map(absolute).or(file.socket_path);
        if let Some(level) = self.log_level {
            file.log.get_or_insert_default().level = Some(level);
        }
        Ok(file)
    }
}

/// A path of the command line is meant from where the command was given.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "panic" => Ok(Level::Panic),
        "fatal" => Ok(Level::Fatal),
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        "trace" => Ok(Level::Trace),
        _ => Err("must be error, warn, info, debug or trace".into()),
    }
}
