//! What is refused, by key, and what wins over what.

use steeple::config::log::LogFlags;
use steeple::telemetry::{Format, Level};

use super::*;
use crate::node::join_token::Token;

const FILE: &str = "
    server = 'server.example.org:8081'
    trust_domain = 'example.org'
    trust_bundle = 'bundle.pem'
    data_dir = '/d'
    socket_path = '/s/api.sock'
";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("agent.toml"))
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let error = parse(text).unwrap_err().to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

/// The file with a line in the place of the one for its key, or at its end.
fn with(line: &str) -> String {
    let key = line.split([' ', '=']).next().unwrap();
    let others = FILE.lines().filter(|other| !other.trim_start().starts_with(&format!("{key} ")));
    others.chain([line]).map(|line| format!("{line}\n")).collect()
}

fn flags(config: Option<&Path>) -> Flags {
    Flags { config: config.map(Path::to_owned), ..Flags::default() }
}

#[test]
fn a_short_file_is_enough() {
    let config = parse(FILE).unwrap();
    assert_eq!(&*config.server, "server.example.org:8081");
    assert_eq!(config.trust, TrustSource::File("/d/bundle.pem".into()));
    assert_eq!(config.sync_interval, Duration::from_secs(5));
    assert_eq!(config.workload_key, KeyAlgorithm::EcP256); // X509-29
    assert_eq!(config.workload_attestors, AttestorConfig::standard());
    assert!(matches!(config.node_attestor, NodeAttestorConfig::JoinToken(JoinToken::None)));
}

#[test]
fn the_trust_bundle_is_believed_once_more_only_where_that_is_said() {
    let of = |lines: &str| parse(&with(lines)).unwrap().rebootstrap;
    let x509pop = "[node_attestor.x509pop]\nprivate_key_path = 'k'\ncertificate_path = 'c'";
    let minutes = |minutes: u64| Rebootstrap::After(Duration::from_secs(60 * minutes));
    assert_eq!(parse(FILE).unwrap().rebootstrap, Rebootstrap::Never);
    assert_eq!(of("rebootstrap_delay = '1m'"), Rebootstrap::Never);
    assert_eq!(of("rebootstrap_mode = 'auto'"), minutes(10));
    assert_eq!(of("rebootstrap_mode = 'auto'\nrebootstrap_delay = '1m'"), minutes(1));
    assert_eq!(of(&format!("rebootstrap_mode = 'always'\n{x509pop}")), minutes(10));
}

#[test]
fn flags_alone_are_enough() {
    let config = Config::load(Flags {
        server: Some("[::1]:1".into()),
        trust_domain: Some("td".into()),
        join_token: Some(Token::new("t".into())),
        insecure_bootstrap: true,
        data_dir: Some("/d".into()),
        socket: Some("/s".into()),
        ..flags(None)
    })
    .unwrap();
    assert_eq!(config.trust, TrustSource::Insecure);
    assert_eq!((&*config.server, config.data_dir.to_str()), ("[::1]:1", Some("/d")));
    let given = NodeAttestorConfig::JoinToken(JoinToken::Given(Token::new("t".into())));
    assert_eq!(format!("{:?}", config.node_attestor), format!("{given:?}"));
}

#[test]
fn each_key_that_will_not_do_is_named_with_what_would() {
    refused("", &["`server` is missing", "--server"]);
    refused(&with("server = 'host'"), &["`server`", "HOST:PORT"]);
    refused(&with("server = 'https://host:1'"), &["`server`", "HOST:PORT"]);
    refused(&with("server = 'host:0'"), &["`server`", "HOST:PORT"]);
    refused(&with("server = '::1:80'"), &["`server`", "HOST:PORT"]);
    refused("server = 'h:1'", &["`trust_domain` is missing", "--trust-domain"]);
    refused(&with("trust_domain = 'spiffe://td'"), &["`trust_domain`", "without spiffe://"]);
    refused(&with("data_dir = 'd'"), &["`data_dir` is d", "absolute"]);
    refused(&with("socket_path = 's'"), &["`socket_path` is s", "absolute"]);
    // WEP-03: there is no way to listen on a network.
    refused(&with("socket_path = 'tcp://0.0.0.0:1'"), &["`socket_path`", "absolute"]);
    refused(&with(&format!("socket_path = '/{}'", "s".repeat(107))), &["107 bytes"]);
    refused(&with("rebootstrap_mode = 'maybe'"), &["maybe", "never"]);
    refused(&with("rebootstrap_delay = '0s'"), &["`rebootstrap_delay` is 0s", "between 1s"]);
    // A token works once, and the first server that answers is not believed twice.
    refused(&with("rebootstrap_mode = 'always'"), &["`rebootstrap_mode` is always", "x509pop"]);
    let insecure = with("rebootstrap_mode = 'auto'\ninsecure_bootstrap = true");
    let insecure = insecure.replace("trust_bundle = 'bundle.pem'", "");
    refused(&insecure, &["`rebootstrap_mode` is auto", "insecure_bootstrap"]);
    refused(&with("sync_interval = '0s'"), &["`sync_interval`", "between 1s and 1h"]);
    refused(&with("sync_intervall = '5s'"), &["unknown field `sync_intervall`"]);
    refused(&with("workload_x509_svid_key_type = 'x'"), &["ec-p256"]);
    refused(&with("workload_attestor = []"), &["`workload_attestor` is empty"]);
    let twice = "workload_attestor = [{ type = 'unix' }, { type = 'unix' }]";
    refused(&with(twice), &["`workload_attestor`", "one of each type"]);
}

