//! SPIRE's `server.conf`, key by key.

use super::hcl::{Item, Value};
use super::translation::{Base, Fate, Kind, Row, Setting, Translation, inside, quoted, text};
use Fate::{As, Block, Elsewhere, Moot, No, Unless, Untouched};

/// Where SPIRE's server listens for admins unless it is told otherwise.
const SOCKET: &str = crate::cli::socket::SPIRE_DEFAULT;

const PROFILING: &str = "there is no profiler in the server; `perf` and the like see into it";
const MEMORY: &str =
    "entries are served from memory that each change keeps true, and nothing is polled";

/// What keys authorities may have.
const KEYS: Kind = Kind::OneOf(&["ec-p256", "ec-p384", "rsa-2048", "rsa-4096"]);

const LEVELS: &[&str] = &["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];

/// The keys of `server`.
const SERVER: &[Row] = &[
    ("bind_address", As("bind_address", Kind::Text)),
    ("bind_port", As("bind_port", Kind::Integer)),
    ("socket_path", As("socket_path", Kind::Path)),
    ("trust_domain", Elsewhere(Kind::Text)),
    ("data_dir", As("data_dir", Kind::Path)),
    ("ca_ttl", As("ca_ttl", Kind::Duration)),
    ("ca_key_type", As("ca_key_type", KEYS)),
    ("jwt_key_type", As("jwt_key_type", KEYS)),
    ("ca_subject", Block),
    ("default_x509_svid_ttl", As("default_x509_svid_ttl", Kind::Duration)),
    ("default_jwt_svid_ttl", As("default_jwt_svid_ttl", Kind::Duration)),
    ("agent_ttl", As("agent_ttl", Kind::Duration)),
    ("jwt_issuer", As("jwt_issuer", Kind::Text)),
    ("disable_jwt_svids", As("disable_jwt_svids", Kind::Bool)),
    ("admin_ids", As("admin_ids", Kind::Texts)),
    ("audit_log_enabled", Moot("there always is an audit log, in a file of its own: `[audit]`")),
    ("log_file", Untouched),
    ("log_level", Untouched),
    ("log_format", Untouched),
    ("log_source_location", Untouched),
    ("profiling_enabled", Unless("false", PROFILING)),
    ("profiling_port", No(PROFILING)),
    ("profiling_freq", No(PROFILING)),
    ("profiling_names", No(PROFILING)),
    (
        "proxy_protocol_trusted_cidrs",
        No(
            "the PROXY protocol is not spoken: rate limits count what a proxy passes on as its own; `[ratelimit]` can \
            switch them off",
        ),
    ),
    ("prune_attested_nodes_expired_for", As("prune_attested_nodes_expired_for", Kind::Duration)),
    ("prune_attested_nodes_batch_size", Moot("nothing has to be done in batches")),
    ("prune_tofu_nodes", As("prune_tofu_nodes", Kind::Bool)),
    ("ratelimit", Block),
    ("max_attested_node_info_staleness", Moot(MEMORY)),
    ("federation", Block),
    ("experimental", Block),
];

const CA_SUBJECT: &[Row] = &[
    ("country", As("country", Kind::Texts)),
    ("organization", As("organization", Kind::Texts)),
    ("common_name", As("common_name", Kind::Text)),
];

const RATELIMIT: &[Row] =
    &[("attestation", As("attestation", Kind::Bool)), ("signing", As("signing", Kind::Bool))];

const LOG: &[Row] = &[
    ("log_level", As("level", Kind::OneOf(LEVELS))),
    ("log_format", As("format", Kind::OneOf(&["text", "json"]))),
    ("log_file", As("file", Kind::Path)),
    ("log_source_location", As("source_location", Kind::Bool)),
];

const EXPERIMENTAL: &[Row] = &[
    (
        "agent_spiffe_id_as_selector",
        Unless(
            "false",
            "a node is told by the selectors of its attestation; name the agent as the parent instead",
        ),
    ),
    ("cache_reload_interval", Moot(MEMORY)),
    ("events_based_cache", Moot(MEMORY)),
    ("full_cache_reload_interval", Moot(MEMORY)),
    ("prune_events_older_than", Moot(MEMORY)),
    ("event_timeout", Moot(MEMORY)),
    ("sql_transaction_timeout", Moot(MEMORY)),
    (
        "auth_opa_policy_engine",
        No("who may call what is built in, as SPIRE's default policy has it"),
    ),
    (
        "require_pq_kem",
        Unless("false", "X25519MLKEM768 is offered first on every connection, and not insisted on"),
    ),
    ("wit_key_type", No("WIT-SVIDs are not signed")),
    ("wit_issuer", No("WIT-SVIDs are not signed")),
    ("feature_flags", No("there are no feature flags")),
    (
        "named_pipe_name",
        No("there are no named pipes here; socket_path is where admins reach the server"),
    ),
];

/// Makes a server's configuration of what is in `server`.
pub(super) fn translate(items: &[Item], base: &Base, out: &mut Translation) {
    let mut carried = out.carry(("server", items), SERVER, base);
    let mut settings = std::mem::take(&mut carried.settings);
    let is_pruned = settings.iter().any(|(key, _)| *key == "prune_attested_nodes_expired_for");
    if let Some(item) = items.iter().find(|item| item.key == "prune_tofu_nodes" && !is_pruned) {
        settings.retain(|(key, _)| *key != "prune_tofu_nodes");
        let why = "without prune_attested_nodes_expired_for no agent is forgotten anyway";
        out.note(item, "server.prune_tofu_nodes", why);
    }
    let find = |name: &str| settings.iter().find(|(key, _)| *key == name).cloned();
    if let Some(name) = carried.text("trust_domain") {
        out.set(("trust_domain", quoted(name.strip_prefix("spiffe://").unwrap_or(&name))));
    }
    settings.iter().cloned().for_each(|setting| out.set(setting));
    if find("socket_path").is_none() {
        out.set_because(("socket_path", quoted(SOCKET)), "SPIRE's default.");
    }
    if find("agent_ttl").is_none() {
        let svid = find("default_x509_svid_ttl").map_or_else(|| quoted("1h"), |(_, ttl)| ttl);
        out.set_because(
            ("agent_ttl", svid),
            "SPIRE's default is that of X.509-SVIDs. Without this line it would be longer, so that \
             agents survive a longer absence.",
        );
    }
    for (block, header, rows) in
        [("ca_subject", "[ca_subject]", CA_SUBJECT), ("ratelimit", "[ratelimit]", RATELIMIT)]
    {
        let inner = carried.inside(block);
        let settings = out.carry((&format!("server.{block}"), &inner), rows, base).settings;
        if !settings.is_empty() {
            out.table(header, &settings);
        }
    }
    log(items, ("server", base), out);
    federation(&carried.inside("federation"), out);
    let experimental = carried.inside("experimental");
    out.carry(("server.experimental", &experimental), EXPERIMENTAL, base);
}

/// The log of a server or of an agent.
pub(super) fn log(items: &[Item], (path, base): (&str, &Base), out: &mut Translation) {
    // SPIRE takes an empty name of a file for none.
    let is_none = |item: &Item| item.key == "log_file" && item.value == Value::Text(String::new());
    let of_log = |item: &&Item| LOG.iter().any(|(key, _)| *key == item.key) && !is_none(item);
    let items: Vec<_> = items.iter().filter(of_log).cloned().collect();
    let mut settings: Vec<Setting> = out.carry((path, &items), LOG, base).settings;
    for (key, value) in &mut settings {
        if *key == "level" && value == "\"warning\"" {
            *value = quoted("warn");
        }
    }
    if !settings.is_empty() {
        out.table("[log]", &settings);
    }
}

/// Relationships are no part of a configuration here: the command that makes each is told.
fn federation(items: &[Item], out: &mut Translation) {
    for item in items {
        if !out.is_block(item, &format!("server.federation.{}", item.key)) {
            continue;
        }
        if item.key != "federates_with" {
            let why = "there is no bundle endpoint in this server; `bundle show -format spiffe` prints what one serves";
            out.leave_out(item, &format!("server.federation.{}", item.key), why);
            continue;
        }
        for domain in inside(std::slice::from_ref(item), &item.key) {
            let key = format!("server.federation.federates_with.{}", domain.key);
            out.leave_out(&domain, &key, &relationship(&domain));
        }
    }
}

fn relationship(domain: &Item) -> String {
    let inner = match &domain.value {
        Value::Block(inner) => inner.as_slice(),
        Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) => &[],
    };
    let url = inner.iter().find(|item| item.key == "bundle_endpoint_url");
    let url = url.map_or_else(|| "URL".into(), |item| text(&item.value));
    let profile = inside(inner, "bundle_endpoint_profile");
    let spiffe = inside(&profile, "https_spiffe");
    let endpoint = spiffe.iter().find(|item| item.key == "endpoint_spiffe_id");
    let profile = match (profile.first().map(|item| item.key.as_str()), endpoint) {
        (_, Some(id)) => format!("https_spiffe --endpoint-spiffe-id {}", text(&id.value)),
        (Some(name), None) => name.to_owned(),
        (None, None) => "PROFILE".into(),
    };
    format!(
        "relationships are kept with the entries: steeple-server federation create --trust-domain {} \
         --bundle-endpoint-url {url} --bundle-endpoint-profile {profile}",
        domain.key
    )
}
