//! Configurations as SPIRE's users have them, what becomes of them, and what is said of the rest.

use super::*;
use crate::config::{Config, DatastoreConfig, KeyStoreConfig, NodeAttestorConfig, UpstreamConfig};

mod agents;
mod every_key;

/// A server as SPIRE's documentation has it.
const SERVER: &str = r#"server {
    bind_address = "127.0.0.1"
    bind_port = "8081"
    trust_domain = "example.org"
    data_dir = "./data/server"
    log_level = "DEBUG"
    ca_ttl = "48h"
    default_x509_svid_ttl = "30m"
    admin_ids = ["spiffe://example.org/admin"]
    ca_subject = {
        country = ["DE"],
        organization = ["Acme"],
        common_name = "",
    }
    ratelimit {
        attestation = false
    }
}

plugins {
    DataStore "sql" {
        plugin_data {
            database_type = "sqlite3"
            connection_string = "./data/server/datastore.sqlite3"
        }
    }

    NodeAttestor "join_token" {
        plugin_data {}
    }

    NodeAttestor "x509pop" {
        plugin_data {
            ca_bundle_path = "/opt/spire/conf/agent-cacert.pem"
            agent_path_template = "/{{ .PluginName }}/{{ .Fingerprint }}"
        }
    }

    KeyManager "disk" {
        plugin_data {
            keys_path = "./data/server/keys.json"
        }
    }
}
"#;

/// An agent, likewise.
const AGENT: &str = r#"agent {
    data_dir = "/var/lib/spire/agent"
    log_level = "WARN"
    server_address = "spire-server"
    server_port = 8081
    trust_bundle_path = "./conf/agent/bootstrap.crt"
    trust_domain = "example.org"
    experimental {
        sync_interval = "10s"
    }
}

plugins {
    NodeAttestor "x509pop" {
        plugin_data {
            private_key_path = "/k.pem"
            certificate_path = "/c.pem"
        }
    }
    KeyManager "memory" {
        plugin_data {}
    }
    WorkloadAttestor "unix" {
        plugin_data {
            discover_workload_path = true
        }
    }
}
"#;

fn imported(text: &str) -> Imported {
    import(text, &Base("/opt/spire".into())).unwrap()
}