#[test]
fn an_engine_is_on_this_node_and_a_token_can_be_a_part_of_an_id() {
    for place in ["tcp://1.2.3.4", "docker.sock", ""] {
        let docker =
            format!("workload_attestor = [{{ type = 'docker', socket_path = '{place}' }}]");
        refused(&with(&docker), &["`workload_attestor.docker.socket_path`", "absolute path"]);
    }
    for token in ["p\u{e4}ss", "a/b", "a b", &"a".repeat(256)] {
        let error = parse(&with(&format!("join_token = '{token}'"))).unwrap_err().to_string();
        assert!(
            error.contains("`join_token` is no join token") && !error.contains(token),
            "{error}"
        );
    }
    assert!(parse(&with("join_token = ' 5b3-_.A '")).is_ok());
}

/// The keys that are named as wrong, in this file under these flags.
#[track_caller]
fn check_survey(text: &str, flags: Flags, expected: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let survey = Config::survey(&Flags { config: Some(file.path().to_owned()), ..flags });
    let found: Vec<_> = survey.problems.iter().map(ToString::to_string).collect();
    let is_named = |(error, key): (&String, &&str)| error.contains(&format!("`{key}`"));
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(is_named), "{found:?}");
    assert!(survey.config.is_some(), "the rest can be looked at: {found:?}");
}

#[test]
fn a_survey_names_all_that_is_wrong() {
    check_survey(FILE, flags(None), &[]);
    check_survey("data_dir = '/d'", flags(None), &["server", "trust_domain", "trust_bundle"]);
    let three = "server = 'x'\ntrust_domain = 'EX'\nsync_interval = '0s'\ntrust_bundle = 'b'";
    let under = Flags { data_dir: Some("/d".into()), ..flags(None) };
    check_survey(three, under, &["server", "trust_domain", "sync_interval"]);
    let many = format!(
        "{}rebootstrap_delay = '0s'\nrebootstrap_mode = 'always'\ntrust_bundle_fingerprint = 'x'\n\
         join_token = 'a/b'\njoin_token_file = 'c'\nworkload_attestor = []\n\
         authorized_delegates = ['x']\nnonsense = 1\nsync_interval = 5",
        with("socket_path = 's'")
    );
    check_survey(
        &many,
        flags(None),
        &[
            "nonsense",
            "sync_interval",
            "trust_bundle",
            "socket_path",
            "authorized_delegates",
            "join_token",
            "rebootstrap_delay",
            "workload_attestor",
        ],
    );
    let by_flags = Flags {
        server: Some("x".into()),
        trust_domain: Some("EX".into()),
        join_token: Some(Token::new("a".into())),
        join_token_file: Some("b".into()),
        ..flags(None)
    };
    check_survey(FILE, by_flags, &["join_token", "server", "trust_domain"]);
}

#[test]
fn there_is_exactly_one_reason_to_trust_the_server() {
    let none = FILE.replace("trust_bundle = 'bundle.pem'", "");
    refused(&none, &["`trust_bundle` is missing", "--insecure-bootstrap"]);
    refused(&with("insecure_bootstrap = true"), &["exactly one of the three"]);
    let hash = "ab:".repeat(31) + "ab";
    let fingerprint = format!("trust_bundle_fingerprint = '{hash}'");
    refused(&with(&fingerprint), &["exactly one of the three"]);
    refused(&with("trust_bundle = ''"), &["`trust_bundle` is empty"]);
    for url in ["http://ca.example.org/", "https:///bundle", "https://me@ca.example.org/", "a://"] {
        refused(&with(&format!("trust_bundle = '{url}'")), &["`trust_bundle`", "https://HOST"]);
    }
    let trust = |line: &str| parse(&format!("{none}\n{line}")).unwrap().trust;
    let url = "https://ca.example.org:8443/bundle.pem";
    assert_eq!(trust(&format!("trust_bundle = '{url}'")), TrustSource::Url(url.parse().unwrap()));
    assert_eq!(trust(&fingerprint), TrustSource::Fingerprint([0xab; 32]));
    assert_eq!(trust(&fingerprint.replace(':', "")), TrustSource::Fingerprint([0xab; 32]));
    assert_eq!(trust("insecure_bootstrap = true"), TrustSource::Insecure);
    let short = format!("{none}\ntrust_bundle_fingerprint = 'ab'");
    refused(&short, &["`trust_bundle_fingerprint`", "64 hexadecimal digits"]);
    assert!(parse(&with("insecure_bootstrap = false")).is_ok());
}

