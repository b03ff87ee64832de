//! The configuration file as it is written, and what makes of it checked settings.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Deserializer};
use steeple::config::log::LogTable;
use steeple::config::{ConfigError, HumanDuration};
use steeple::id::TrustDomain;
use steeple::keys::KeyAlgorithm;

use super::rebootstrap::RebootstrapMode;
use super::{DEFAULT_SYNC_INTERVAL, NodeAttestorConfig, home, invalid, rebootstrap, sockets};
use crate::attest::AttestorConfig;
use crate::node::join_token::{self, JoinToken, Token};
use crate::node::trust::TrustSource;
use crate::node::web;
use crate::node::x509pop::X509Pop;
use crate::workload::Verifiers;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) server: Option<String>,
    pub(super) trust_domain: Option<String>,
    #[serde(default, deserialize_with = "token")]
    pub(super) join_token: Option<Token>,
    pub(super) join_token_file: Option<PathBuf>,
    pub(super) node_attestor: Option<NodeAttestors>,
    pub(super) trust_bundle: Option<String>,
    pub(super) trust_bundle_fingerprint: Option<String>,
    pub(super) insecure_bootstrap: Option<bool>,
    pub(super) rebootstrap_mode: Option<RebootstrapMode>,
    pub(super) rebootstrap_delay: Option<HumanDuration>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) socket_path: Option<PathBuf>,
    pub(super) disable_workload_api: Option<bool>,
    pub(super) allow_unauthenticated_verifiers: Option<bool>,
    pub(super) admin_socket_path: Option<PathBuf>,
    pub(super) authorized_delegates: Option<Vec<String>>,
    pub(super) sync_interval: Option<HumanDuration>,
    pub(super) workload_x509_svid_key_type: Option<KeyAlgorithm>,
    pub(super) workload_attestor: Option<Vec<AttestorConfig>>,
    pub(super) log: Option<LogTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeAttestors {
    x509pop: Option<RawX509Pop>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawX509Pop {
    private_key_path: PathBuf,
    certificate_path: PathBuf,
    intermediates_path: Option<PathBuf>,
}

/// The settings that `raw` stands for.
pub(super) fn check(raw: Config) -> Result<super::Config, ConfigError> {
    let data_dir = data_dir(raw.data_dir.as_deref())?;
    let server = server(raw.server.as_deref())?;
    let trust_domain = trust_domain(raw.trust_domain.as_deref())?;
    let trust = trust(&raw, &data_dir)?;
    let socket_path = sockets::workload(raw.socket_path)?;
    let disable_workload_api = raw.disable_workload_api.unwrap_or(false);
    let public = (!disable_workload_api).then_some(&*socket_path);
    let delegates = raw.authorized_delegates.as_deref();
    let admin = sockets::admin(raw.admin_socket_path, delegates, (public, &trust_domain))?;
    let x509pop = raw.node_attestor.and_then(|attestor| attestor.x509pop);
    let node_attestor = node_attestor((raw.join_token, raw.join_token_file, x509pop), &data_dir)?;
    let rebootstrap = (raw.rebootstrap_mode, raw.rebootstrap_delay);
    let rebootstrap = rebootstrap::check(rebootstrap.0, rebootstrap.1, (&node_attestor, &trust))?;
    Ok(super::Config {
        server,
        trust_domain,
        trust,
        rebootstrap,
        socket_path,
        disable_workload_api,
        verifiers: match raw.allow_unauthenticated_verifiers {
            Some(true) => Verifiers::Anybody,
            Some(false) | None => Verifiers::Registered,
        },
        admin,
        sync_interval: sync_interval(raw.sync_interval)?,
        workload_key: raw.workload_x509_svid_key_type.unwrap_or(KeyAlgorithm::EcP256),
        workload_attestors: workload_attestors(raw.workload_attestor)?,
        log: raw.log.unwrap_or_default().settings(&data_dir),
        node_attestor,
        data_dir,
    })
}

fn server(address: Option<&str>) -> Result<Arc<str>, ConfigError> {
    let must_be = "the server's HOST:PORT, such as server.example.org:8081 (--server)";
    let address = address.ok_or_else(|| invalid("server", "missing", must_be))?;
    let parts = address.rsplit_once(':').filter(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_plain = |host: &str| !host.contains([':', '/', '[', ']', '@', ' ']);
        let is_host = !host.is_empty() && bare.map_or_else(|| is_plain(host), |h| h.contains(':'));
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match parts {
        Some(_) => Ok(address.into()),
        None => Err(invalid("server", format!("{address:?}"), must_be)),
    }
}

fn trust_domain(name: Option<&str>) -> Result<TrustDomain, ConfigError> {
    let must_be = "a name of [a-z0-9._-] such as example.org, without spiffe:// (--trust-domain)";
    let name = name.ok_or_else(|| invalid("trust_domain", "missing", must_be))?;
    TrustDomain::parse(name)
        .map_err(|error| invalid("trust_domain", format!("{name:?} ({error})"), must_be))
}

fn trust(raw: &Config, data_dir: &Path) -> Result<TrustSource, ConfigError> {
    let must_be = "the server's CA certificates in a file or at an https URL (--trust-bundle), the SHA-256 hash of \
                   one of them (--trust-bundle-fingerprint), or, for a test, \
                   --insecure-bootstrap; exactly one of the three";
    let insecure = raw.insecure_bootstrap.filter(|insecure| *insecure);
    match (&raw.trust_bundle, &raw.trust_bundle_fingerprint, insecure) {
        (Some(place), None, None) if place.contains("://") => url(place),
        (Some(place), None, None) if !place.is_empty() => {
            Ok(TrustSource::File(data_dir.join(place)))
        }
        (None, Some(hash), None) => fingerprint(hash),
        (None, None, Some(_)) => Ok(TrustSource::Insecure),
        (None, None, None) => Err(invalid("trust_bundle", "missing", must_be)),
        (Some(_), None, None) => Err(invalid("trust_bundle", "empty", must_be)),
        (Some(_), Some(_), _) | (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
            Err(invalid("trust_bundle", "not the only reason to trust the server", must_be))
        }
    }
}

fn url(place: &str) -> Result<TrustSource, ConfigError> {
    match place.parse::<Uri>() {
        Ok(url) if web::is_address(&url) => Ok(TrustSource::Url(url)),
        Ok(_) | Err(_) => {
            Err(invalid("trust_bundle", format!("{place:?}"), "a file or https://HOST[:PORT]/PATH"))
        }
    }
}

/// 64 hexadecimal digits, with or without the colons that openssl writes between the bytes.
fn fingerprint(text: &str) -> Result<TrustSource, ConfigError> {
    let must_be = "a SHA-256 hash: 64 hexadecimal digits, as `openssl x509 -noout -fingerprint \
                   -sha256` prints them";
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let mut hash = [0; 32];
    let is_hex = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (index, byte) in hash.iter_mut().enumerate().take_while(|_| is_hex) {
        let pair = digits.get(2 * index..2 * index + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    if is_hex {
        return Ok(TrustSource::Fingerprint(hash));
    }
    Err(invalid("trust_bundle_fingerprint", format!("{text:?}"), must_be))
}

fn node_attestor(
    given: (Option<Token>, Option<PathBuf>, Option<RawX509Pop>),
    data_dir: &Path,
) -> Result<NodeAttestorConfig, ConfigError> {
    match given {
        (None, None, None) => Ok(NodeAttestorConfig::JoinToken(JoinToken::None)),
        (Some(token), None, None) if token.is_one() => {
            Ok(NodeAttestorConfig::JoinToken(JoinToken::Given(token)))
        }
        (Some(_), None, None) => Err(invalid("join_token", "no join token", join_token::MUST_BE)),
        (None, Some(path), None) => {
            token_file(data_dir.join(path)).map(NodeAttestorConfig::JoinToken)
        }
        (None, None, Some(raw)) => Ok(NodeAttestorConfig::X509Pop(X509Pop {
            private_key: data_dir.join(raw.private_key_path),
            certificate: data_dir.join(raw.certificate_path),
            intermediates: raw.intermediates_path.map(|path| data_dir.join(path)),
        })),
        (Some(_), Some(_), _) | (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
            let must_be = "one of join_token, join_token_file and node_attestor.x509pop";
            Err(invalid("join_token", "not the only way for this node to join", must_be))
        }
    }
}

/// A pipe, such as a shell's `<(…)`, can be read once, and that is now.
fn token_file(path: PathBuf) -> Result<JoinToken, ConfigError> {
    let is_pipe = std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    if !is_pipe {
        return Ok(JoinToken::File(path));
    }
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(JoinToken::Given(Token::new(token))),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

fn data_dir(path: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let must_be = "an absolute path (--data-dir)";
    match path {
        Some(path) if path.is_absolute() => Ok(path.to_owned()),
        Some(path) => Err(invalid("data_dir", path.display(), must_be)),
        None => home::default_data_dir().ok_or_else(|| {
            let found = "not set, and this user has no home directory to choose one in";
            invalid("data_dir", found, must_be)
        }),
    }
}

fn sync_interval(interval: Option<HumanDuration>) -> Result<Duration, ConfigError> {
    let interval = interval.map_or(DEFAULT_SYNC_INTERVAL, |interval| interval.0);
    if interval < Duration::from_secs(1) || interval > Duration::from_secs(3_600) {
        let found = humantime::format_duration(interval);
        return Err(invalid("sync_interval", found, "between 1s and 1h"));
    }
    Ok(interval)
}

fn workload_attestors(
    configs: Option<Vec<AttestorConfig>>,
) -> Result<Vec<AttestorConfig>, ConfigError> {
    let configs = configs.unwrap_or_else(AttestorConfig::standard);
    if configs.is_empty() {
        let must_be = "at least one, or no process could ever be told from another";
        return Err(invalid("workload_attestor", "empty", must_be));
    }
    let kinds: Vec<_> = configs.iter().map(std::mem::discriminant).collect();
    if kinds.iter().enumerate().any(|(at, kind)| kinds.iter().skip(at + 1).any(|k| k == kind)) {
        return Err(invalid("workload_attestor", "twice of one type", "one of each type"));
    }
    for config in &configs {
        if let AttestorConfig::Docker(docker) = config
            && !docker.socket_path.is_absolute()
        {
            let must_be = "the absolute path of the engine's socket, such as /var/run/docker.sock: \
                           an engine on a network knows no process of this node";
            let found = docker.socket_path.display();
            return Err(invalid("workload_attestor.docker.socket_path", found, must_be));
        }
    }
    Ok(configs)
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    String::deserialize(deserializer).map(|token| Some(Token::new(token)))
}
