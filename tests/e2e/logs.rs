//! What operators look for in the logs of SPIRE's programs: the same words and the same fields are in
//! ours where the same thing happens.

use serde_json::Value;

use crate::harness::{Deployment, Settings, stdout};
use crate::workload_api::this_user;

/// The line of a log has all of these.
#[track_caller]
fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

fn uid(name: &str) -> String {
    format!("{name}={}", nix::unistd::geteuid())
}

/// SPIRE's `10.7`: messages that its own tests look for.
#[test]
fn the_logs_have_the_words_and_fields_that_operators_of_spire_look_for() {
    let node = Deployment::start();
    let id = format!("spiffe_id={}", node.agent_id);
    node.server.wait_for("Starting Server APIs");
    let made = ["slot=A", "local_authority_id=", "issued_at=", "expiration="];
    for what in ["X509 CA prepared", "X509 CA activated", "JWT key prepared", "JWT key activated"] {
        says(&node.server.wait_for(what), &made);
    }
    says(&node.server.wait_for("X509 CA prepared"), &["self_signed=true"]);
    let line = node.server.wait_for("Agent attestation request completed");
    says(&line, &[&format!("agent_{}", &id["spiffe_".len()..]), "node_attestor_type=join_token"]);
    says(&line, &["service=agent.v1.Agent", "method=AttestAgent", "caller_addr=127.0.0.1:"]);
    says(&line, &["request_id=", "serial_num=", "expiration="]);
    node.agent.wait_for("SVID is not found. Starting node attestation");
    let attested = node.agent.wait_for("Node attestation was successful");
    says(&attested, &[&id, "trust_domain_id=spiffe://example.org", "reattestable=false"]);
    node.agent.wait_for("Starting agent APIs");

    assert!(!node.workload(&["api", "fetch", "x509"]).status.success());
    let refused = node.agent.wait_for("No identity issued");
    says(&refused, &["service=WorkloadAPI", "method=FetchX509SVID", "registered=false", "pid="]);
    says(&refused, &["request_id=", "selectors=", &this_user(), &uid("uid")]);
    let from = node.agent.log().len();
    assert!(!node.workload(&["api", "fetch", "jwt", "--audience", "a"]).status.success());
    says(&node.agent.wait_for_from(from, "No identity issued"), &["method=FetchJWTSVID"]);

    let call = |method| ["service=agent.v1.Agent".to_owned(), format!("method={method}")];
    for (verb, method, words) in
        [("ban", "BanAgent", "Agent banned"), ("evict", "DeleteAgent", "Agent deleted")]
    {
        node.admin(&["agent", verb, "--spiffe-id", &node.agent_id]);
        let line = node.server.wait_for(words);
        let [service, method] = call(method);
        says(&line, &[&service, &method, &id, &uid("caller_uid"), "caller_pid="]);
    }
}

/// What `jq` is given of an agent.
#[test]
fn records_in_json_name_their_part_of_the_program_and_the_call() {
    let settings = Settings { agent: "log = { format = \"json\" }", ..Settings::default() };
    let node = Deployment::with(settings);
    let refused = node.workload(&["api", "fetch", "x509"]);
    assert!(!refused.status.success(), "{}", stdout(&refused));
    let line = node.agent.wait_for("No identity issued");
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["msg"], "No identity issued");
    assert_eq!((&record["level"], &record["registered"]), (&"info".into(), &false.into()));
    assert_eq!(record["subsystem_name"], "workload");
    let (service, method) = (&record["service"], &record["method"]);
    assert_eq!((service, method), (&"WorkloadAPI".into(), &"FetchX509SVID".into()));
    assert!(record["pid"].is_u64() && record["time"].is_string(), "{line}");
    let first = record["request_id"].as_str().unwrap();

    let from = node.agent.log().len();
    assert!(!node.workload(&["api", "fetch", "jwt", "--audience", "a"]).status.success());
    let line = node.agent.wait_for_from(from, "No identity issued");
    let record: Value = serde_json::from_str(&line).unwrap();
    let second = record["request_id"].as_str().unwrap();
    assert!(first.len() == 36 && second.len() == 36 && first != second, "{first} {second}");
}
