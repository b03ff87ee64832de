//! Server and admin command line.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::process::{Process, command};
use crate::harness::{
    Deployment, Dir, Settings, admin_socket, bin, eventually, launch_server, skipped, stderr,
    stdout, try_admin,
};

#[test]
fn a_second_server_on_one_data_directory_is_refused() {
    let node = Deployment::start();
    let mut second = command(&bin::server());
    let refused = second.arg("run").arg("--config").arg(node.dir.path("server.toml")).output();
    let refused = refused.unwrap();
    assert!(!refused.status.success());
    let said = stderr(&refused);
    assert!(said.contains("is in use by another server"), "{said}");
    assert!(node.try_admin(&["healthcheck"]).status.success());
}

#[test]
fn a_directory_in_which_others_may_replace_the_admin_socket_is_told() {
    let start = |mode: u32| {
        let dir = Dir::new();
        let socket = admin_socket(&dir);
        let directory = socket.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        let server = launch_server(&dir, Settings::default(), 0);
        server.wait_for("Starting Server APIs");
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o7777, mode);
        let told = "others may replace the admin socket in this directory";
        server.log().iter().any(|line| line.contains(told))
    };
    assert!(start(0o777));
    assert!(!start(0o755));
}

#[test]
fn a_token_lets_one_node_join() {
    let node = Deployment::start();
    let mut thief = command(&bin::agent());
    thief.args(["run", "--config"]).arg(node.dir.path("agent.toml"));
    thief.arg("--data-dir").arg(node.dir.path("thief"));
    thief.arg("--socket").arg(node.dir.path("thief.sock"));
    let thief = Process::start(&mut thief);
    thief.wait_for("join token does not exist or has already been used");
    assert_eq!(node.admin_json(&["agent", "count"])["count"], 1);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut node = Deployment::start();
    let entry = node.register("/web", &["unix:uid:1"]);
    node.restart_server();
    let shown = node.admin_json(&["entry", "show", "--entry-id", &entry]);
    assert_eq!(shown["entries"][0]["spiffe_id"]["path"], "/web");
    let health = eventually("the agent goes on with it", || {
        Some(node.workload(&["healthcheck"])).filter(|output| output.status.success())
    });
    assert!(health.status.success());
}

#[test]
fn entries_from_a_file_succeed_or_fail_one_by_one() {
    let node = Deployment::start();
    let entry = |path: &str, uid: &str| {
        json!({
            "spiffe_id": format!("spiffe://example.org{path}"),
            "parent_id": node.agent_id,
            "selectors": [{ "type": "unix", "value": uid }],
        })
    };
    let taken = entry("/one", "uid:1");
    let data = json!({ "entries": [taken, entry("/two", "uid:2"), taken] });
    let mut create = command(&bin::server());
    create.args(["entry", "create", "--data", "-", "--output", "json"]);
    create.env("STEEPLE_SERVER_SOCKET", node.dir.path("server/admin/api.sock"));
    create.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut create = create.spawn().unwrap();
    create.stdin.take().unwrap().write_all(data.to_string().as_bytes()).unwrap();
    let output = create.wait_with_output().unwrap();
    assert!(!output.status.success(), "one of three was there already");
    let results: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let codes: Vec<_> = results["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"]["code"].clone())
        .collect();
    assert_eq!(codes, [json!(0), json!(0), json!(6)]);
    assert_eq!(node.admin_json(&["entry", "count"])["count"], 2);
}

#[test]
fn a_mistake_is_named_with_what_would_do() {
    let node = Deployment::start();
    let rows: &[(&[&str], &[&str])] = &[
        (&["entry", "create", "--spiffe-id", "web"], &["web", "spiffe://"]),
        (
            &[
                "entry",
                "create",
                "--spiffe-id",
                "spiffe://example.org/x",
                "--selector",
                "unix:uid:1",
            ],
            &["--parent-id"],
        ),
        (&["entry", "delete", "--entry-id", "nobody"], &["nobody"]),
        (&["agent", "show", "--spiffe-id", "spiffe://example.org/spire/agent/no"], &["agent"]),
        (&["bundle", "set", "--id", "spiffe://example.org", "--path", "/nowhere"], &["/nowhere"]),
    ];
    for (arguments, expected) in rows {
        let output = node.try_admin(arguments);
        let said = stderr(&output);
        assert!(!output.status.success(), "{arguments:?}");
        for word in *expected {
            assert!(said.contains(word), "{arguments:?} says {said}");
        }
    }
    let nobody = Dir::new();
    let away = try_admin(&nobody, &["entry", "show"]);
    assert!(!away.status.success());
    assert!(stderr(&away).contains("api.sock"), "{}", stderr(&away));
}

#[test]
fn what_an_admin_mints_verifies() {
    let node = Deployment::start();
    let files = node.dir.path("minted");
    fs::create_dir(&files).unwrap();
    let written = files.to_str().unwrap();
    node.admin(&["x509", "mint", "--spiffe-id", "spiffe://example.org/m", "--write", written]);
    let token =
        node.admin(&["jwt", "mint", "--spiffe-id", "spiffe://example.org/m", "--audience", "a"]);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("checks by openssl", "it is not installed");
    }
    let svid = files.join("svid.pem");
    let verified = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .arg(files.join("bundle.pem"))
        .arg("-untrusted")
        .args([&svid, &svid])
        .output();
    let verified = verified.unwrap();
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn each_thing_that_happens_is_in_the_audit_log_and_no_secret_is() {
    let node = Deployment::start();
    let entry = node.register("/web", &[&crate::workload_api::this_user()]);
    eventually("the SVID", || {
        Some(node.workload(&["api", "fetch", "x509"])).filter(|output| output.status.success())
    });
    let token = node.admin_json(&["token", "generate"]);
    let token = token["value"].as_str().unwrap();
    let records = node.audit();
    let text = records.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains(&entry), "{text}");
    assert!(!text.contains(token), "a token that can be used is in the audit log");
    assert!(!text.contains("PRIVATE KEY"));
}

#[test]
fn a_server_stops_when_told_and_leaves_nothing_behind() {
    let mut node = Deployment::with(Settings::default());
    assert!(node.server.stop().success());
    assert!(!node.dir.path("server/admin/api.sock").exists(), "the socket is left behind");
}
