//! The flags of a server, and how they stand over its configuration file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;
use steeple::telemetry::{Format, Level};

use super::raw;

/// What a server may be told on its command line, in our spelling and in SPIRE's.
#[derive(Args, Debug, Default)]
pub struct Flags {
    /// The configuration file; a flag wins over the same setting in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Put environment variables into the configuration file, where it has $NAME or ${NAME}
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
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", alias = "logLevel", value_parser = named::<Level>)]
    log_level: Option<Level>,
    /// How a line of the log looks: text or json
    #[arg(long, value_name = "FORMAT", alias = "logFormat", value_parser = named::<Format>)]
    log_format: Option<Format>,
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
        if self.log_level.is_some() || self.log_format.is_some() {
            let log = file.log.get_or_insert_default();
            log.level = self.log_level.or(log.level);
            log.format = self.log_format.or(log.format);
        }
        file
    }
}

/// A path of the command line is meant from where the command was given.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Reads what the configuration file has a name for, in any case, as SPIRE does.
fn named<'de, T: Deserialize<'de>>(text: &str) -> Result<T, String> {
    let name = text.to_ascii_lowercase();
    let name = if name == "warning" { "warn".to_owned() } else { name };
    T::deserialize(name.into_deserializer()).map_err(|error: Error| error.to_string())
}
