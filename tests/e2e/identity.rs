//! Who is given which identity, with which key, and for how long.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use steeple_proto::workload::JwtsvidRequest;
use tonic::Code;

use crate::harness::process::command;
use crate::harness::workload::{connect, fetch, first_answer, next, request, serial, watch};
use crate::harness::{Deployment, bin, eventually, stdout};
use crate::workload_api::this_user;

/// How often the server signed an X.509-SVID for this entry.
fn minted(node: &Deployment, entry_id: &str) -> usize {
    let records = node.audit();
    let intended = records
        .iter()
        .filter(|record| record["event"] == "x509_intent" && record.to_string().contains(entry_id));
    let issued = |intent: &Value| {
        let result = |record: &&Value| record["correlation"] == intent["correlation"];
        records.iter().filter(result).any(|record| record["event"] == "x509_issued")
    };
    intended.filter(|intent| issued(intent)).count()
}

/// A process of its own that watches its SVIDs until it is ended.
struct Watcher(Child);

impl Watcher {
    fn start(node: &Deployment) -> Self {
        let mut watcher = command(&bin::agent());
        watcher.args(["api", "watch", "--output", "json"]).stdout(Stdio::piped());
        Self(watcher.env("SPIFFE_ENDPOINT_SOCKET", node.endpoint()).spawn().unwrap())
    }

    fn first(&mut self) -> Value {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn each_process_has_a_key_of_its_own() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (mine, _stream) = first_answer(&node.socket()).await;
    let (mut one, mut two) = (Watcher::start(&node), Watcher::start(&node));
    let (one, two) = (one.first(), two.first());
    let keys: BTreeSet<_> =
        [&one, &two].map(|svid| svid["svids"][0]["x509_svid_key"].to_string()).into();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(one["svids"][0]["spiffe_id"], mine.svids[0].spiffe_id.as_str());
}

#[tokio::test]
async fn many_asks_of_one_process_are_one_mint() {
    let node = Deployment::start();
    let entry = node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    let socket = node.socket();
    let before = minted(&node, &entry);
    assert_eq!(before, 1, "{:?}", node.audit());
    let asks = (0..20).map(|_| fetch(&socket));
    let answers = futures_util::future::join_all(asks).await;
    let keys: BTreeSet<_> =
        answers.into_iter().map(|svids| svids.unwrap().remove(0).x509_svid_key).collect();
    assert_eq!((keys.len(), minted(&node, &entry)), (1, 1));
}

#[tokio::test]
async fn an_svid_is_renewed_at_half_of_its_life_and_the_stream_told() {
    let node = Deployment::start();
    node.register_with("/web", &[&this_user()], &["--x509-svid-ttl", "10"]);
    let (first, mut stream) = first_answer(&node.socket()).await;
    let second = next(&mut stream).await.unwrap();
    assert_ne!(serial(&first.svids[0]), serial(&second.svids[0]));
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
}

#[tokio::test]
async fn without_a_server_what_is_valid_is_served_and_the_agent_comes_back_to_it() {
    let mut node = Deployment::start();
    let entry = node.register("/web", &[&this_user()]);
    let (first, _stream) = first_answer(&node.socket()).await;
    node.server.kill();
    let again = fetch(&node.socket()).await.unwrap();
    assert_eq!(serial(&again[0]), serial(&first.svids[0]));

    node.restart_server();
    let from = node.agent.log().len();
    node.admin(&["entry", "update", "--entry-id", &entry, "--hint", "after"]);
    node.agent.wait_for_from(from, "synced");
    let told = eventually("the change arrives", || {
        let output = node.workload(&["api", "fetch", "x509", "--output", "json"]);
        Some(stdout(&output)).filter(|text| text.contains("after"))
    });
    assert!(told.contains("spiffe://example.org/web"));
}

#[tokio::test]
async fn an_agent_that_was_killed_is_the_same_agent_afterwards() {
    let mut node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (first, _) = first_answer(&node.socket()).await;
    let agents = node.admin_json(&["agent", "list"]);
    node.restart_agent();
    let (second, _) = first_answer(&node.socket()).await;
    // The keys of workloads are never written to disk.
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
    let now = node.admin_json(&["agent", "list"]);
    assert_eq!(
        now["agents"][0]["x509svid_serial_number"],
        agents["agents"][0]["x509svid_serial_number"]
    );
}

#[tokio::test]
async fn a_banned_node_serves_nobody_and_says_why() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (_, mut stream) = first_answer(&node.socket()).await;
    node.admin(&["agent", "ban", "--spiffe-id", &node.agent_id]);
    node.agent.wait_for("Agent is banned");
    while let Ok(message) = next(&mut stream).await {
        assert!(!message.svids.is_empty());
    }
    let health = node.workload(&["healthcheck"]);
    assert!(!health.status.success());
    let said = crate::harness::stderr(&health);
    assert!(said.contains("banned by an administrator"), "{said}");
}

#[tokio::test]
async fn tokens_are_kept_until_half_of_their_life() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut client = connect(&node.socket()).await;
    let mut token = async |audience: &[&str]| {
        let audience = audience.iter().map(|name| (*name).to_owned()).collect();
        let asked = JwtsvidRequest { audience, spiffe_id: String::new() };
        client.fetch_jwtsvid(request(asked)).await.unwrap().into_inner().svids.remove(0).svid
    };
    let first = token(&["a", "b"]).await;
    assert_eq!(first, token(&["b", "a"]).await);
    assert_ne!(first, token(&["a"]).await);
}

#[tokio::test]
async fn an_identity_of_somebody_else_is_not_given_on_request() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    node.register("/other", &["unix:uid:4294967294"]);
    first_answer(&node.socket()).await;
    let mut client = connect(&node.socket()).await;
    let mut ask = async |spiffe_id: &str| {
        let asked = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: spiffe_id.into() };
        client.fetch_jwtsvid(request(asked)).await
    };
    assert!(ask("spiffe://example.org/web").await.is_ok());
    let refused = ask("spiffe://example.org/other").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(watch(&mut connect(&node.socket()).await).await.unwrap().0.svids.len(), 1);
}