/// The configuration that a server makes of it.
fn config(text: &str) -> Config {
    let toml = imported(text).toml;
    Config::parse(&toml, Path::new("server.toml")).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

/// A server with these lines in it.
fn server(lines: &str) -> String {
    format!("server {{\ntrust_domain = \"td\"\ndata_dir = \"/d\"\n{lines}\n}}\nplugins {{\n}}\n")
}

fn plugin(kind: &str, name: &str, data: &str) -> String {
    format!(
        "server {{\ntrust_domain = \"td\"\ndata_dir = \"/d\"\n}}\nplugins {{\n{kind} \"{name}\" {{\n\
         plugin_data {{\n{data}\n}}\n}}\n}}\n"
    )
}

#[test]
fn a_server_that_forgets_keeps_no_keys() {
    let forgetful = SERVER.replace("./data/server/datastore.sqlite3", ":memory:");
    let config = config(&forgetful);
    assert_eq!(config.datastore, DatastoreConfig::Memory);
    assert_eq!(config.key_store, KeyStoreConfig::Memory);
    assert_eq!(remarks(&forgetful), (vec![], vec!["39 plugins.KeyManager.disk".to_owned()]));
}

/// What is left out, and what is only noted, each as `LINE KEY`.
fn remarks(text: &str) -> (Vec<String>, Vec<String>) {
    let (left_out, notes): (Vec<_>, Vec<_>) =
        imported(text).remarks.into_iter().partition(|remark| remark.is_left_out);
    let shown = |remarks: Vec<Remark>| {
        remarks.into_iter().map(|one| format!("{} {}", one.line, one.key)).collect()
    };
    (shown(left_out), shown(notes))
}

#[test]
fn a_server_does_the_same_here() {
    let config = config(SERVER);
    assert_eq!(config.trust_domain.as_str(), "example.org");
    assert_eq!(config.address, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(config.data_dir, Path::new("/opt/spire/data/server"));
    assert_eq!(config.socket_path, Path::new("/tmp/spire-server/private/api.sock"));
    assert_eq!(config.ca.ttl.as_secs(), 48 * 3_600);
    assert_eq!((config.ttl.x509_svid.as_secs(), config.ttl.agent.as_secs()), (1_800, 1_800));
    assert_eq!(config.ca.subject.country, ["DE"]);
    assert_eq!(config.admin_ids.first().unwrap().as_str(), "spiffe://example.org/admin");
    assert!(!config.rate_limits.attestation && config.rate_limits.signing);
    assert_eq!(config.log.level, steeple::telemetry::Level::Debug);
    let database = "/opt/spire/data/server/steeple.sqlite";
    assert_eq!(config.datastore, DatastoreConfig::Sqlite(database.into()));
    let keys = "/opt/spire/data/server/steeple-keys";
    assert_eq!(config.key_store, KeyStoreConfig::Directory(keys.into()));
    let [NodeAttestorConfig::JoinToken, NodeAttestorConfig::X509Pop(x509pop)] =
        &*config.node_attestors
    else {
        panic!("{:?}", config.node_attestors)
    };
    assert_eq!(x509pop.ca_bundle_paths, [Path::new("/opt/spire/conf/agent-cacert.pem")]);
    let notes = [
        "24 plugins.DataStore.sql.plugin_data.connection_string",
        "41 plugins.KeyManager.disk.plugin_data.keys_path",
    ];
    assert_eq!(remarks(SERVER), (vec![], notes.map(str::to_owned).to_vec()));
}

#[test]
fn defaults_of_spires_are_written_out() {
    let config = config(&server(""));
    assert_eq!(config.socket_path, Path::new("/tmp/spire-server/private/api.sock"));
    assert_eq!(config.ttl.agent.as_secs(), 3_600);
    let toml = imported(AGENT).toml;
    assert!(toml.contains("socket_path = \"/tmp/spire-agent/public/api.sock\""), "{toml}");
}

#[test]
fn an_agent_does_the_same_here() {
    let imported = imported(AGENT);
    let lines: Vec<_> =
        imported.toml.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let expected = [
        "server = \"spire-server:8081\"",
        "data_dir = \"/var/lib/spire/agent\"",
        "trust_bundle = \"/opt/spire/conf/agent/bootstrap.crt\"",
        "trust_domain = \"example.org\"",
        "socket_path = \"/tmp/spire-agent/public/api.sock\"",
        "sync_interval = \"10s\"",
        "[log]",
        "level = \"warn\"",
        "[node_attestor.x509pop]",
        "private_key_path = \"/k.pem\"",
        "certificate_path = \"/c.pem\"",
        "[[workload_attestor]]",
        "type = \"unix\"",
        "path = true",
        "sha256 = true",
        "workload_size_limit = 0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(remarks(AGENT), (vec![], vec!["20 plugins.KeyManager.memory".to_owned()]));
}

#[test]
fn json_says_the_same_as_hcl() {
    let json = r#"{
        "server": {"trust_domain": "td", "data_dir": "/d", "bind_port": 8082},
        "plugins": {"NodeAttestor": [{"x509pop": {"plugin_data": {"ca_bundle_paths": ["/c"]}}}]}
    }"#;
    let config = config(json);
    assert_eq!(config.address.port(), 8082);
    assert_eq!(config.node_attestors.len(), 2);
    assert_eq!(remarks(json), (vec![], vec![]));
}

#[test]
fn each_key_of_a_server_is_carried_over_or_named() {
    let carried = [
        "bind_address = \"::1\"",
        "bind_port = 1",
        "socket_path = \"/s\"",
        "ca_ttl = \"1h\"",
        "ca_key_type = \"ec-p384\"",
        "jwt_key_type = \"rsa-2048\"",
        "default_x509_svid_ttl = \"90s\"",
        "default_jwt_svid_ttl = \"1.5m\"",
        "agent_ttl = \"1h\"",
        "jwt_issuer = \"https://x\"",
        "disable_jwt_svids = true",
        "prune_attested_nodes_expired_for = \"720h\"\nprune_tofu_nodes = true",
        "log_level = \"WARNING\"",
        "log_format = \"JSON\"",
        "profiling_enabled = false",
        "log_file = \"x\"",
        "log_file = \"\"",
        "log_source_location = true",
        "experimental {\nrequire_pq_kem = false\n}",
    ];
    for line in carried {
        let text = server(line);
        assert_eq!(remarks(&text), (vec![], vec![]), "{line}");
        config(&text);
    }
    let log = config(&server("log_file = \"x\"\nlog_source_location = true")).log;
    assert_eq!((log.file.as_deref(), log.source_location), (Some(Path::new("/opt/spire/x")), true));
    assert_eq!(config(&server("log_file = \"\"")).log.file, None);
    let left_out = [
        "profiling_enabled = true",
        "profiling_port = 1",
        "proxy_protocol_trusted_cidrs = [\"10.0.0.0/8\"]",
        "jwt_issuer = \"${ISSUER}\"",
        "ca_ttl = \"1d\"",
        "bind_port = true",
        "no_such_key = 1",
    ];
    for line in left_out {
        let key = format!("4 server.{}", line.split(' ').next().unwrap());
        assert_eq!(remarks(&server(line)).0, [key], "{line}");
        config(&server(line));
    }
    let moot = [
        "audit_log_enabled = true",
        "prune_tofu_nodes = true",
        "max_attested_node_info_staleness = \"1s\"",
    ];
    for line in moot {
        let (left_out, notes) = remarks(&server(line));
        assert_eq!((left_out.len(), notes.len()), (0, 1), "{line}");
    }
    let experimental = server("experimental {\nauth_opa_policy_engine {\n}\nwit_issuer = \"x\"\n}");
    let expected =
        ["5 server.experimental.auth_opa_policy_engine", "7 server.experimental.wit_issuer"];
    assert_eq!(remarks(&experimental).0, expected);
}

#[test]
fn a_plugin_that_is_not_here_is_named_with_what_there_is() {
    let check = |kind: &str, name: &str, data: &str, expected: &str| {
        let text = plugin(kind, name, data);
        let left_out: Vec<_> =
            imported(&text).remarks.into_iter().filter(|remark| remark.is_left_out).collect();
        let all: String = left_out
            .iter()
            .map(|one| format!("{} {}: {}\n", one.line, one.key, one.text))
            .collect();
        assert!(all.contains(expected), "{all}");
        config(&text);
    };
    check("NodeAttestor", "aws_iid", "", "6 plugins.NodeAttestor.aws_iid: nodes join with a token");
    check("KeyManager", "aws_kms", "", "`[key_store]`");
    check("UpstreamAuthority", "vault", "", "`[upstream_authority]`");
    check("Notifier", "k8sbundle", "", "bundles are not published");
    check("CredentialComposer", "uniqueid", "", "`[ca_subject]`");
    check(
        "DataStore",
        "sql",
        "database_type = \"postgres\"",
        "8 plugins.DataStore.sql.plugin_data.dat",
    );
    check("NodeAttestor", "x509pop", "", "without ca_bundle_path no node is believed");
    let bundle = "ca_bundle_path = \"/c\"\n";
    let pop = |line: &str| format!("{bundle}{line}");
    check("NodeAttestor", "x509pop", &pop("mode = \"spiffe\""), "9 plugins.NodeAttestor.x509pop");
    check("NodeAttestor", "x509pop", &pop("svid_prefix = \"/x/\""), "SPIRE itself calls it");
    let template = "agent_path_template = \"/{{ .Fingerprint | upper }}\"";
    check("NodeAttestor", "x509pop", &pop(template), "agent_path_template: ");
    let telemetry = server("") + "telemetry {\nPrometheus {\nport = 1\n}\n}\n";
    assert_eq!(remarks(&telemetry).0, ["9 telemetry.Prometheus"]);
    let health = server("") + "health_checks {\nlistener_enabled = true\n}\n";
    assert_eq!(remarks(&health).0, ["9 health_checks.listener_enabled"]);
    let off = "server {\n}\nplugins {\nNotifier \"x\" {\nenabled = false\n}\n}\n";
    assert_eq!(remarks(off), (vec![], vec!["4 plugins.Notifier.x".into()]));
    let external = "server {\n}\nplugins {\nNotifier \"x\" {\nplugin_cmd = \"/x\"\n}\n}\n";
    assert_eq!(remarks(external).0, ["5 plugins.Notifier.x.plugin_cmd"]);
}

#[test]
fn a_relationship_is_left_out_with_the_command_that_makes_it() {
    let text = server(
        "federation {\nbundle_endpoint {\nport = 1\n}\nfederates_with \"other\" {\n\
         bundle_endpoint_url = \"https://other\"\nbundle_endpoint_profile \"https_spiffe\" {\n\
         endpoint_spiffe_id = \"spiffe://other/s\"\n}\n}\n}",
    );
    let expected =
        ["5 server.federation.bundle_endpoint", "8 server.federation.federates_with.other"];
    assert_eq!(remarks(&text).0, expected);
    let command = "steeple-server federation create --trust-domain other --bundle-endpoint-url https://other \
                   --bundle-endpoint-profile https_spiffe --endpoint-spiffe-id spiffe://other/s";
    assert!(imported(&text).remarks.iter().any(|remark| remark.text.contains(command)));
}

#[test]
fn an_upstream_authority_stays_what_it_was() {
    let disk =
        "cert_file_path = \"./ca.pem\"\nkey_file_path = \"/ca.key\"\nbundle_file_path = \"/r.pem\"";
    let disk = plugin("UpstreamAuthority", "disk", disk);
    let Some(UpstreamConfig::Disk(found)) = config(&disk).upstream_authority else { panic!() };
    assert_eq!(found.cert_file, Path::new("/opt/spire/ca.pem"));
    assert_eq!(found.bundle_file.as_deref(), Some(Path::new("/r.pem")));
    let spire = "server_address = \"root\"\nserver_port = \"8081\"\nworkload_api_socket = \"/a.sock\"\n\
                 experimental {\nrequire_pq_kem = true\n}";
    let spire = plugin("UpstreamAuthority", "spire", spire);
    let Some(UpstreamConfig::Spire(found)) = config(&spire).upstream_authority else { panic!() };
    assert_eq!(
        (&*found.server, found.workload_api_socket.to_str()),
        ("root:8081", Some("/a.sock"))
    );
    assert_eq!(remarks(&disk), (vec![], vec![]));
    let expected = "11 plugins.UpstreamAuthority.spire.plugin_data.experimental";
    assert_eq!(remarks(&spire).0, [expected]);
}

#[test]
fn what_the_server_would_refuse_is_told() {
    assert!(imported(&server("")).problem.is_none());
    let problem = imported(&server("ca_ttl = \"1s\"")).problem.unwrap().to_string();
    assert!(problem.contains("`ca_ttl` is 1s"), "{problem}");
    assert_eq!(imported(&server("ca_ttl = \"1s\"")).problem_line, Some(4));
    assert!(imported(&server("ca_key_type = \"EC-P256\"")).problem.is_none());
    assert_eq!(remarks(&server("jwt_key_type = \"x\"")).0, ["4 server.jwt_key_type"]);
}

#[test]
fn what_is_no_configuration_of_spires_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = format!("{:#}", import(text, &Base("/".into())).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check("", "a block `server` or a block `agent`");
    check("server {\n}\nagent {\n}\n", "and not both");
    check("server {\n x = \n}\n", "line 2");
    check("trust_domain = \"td\"\n", "a block `server`");
}

#[test]
fn what_an_agent_serves_is_carried_over() {
    let agent = |lines: &str| format!("agent {{\n{lines}\n}}\nplugins {{\n}}\n");
    let check = |lines: &str, expected: &str| {
        let text = agent(lines);
        assert!(imported(&text).toml.contains(expected), "{}", imported(&text).toml);
        assert_eq!(remarks(&text), (vec![], vec![]));
    };
    check("allow_unauthenticated_verifiers = true", "allow_unauthenticated_verifiers = true\n");
    check("log_file = \"a.log\"", "[log]\nfile = \"/opt/spire/a.log\"\n");
    check(
        "rebootstrap_mode = \"AUTO\"\nrebootstrap_delay = \"1h30m\"",
        "rebootstrap_mode = \"auto\"\nrebootstrap_delay = \"1h 30m\"\n",
    );
    check("disable_workload_api = false", "");
    let alone = "disable_workload_api = true";
    check(&format!("admin_socket_path = \"/a\"\n{alone}"), "disable_workload_api = true\n");
    // SPIRE's agent would serve SDS, and ours nothing.
    assert_eq!(remarks(&agent(alone)).0, ["2 agent.disable_workload_api"]);
    assert!(!imported(&agent(alone)).toml.contains("disable_workload_api"));
}
