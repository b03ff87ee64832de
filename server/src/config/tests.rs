//! Files, and what is made of them.

use steeple::keys::pkcs11::TokenName;

use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/server.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("server.toml"))
}

/// The example with the keys that are commented out.
fn everything() -> String {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
    };
    let is_code = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| is_name(key))
            || line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).is_some_and(is_name)
    };
    let uncomment =
        |line: &'static str| line.strip_prefix("# ").filter(|code| is_code(code)).unwrap_or(line);
    EXAMPLE.lines().flat_map(|line| [uncomment(line), "\n"]).collect()
}

#[test]
fn a_server_that_is_told_nothing_runs_on_safe_defaults() {
    let config = parse("data_dir = '/d'").unwrap();
    assert_eq!(config.trust_domain.as_str(), "example.org");
    assert_eq!(config.address, "0.0.0.0:8081".parse().unwrap());
    assert_eq!(config.socket_path, Path::new("/d/private/admin.sock"));
    assert_eq!(config.ca.ttl, Duration::from_secs(86_400));
    assert_eq!(
        (config.ca.x509_key, config.ca.jwt_key),
        (KeyAlgorithm::EcP256, Some(KeyAlgorithm::EcP256))
    );
    assert_eq!(config.ttl.x509_svid, Duration::from_secs(3_600));
    assert_eq!(config.ttl.jwt_svid, Duration::from_secs(300));
    assert_eq!(config.ttl.agent, Duration::from_secs(4 * 3_600));
    assert_eq!(config.key_store, KeyStoreConfig::Directory("/d/keys".into()));
    assert_eq!(config.datastore, DatastoreConfig::Sqlite("/d/datastore.sqlite".into()));
    assert_eq!(config.node_attestors, [NodeAttestorConfig::JoinToken]);
    assert_eq!(config.rate_limits, limits::Config { attestation: true, signing: true });
    assert_eq!(config.audit.durability, Durability::Background);
    assert!(config.admin_ids.is_empty());
    assert_eq!(config.jwt_issuer, None);
    assert_eq!(config.shortened_ttls(), []);
}

#[test]
fn the_example_says_what_the_defaults_are() {
    let mut plain = parse(EXAMPLE).unwrap();
    let mut full = parse(&everything()).unwrap();
    // What has no default, or is none.
    assert_eq!(full.jwt_issuer.take().as_deref(), Some("https://oidc.example.org"));
    assert_eq!(full.admin_ids.pop_first().unwrap().as_str(), "spiffe://example.org/admin");
    assert_eq!(
        full.log.file.take().as_deref(),
        Some(Path::new("/var/log/steeple/server/server.log"))
    );
    let month = Some(Duration::from_secs(30 * 86_400));
    let prune = std::mem::take(&mut full.prune);
    assert_eq!(prune, PruneConfig { nodes_expired_for: month, tofu_nodes: false });
    let upstream = full.upstream_authority.take();
    assert!(matches!(upstream, Some(UpstreamConfig::Disk(_))), "{upstream:?}");
    plain.node_attestors.clear();
    assert_eq!(full.node_attestors.len(), 2);
    full.node_attestors.clear();
    assert_eq!(plain, full);
}

#[test]
fn the_example_shows_every_key() {
    let unknown = parse("nonsense = 1").unwrap_err().to_string();
    let (_, keys) = unknown.split_once("expected one of ").unwrap();
    let keys: Vec<_> = keys.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() > 15, "{unknown}");
    for key in keys {
        let shown = everything().lines().any(|line| {
            line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[{key}"))
        });
        assert!(shown, "{key}");
    }
}

#[test]
fn another_server_is_reached_by_name_or_address() {
    let check = |address: &str, port: &str, expected: &str| {
        let text = format!(
            "data_dir = '/d'\n[upstream_authority]\ntype = 'spire'\nserver_address = '{address}'\n\
             {port}\nworkload_api_socket = '/run/agent.sock'"
        );
        let found = parse(&text).unwrap().upstream_authority.unwrap();
        assert_eq!(
            found,
            UpstreamConfig::Spire(upstream::spire::Config {
                server: expected.into(),
                workload_api_socket: "/run/agent.sock".into(),
            })
        );
    };
    check("root.example.org", "", "root.example.org:8081");
    check("192.0.2.1", "server_port = 9", "192.0.2.1:9");
    check("2001:db8::1", "", "[2001:db8::1]:8081");
}

