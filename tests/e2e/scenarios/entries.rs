//! Entries on their way to agents.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use steeple::x509::{Certificate, split_certificates};

use crate::harness::eventually;
use crate::workload_api::this_user;

use super::fleet::{CLUSTER_SELECTOR, Fleet, Member};

const CLUSTER: &str = "spiffe://example.org/cluster";

/// The DNS names in the SVID with this path that the member has for this process.
fn dns_names(member: &Member, path: &str) -> Option<Vec<String>> {
    let id = format!("spiffe://example.org{path}");
    let svids = member.svids();
    let svid = svids.iter().find(|svid| svid["spiffe_id"] == id.as_str())?;
    let chain = STANDARD.decode(svid["x509_svid"].as_str()?).unwrap();
    let chain = split_certificates(&chain, 10).unwrap();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    let name = |name: &&[u8]| String::from_utf8(name.to_vec()).unwrap();
    Some(leaf.dns_names().iter().map(name).collect())
}

/// SPIRE's scenarios `entries` and `events-based-entries`: one script for two of its caches, of which
/// there is one here. Nothing is signed before somebody asks, so an entry that asks for that changes
/// nothing.
#[test]
fn entries_reach_the_agents_that_they_are_for_and_follow_every_change() {
    let fleet = Fleet::start("");
    let me = this_user();
    let (a, b) = (fleet.join_by_certificate("a"), fleet.join_by_certificate("b"));
    let c = fleet.join_by_token("c", &fleet.token(CLUSTER));
    let members = [&a, &b, &c];
    // Two agents are of the cluster by what they have, the third by its token.
    fleet.admin(&[
        "entry",
        "create",
        "--node",
        "--spiffe-id",
        CLUSTER,
        "--selector",
        CLUSTER_SELECTOR,
    ]);
    let shared = fleet.register("/shared", CLUSTER, &["--selector", &me, "--dns", "old.test"]);
    let own = [("/only-a", &a), ("/only-b", &b), ("/only-c", &c)];
    for (path, member) in own {
        fleet.register(path, &member.id, &["--selector", &me]);
    }
    fleet.register("/later", CLUSTER, &["--selector", &me, "--disable-x509-svid-prefetch"]);
    fleet.register("/nobody", CLUSTER, &["--selector", "unix:uid:4294967294"]);
    for (path, member) in own {
        member.wait_for_ids(&["/shared", "/later", path]);
        assert_eq!(dns_names(member, "/shared").unwrap(), ["old.test"]);
    }

    fleet.admin(&["entry", "update", "--entry-id", &shared, "--dns", "new.test"]);
    for member in members {
        eventually("the update arrives", || {
            (dns_names(member, "/shared")? == ["new.test"]).then_some(())
        });
    }
    fleet.admin(&["entry", "delete", "--entry-id", &shared]);
    for (path, member) in own {
        member.wait_for_ids(&["/later", path]);
    }
}

/// Registers as many entries of other users from one file.
fn register_many(fleet: &Fleet, parent: &str, count: usize) {
    let entry = |n: usize| {
        json!({
            "spiffe_id": format!("spiffe://example.org/many/{n}"),
            "parent_id": parent,
            "selectors": [{ "type": "unix", "value": format!("uid:{}", 2_000_000_000 + n) }],
        })
    };
    let entries: Vec<Value> = (0..count).map(entry).collect();
    let file = fleet.dir.path("entries.json");
    fs::write(&file, json!({ "entries": entries }).to_string()).unwrap();
    let created = fleet.admin_json(&["entry", "create", "--data", file.to_str().unwrap()]);
    assert_eq!(created["results"].as_array().unwrap().len(), count);
}

#[track_caller]
fn check_sync(count: usize) {
    let fleet = Fleet::start("");
    let member = fleet.join_by_certificate("node");
    register_many(&fleet, &member.id, count);
    fleet.register("/workload", &member.id, &["--selector", &this_user()]);
    member.wait_for_ids(&["/workload"]);
    member.process.wait_for(&format!("entries={}", count + 1));
    // A change among so many arrives as well.
    let last = format!("spiffe://example.org/many/{}", count - 1);
    fleet.admin(&["entry", "delete", "--entry-id", &entry_of(&fleet, &last)]);
    member.process.wait_for_another(0, &format!("entries={count}"));
    member.wait_for_ids(&["/workload"]);
}

fn entry_of(fleet: &Fleet, spiffe_id: &str) -> String {
    let shown = fleet.admin_json(&["entry", "show", "--spiffe-id", spiffe_id]);
    shown["entries"][0]["id"].as_str().unwrap().to_owned()
}

/// SPIRE's scenario `sync-authorized-entries`: more than come in one message.
#[test]
fn more_entries_than_one_message_has_reach_an_agent() {
    check_sync(511);
}

/// SPIRE's scenario `sync-authorized-entries`, with as many as a large node may have.
#[test]
fn twenty_thousand_entries_reach_an_agent() {
    check_sync(20_000);
}
