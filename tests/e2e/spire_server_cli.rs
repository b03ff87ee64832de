//! SPIRE's scenario `spire-server-cli`: its steps, in its own spelling of every command and flag,
//! through a link called `spire-server`.

#[path = "spire_server_cli/federation.rs"]
mod federation;
#[path = "spire_server_cli/shapes.rs"]
pub(crate) mod shapes;
#[path = "spire_server_cli/words.rs"]
mod words;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::harness::process::{Process, command};
use crate::harness::{Dir, Settings, bin, start_server, stderr, stdout};

/// A server, and the command line that its admins have always had.
struct Scenario {
    dir: Dir,
    _server: Process,
    link: PathBuf,
}

impl Scenario {
    fn start() -> Self {
        let dir = Dir::new();
        let server = start_server(&dir, Settings::default(), 0);
        let link = dir.path("spire-server");
        symlink(bin::server(), &link).unwrap();
        Self { dir, _server: server, link }
    }

    fn run_with(&self, arguments: &str, input: &str) -> Output {
        let mut command = command(&self.link);
        command.args(arguments.split_whitespace());
        command.env("SPIRE_SERVER_PRIVATE_SOCKET", self.dir.path("server/admin/api.sock"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        // A command that does not read what it is given may have ended already.
        let _unread = running.stdin.take().unwrap().write_all(input.as_bytes());
        running.wait_with_output().unwrap()
    }

    #[track_caller]
    fn ok_with(&self, arguments: &str, input: &str) -> String {
        let output = self.run_with(arguments, input);
        assert!(output.status.success(), "{arguments}: {}", stderr(&output));
        stdout(&output)
    }

    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        self.ok_with(arguments, "")
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{arguments} -output json"))).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &str, expected: &str) {
        let output = self.run_with(arguments, "");
        let said = stderr(&output);
        assert!(!output.status.success(), "{arguments}");
        assert!(said.contains("Error: ") && said.contains(expected), "{arguments}: {said}");
    }
}

/// The column of `label` in a block of an entry.
fn field(label: &str, value: &str) -> String {
    format!("{label:<24}: {value}\n")
}

#[test]
fn bundles_are_counted_shown_set_listed_and_deleted() {
    let scenario = Scenario::start();
    assert_eq!(scenario.ok("bundle count"), "1 bundle\n");
    let pem = scenario.ok("bundle show");
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert_eq!(scenario.ok("bundle show -format pem"), pem);
    let document = scenario.ok("bundle show -format spiffe");
    assert!(document.starts_with("{\n    \"keys\": ["), "{document}");
    assert!(document.contains("\"x509-svid\"") && document.contains("\"jwt-svid\""), "{document}");
    assert_eq!(scenario.json("bundle show")["wit_authorities"], json!([]));

    let (pem_file, spiffe_file) = (scenario.dir.path("b.pem"), scenario.dir.path("b.json"));
    fs::write(&pem_file, &pem).unwrap();
    fs::write(&spiffe_file, &document).unwrap();
    let set = "bundle set -id spiffe://federated";
    assert_eq!(scenario.ok_with(&format!("{set}1"), &pem), "bundle set.\n");
    let path = format!("{set}2 -path {}", pem_file.display());
    assert_eq!(scenario.ok(&path), "bundle set.\n");
    assert_eq!(scenario.ok_with(&format!("{set}3 -format spiffe"), &document), "bundle set.\n");
    let path = format!("{set}4 -format spiffe -path {}", spiffe_file.display());
    assert_eq!(scenario.ok(&path), "bundle set.\n");
    assert_eq!(scenario.ok("bundle count"), "5 bundles\n");

    for id in 1..=4 {
        let listed = scenario.ok(&format!("bundle list -id spiffe://federated{id}"));
        assert_eq!(listed, pem, "{id}");
    }
    assert_eq!(scenario.ok("bundle list -id spiffe://federated4 -format spiffe"), document);
    let rule = "****************************************";
    let all = scenario.ok("bundle list");
    assert!(all.contains(&format!("{rule}\n* federated1\n{rule}\n{pem}")), "{all}");

    assert_eq!(scenario.ok("bundle delete -id spiffe://federated1"), "bundle deleted.\n");
    assert_eq!(scenario.ok("bundle count"), "4 bundles\n");
    scenario.fails("bundle list -id spiffe://federated1", "federated1");
}

#[test]
fn entries_are_created_shown_updated_and_deleted() {
    let scenario = Scenario::start();
    scenario.ok_with("bundle set -id spiffe://federated1", &scenario.ok("bundle show"));
    let first = scenario.ok(
        "entry create -spiffeID spiffe://example.org/child1 -parentID spiffe://example.org/parent1 \
         -selector s1:1 -federatesWith spiffe://federated1 -admin -entryExpiry 1924981200 -hint h",
    );
    for (label, value) in [
        ("SPIFFE ID", "spiffe://example.org/child1"),
        ("Parent ID", "spiffe://example.org/parent1"),
        ("Revision", "0"),
        ("X509-SVID TTL", "default"),
        ("JWT-SVID TTL", "default"),
        ("Expiration time", "2030-12-31 21:00:00 +0000 UTC"),
        ("Selector", "s1:1"),
        ("FederatesWith", "federated1"),
        ("Admin", "true"),
        ("Hint", "h"),
    ] {
        assert!(first.contains(&field(label, value)), "{label}: {first}");
    }
    assert!(!first.contains("Downstream") && !first.contains("DNS name"), "{first}");
    let second = scenario.ok(
        "entry create -spiffeID spiffe://example.org/child2 -parentID spiffe://example.org/parent2 \
         -selector s1:1 -selector s2:2 -downstream",
    );
    assert!(second.contains(&field("Downstream", "true")), "{second}");
    let third = scenario.ok(
        "entry create -node -spiffeID spiffe://example.org/child3 -selector s1:1 -selector s2:2 \
         -selector s3:3 -dns dnsname1 -dns dnsname2 -x509SVIDTTL 123",
    );
    assert!(third.contains(&field("Parent ID", "spiffe://example.org/spire/server")), "{third}");
    assert!(third.contains(&field("X509-SVID TTL", "123")), "{third}");
    assert!(third.contains(&(field("DNS name", "dnsname1") + &field("DNS name", "dnsname2"))));
    scenario.fails(
        "entry create -spiffeID spiffe://example.org/child2 -parentID spiffe://example.org/parent2 \
         -selector s1:1 -selector s2:2",
        "failed to create",
    );
    assert_eq!(scenario.ok("entry count"), "3 registration entries\n");

    found_by_what_they_are(&scenario);
    updated_and_deleted(&scenario);
}

fn found_by_what_they_are(scenario: &Scenario) {
    for (filter, count) in [
        ("", 3),
        ("-spiffeID spiffe://example.org/child2", 1),
        ("-parentID spiffe://example.org/parent1", 1),
        ("-selector s1:1", 3),
        ("-selector s1:1 -selector s2:2", 2),
        ("-selector s1:1 -selector s2:2 -matchSelectorsOn superset", 2),
        ("-selector s1:1 -selector s2:2 -matchSelectorsOn exact", 1),
        ("-selector s1:1 -selector s9:9 -matchSelectorsOn any", 3),
        ("-selector s1:1 -selector s2:2 -matchSelectorsOn subset", 2),
        ("-federatesWith spiffe://federated1 -matchFederatesWithOn exact", 1),
        ("-downstream", 1),
        ("-downstream=false", 3),
        ("-hint h", 1),
        ("-hint none", 0),
    ] {
        let shown = scenario.ok(&format!("entry show {filter}"));
        let noun = if count == 1 { "entry" } else { "entries" };
        assert!(shown.starts_with(&format!("Found {count} {noun}\n")), "{filter}: {shown}");
        assert_eq!(scenario.json(&format!("entry count {filter}"))["count"], count, "{filter}");
    }
}

fn updated_and_deleted(scenario: &Scenario) {
    let entries = scenario.json("entry show -spiffeID spiffe://example.org/child3");
    let id = entries["entries"][0]["id"].as_str().unwrap().to_owned();
    // An update says all of an entry: what it does not name is reset.
    let updated = scenario.ok(&format!(
        "entry update -entryID {id} -spiffeID spiffe://example.org/child3 \
         -parentID spiffe://example.org/parent3 -selector s4:4"
    ));
    assert!(updated.contains(&field("Revision", "1")), "{updated}");
    assert!(updated.contains(&field("X509-SVID TTL", "default")), "{updated}");
    assert!(!updated.contains("DNS name") && !updated.contains("s1:1"), "{updated}");
    let shown = scenario.json(&format!("entry show -entryID {id}"));
    assert_eq!(shown["entries"][0]["dns_names"], json!([]));
    assert_eq!(shown["entries"][0]["revision_number"], "1");
    let partial = format!("entry update -entryID {id} -hint x");
    scenario.fails(&partial, "the SPIFFE ID is missing");

    let deleted = scenario.ok(&format!("entry delete -entryID {id}"));
    assert!(deleted.contains(&format!("Deleted entry with ID: {id}\n")), "{deleted}");
    assert_eq!(scenario.ok("entry count"), "2 registration entries\n");
    scenario.fails(&format!("entry show -entryID {id}"), &id);
    scenario.fails(&format!("entry delete -entryID {id} -output json"), "failed to delete");
}

#[test]
fn agents_are_counted_listed_shown_banned_and_evicted() {
    let node = crate::harness::Deployment::start();
    let link = node.dir.path("spire-server");
    symlink(bin::server(), &link).unwrap();
    let run = |arguments: &str| {
        let mut command = command(&link);
        let socket = node.dir.path("server/admin/api.sock");
        command.args(arguments.split_whitespace()).arg("-socketPath").arg(socket);
        let output = command.output().unwrap();
        (output.status.success(), stdout(&output), stderr(&output))
    };
    let ok = |arguments: &str| {
        let (success, out, err) = run(arguments);
        assert!(success, "{arguments}: {err}");
        out
    };
    let id = &node.agent_id;
    assert_eq!(ok("agent count"), "1 attested agent\n");
    let listed = ok("agent list");
    assert!(listed.starts_with("Found 1 attested agent:\n\n"), "{listed}");
    assert!(listed.contains(&format!("SPIFFE ID         : {id}\n")), "{listed}");
    assert!(listed.contains("Attestation type  : join_token\n"), "{listed}");
    assert!(listed.contains("Serial number     : "), "{listed}");
    assert!(ok(&format!("agent show -spiffeID {id}")).contains(id.as_str()));
    assert_eq!(ok("agent count -attestationType x509pop"), "0 attested agents\n");

    assert_eq!(ok(&format!("agent ban -spiffeID {id}")), "Agent banned successfully\n");
    let listed = ok("agent list -banned true");
    assert!(listed.contains("Banned            : true\n"), "{listed}");
    assert!(!listed.contains("Serial number"), "{listed}");
    assert_eq!(ok("agent count"), "1 attested agent\n");

    assert_eq!(ok(&format!("agent evict -spiffeID {id}")), "Agent evicted successfully\n");
    assert_eq!(ok("agent list"), "No attested agents found\n");
    let (success, _, err) = run(&format!("agent show -spiffeID {id}"));
    assert!(!success && err.contains(id.as_str()), "{err}");
}

#[test]
fn a_bad_configuration_is_refused_with_all_that_is_wrong_with_it() {
    let scenario = Scenario::start();
    let good = scenario.dir.path("server.toml");
    let valid = scenario.ok(&format!("validate -config {}", good.display()));
    assert_eq!(valid, "SPIRE server configuration file is valid.\n");
    let bad = scenario.dir.path("bad.toml");
    let text = "data_dir = '/d'\nca_ttl = '1s'\nnonsense = 1\n\
                [node_attestor.x509pop]\nca_bundle_paths = ['/nowhere/a.pem', '/nowhere/b.pem']\n\
                [upstream_authority]\ntype = 'disk'\ncert_file_path = '/nowhere/ca.pem'\n\
                key_file_path = '/nowhere/ca.key'\n";
    fs::write(&bad, text).unwrap();
    let validate = format!("validate -config {}", bad.display());
    for problem in [
        "`ca_ttl` is 1s",
        "unknown field `nonsense`",
        "/nowhere/a.pem",
        "/nowhere/b.pem",
        "/nowhere/ca",
    ] {
        scenario.fails(&validate, problem);
    }
    scenario.fails(&validate, "the configuration has 5 problems");
}

#[test]
fn the_server_is_looked_for_where_spires_tools_look() {
    let scenario = Scenario::start();
    assert_eq!(scenario.ok("healthcheck"), "Server is healthy.\n");
    let level = "Logger Level : debug\nLaunch Level : info\n\n";
    assert_eq!(scenario.ok("logger set -level debug"), level);
    assert_eq!(scenario.json("logger reset")["current_level"], "INFO");
    assert_eq!(scenario.json("debug getinfo")["agents_count"], 0);
    let mut by_instance = command(&scenario.link);
    by_instance.args(["healthcheck", "-instance", "admin"]);
    by_instance
        .env("SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE", scenario.dir.path("server/%i/api.sock"));
    assert!(by_instance.output().unwrap().status.success());
    let mut nowhere = command(&scenario.link);
    nowhere.args(["healthcheck", "-socketPath", "/nowhere/api.sock"]);
    let said = stderr(&nowhere.output().unwrap());
    assert!(said.starts_with("Error: server is unhealthy: unable to determine health"), "{said}");
}
