//! Nodes that join, come back, and are sent away.

use crate::harness::{eventually, stdout};
use crate::workload_api::this_user;

use super::fleet::Fleet;

/// SPIRE's scenario `join-token`.
#[test]
fn a_token_gives_an_agent_a_name_that_entries_have_as_their_parent() {
    let fleet = Fleet::start("");
    let token = fleet.token("spiffe://example.org/cluster");
    let first = fleet.join_by_token("first", &token);
    assert_eq!(first.id, format!("spiffe://example.org/spire/agent/join_token/{token}"));
    fleet.register("/workload", "spiffe://example.org/cluster", &["--selector", &this_user()]);
    first.wait_for_ids(&["/workload"]);

    let second = fleet.launch_by_token("second", &token);
    second.wait_for("join token does not exist or has already been used");
    assert_eq!(fleet.agents(), [first.id]);
}

/// SPIRE's scenario `node-re-attestation`.
#[test]
fn who_was_evicted_comes_back_if_it_can_attest_again() {
    let fleet = Fleet::start("");
    let mut by_certificate = fleet.join_by_certificate("certificate");
    let mut by_token = fleet.join_by_token("token", &fleet.token("spiffe://example.org/alias"));
    for member in [&by_certificate, &by_token] {
        fleet.admin(&["agent", "evict", "--spiffe-id", &member.id]);
    }
    by_certificate.restart();
    by_token.restart();
    eventually("it is back", || fleet.agents().contains(&by_certificate.id).then_some(()));
    by_token.process.wait_for("Agent needs to re-attest and cannot by itself");
    assert_eq!(fleet.agents(), [by_certificate.id]);
}

/// SPIRE's scenario `evict-agent`. There a banned agent exits; here it stays, serves nobody, and says
/// why to whoever asks after its health.
#[test]
fn who_is_banned_serves_nobody_until_it_is_evicted() {
    let fleet = Fleet::start("");
    let mut member = fleet.join_by_certificate("node");
    fleet.register("/workload", &member.id, &["--selector", &this_user()]);
    member.wait_for_ids(&["/workload"]);

    fleet.admin(&["agent", "ban", "--spiffe-id", &member.id]);
    member.process.wait_for("Agent is banned: removing SVID");
    member.wait_for_ids(&[]);
    let shown = fleet.admin(&["agent", "show", "--spiffe-id", &member.id]);
    assert!(shown.lines().any(|line| line.starts_with("Banned") && line.ends_with("true")));
    // It is not let in again by being started again.
    member.restart();
    member.process.wait_for("agent is banned");
    let health = member.workload(&["healthcheck"]);
    assert!(!health.status.success(), "{}", stdout(&health));

    // It asks now and then whether it is banned still, and is not to come back before it is looked at.
    member.process.kill();
    fleet.admin(&["agent", "evict", "--spiffe-id", &member.id]);
    member.restart();
    member.process.wait_for("Node attestation was successful");
    member.wait_for_ids(&["/workload"]);
}
