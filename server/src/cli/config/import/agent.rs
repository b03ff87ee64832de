//! SPIRE's `agent.conf`, key by key.

use super::hcl::Item;
use super::plugins::Plugin;
use super::server;
use super::translation::{Base, Fate, Kind, Row, Setting, Translation, quoted, text};
use Fate::{As, Block, Elsewhere, Moot, No, Unless, Untouched};

/// Where SPIRE's agent listens for workloads unless it is told otherwise.
const SOCKET: &str = "/tmp/spire-agent/public/api.sock";

const PROFILING: &str = "there is no profiler in the agent; `perf` and the like see into it";
const OWN_KEYS: &str = "an SVID is made for each process when it first asks, and goes with it: nothing is kept in \
                        advance that would have to be bounded";
const BOUNDED: &str = "calls are bounded for each caller";

/// What keys workloads may have.
const KEYS: Kind = Kind::OneOf(&["ec-p256", "ec-p384", "rsa-2048"]);

/// The keys of `agent`.
const AGENT: &[Row] = &[
    ("server_address", Elsewhere(Kind::Text)),
    ("server_port", Elsewhere(Kind::Integer)),
    ("trust_domain", As("trust_domain", Kind::TrustDomain)),
    ("data_dir", As("data_dir", Kind::Path)),
    ("socket_path", As("socket_path", Kind::Path)),
    ("admin_socket_path", As("admin_socket_path", Kind::Path)),
    ("trust_bundle_path", As("trust_bundle", Kind::Path)),
    ("trust_bundle_url", As("trust_bundle", Kind::Https)),
    ("trust_bundle_format", Moot("the form of a bundle is seen from what is in it")),
    (
        "trust_bundle_unix_socket",
        No("a bundle is fetched over https, or read from a file: trust_bundle"),
    ),
    ("trust_bundle_spiffe_workload_api", No("give the bundle in a file: trust_bundle")),
    ("insecure_bootstrap", As("insecure_bootstrap", Kind::Bool)),
    ("rebootstrap_mode", As("rebootstrap_mode", Kind::OneOf(&["never", "auto", "always"]))),
    ("rebootstrap_delay", As("rebootstrap_delay", Kind::Within(1, 30 * 24 * 3_600))),
    ("join_token", As("join_token", Kind::Text)),
    ("join_token_file", As("join_token_file", Kind::Path)),
    ("log_file", Untouched),
    ("log_level", Untouched),
    ("log_format", Untouched),
    ("log_source_location", Untouched),
    ("log_selectors", No("selectors are logged or not as a whole, by the level of the log")),
    ("profiling_enabled", Unless("false", PROFILING)),
    ("profiling_port", No(PROFILING)),
    ("profiling_freq", No(PROFILING)),
    ("profiling_names", No(PROFILING)),
    (
        "sds",
        No(
            "Envoy's SDS is not served; Envoy can be given files by `steeple-agent api fetch x509 --write`",
        ),
    ),
    ("disable_workload_api", Elsewhere(Kind::Bool)),
    ("disable_sds_api", Moot("Envoy's SDS is not served")),
    ("workload_x509_svid_key_type", As("workload_x509_svid_key_type", KEYS)),
    ("allow_unauthenticated_verifiers", As("allow_unauthenticated_verifiers", Kind::Bool)),
    ("allowed_foreign_jwt_claims", No("no claims of foreign tokens are changed")),
    ("availability_target", No("an SVID is renewed at half of its life")),
    ("x509_svid_cache_max_size", Moot(OWN_KEYS)),
    ("jwt_svid_cache_max_size", Moot(OWN_KEYS)),
    ("authorized_delegates", As("authorized_delegates", Kind::Texts)),
    ("experimental", Block),
];

const EXPERIMENTAL: &[Row] = &[
    ("sync_interval", As("sync_interval", Kind::Within(1, 3_600))),
    (
        "use_sync_authorized_entries",
        Moot("only changes are asked for, where the server can tell them"),
    ),
    (
        "jwt_svid_cache_hit_timeout",
        Moot("a token that is still good is served while the server is away"),
    ),
    (
        "require_pq_kem",
        Unless("false", "X25519MLKEM768 is offered first on every connection, and not insisted on"),
    ),
    (
        "named_pipe_name",
        No("there are no named pipes here; socket_path is where workloads find the agent"),
    ),
    ("admin_named_pipe_name", No("there are no named pipes here; it is admin_socket_path")),
    ("ratelimit", Moot(BOUNDED)),
    ("broker", No("the broker API is not served")),
    ("feature_flags", No("there are no feature flags")),
];