#[test]
fn a_server_that_forgets_everything_keeps_no_keys() {
    let key_store = |rest: &str| parse(&format!("data_dir = '/d'\n{rest}")).unwrap().key_store;
    assert_eq!(key_store("[datastore]\ntype = 'memory'"), KeyStoreConfig::Memory);
    let spelt_out = "[datastore]\ntype = 'memory'\n[key_store]\ntype = 'memory'";
    assert_eq!(key_store(spelt_out), KeyStoreConfig::Memory);
    assert_eq!(key_store(""), KeyStoreConfig::Directory("/d/keys".into()));
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = parse(&format!("data_dir = '/d'\n{text}")).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_refusal_names_the_key_the_value_and_what_would_do() {
    check_error("trust_domain = 'spiffe://x'", "`trust_domain` is \"spiffe://x\"");
    check_error("trust_domain = 'Example.org'", "it must be a name of [a-z0-9._-]");
    check_error("bind_port = 70000", "bind_port = 70000");
    check_error("bind_address = 'localhost'", "bind_address");
    check_error("socket_path = 'x.sock'", "`socket_path` is x.sock; it must be an absolute path");
    check_error(&format!("socket_path = '/{}'", "s".repeat(107)), "at most 107 bytes");
    check_error("ca_ttl = '29s'", "`ca_ttl` is 29s; it must be at least 30s");
    check_error("agent_ttl = '0s'", "`agent_ttl` is 0s; it must be between 1s and 10years");
    check_error("default_jwt_svid_ttl = '11years'", "`default_jwt_svid_ttl` is 11years");
    check_error("default_x509_svid_ttl = '1 fortnight'", "is not a duration such as 90s");
    check_error("ca_key_type = 'ec-p521'", "unknown variant `ec-p521`, expected one of `ec-p256`");
    check_error("admin_ids = ['admin']", "`admin_ids` is \"admin\" (");
    check_error("admin_ids = ['spiffe://td']", "`admin_ids` is spiffe://td; it must be");
    check_error("[ca_subject]\ncountry = ['Germany']", "`ca_subject.country` is \"Germany\"");
    check_error("[ca_subject]\norganisation = ['x']", "unknown field `organisation`");
    check_error("[key_store]\ntype = 'hsm'", "unknown variant `hsm`");
    check_error("[key_store]\ntype = 'memory'\npath = 'x'", "path");
    let kept = |rest: &str| format!("[datastore]\ntype = 'memory'\n[key_store]\n{rest}");
    check_error(
        &kept("type = 'directory'"),
        "`key_store.type` is \"directory\"; it must be \"memory\"",
    );
    check_error(&kept("type = 'pkcs11'\nmodule = '/m'\nslot = 0\npin_env = 'P'"), "is \"pkcs11\"");
    check_error("[datastore]\ntype = 'postgres'", "unknown variant `postgres`");
    check_error("[upstream_authority]\ntype = 'vault'", "unknown variant `vault`");
    check_error("[upstream_authority]\ntype = 'disk'\ncert_file_path = 'c'", "key_file_path");
    let spire = |rest: &str| format!("[upstream_authority]\ntype = 'spire'\n{rest}");
    check_error(&spire("server_address = 'a:1'\nworkload_api_socket = '/s'"), {
        "`upstream_authority.server_address` is \"a:1\"; it must be the name or IP address"
    });
    check_error(&spire("server_address = 'a'\nworkload_api_socket = 's'"), {
        "`upstream_authority.workload_api_socket` is s; it must be the absolute path"
    });
    check_error(&spire("server_address = 'a'\nserver_port = 0\nworkload_api_socket = '/s'"), {
        "`upstream_authority.server_port` is 0"
    });
    check_error("[node_attestor.x509pop]\n", "ca_bundle_paths");
    check_error("[node_attestor.x509pop]\nca_bundle_paths = []", "at least one file");
    check_error("[node_attestor.aws_iid]\n", "unknown field `aws_iid`");
    let x509pop = |rest: &str| format!("[node_attestor.x509pop]\nca_bundle_paths = ['c']\n{rest}");
    check_error(&x509pop("max_intermediates = 17"), "max_intermediates` is 17");
    check_error(&x509pop("max_rsa_key_size = 1024"), "max_rsa_key_size` is 1024");
    check_error(&x509pop("agent_path_template = '/{{ .X }}'"), "`.X` is not one of");
    check_error("prune_tofu_nodes = true", "beside prune_attested_nodes_expired_for");
    check_error("[audit]\ndurability = 'none'", "unknown variant `none`");
    check_error("[log]\nlevel = 'loud'", "unknown variant `loud`");
    check_error("trust_domian = 'x'", "unknown field `trust_domian`");
    let relative = parse("data_dir = 'd'").unwrap_err().to_string();
    assert_eq!(relative, "`data_dir` is d; it must be an absolute path");
}

#[test]
fn a_token_is_named_with_where_its_pin_is() {
    let pkcs11 = |rest: &str| {
        parse(&format!("data_dir = '/d'\n[key_store]\ntype = 'pkcs11'\nmodule = '/m.so'\n{rest}"))
            .map(|config| config.key_store)
            .map_err(|error| error.to_string())
    };
    let expected = |token, pin, prefix: &str| {
        let prefix = prefix.parse().unwrap();
        Ok(KeyStoreConfig::Pkcs11(Pkcs11Config { module: "/m.so".into(), token, pin, prefix }))
    };
    let (label, slot) = (TokenName::Label("t".into()), TokenName::Slot(7));
    let file = PinSource::File("/d/pin".into());
    assert_eq!(pkcs11("token_label = 't'\npin_file = 'pin'"), expected(label, file, "example.org"));
    let environment = PinSource::Environment("PIN".into());
    assert_eq!(
        pkcs11("slot = 7\npin_env = 'PIN'\nkey_prefix = 'a-1'"),
        expected(slot, environment, "a-1")
    );
    let check = |rest: &str, expected: &str| {
        let error = pkcs11(rest).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    let both = "it must be one of the two, and not both";
    check("pin_file = 'p'", "`key_store.token_label` is not set, nor is `slot`");
    check("token_label = 't'\nslot = 1\npin_file = 'p'", both);
    check("slot = 1", "`key_store.pin_file` is not set, nor is `pin_env`");
    check("slot = 1\npin_file = 'p'\npin_env = 'P'", both);
    check("slot = 1\npin_env = 'P'\nkey_prefix = 'a/b'", "`key_store.key_prefix` is \"a/b\"");
    let long = format!("slot = 1\npin_env = 'P'\nkey_prefix = '{}'", "a".repeat(201));
    check(&long, "longer than 200 bytes");
    check("slot = 1\npin_env = 'P'\npin = '1234'", "unknown field `pin`");
    let error = parse("data_dir = '/d'\n[key_store]\ntype = 'pkcs11'\nmodule = 'm.so'\nslot = 1");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`key_store.module` is m.so"), "{error}");
}

/// What the example says of tokens, where it is text.
#[test]
fn the_example_of_a_token_works() {
    let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("#   "));
    let lines = lines.skip_while(|line| *line != "[key_store]");
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let config = parse(&format!("data_dir = '/d'\n{text}")).unwrap();
    let KeyStoreConfig::Pkcs11(token) = config.key_store else { panic!("{text}") };
    assert_eq!(token.token, TokenName::Label("steeple".into()));
    assert_eq!(token.prefix.as_str(), "example.org");
}

#[test]
fn paths_that_are_not_absolute_are_below_the_data_directory() {
    let config = parse(
        "data_dir = '/d'\n[audit]\npath = 'a/audit'\n[datastore]\ntype = 'sqlite'\npath = '/x/db'\n\
         [key_store]\ntype = 'directory'\n[node_attestor.x509pop]\nca_bundle_paths = ['ca.pem']",
    )
    .unwrap();
    assert_eq!(config.audit.path, Path::new("/d/a/audit"));
    assert_eq!(config.datastore, DatastoreConfig::Sqlite("/x/db".into()));
    let Some(NodeAttestorConfig::X509Pop(x509pop)) = config.node_attestors.last() else { panic!() };
    assert_eq!(x509pop.ca_bundle_paths, [Path::new("/d/ca.pem")]);
}

#[test]
fn lifetimes_follow_each_other_and_those_that_cannot_be_kept_are_named() {
    let config = parse("data_dir = '/d'\nca_ttl = '6h'\nca_key_type = 'rsa-2048'").unwrap();
    assert_eq!(config.ttl.agent, Duration::from_secs(3_600));
    assert_eq!(config.ca.jwt_key, Some(KeyAlgorithm::Rsa2048));
    let config = parse("data_dir = '/d'\nca_ttl = '1h'").unwrap();
    assert_eq!(config.ttl.agent, Duration::from_secs(3_600));
    let ten_minutes = Duration::from_secs(600);
    let shortened = [("default_x509_svid_ttl", ten_minutes), ("agent_ttl", ten_minutes)];
    assert_eq!(config.shortened_ttls(), shortened);
}

#[test]
fn where_no_tokens_are_made_no_key_signs_them_and_their_life_is_nobodys_concern() {
    let check = |disabled: &str, key, shortened: &[&str]| {
        let text = "data_dir = '/d'\nca_ttl = '1m'\njwt_key_type = 'ec-p384'";
        let config = parse(&format!("{text}\ndisable_jwt_svids = {disabled}")).unwrap();
        assert_eq!(config.ca.jwt_key, key);
        let names: Vec<_> = config.shortened_ttls().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, shortened);
    };
    let all = ["default_x509_svid_ttl", "default_jwt_svid_ttl", "agent_ttl"];
    check("false", Some(KeyAlgorithm::EcP384), &all);
    check("true", None, &["default_x509_svid_ttl", "agent_ttl"]);
}

