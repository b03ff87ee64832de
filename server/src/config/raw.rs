//! The configuration file as it is written, and what makes of it checked settings.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use steeple::config::log::LogTable;
use steeple::config::{ConfigError, HumanDuration};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::KeyAlgorithm;
use steeple::x509::Subject;

use self::upstream::UpstreamAuthority;
use super::key_store::{self, KeyStore};
use super::{
    AuditConfig, CaConfig, DEFAULT_PORT, DEFAULT_TRUST_DOMAIN, DatastoreConfig, MAX_SOCKET_PATH,
    MAX_TTL, MIN_CA_TTL, NodeAttestorConfig, PruneConfig, TtlConfig, X509PopConfig,
    default_data_dir, socket_in,
};
use crate::api::limits;
use crate::audit::Durability;
use crate::node_attest::path_template::PathTemplate;
use crate::node_attest::x509pop;

mod upstream;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) trust_domain: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) bind_address: Option<IpAddr>,
    pub(super) bind_port: Option<u16>,
    pub(super) socket_path: Option<PathBuf>,
    ca_ttl: Option<HumanDuration>,
    ca_key_type: Option<KeyAlgorithm>,
    jwt_key_type: Option<KeyAlgorithm>,
    ca_subject: Option<CaSubject>,
    default_x509_svid_ttl: Option<HumanDuration>,
    default_jwt_svid_ttl: Option<HumanDuration>,
    agent_ttl: Option<HumanDuration>,
    jwt_issuer: Option<String>,
    disable_jwt_svids: Option<bool>,
    admin_ids: Option<Vec<String>>,
    key_store: Option<KeyStore>,
    upstream_authority: Option<UpstreamAuthority>,
    datastore: Option<Datastore>,
    node_attestor: Option<NodeAttestors>,
    prune_attested_nodes_expired_for: Option<HumanDuration>,
    prune_tofu_nodes: Option<bool>,
    ratelimit: Option<RateLimit>,
    audit: Option<Audit>,
    pub(super) log: Option<LogTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaSubject {
    #[serde(default)]
    country: Vec<String>,
    #[serde(default)]
    organization: Vec<String>,
    common_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Datastore {
    Sqlite { path: Option<PathBuf> },
    Memory {},
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeAttestors {
    join_token: Option<JoinToken>,
    x509pop: Option<X509Pop>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinToken {
    enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct X509Pop {
    ca_bundle_paths: Vec<PathBuf>,
    max_intermediates: Option<usize>,
    max_rsa_key_size: Option<usize>,
    agent_path_template: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    attestation: Option<bool>,
    signing: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit {
    path: Option<PathBuf>,
    durability: Option<Durability>,
}

impl Config {
    /// Without what these keys say, where a flag may have said it.
    pub(super) fn without(mut self, wrong: &[&str]) -> Self {
        for key in wrong {
            match *key {
                "trust_domain" => self.trust_domain = None,
                "data_dir" => self.data_dir = None,
                "socket_path" => self.socket_path = None,
                _ => {}
            }
        }
        self
    }

    pub(super) fn check(self) -> Result<super::Config, ConfigError> {
        let data_dir = self.data_dir()?;
        let trust_domain = trust_domain(self.trust_domain.as_deref())?;
        let ca = self.ca()?;
        let ttl = self.ttl(ca.ttl)?;
        let prune = self.prune()?;
        let ratelimit = self.ratelimit.as_ref();
        let datastore = datastore(self.datastore, &data_dir);
        Ok(super::Config {
            address: SocketAddr::new(
                self.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                self.bind_port.unwrap_or(DEFAULT_PORT),
            ),
            socket_path: socket_path(self.socket_path.as_deref(), &data_dir)?,
            ca,
            ttl,
            jwt_issuer: self.jwt_issuer.filter(|issuer| !issuer.is_empty()),
            admin_ids: admin_ids(self.admin_ids.as_deref().unwrap_or_default())?,
            key_store: key_store::check(self.key_store, (&data_dir, &trust_domain), &datastore)?,
            datastore,
            upstream_authority: self
                .upstream_authority
                .map(|upstream| upstream.check(&data_dir))
                .transpose()?,
            node_attestors: node_attestors(self.node_attestor, &data_dir)?,
            prune,
            rate_limits: limits::Config {
                attestation: ratelimit.and_then(|limit| limit.attestation).unwrap_or(true),
                signing: ratelimit.and_then(|limit| limit.signing).unwrap_or(true),
            },
            audit: audit(self.audit, &data_dir),
            log: self.log.unwrap_or_default().settings(&data_dir),
            data_dir,
            trust_domain,
        })
    }

    fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        let must_be = "an absolute path";
        match &self.data_dir {
            Some(path) if path.is_absolute() => Ok(path.clone()),
            Some(path) => Err(invalid("data_dir", path.display(), must_be)),
            None => default_data_dir().ok_or_else(|| {
                let found = "not set, and this user has no home directory to choose one in";
                ConfigError::Invalid { key: "data_dir", found: found.into(), must_be }
            }),
        }
    }

    fn ca(&self) -> Result<CaConfig, ConfigError> {
        let day = Duration::from_secs(24 * 3_600);
        let ttl = ttl("ca_ttl", self.ca_ttl, day)?;
        if ttl < MIN_CA_TTL {
            let found = humantime::format_duration(ttl);
            return Err(invalid("ca_ttl", found, "at least 30s, or there is no time to rotate"));
        }
        let x509_key = self.ca_key_type.unwrap_or(KeyAlgorithm::EcP256);
        let jwt_key = self.jwt_key_type.unwrap_or(x509_key);
        let makes_tokens = !self.disable_jwt_svids.unwrap_or(false);
        Ok(CaConfig {
            ttl,
            x509_key,
            jwt_key: makes_tokens.then_some(jwt_key),
            subject: subject(self.ca_subject.as_ref())?,
        })
    }

    fn prune(&self) -> Result<PruneConfig, ConfigError> {
        let nodes_expired_for = self.prune_attested_nodes_expired_for.map(|expired| expired.0);
        match (nodes_expired_for, self.prune_tofu_nodes) {
            (None, Some(tofu_nodes)) => {
                let must_be = "beside prune_attested_nodes_expired_for, without which no agent is \
                               forgotten";
                Err(invalid("prune_tofu_nodes", tofu_nodes, must_be))
            }
            (expired_for, tofu_nodes) => Ok(PruneConfig {
                nodes_expired_for: expired_for,
                tofu_nodes: tofu_nodes.unwrap_or(false),
            }),
        }
    }

    fn ttl(&self, ca_ttl: Duration) -> Result<TtlConfig, ConfigError> {
        let hour = Duration::from_secs(3_600);
        let x509_svid = ttl("default_x509_svid_ttl", self.default_x509_svid_ttl, hour)?;
        let jwt_svid = Duration::from_secs(300);
        Ok(TtlConfig {
            x509_svid,
            jwt_svid: ttl("default_jwt_svid_ttl", self.default_jwt_svid_ttl, jwt_svid)?,
            // An agent that is away for longer than this cannot renew: as long as an authority can
            // always give.
            agent: ttl("agent_ttl", self.agent_ttl, x509_svid.max(ca_ttl / 6))?,
        })
    }
}

fn datastore(raw: Option<Datastore>, data_dir: &Path) -> DatastoreConfig {
    match raw {
        None => DatastoreConfig::Sqlite(data_dir.join("datastore.sqlite")),
        Some(Datastore::Sqlite { path }) => {
            let path = path.unwrap_or_else(|| "datastore.sqlite".into());
            DatastoreConfig::Sqlite(data_dir.join(path))
        }
        Some(Datastore::Memory {}) => DatastoreConfig::Memory,
    }
}

fn trust_domain(name: Option<&str>) -> Result<TrustDomain, ConfigError> {
    let name = name.unwrap_or(DEFAULT_TRUST_DOMAIN);
    TrustDomain::parse(name).map_err(|error| {
        let found = format!("{name:?} ({error})");
        invalid(
            "trust_domain",
            found,
            "a name of [a-z0-9._-] such as example.org, without spiffe://",
        )
    })
}

fn socket_path(path: Option<&Path>, data_dir: &Path) -> Result<PathBuf, ConfigError> {
    let path = path.map_or_else(|| socket_in(data_dir), Path::to_owned);
    if !path.is_absolute() {
        return Err(invalid("socket_path", path.display(), "an absolute path"));
    }
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let must_be = "at most 107 bytes long, as the kernel wants it";
        return Err(invalid("socket_path", path.display(), must_be));
    }
    Ok(path)
}

fn ttl(
    key: &'static str,
    value: Option<HumanDuration>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let ttl = value.map_or(default, |value| value.0);
    if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
        return Err(invalid(key, humantime::format_duration(ttl), "between 1s and 10years"));
    }
    Ok(ttl)
}

fn subject(raw: Option<&CaSubject>) -> Result<Subject, ConfigError> {
    let given = raw.map(|raw| Subject {
        country: raw.country.clone(),
        organization: raw.organization.clone(),
        organizational_unit: Vec::new(),
        common_name: raw.common_name.clone().filter(|name| !name.is_empty()),
    });
    let is_given = |subject: &Subject| {
        let names = subject.country.len() + subject.organization.len();
        names > 0 || subject.common_name.is_some()
    };
    let subject = given.filter(is_given).unwrap_or_else(|| Subject {
        country: vec!["US".into()],
        organization: vec!["SPIFFE".into()],
        organizational_unit: Vec::new(),
        common_name: None,
    });
    let two_letters = |country: &&String| {
        country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase())
    };
    if let Some(country) = subject.country.iter().find(two_letters) {
        return Err(invalid("ca_subject.country", format!("{country:?}"), "two capital letters"));
    }
    let all = subject.organization.iter().chain(&subject.common_name);
    let unfit = |name: &&String| !(1..=64).contains(&name.chars().count());
    if let Some(name) = all.clone().find(unfit) {
        return Err(invalid("ca_subject", format!("{name:?}"), "names of 1 to 64 characters"));
    }
    Ok(subject)
}

fn admin_ids(ids: &[String]) -> Result<BTreeSet<SpiffeId>, ConfigError> {
    let must_be = "SPIFFE IDs with a path, such as spiffe://example.org/admin";
    let read = |id: &String| match id.parse::<SpiffeId>() {
        Ok(id) if !id.is_trust_domain() => Ok(id),
        Ok(id) => Err(invalid("admin_ids", id, must_be)),
        Err(error) => Err(invalid("admin_ids", format!("{id:?} ({error})"), must_be)),
    };
    ids.iter().map(read).collect()
}

fn node_attestors(
    raw: Option<NodeAttestors>,
    data_dir: &Path,
) -> Result<Vec<NodeAttestorConfig>, ConfigError> {
    let (join_token, x509pop) = raw.map(|raw| (raw.join_token, raw.x509pop)).unwrap_or_default();
    let mut attestors = Vec::new();
    if join_token.and_then(|raw| raw.enabled).unwrap_or(true) {
        attestors.push(NodeAttestorConfig::JoinToken);
    }
    if let Some(raw) = x509pop {
        attestors.push(NodeAttestorConfig::X509Pop(x509pop_from(raw, data_dir)?));
    }
    Ok(attestors)
}

fn x509pop_from(raw: X509Pop, data_dir: &Path) -> Result<X509PopConfig, ConfigError> {
    let max_rsa_bits = raw.max_rsa_key_size.unwrap_or(8_192);
    if !(2_048..=16_384).contains(&max_rsa_bits) {
        let key = "node_attestor.x509pop.max_rsa_key_size";
        return Err(invalid(key, max_rsa_bits, "between 2048 and 16384 bits"));
    }
    let max_intermediates = raw.max_intermediates.unwrap_or(4);
    if max_intermediates > 16 {
        let key = "node_attestor.x509pop.max_intermediates";
        return Err(invalid(key, max_intermediates, "at most 16"));
    }
    if raw.ca_bundle_paths.is_empty() {
        let key = "node_attestor.x509pop.ca_bundle_paths";
        return Err(invalid(key, "empty", "at least one file with CA certificates in PEM"));
    }
    let template = raw.agent_path_template.as_deref().unwrap_or(x509pop::DEFAULT_TEMPLATE);
    let path = PathTemplate::new(template, x509pop::TEMPLATE_NAMES).map_err(|error| {
        let key = "node_attestor.x509pop.agent_path_template";
        invalid(
            key,
            format!("{template:?} ({error})"),
            "a path such as /x509pop/{{ .Fingerprint }}",
        )
    })?;
    let ca_bundle_paths = raw.ca_bundle_paths.iter().map(|path| data_dir.join(path)).collect();
    Ok(X509PopConfig { ca_bundle_paths, max_intermediates, max_rsa_bits, path })
}

fn audit(raw: Option<Audit>, data_dir: &Path) -> AuditConfig {
    let (path, durability) = raw.map(|raw| (raw.path, raw.durability)).unwrap_or_default();
    AuditConfig {
        path: data_dir.join(path.unwrap_or_else(|| "audit.jsonl".into())),
        durability: durability.unwrap_or(Durability::Background),
    }
}

pub(super) fn invalid(
    key: &'static str,
    found: impl ToString,
    must_be: &'static str,
) -> ConfigError {
    ConfigError::Invalid { key, found: found.to_string(), must_be }
}
