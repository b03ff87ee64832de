//! `entry apply` and `config import`, with real programs.

use std::fs;

use serde_json::{Value, json};

use crate::harness::process::command;
use crate::harness::{Dir, Settings, bin, start_server, stderr, stdout, try_admin};

fn apply(dir: &Dir, file: &str, more: &[&str]) -> (bool, Value) {
    let path = dir.path("entries.yaml");
    fs::write(&path, file).unwrap();
    let mut arguments = vec!["entry", "apply", "-f", path.to_str().unwrap(), "--output", "json"];
    arguments.extend(more);
    let output = try_admin(dir, &arguments);
    let said = stderr(&output);
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.success(), printed)
}

/// How many are to create, to update, to delete and unchanged.
fn counts(report: &Value) -> [usize; 4] {
    let count = |key: &str| report[key].as_array().unwrap().len();
    let unchanged = usize::try_from(report["unchanged"].as_u64().unwrap()).unwrap();
    [count("create"), count("update"), count("delete"), unchanged]
}

const TWO: &str = "entries:\n\
                   - entry_id: web\n\
                   \x20 spiffe_id: spiffe://example.org/web\n\
                   \x20 parent_id: &node spiffe://example.org/node\n\
                   \x20 selectors: [unix:uid:1000]\n\
                   \x20 hint: old\n\
                   - spiffe_id: spiffe://example.org/db\n\
                   \x20 parent_id: *node\n\
                   \x20 selectors: [{type: unix, value: uid:1001}]\n";

#[test]
fn applying_a_file_twice_changes_nothing_and_nothing_goes_without_prune() {
    let dir = Dir::new();
    let _server = start_server(&dir, Settings::default(), 0);
    let owner = ["--owner", "shop"];
    let (_, planned) = apply(&dir, TWO, &["--owner", "shop", "--dry-run"]);
    assert_eq!(counts(&planned), [2, 0, 0, 0]);
    let count = || String::from_utf8(try_admin(&dir, &["entry", "count"]).stdout).unwrap();
    assert_eq!(count(), "0 registration entries\n");

    assert_eq!(counts(&apply(&dir, TWO, &owner).1), [2, 0, 0, 0]);
    assert_eq!(apply(&dir, TWO, &owner), (true, apply(&dir, TWO, &owner).1));
    assert_eq!(counts(&apply(&dir, TWO, &owner).1), [0, 0, 0, 2]);

    let one = TWO.split("- spiffe_id").next().unwrap().replace("old", "new");
    let (success, report) = apply(&dir, &one, &owner);
    assert!(success);
    assert_eq!(counts(&report), [0, 1, 0, 0]);
    assert_eq!(
        report["update"][0]["changes"],
        json!([{"field": "hint", "from": "old", "to": "new"}])
    );
    assert_eq!(report["not_pruned"].as_array().unwrap().len(), 1);
    let (_, report) = apply(&dir, &one, &["--owner", "shop", "--prune"]);
    assert_eq!(counts(&report), [0, 0, 1, 1]);
    assert_eq!(count(), "1 registration entry\n");

    // Somebody else's entry in the way stops all of it.
    let (success, report) = apply(&dir, &one, &["--owner", "other", "--prune"]);
    assert!(!success);
    assert_eq!(report["conflicts"][0]["in_the_way"]["id"], "shop.web");
    let text = fs::read_to_string(dir.path("entries.yaml")).unwrap();
    let by_parent = text.replace("  parent_id: &node spiffe://example.org/node\n", "");
    let by_parent = by_parent.replace("  entry_id: web\n", "").replace("- entry_id: web\n  ", "- ");
    let parent = ["--parent-id", "spiffe://example.org/node"];
    assert_eq!(counts(&apply(&dir, &by_parent, &parent).1), [0, 0, 0, 1]);
}