const X509POP: &[Row] = &[
    ("private_key_path", As("private_key_path", Kind::Path)),
    ("certificate_path", As("certificate_path", Kind::Path)),
    ("intermediates_path", As("intermediates_path", Kind::Path)),
    ("spiffe_endpoint_socket", No("the certificate of a node is in files")),
];

const UNIX: &[Row] = &[
    ("discover_workload_path", Elsewhere(Kind::Bool)),
    ("workload_size_limit", Elsewhere(Kind::Integer)),
];

const CONTAINER: &str = "the container of a process is told from its cgroup";

const DOCKER: &[Row] = &[
    ("docker_socket_path", Elsewhere(Kind::Text)),
    ("docker_version", Moot("it is agreed on with the engine")),
    ("use_new_container_locator", Unless("true", CONTAINER)),
    ("container_id_cgroup_matchers", No(CONTAINER)),
    ("verbose_container_locator_logs", Moot("the level of the log says how much is told")),
    (
        "podman_socket_path",
        No("Podman is not asked, but its Docker-compatible socket can be: docker_socket_path"),
    ),
    ("podman_socket_path_template", No("the engines of users are not asked")),
    ("docker_host", No("there are no named pipes here; it is docker_socket_path")),
    ("sigstore", No("signatures of images are not checked; entries that need them match nobody")),
];

/// Makes an agent's configuration of what is in `agent`.
pub(super) fn translate(items: &[Item], base: &Base, out: &mut Translation) {
    let mut carried = out.carry(("agent", items), AGENT, base);
    leave_out_conflicts(items, &mut carried.settings, out);
    if let Some(host) = carried.text("server_address") {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = carried.text("server_port").unwrap_or_else(|| "8081".into());
        out.set(("server", quoted(&format!("{host}:{port}"))));
    } else if let Some(port) = carried.item("server_port") {
        let why = "it goes with server_address, which is not there: add server = \"HOST:PORT\", or \
                   start the agent with --server HOST:PORT";
        out.leave_out(port, "agent.server_port", why);
    }
    let settings = &carried.settings;
    settings.iter().cloned().for_each(|setting| out.set(setting));
    if let Some(item) =
        carried.item("disable_workload_api").filter(|item| text(&item.value) == "true")
    {
        if settings.iter().any(|(key, _)| *key == "admin_socket_path") {
            out.set(("disable_workload_api", "true".into()));
        } else {
            let why = "nothing else would be served: Envoy's SDS is not, and there is no admin_socket_path";
            out.leave_out(item, "agent.disable_workload_api", why);
        }
    }
    let is_set = |name: &str| settings.iter().any(|(key, _)| *key == name);
    if !is_set("data_dir") {
        let why = "SPIRE's default is where it was started.";
        out.set_because(("data_dir", quoted(&base.absolute("."))), why);
    }
    if !is_set("socket_path") {
        out.set_because(("socket_path", quoted(SOCKET)), "SPIRE's default.");
    }
    let experimental = carried.inside("experimental");
    let experimental = out.carry(("agent.experimental", &experimental), EXPERIMENTAL, base);
    experimental.settings.into_iter().for_each(|setting| out.set(setting));
    server::log(items, ("agent", base), out);
}

/// What an agent would not start with: the first of two that exclude each other stays.
fn leave_out_conflicts(items: &[Item], settings: &mut Vec<Setting>, out: &mut Translation) {
    let mut leave_out = |key: &str, why: &str| {
        if let Some(item) = items.iter().rev().find(|item| item.key == key) {
            out.leave_out(item, &format!("agent.{key}"), why);
        }
    };
    let has = |settings: &[Setting], key: &str| settings.iter().any(|(name, _)| *name == key);
    let is = |settings: &[Setting], key: &str, value: &str| {
        settings.iter().any(|(name, found)| *name == key && found == value)
    };
    let bundles = settings.iter().filter(|(key, _)| *key == "trust_bundle").count();
    if bundles > 1 {
        leave_out(
            "trust_bundle_url",
            "there is a trust_bundle_path, too, and one of them is believed",
        );
        settings.retain(|(key, value)| *key != "trust_bundle" || !value.starts_with("\"https://"));
    }
    let is_insecure = |settings: &[Setting]| is(settings, "insecure_bootstrap", "true");
    if bundles > 0 && is_insecure(settings) {
        leave_out("insecure_bootstrap", "there is a trust bundle to believe a server by");
        settings.retain(|(key, _)| *key != "insecure_bootstrap");
    }
    let never = is(settings, "rebootstrap_mode", &quoted("never"));
    if is_insecure(settings) && has(settings, "rebootstrap_mode") && !never {
        let why = "with insecure_bootstrap, whoever stands in the way for long enough would be believed: give \
                   the agent a trust bundle, or leave it at never";
        leave_out("rebootstrap_mode", why);
        settings.retain(|(key, _)| *key != "rebootstrap_mode");
    }
    if has(settings, "join_token") && has(settings, "join_token_file") {
        leave_out(
            "join_token_file",
            "there is a join_token, too, and a node joins with one of them",
        );
        settings.retain(|(key, _)| *key != "join_token_file");
    }
    if has(settings, "authorized_delegates") && !has(settings, "admin_socket_path") {
        leave_out("authorized_delegates", "delegates ask on the admin socket: admin_socket_path");
        settings.retain(|(key, _)| *key != "authorized_delegates");
    }
}

