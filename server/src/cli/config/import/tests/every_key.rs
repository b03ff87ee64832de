//! No key is dropped in silence: it is in the result, or its line is in a remark.

use super::*;

/// What is before a key, which keys stand there, and what is behind. Where a remark on the whole
/// block will do, the block opens on the key's line.
type Place = (&'static str, &'static str, &'static str);

const PLACES: &[Place] = &[
    ("server {\n}\n", "plugins telemetry health_checks nonsense", ""),
    (
        "server {\n",
        "bind_address bind_port socket_path trust_domain data_dir ca_ttl ca_key_type jwt_key_type ca_subject \
         default_x509_svid_ttl default_jwt_svid_ttl agent_ttl jwt_issuer disable_jwt_svids admin_ids \
         audit_log_enabled log_file log_level log_format log_source_location profiling_enabled profiling_port \
         profiling_freq profiling_names proxy_protocol_trusted_cidrs prune_attested_nodes_expired_for \
         prune_attested_nodes_batch_size prune_tofu_nodes ratelimit max_attested_node_info_staleness federation \
         experimental nonsense",
        "\n}",
    ),
    ("server {\nca_subject {\n", "country organization common_name nonsense", "\n}\n}"),
    ("server {\nratelimit {\n", "attestation signing nonsense", "\n}\n}"),
    ("server {\nfederation {\n", "bundle_endpoint federates_with nonsense", "\n}\n}"),
    ("server {\nfederation {\nfederates_with {\n", "other", "\n}\n}\n}"),
    (
        "server {\nfederation {\nfederates_with \"other\" {",
        "bundle_endpoint_url bundle_endpoint_profile nonsense",
        "}\n}\n}",
    ),
    (
        "server {\nexperimental {\n",
        "agent_spiffe_id_as_selector cache_reload_interval events_based_cache full_cache_reload_interval \
         prune_events_older_than event_timeout sql_transaction_timeout auth_opa_policy_engine require_pq_kem \
         wit_key_type wit_issuer feature_flags named_pipe_name nonsense",
        "\n}\n}",
    ),
    (
        "agent {\n",
        "server_address server_port trust_domain data_dir socket_path admin_socket_path trust_bundle_path \
         trust_bundle_url trust_bundle_unix_socket trust_bundle_spiffe_workload_api insecure_bootstrap \
         trust_bundle_format rebootstrap_mode rebootstrap_delay join_token join_token_file log_file log_level \
         log_format log_source_location log_selectors profiling_enabled profiling_port profiling_freq \
         profiling_names sds disable_workload_api disable_sds_api workload_x509_svid_key_type \
         allow_unauthenticated_verifiers allowed_foreign_jwt_claims availability_target \
         x509_svid_cache_max_size jwt_svid_cache_max_size authorized_delegates experimental nonsense",
        "\n}",
    ),
    ("agent {\nserver_address = \"h\"\n", "server_port", "\n}"),
    (
        "agent {\nexperimental {\n",
        "sync_interval use_sync_authorized_entries jwt_svid_cache_hit_timeout require_pq_kem named_pipe_name \
         admin_named_pipe_name ratelimit broker feature_flags nonsense",
        "\n}\n}",
    ),
    (
        "agent {\n}\nhealth_checks {",
        "listener_enabled bind_address bind_port live_path ready_path",
        "}",
    ),
    (
        "agent {\n}\ntelemetry {\n",
        "Prometheus DogStatsd Statsd M3 InMem MetricPrefix EnableTrustDomainLabel EnableHostnameLabel \
         AllowedPrefixes BlockedPrefixes AllowedLabels BlockedLabels",
        "\n}",
    ),
    (
        "server {\n}\nplugins {\n",
        "DataStore KeyManager NodeAttestor UpstreamAuthority nonsense",
        "\n}",
    ),
    ("server {\n}\nplugins {\nNodeAttestor {\n", "join_token x509pop nonsense", "\n}\n}"),
    ("agent {\n}\nplugins {\nWorkloadAttestor {\n", "unix docker nonsense", "\n}\n}"),
    (
        "server {\n}\nplugins {\nKeyManager \"memory\" {\n",
        "plugin_cmd plugin_args plugin_checksum plugin_data plugin_data_file enabled nonsense",
        "\n}\n}",
    ),
];

/// Plugins by their program, kind and name, what is in each anyway, and its keys.
const PLUGINS: &[(&str, &str, &str, &str)] = &[
    ("server", "NodeAttestor \"join_token\"", "", "nonsense"),
    ("server", "KeyManager \"memory\"", "", "nonsense keys_path"),
    ("server", "KeyManager \"disk\"", "", "keys_path nonsense"),
    (
        "server",
        "DataStore \"sql\"",
        "database_type = \"sqlite3\"\n",
        "connection_string ro_connection_string root_ca_path client_cert_path client_key_path max_open_conns \
         max_idle_conns conn_max_lifetime disable_migration log_sql nonsense",
    ),
    ("server", "DataStore \"sql\"", "", "database_type connection_string"),
    (
        "server",
        "NodeAttestor \"x509pop\"",
        "ca_bundle_path = \"/c\"\n",
        "mode ca_bundle_paths agent_path_template max_intermediates max_rsa_key_size \
         verify_client_ip spiffe_prefix svid_prefix nonsense",
    ),
    ("server", "NodeAttestor \"x509pop\"", "", "ca_bundle_path"),
    (
        "server",
        "UpstreamAuthority \"disk\"",
        "",
        "cert_file_path key_file_path bundle_file_path nonsense",
    ),
    (
        "server",
        "UpstreamAuthority \"spire\"",
        "",
        "server_address server_port workload_api_socket experimental nonsense",
    ),
    ("agent", "NodeAttestor \"join_token\"", "", "nonsense"),
    (
        "agent",
        "NodeAttestor \"x509pop\"",
        "",
        "private_key_path certificate_path intermediates_path spiffe_endpoint_socket nonsense",
    ),
    ("agent", "KeyManager \"disk\"", "", "directory nonsense"),
    ("agent", "KeyManager \"memory\"", "", "nonsense directory"),
    (
        "agent",
        "WorkloadAttestor \"unix\"",
        "",
        "discover_workload_path workload_size_limit nonsense",
    ),
    (
        "agent",
        "WorkloadAttestor \"unix\"",
        "discover_workload_path = true\n",
        "workload_size_limit",
    ),
    (
        "agent",
        "WorkloadAttestor \"docker\"",
        "",
        "docker_socket_path docker_version container_id_cgroup_matchers verbose_container_locator_logs \
         podman_socket_path podman_socket_path_template docker_host sigstore nonsense",
    ),
];

/// What a key may be set to, whether it fits or not, and what then has to be in the result.
const VALUES: &[(&str, &[&str])] = &[
    ("\"zqa\"", &["zqa"]),
    ("4711", &["4711"]),
    ("[\"zqa\", \"zqb\"]", &["zqa", "zqb"]),
    ("[\"zqa\", { zqk = \"zqb\" }]", &["zqa", "zqb"]),
    ("{ zqk = \"zqa\" }", &["zqa"]),
    ("\"${ZQA}\"", &["ZQA"]),
];

/// What became of the key on a line of a file.
#[track_caller]
fn check(text: &str, line: usize, needed: &[&str]) {
    let found = imported(text);
    let is_named = found.remarks.iter().any(|remark| remark.line == line);
    let is_carried = needed.iter().all(|part| found.toml.contains(part));
    assert!(is_named || is_carried, "line {line} of\n{text}\nis dropped in silence: {found:?}");
}

#[track_caller]
fn check_place((before, keys, after): (&str, &str, &str)) {
    let line = 1 + before.matches('\n').count();
    for key in keys.split_whitespace() {
        for (value, needed) in VALUES {
            let text = format!("{before}{key} = {value}{after}\n");
            check(&text, line, needed);
        }
        let text = |value: &str| format!("{before}{key} = {value}{after}\n");
        let [yes, no] = ["true", "false"].map(|value| imported(&text(value)));
        let said = |found: &Imported| found.remarks.iter().any(|remark| remark.line == line);
        assert!(yes.toml != no.toml || said(&yes) || said(&no), "{key} in\n{}", text("true"));
    }
}

#[test]
fn each_key_is_carried_over_or_named_whatever_it_is_set_to() {
    PLACES.iter().copied().for_each(check_place);
    for (program, plugin, data, keys) in PLUGINS {
        let before = format!("{program} {{\n}}\nplugins {{\n{plugin} {{\nplugin_data {{\n{data}");
        check_place((&before, keys, "\n}\n}\n}"));
    }
}

#[test]
fn hostile_files_are_no_way_around_that() {
    let named = |text: &str, expected: &[&str]| {
        let found = remarks(text).0;
        let missing: Vec<_> =
            expected.iter().filter(|one| !found.contains(&(**one).into())).collect();
        assert!(missing.is_empty(), "{missing:?} not in {found:?} for\n{text}");
    };
    named("server = \"x\"\n", &["1 server"]);
    named("agent = [1]\nplugins = 1\n", &["1 agent", "2 plugins"]);
    named("server {\n}\nserver = 1\n", &["3 server"]);
    named("server {\nexperimental = []\n}\n", &["2 server.experimental"]);
    named("server \"label\" {\n}\n", &["1 server.label"]);
    named("server {\nca_subject \"label\" {\n}\n}\n", &["2 server.ca_subject.label"]);
    let blocks = "server {\nratelimit {\nsigning = true\n}\nratelimit {\nsigning = false\n}\n}\n";
    named(blocks, &["6 server.ratelimit.signing"]);
    let json = "{\"server\": {\n\"experimental\": [1,\n{}],\n\"ca_subject\": \"x\"}}";
    named(json, &["2 server.experimental", "4 server.ca_subject"]);
}

#[test]
fn an_empty_plugin_cmd_is_none() {
    let plugin = |data: &str| {
        format!(
            "server {{\n}}\nplugins {{\nKeyManager \"memory\" {{\n{data}\nplugin_data {{\n}}\n}}\n}}\n"
        )
    };
    let text = plugin("plugin_cmd = \"\"\nplugin_checksum = \"\"");
    assert_eq!(remarks(&text), (vec![], vec![]));
    assert!(imported(&text).toml.contains("[key_store]\ntype = \"memory\""));
    let text = plugin("plugin_cmd = \"/x\"");
    assert_eq!(remarks(&text).0, ["5 plugins.KeyManager.memory.plugin_cmd"]);
    assert!(!imported(&text).toml.contains("[key_store]"));
}
