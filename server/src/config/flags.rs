//! The flags of a server, and how they stand over its configuration file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use steeple::config::absolute;
use steeple::config::log::LogFlags;

use super::raw;

/// What a server may be told on its command line, in our spelling and in SPIRE's.
#[derive(Args, Debug, Default)]
pub struct Flags {
    /// The configuration file; a flag wins over the same setting in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Put environment variables into the texts of the file that have $NAME or ${NAME}
    #[arg(long, alias = "expandEnv")]
    pub expand_env: bool,
    /// The address on which agents reach the server
    #[arg(long, value_name = "IP", alias = "bindAddress")]
    bind_address: Option<IpAddr>,
    /// The port on which agents reach the server
    #[arg(long, value_name = "PORT", alias = "serverPort")]
    bind_port: Option<u16>,
    /// The trust domain that it serves
    #[arg(long, value_name = "NAME", alias = "trustDomain")]
    trust_domain: Option<String>,
    /// Where it keeps what it must not forget
    #[arg(long, value_name = "DIR", alias = "dataDir")]
    data_dir: Option<PathBuf>,
    /// Where admins reach it on this machine
    #[arg(long, value_name = "PATH", alias = "socketPath")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    log: LogFlags,
}

impl Flags {
    /// The flags of a server that is told no more than a file.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self { config: Some(path.to_owned()), ..Self::default() }
    }

    /// The file's settings with the flags in their places.
    pub(super) fn over(&self, mut file: raw::Config) -> raw::Config {
        file.bind_address = self.bind_address.or(file.bind_address);
        file.bind_port = self.bind_port.or(file.bind_port);
        file.trust_domain = self.trust_domain.clone().or(file.trust_domain);
        file.data_dir = self.data_dir.as_deref().map(absolute).or(file.data_dir);
        file.socket_path = self.socket.as_deref().map(absolute).or(file.socket_path);
        file.log = Some(self.log.over(file.log));
        file
    }
}
