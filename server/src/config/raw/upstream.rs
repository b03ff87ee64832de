//! What stands above the server, as it is written.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use steeple::config::ConfigError;

use super::super::{DEFAULT_PORT, UpstreamConfig};
use super::invalid;
use crate::upstream::{disk, spire};

/// The table `upstream_authority`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum UpstreamAuthority {
    Disk { cert_file_path: PathBuf, key_file_path: PathBuf, bundle_file_path: Option<PathBuf> },
    Spire { server_address: String, server_port: Option<u16>, workload_api_socket: PathBuf },
}

impl UpstreamAuthority {
    pub(super) fn check(self, data_dir: &Path) -> Result<UpstreamConfig, ConfigError> {
        match self {
            Self::Disk { cert_file_path, key_file_path, bundle_file_path } => {
                Ok(UpstreamConfig::Disk(disk::Config {
                    cert_file: data_dir.join(cert_file_path),
                    key_file: data_dir.join(key_file_path),
                    bundle_file: bundle_file_path.map(|path| data_dir.join(path)),
                }))
            }
            Self::Spire { server_address, server_port, workload_api_socket } => {
                let host = host(&server_address)?;
                let port = server_port.unwrap_or(DEFAULT_PORT);
                if port == 0 {
                    let key = "upstream_authority.server_port";
                    return Err(invalid(key, port, "the port of the other server"));
                }
                if !workload_api_socket.is_absolute() {
                    let key = "upstream_authority.workload_api_socket";
                    let must_be = "the absolute path of the Workload API socket of an agent";
                    return Err(invalid(key, workload_api_socket.display(), must_be));
                }
                Ok(UpstreamConfig::Spire(spire::Config {
                    server: format!("{host}:{port}"),
                    workload_api_socket,
                }))
            }
        }
    }
}

/// The address as it stands before a port.
fn host(address: &str) -> Result<String, ConfigError> {
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if address.is_empty() || !address.bytes().all(is_name) {
        let key = "upstream_authority.server_address";
        let must_be = "the name or IP address of the other server, without a port";
        return Err(invalid(key, format!("{address:?}"), must_be));
    }
    Ok(address.to_owned())
}
