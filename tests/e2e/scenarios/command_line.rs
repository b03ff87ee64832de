//! What SPIRE's command line does and its users would rather it did not.

use std::fs;

use serde_json::Value;

use crate::harness::eventually;

use super::fleet::Fleet;

/// SPIRE's `bundle set` wipes them.
#[test]
fn a_bundle_that_is_set_in_pem_keeps_its_jwt_keys() {
    let fleet = Fleet::start("");
    let document = fleet.dir.path("bundle.json");
    fs::write(&document, fleet.admin(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let (document, pem) = (document.to_str().unwrap(), fleet.dir.path("bundle.pem"));
    let set = ["bundle", "set", "--id", "spiffe://b.test"];
    let keys = || {
        let list = ["bundle", "list", "--id", "spiffe://b.test", "--format", "spiffe"];
        let bundle: Value = serde_json::from_str(&fleet.admin(&list)).unwrap();
        let uses = bundle["keys"].as_array().unwrap().iter().map(|key| key["use"].to_string());
        uses.collect::<Vec<_>>()
    };
    fleet.admin(&[&set[..], &["--format", "spiffe", "--path", document]].concat());
    let before = keys();
    assert!(before.contains(&"\"jwt-svid\"".to_owned()), "{before:?}");
    fleet.admin(&[&set[..], &["--path", pem.to_str().unwrap()]].concat());
    assert_eq!(keys(), before);
}

/// SPIRE's `agent purge` leaves those that joined with a token for ever.
#[test]
fn agents_that_joined_with_a_token_are_purged_once_they_have_expired() {
    let fleet = Fleet::start("agent_ttl = \"15s\"");
    let mut member = fleet.join_by_token("node", &fleet.token("spiffe://example.org/alias"));
    member.process.kill();
    let purge = ["agent", "purge", "--expired-for", "0s"];
    assert_eq!(fleet.agents(), [member.id.as_str()]);
    fleet.admin(&purge);
    assert_eq!(fleet.agents(), [member.id.as_str()], "it has not expired");
    eventually("it is purged", || {
        fleet.admin(&purge);
        fleet.agents().is_empty().then_some(())
    });
}
