//! Disks without any space left, below a server and below an agent.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::disk::Disk;
use crate::harness::workload::{fetch, first_answer, serial};
use crate::harness::{Deployment, Dir, Settings, eventually, is_root, stderr, stdout};
use crate::workload_api::this_user;

const JSON: [&str; 2] = ["--output", "json"];

/// How many changes may find room where others have ended, such as in the last block of a file.
const TRIES: usize = 30;

#[tokio::test]
async fn a_server_without_space_acknowledges_nothing_that_is_not_written() {
    if !is_root("a server on a full disk") {
        return;
    }
    let dir = Dir::new();
    let disk = Disk::mount(&dir.path("server"), "3m");
    let mut node = Deployment::inside(dir, Settings::default());
    let entry = node.register("/web", &[&this_user()]);
    let (first, _stream) = first_answer(&node.socket()).await;
    let svid = serial(&first.svids[0]);
    let mut told = BTreeSet::from([entry]);

    for restart in [false, true] {
        disk.fill();
        let refused = until_refused(|number| create(&node, &format!("/{restart}/{number}")));
        told.extend(refused.acknowledged);
        assert!(refused.why.contains("full"), "{}", refused.why);
        let refused = until_refused(|_| mint(&node));
        assert!(refused.why.contains("audit"), "{}", refused.why);
        // A short event may find room where a long one did not, until there is none at all.
        eventually("the server says that it does not sign", || {
            mint(&node).unwrap_err();
            (!node.try_admin(&["healthcheck"]).status.success()).then_some(())
        });
        // Whoever has something keeps it, and whoever asks gets an answer.
        assert_eq!(serial(&fetch(&node.socket()).await.unwrap()[0]), svid);
        assert_eq!(shown(&node), told);
        node.admin(&["bundle", "show"]);
        if restart {
            node.server.kill();
            let mut refused = node.launch_server();
            assert!(!refused.wait().success());
            let said = refused.last_words();
            assert!(said.contains("full") || said.contains("No space left"), "{said}");
        }
        disk.free();
        if restart {
            node.restart_server();
        }
        let again = || create(&node, &format!("/again/{restart}")).ok();
        told.insert(eventually("the database is written again", again));
        eventually("SVIDs are signed again", || mint(&node).ok());
        assert_eq!(shown(&node), told);
        assert!(node.try_admin(&["healthcheck"]).status.success());
    }
    assert!(node.audit().iter().any(|record| record["event"] == "audit_recovered"));
}

/// The audit log is elsewhere, so that the server signs on.
#[test]
fn a_server_whose_database_is_full_says_so_and_serves_its_agents() {
    if !is_root("a database on a full disk") {
        return;
    }
    let dir = Dir::new();
    let disk = Disk::mount(&dir.path("database"), "2m");
    let server = "datastore = { type = \"sqlite\", path = \"../database/datastore.sqlite\" }\n";
    let node = Deployment::inside(dir, Settings { server, ..Settings::default() });
    node.register("/web", &[&this_user()]);
    let fetch = || stdout(&node.workload(&["api", "fetch", "x509"])).contains("/web");
    eventually("the agent has the entry", || fetch().then_some(()));
    assert!(node.try_admin(&["healthcheck"]).status.success());
    disk.fill();
    let refused = until_refused(|number| create(&node, &format!("/{number}")));
    assert!(refused.why.contains("full"), "{}", refused.why);
    let health = node.try_admin(&["healthcheck"]);
    assert!(!health.status.success() && stderr(&health).contains("NOT_SERVING"), "{health:?}");
    assert!(node.try_admin(&["healthcheck", "-shallow"]).status.success());
    // Keys of another process are signed now.
    assert!(fetch());
    mint(&node).unwrap();

    // Room for next to nothing is none.
    node.admin(&["logger", "set", "--level", "debug"]);
    disk.spare(12 << 10);
    let from = node.server.log().len();
    let found = node.server.wait_for_from(from, "the database is ");
    assert!(found.contains("the database is not written yet"), "{found}");
    let sick = node.try_admin(&["healthcheck"]);
    let why = "NOT_SERVING\": the database cannot be written: ";
    assert!(!sick.status.success() && stderr(&sick).contains(why), "{sick:?}");

    disk.free();
    eventually("it is healthy though nobody has anything to write", || {
        node.try_admin(&["healthcheck"]).status.success().then_some(())
    });
    node.server.wait_for("the database is written again");
    create(&node, "/again").unwrap();
}

/// What was acknowledged, until something was not.
struct Refused {
    acknowledged: Vec<String>,
    why: String,
}

fn until_refused(mut attempt: impl FnMut(usize) -> Result<String, String>) -> Refused {
    let mut acknowledged = Vec::new();
    for number in 0..TRIES {
        match attempt(number) {
            Ok(told) => acknowledged.push(told),
            Err(why) => return Refused { acknowledged, why },
        }
    }
    panic!("acknowledged on a full disk: {acknowledged:?}")
}

/// Creates an entry, and says its ID or why not.
fn create(node: &Deployment, path: &str) -> Result<String, String> {
    let id = format!("spiffe://example.org{path}");
    let words = ["entry", "create", "--spiffe-id", &id, "--parent-id", &node.agent_id];
    let output = node.try_admin(&[&words[..], &["--selector", "unix:uid:1"], &JSON].concat());
    if !output.status.success() {
        return Err(stdout(&output) + &stderr(&output));
    }
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(created["results"][0]["entry"]["id"].as_str().unwrap().to_owned())
}

fn mint(node: &Deployment) -> Result<String, String> {
    let output = node.try_admin(&["x509", "mint", "--spiffe-id", "spiffe://example.org/minted"]);
    if output.status.success() { Ok(stdout(&output)) } else { Err(stderr(&output)) }
}

/// The IDs of all entries.
fn shown(node: &Deployment) -> BTreeSet<String> {
    let entries = node.admin_json(&["entry", "show"])["entries"].take();
    let id = |entry: &Value| entry["id"].as_str().unwrap().to_owned();
    entries.as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn an_agent_without_space_goes_on_and_is_the_same_agent_afterwards() {
    if !is_root("an agent on a full disk") {
        return;
    }
    let dir = Dir::new();
    let disk = Disk::mount(&dir.path("agent-data"), "1m");
    let settings = Settings { server: "agent_ttl = \"12s\"\n", ..Settings::default() };
    let mut node = Deployment::inside(dir, settings);
    node.register("/web", &[&this_user()]);
    let (first, _stream) = first_answer(&node.socket()).await;
    disk.fill();
    // Half of its SVID's life later, and then shortly before the end of it.
    node.agent.wait_for("was not stored");
    node.agent.wait_for("SVID renewed");
    let other = node.register("/other", &[&this_user()]);
    let told = eventually("the server takes it for an agent", || {
        let output = stdout(&node.workload(&["api", "fetch", "x509"]));
        output.contains("/other").then_some(output)
    });
    assert!(told.contains("/web"), "{told} {other}");
    assert_eq!(serial(&fetch(&node.socket()).await.unwrap()[0]), serial(&first.svids[0]));

    let from = node.agent.log().len();
    disk.free();
    node.agent.wait_for_from(from, "SVID renewed");
    node.restart_agent();
    first_answer(&node.socket()).await;
    eventually("it is healthy", || node.workload(&["healthcheck"]).status.success().then_some(()));
    assert_eq!(node.admin_json(&["agent", "count"])["count"], 1);
}