#[test]
fn thousands_of_entries_are_applied_in_batches() {
    let dir = Dir::in_memory();
    let _server = start_server(&dir, Settings::default(), 0);
    let file = |hint: &str| {
        let entry = |index: usize| {
            json!({
                "spiffe_id": format!("spiffe://example.org/{index}"),
                "parent_id": "spiffe://example.org/node",
                "selectors": ["unix:uid:1"],
                "hint": hint,
            })
        };
        json!({ "entries": (0..1_201).map(entry).collect::<Vec<_>>() }).to_string()
    };
    assert_eq!(counts(&apply(&dir, &file("a"), &["--owner", "x"]).1), [1_201, 0, 0, 0]);
    let (success, report) = apply(&dir, &file("b"), &["--owner", "x"]);
    assert!(success);
    assert_eq!(counts(&report), [0, 1_201, 0, 0]);
    assert_eq!(report["update"][1_200]["status"]["code"], 0);
    let nothing = r#"{"entries": []}"#;
    assert_eq!(
        counts(&apply(&dir, nothing, &["--owner", "x", "--prune", "--allow-empty"]).1),
        [0, 0, 1_201, 0]
    );
}

#[test]
fn what_is_imported_from_spire_is_valid_for_server_and_agent() {
    let dir = Dir::new();
    let import = |program: &std::path::Path, name: &str, text: &str, left_out: &[&str]| {
        let (from, to) = (dir.path(&format!("{name}.conf")), dir.path(&format!("{name}.toml")));
        fs::write(&from, text).unwrap();
        let mut import = command(&bin::server());
        let imported = import.args(["config", "import"]).arg(&from).output().unwrap();
        assert_eq!(imported.status.success(), left_out.is_empty(), "{}", stderr(&imported));
        for remark in left_out {
            assert!(stderr(&imported).contains(remark), "{remark}: {}", stderr(&imported));
        }
        fs::write(&to, stdout(&imported)).unwrap();
        let again = command(&bin::server())
            .args(["config", "import", "--allow-incomplete"])
            .arg(&from)
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", stderr(&again));
        command(program).args(["config", "check", "--config"]).arg(&to).output().unwrap()
    };
    let check = |program: &std::path::Path, name: &str, text: &str, left_out: &[&str]| {
        let checked = import(program, name, text, left_out);
        assert!(checked.status.success(), "{}", stderr(&checked));
    };
    let server = "server {\n  trust_domain = \"example.org\"\n  data_dir = \"./data\"\n\
                  \x20 log_file = \"server.log\"\n  profiling_port = 1\n}\nplugins {\n  KeyManager \"memory\" {\n\
                  \x20   plugin_data {}\n  }\n}\n";
    check(&bin::server(), "server", server, &["server.conf:5: server.profiling_port: left out:"]);
    let agent = |attestor: &str| {
        format!(
            "agent {{\n  server_address = \"localhost\"\n  server_port = \"8081\"\n\
             \x20 trust_domain = \"example.org\"\n  insecure_bootstrap = true\n\
             \x20 admin_socket_path = \"/tmp/spire-agent/private/admin.sock\"\n}}\nplugins {{\n\
             \x20 NodeAttestor \"join_token\" {{\n    plugin_data {{}}\n  }}\n\
             \x20 WorkloadAttestor \"{attestor}\" {{\n    plugin_data {{}}\n  }}\n}}\n"
        )
    };
    check(&bin::agent(), "agent", &agent("unix"), &[]);
    let docker = "agent.conf:12: plugins.WorkloadAttestor.docker: left out: environment variables";
    check(&bin::agent(), "agent", &agent("docker"), &[docker]);
    let k8s = "agent.conf:12: plugins.WorkloadAttestor.k8s: left out: processes are told apart";
    // It does not start before somebody decides what there is in the place of that.
    let checked = import(&bin::agent(), "agent", &agent("k8s"), &[k8s]);
    assert!(!checked.status.success());
    assert!(stderr(&checked).contains("`workload_attestor` is empty"), "{}", stderr(&checked));
}
