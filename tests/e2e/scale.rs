//! As many entries as a large installation has, at both ends and by the page.

use std::fs;

use nix::unistd::Pid;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest};
use steeple_proto::spire::api::types;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::workload::first_answer;
use crate::harness::{Deployment, Joins, Settings, api};
use crate::workload_api::this_user;

const ENTRIES: u32 = 100_000;

/// How many are created in a call, and listed in another.
const BATCH: usize = 500;
const PAGE: i32 = 1_000;

/// What either end may take at any time, in MiB.
const MEMORY: f64 = 256.0;

fn id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid { trust_domain: "example.org".into(), path: path.into() })
}

/// One of many, below the alias.
fn entry(number: u32) -> types::Entry {
    let value = format!("uid:{}", 2_000_000_000 + number);
    types::Entry {
        spiffe_id: id(&format!("/many/{number}")),
        parent_id: id("/nodes"),
        selectors: vec![types::Selector { r#type: "unix".into(), value }],
        ..types::Entry::default()
    }
}

async fn create_all(client: &mut EntryClient<Channel>) {
    let entries: Vec<_> = (0..ENTRIES).map(entry).collect();
    // Nobody wants them back.
    let output_mask = Some(types::EntryMask::default());
    for entries in entries.chunks(BATCH) {
        let entries = entries.to_vec();
        let request = BatchCreateEntryRequest { entries, output_mask };
        let answer = client.batch_create_entry(request).await.unwrap().into_inner();
        assert!(answer.results.iter().all(|result| result.status.as_ref().unwrap().code == 0));
    }
}

async fn list_all(client: &mut EntryClient<Channel>) -> usize {
    let (mut found, mut page_token) = (0, String::new());
    loop {
        let request = ListEntriesRequest { page_size: PAGE, page_token, ..Default::default() };
        let page = client.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= PAGE as usize);
        found += page.entries.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// The most memory that a process ever took, in MiB.
fn peak(pid: Pid) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test]
async fn a_hundred_thousand_entries_are_listed_and_synchronised_by_the_page() {
    let joins = Joins::ByCertificate;
    let mut node = Deployment::with(Settings { joins, ..Settings::default() });
    let agents = node.admin_json(&["agent", "list"]);
    let selector = &agents["agents"][0]["selectors"][0];
    let [kind, value] = ["type", "value"].map(|field| selector[field].as_str().unwrap());
    let selector = format!("{kind}:{value}");
    node.agent.stop();

    let alias = "spiffe://example.org/nodes";
    node.admin(&["entry", "create", "--node", "--spiffe-id", alias, "--selector", &selector]);
    let own = ["--spiffe-id", "spiffe://example.org/web", "--selector", &this_user()];
    node.admin(&[&["entry", "create", "--parent-id", alias][..], &own].concat());
    let mut client = EntryClient::new(api::admin(&node.dir));
    create_all(&mut client).await;
    assert_eq!(list_all(&mut client).await, ENTRIES as usize + 2);
    let refused = client.list_entries(ListEntriesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("page_size"), "{refused}");

    node.restart_agent();
    node.agent.wait_for(&format!("synced entries={} ", ENTRIES + 1));
    let (answer, _) = first_answer(&node.socket()).await;
    assert_eq!(answer.svids[0].spiffe_id, "spiffe://example.org/web");
    let (server, agent) = (peak(node.server.pid()), peak(node.agent.pid()));
    println!("at most {server:.0} MiB in the server and {agent:.0} MiB in the agent");
    assert!(server < MEMORY && agent < MEMORY, "{server} MiB, {agent} MiB");
}
