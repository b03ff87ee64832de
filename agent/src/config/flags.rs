//! The flags of an agent, and how they stand over its configuration file.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use steeple::config::log::LogFlags;
use steeple::config::{ConfigError, HumanDuration, absolute};

use super::rebootstrap::RebootstrapMode;
use super::{invalid, raw};
use crate::node::join_token::Token;

/// The port of a server that is named without one.
const DEFAULT_PORT: u16 = 8081;

/// What an agent may be told on its command line.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// A configuration file; a flag wins over the same setting in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Put environment variables into the texts of the file that have $NAME or ${NAME}
    #[arg(long, alias = "expandEnv")]
    pub expand_env: bool,
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// The same in two parts: the server's host
    #[arg(long, value_name = "HOST", alias = "serverAddress", conflicts_with = "server")]
    pub server_address: Option<String>,
    /// And its port
    #[arg(long, value_name = "PORT", alias = "serverPort", conflicts_with = "server")]
    pub server_port: Option<u16>,
    /// The trust domain of the server
    #[arg(long, value_name = "NAME", alias = "trustDomain")]
    pub trust_domain: Option<String>,
    /// A token from `steeple-server token generate`; better given in a file or the environment
    #[arg(
        long,
        value_name = "TOKEN",
        alias = "joinToken",
        env = "STEEPLE_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub join_token: Option<Token>,
    /// A file with such a token, where a newer one may be put later
    #[arg(long, value_name = "FILE", alias = "joinTokenFile")]
    pub join_token_file: Option<PathBuf>,
    /// The server's CA certificates: a file or https URL with PEM or a SPIFFE bundle document
    #[arg(
        long,
        value_name = "FILE|URL",
        aliases = ["trustBundle", "trust-bundle-url", "trustBundleUrl"]
    )]
    pub trust_bundle: Option<String>,
    /// What the bundle is written in, pem or spiffe; it is seen by itself
    #[arg(long, value_name = "FORMAT", alias = "trustBundleFormat", hide = true)]
    pub trust_bundle_format: Option<BundleFormat>,
    /// Instead of a bundle: the SHA-256 hash of one of the server's CA certificates
    #[arg(long, value_name = "HEX")]
    pub trust_bundle_fingerprint: Option<String>,
    /// Instead of a bundle: believe the first server that answers. For tests
    #[arg(long, alias = "insecureBootstrap")]
    pub insecure_bootstrap: bool,
    /// Whether the trust bundle is believed once more if the server is not trusted any more: never,
    /// auto or always
    #[arg(
        long,
        value_name = "MODE",
        alias = "rebootstrapMode",
        ignore_case = true,
        hide_possible_values = true
    )]
    pub rebootstrap_mode: Option<RebootstrapMode>,
    /// How long it is not before that
    #[arg(long, value_name = "DURATION", alias = "rebootstrapDelay")]
    pub rebootstrap_delay: Option<HumanDuration>,
    /// Where the agent keeps its key, its SVID and what it knows
    #[arg(long, value_name = "DIR", alias = "dataDir")]
    pub data_dir: Option<PathBuf>,
    /// Where workloads find the agent
    #[arg(long, value_name = "PATH", aliases = ["socketPath", "socket-path"])]
    pub socket: Option<PathBuf>,
    /// Serve the admin socket alone, for delegates
    #[arg(long, aliases = ["disableWorkloadAPI", "disable-workload-API"])]
    pub disable_workload_api: bool,
    /// Give the keys of the trust domain to any caller, also to one that has no identity
    #[arg(long, alias = "allowUnauthenticatedVerifiers")]
    pub allow_unauthenticated_verifiers: bool,
    /// Of the log
    #[command(flatten)]
    pub log: LogFlags,
}

/// How a bundle is written, as SPIRE's agent wants to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum BundleFormat {
    /// Certificates.
    Pem,
    /// A SPIFFE bundle document.
    Spiffe,
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
        file.server = server((self.server, self.server_address, self.server_port), file.server);
        file.trust_domain = self.trust_domain.or(file.trust_domain);
        file.rebootstrap_mode = self.rebootstrap_mode.or(file.rebootstrap_mode);
        file.rebootstrap_delay = self.rebootstrap_delay.or(file.rebootstrap_delay);
        file.data_dir = self.data_dir.as_deref().map(absolute).or(file.data_dir);
        file.socket_path = self.socket.as_deref().map(absolute).or(file.socket_path);
        if self.allow_unauthenticated_verifiers {
            file.allow_unauthenticated_verifiers = Some(true);
        }
        if self.disable_workload_api {
            file.disable_workload_api = Some(true);
        }
        file.log = Some(self.log.over(file.log));
        Ok(file)
    }
}

/// The server by flags, whole or in parts, over that of the file.
fn server(
    (whole, host, port): (Option<String>, Option<String>, Option<u16>),
    file: Option<String>,
) -> Option<String> {
    if whole.is_some() || (host.is_none() && port.is_none()) {
        return whole.or(file);
    }
    let parts = file.as_deref().and_then(|file| file.rsplit_once(':'));
    let host = match host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host,
        None => parts?.0.to_owned(),
    };
    let of_file = parts.and_then(|(_, port)| port.parse().ok());
    Some(format!("{host}:{}", port.or(of_file).unwrap_or(DEFAULT_PORT)))
}
