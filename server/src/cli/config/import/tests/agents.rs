//! What an agent would not start with is said by its line.

use super::*;

fn agent(lines: &str) -> String {
    format!("agent {{\n{lines}\n}}\nplugins {{\nWorkloadAttestor \"unix\" {{\n}}\n}}\n")
}

/// What is in the result, or what is left out: `LINE KEY: WHY`.
#[track_caller]
fn check(lines: &str, expected: Result<&str, &str>) {
    let Imported { toml, remarks, .. } = imported(&agent(lines));
    let left_out = remarks.iter().filter(|remark| remark.is_left_out);
    let left_out: Vec<_> =
        left_out.map(|one| format!("{} {}: {}", one.line, one.key, one.text)).collect();
    match expected {
        Ok(line) => {
            assert_eq!(left_out, [""; 0]);
            assert!(toml.lines().any(|found| found == line), "{toml}");
        }
        Err(part) => {
            assert_eq!(left_out.len(), 1, "{left_out:?}");
            assert!(left_out[0].starts_with(part), "{left_out:?}");
        }
    }
}

#[test]
fn a_value_is_one_that_the_agent_knows() {
    check(
        "workload_x509_svid_key_type = \"RSA-2048\"",
        Ok("workload_x509_svid_key_type = \"rsa-2048\""),
    );
    check(
        "workload_x509_svid_key_type = \"rsa-1024\"",
        Err("2 agent.workload_x509_svid_key_type: it is \"rsa-1024\", and not one of ec-p256, "),
    );
    check("trust_domain = \"spiffe://a.test\"", Ok("trust_domain = \"a.test\""));
    check("trust_domain = \"A\"", Err("2 agent.trust_domain: it is \"A\", and not a name of"));
    check("rebootstrap_mode = \"maybe\"", Err("2 agent.rebootstrap_mode: "));
    check("log_level = \"loud\"", Err("2 agent.log_level: it is \"loud\", and not one of panic, "));
    let interval = "experimental {\nsync_interval = \"2h\"\n}";
    check(interval, Err("3 agent.experimental.sync_interval: it is \"2h\", and not between 1s"));
}

#[test]
fn of_two_that_exclude_each_other_one_is_left_out() {
    check(
        "insecure_bootstrap = true\nrebootstrap_mode = \"auto\"",
        Err("3 agent.rebootstrap_mode: with insecure_bootstrap"),
    );
    check(
        "insecure_bootstrap = true\nrebootstrap_mode = \"never\"",
        Ok("insecure_bootstrap = true"),
    );
    check(
        "insecure_bootstrap = false\nrebootstrap_mode = \"auto\"",
        Ok("rebootstrap_mode = \"auto\""),
    );
    let both = "trust_bundle_url = \"https://x/b\"\ntrust_bundle_path = \"/b\"";
    check(both, Err("2 agent.trust_bundle_url: "));
    assert!(!imported(&agent(both)).toml.contains("https://x/b"));
    check(
        "insecure_bootstrap = true\ntrust_bundle_path = \"/b\"",
        Err("2 agent.insecure_bootstrap"),
    );
    check("join_token = \"t\"\njoin_token_file = \"/t\"", Err("3 agent.join_token_file: "));
    check("authorized_delegates = [\"spiffe://td/a\"]", Err("2 agent.authorized_delegates: "));
}

#[test]
fn an_agent_attests_by_nothing_that_spires_did_not() {
    let k8s = agent("").replace("unix", "k8s");
    let Imported { toml, remarks, .. } = imported(&k8s);
    assert!(toml.contains("\nworkload_attestor = []\n"), "{toml}");
    assert!(toml.contains("SPIRE had neither `unix` nor `docker`"), "{toml}");
    assert!(remarks.iter().any(|remark| remark.key == "plugins.WorkloadAttestor.k8s"));
    assert!(!imported(&agent("")).toml.contains("workload_attestor = []"));
}