#[test]
fn there_is_one_way_for_a_node_to_join() {
    let x509pop = "[node_attestor.x509pop]\nprivate_key_path = 'k'\ncertificate_path = '/c'";
    let config = parse(&format!("{FILE}\n{x509pop}")).unwrap();
    let NodeAttestorConfig::X509Pop(files) = config.node_attestor else { panic!() };
    assert_eq!(files.private_key, Path::new("/d/k"));
    assert_eq!(files.certificate, Path::new("/c"));
    let token = "join_token = 't'";
    refused(&format!("{FILE}\n{token}\n{x509pop}"), &["`join_token`", "node_attestor.x509pop"]);
    let file = "join_token_file = 'f'";
    refused(&format!("{FILE}\n{token}\n{file}"), &["`join_token`", "one of join_token"]);
    let both = Flags {
        join_token: Some(Token::new("t".into())),
        join_token_file: Some("f".into()),
        ..flags(None)
    };
    let error = Config::load(both).unwrap_err().to_string();
    assert!(error.contains("--join-token-file") && error.contains("STEEPLE_JOIN_TOKEN"), "{error}");
}

/// SPIRE's agent has two flags for it, and each wins over its part of the file.
#[test]
fn a_server_may_be_named_in_two_parts() {
    let of = |host: Option<&str>, port: Option<u16>, file: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, file).unwrap();
        let (server_address, server_port) = (host.map(ToOwned::to_owned), port);
        let flags = Flags { server_address, server_port, ..flags(Some(&path)) };
        Config::load(flags).map(|config| config.server.to_string()).ok()
    };
    let rest = FILE.replace("server = 'server.example.org:8081'", "");
    let found = |text: &str| Some(text.to_owned());
    assert_eq!(of(Some("h"), Some(1), FILE), found("h:1"));
    assert_eq!(of(Some("h"), None, &FILE.replace("8081", "9")), found("h:9"));
    assert_eq!(of(None, Some(1), FILE), found("server.example.org:1"));
    assert_eq!(of(Some("::1"), Some(1), FILE), found("[::1]:1"));
    assert_eq!(of(Some("h"), None, &rest), found("h:8081"));
    assert_eq!(of(None, Some(1), &rest), None);
}

#[test]
fn a_flag_wins_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    let x509pop = "[node_attestor.x509pop]\nprivate_key_path = 'k'\ncertificate_path = '/c'";
    std::fs::write(&path, format!("{FILE}\n{x509pop}\n[log]\nformat = 'json'")).unwrap();
    let config = Config::load(Flags {
        server: Some("other:1".into()),
        insecure_bootstrap: true,
        join_token_file: Some("/t".into()),
        log: LogFlags { log_level: Some(Level::Debug), ..LogFlags::default() },
        ..flags(Some(&path))
    })
    .unwrap();
    assert_eq!(&*config.server, "other:1");
    assert_eq!(config.trust_domain.as_str(), "example.org");
    assert_eq!(config.trust, TrustSource::Insecure);
    assert_eq!((config.log.level, config.log.format), (Level::Debug, Format::Json));
    let NodeAttestorConfig::JoinToken(JoinToken::File(file)) = config.node_attestor else {
        panic!()
    };
    assert_eq!(file, Path::new("/t"));
}

#[test]
fn variables_are_put_into_the_file_where_that_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), with("data_dir = '${CARGO_MANIFEST_DIR}'")).unwrap();
    let load = |expand_env| Config::load(Flags { expand_env, ..flags(Some(file.path())) });
    assert_eq!(load(true).unwrap().data_dir, Path::new(env!("CARGO_MANIFEST_DIR")));
    let literal = load(false).unwrap_err().to_string();
    assert!(literal.contains("`data_dir` is ${CARGO_MANIFEST_DIR}"), "{literal}");
}

#[test]
fn a_token_is_not_printed_with_the_settings() {
    let config = parse(&with("join_token = 'very-secret'")).unwrap();
    assert!(!format!("{config:?}").contains("very-secret"));
}

#[test]
fn the_example_is_valid_and_shows_every_key_with_its_default() {
    let text = include_str!("../../../deploy/agent.toml");
    parse(text).unwrap();
    // What is commented out has the value shown, so taking it in changes nothing but the examples.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with('[') || key.contains(" = ") => key,
            _ => line,
        })
        .filter(|line| !line.starts_with("join_token") && !line.starts_with("insecure_"))
        .filter(|line| !line.starts_with("trust_bundle_"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(&all).unwrap();
    assert_eq!(config.sync_interval, DEFAULT_SYNC_INTERVAL);
    assert_eq!(config.workload_key, KeyAlgorithm::EcP256);
    assert_eq!((config.verifiers, config.rebootstrap), (Verifiers::Registered, Rebootstrap::Never));
    let file = Some("/var/log/steeple/agent/agent.log".into());
    assert_eq!(config.log, Settings { file, ..Settings::default() });
    assert_eq!(config.workload_attestors, AttestorConfig::standard());
    for key in ["join_token", "join_token_file", "insecure_bootstrap", "trust_bundle_fingerprint"] {
        assert!(text.contains(&format!("# {key} = ")), "{key} is not explained");
    }
}