/// Makes settings of an agent's plugin.
pub(super) fn translate_plugin(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    match (plugin.kind.as_str(), plugin.name.as_str()) {
        ("NodeAttestor", "join_token") => {
            out.carry((&path, &plugin.settings), &[], base);
        }
        ("NodeAttestor", "x509pop") => {
            let carried = out.carry((&path, &plugin.settings), X509POP, base);
            out.table("[node_attestor.x509pop]", &carried.settings);
        }
        ("KeyManager", "disk") => {
            let why = "the agent's key is kept in data_dir";
            out.carry((&path, &plugin.settings), &[("directory", Moot(why))], base);
        }
        ("KeyManager", "memory") => {
            let why = "the agent's key is kept in data_dir, so that it stays the same agent";
            out.note(&plugin.item, &plugin.path(), why);
            out.carry((&path, &plugin.settings), &[], base);
        }
        ("WorkloadAttestor", "unix") => unix(plugin, base, out),
        ("WorkloadAttestor", "docker") => docker(plugin, base, out),
        ("NodeAttestor", _) => {
            let why = "a node joins with a token or with a certificate: `[node_attestor.x509pop]`";
            out.leave_out(&plugin.item, &plugin.path(), why);
        }
        ("WorkloadAttestor", _) => {
            let why = "processes are told apart by `unix` and `docker`: `[[workload_attestor]]`";
            out.leave_out(&plugin.item, &plugin.path(), why);
        }
        (_, _) => out.leave_out(&plugin.item, &plugin.path(), "there are no such plugins"),
    }
}

fn unix(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    let carried = out.carry((&path, &plugin.settings), UNIX, base);
    let discovers = carried.text("discover_workload_path").is_some_and(|text| text == "true");
    let limit = carried.item("workload_size_limit");
    let hashes = discovers && !limit.is_some_and(|limit| text(&limit.value).starts_with('-'));
    let mut settings = vec![
        ("type", quoted("unix")),
        ("path", discovers.to_string()),
        ("sha256", hashes.to_string()),
    ];
    match limit {
        Some(limit) if hashes => settings.push(("workload_size_limit", text(&limit.value))),
        // It is what says that nothing is hashed.
        Some(_) if discovers => {}
        Some(limit) => {
            let why = "without discover_workload_path no program is hashed, whatever its size";
            out.note(limit, &format!("{path}.workload_size_limit"), why);
        }
        // SPIRE's default is no limit.
        None if hashes => settings.push(("workload_size_limit", "0".into())),
        None => {}
    }
    out.table("[[workload_attestor]]", &settings);
}

fn docker(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    let carried = out.carry((&path, &plugin.settings), DOCKER, base);
    let mut settings = vec![("type", quoted("docker"))];
    if let Some(item) = carried.item("docker_socket_path") {
        let socket = text(&item.value);
        match socket.strip_prefix("unix://") {
            Some(socket) => settings.push(("socket_path", quoted(socket))),
            None if socket.starts_with('/') => settings.push(("socket_path", quoted(&socket))),
            None => {
                let why = "the engine is asked over a Unix socket: unix:///PATH";
                out.leave_out(item, &format!("{path}.docker_socket_path"), why);
            }
        }
    }
    out.table("[[workload_attestor]]", &settings);
    out.leave_out(
        &plugin.item,
        &plugin.path(),
        "environment variables of containers become selectors only if `env` names them: add env = [\"NAME\"] for \
         those that entries have in docker:env:NAME=VALUE",
    );
}