fn survey(text: &str, path: &Path) -> Survey<Config> {
    let flags = Flags::default();
    let source = Source::of((text, path), false);
    Survey::of(&source, |raw: raw::Config, wrong| flags.over(raw).without(wrong).check())
}

#[track_caller]
fn check_problems(text: &str, expected: &[&str]) {
    let path = Path::new("server.toml");
    let survey = survey(text, path);
    let found: Vec<_> = survey.problems.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for part in expected {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:#?}");
    }
    assert_eq!(survey.config.is_some(), Config::parse(text, path).is_ok() || !found.is_empty());
}

#[test]
fn a_survey_names_all_that_is_wrong() {
    check_problems("data_dir = '/d'", &[]);
    check_problems(
        "data_dir = '/d'\ntrust_domain = 'A'\nca_ttl = '1s'\nagent_ttl = '0s'\nbind_port = 70000\n\
         nonsense = 1\n[ca_subject]\ncountry = ['Germany']\n[key_store]\ntype = 'hsm'\n\
         [node_attestor.x509pop]\nca_bundle_paths = []",
        &[
            "`trust_domain` is \"A\"",
            "`ca_ttl` is 1s",
            "`agent_ttl` is 0s",
            "70000",
            "unknown field `nonsense`",
            "`ca_subject.country` is \"Germany\"",
            "unknown variant `hsm`",
            "`node_attestor.x509pop.ca_bundle_paths` is empty",
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read_has_one_problem() {
    let problems = |text| survey(text, Path::new("f")).problems;
    assert_eq!(problems("data_dir = ").len(), 1);
    let nowhere = Config::survey(&Flags::file(Path::new("/nowhere/server.toml"))).problems;
    assert_eq!(nowhere.len(), 1, "{nowhere:?}");
    let spires = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(spires.path(), "server {\n  trust_domain = \"a\"\n}\n").unwrap();
    let error = Config::load(&Flags::file(spires.path())).unwrap_err().to_string();
    assert!(error.contains("a configuration of SPIRE's, and not TOML"), "{error}");
}

#[test]
fn a_flag_wins_over_the_file_and_variables_are_put_into_it() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "data_dir = '${PATH_OF_NOTHING}'\nbind_port = 1\n").unwrap();
    let load = |more: &[&str]| {
        let path = file.path().to_str().unwrap();
        let words = ["x", "--config", path].into_iter().chain(more.iter().copied());
        Config::load(&<Line as clap::Parser>::try_parse_from(words).unwrap().flags)
    };
    let all =
        ["--data-dir", "/e", "--bind-port", "2", "--bind-address", "::1", "--log-level", "WARN"];
    let config = load(&all).unwrap();
    assert_eq!(config.data_dir, Path::new("/e"));
    assert_eq!(config.address, "[::1]:2".parse().unwrap());
    assert_eq!(config.log.level, steeple::telemetry::Level::Warn);
    let literal = load(&[]).unwrap_err().to_string();
    assert!(literal.contains("`data_dir` is ${PATH_OF_NOTHING}"), "{literal}");
    let expanded = load(&["--expand-env"]).unwrap_err().to_string();
    assert!(expanded.contains("line 1: the environment variable PATH_OF_NOTHING is not set"));
}
