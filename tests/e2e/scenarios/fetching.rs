//! Processes with many identities each.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::harness::{bin, eventually, is_root, stderr, stdout};
use crate::workload_api::this_user;

use super::fleet::{Fleet, Member};

/// How many identities each of two users has.
const EACH: usize = 10;

const USERS: [u32; 2] = [1001, 1002];

/// An agent with entries of two users, and its program where they can read it.
fn two_users() -> (Fleet, Member, PathBuf) {
    let fleet = Fleet::start("");
    let member = fleet.join_by_certificate("node");
    for uid in USERS {
        for n in 0..EACH {
            let selector = format!("unix:uid:{uid}");
            fleet.register(&format!("/{uid}/{n}"), &member.id, &["--selector", &selector]);
        }
    }
    let program = fleet.dir.copy(&bin::agent(), "steeple-agent");
    (fleet, member, program)
}

/// How many of its own a user is given by this command; nothing of the other's may be among them.
fn given(member: &Member, program: &Path, uid: u32, arguments: &[&str]) -> usize {
    let output = member.workload_of(uid, program, arguments);
    let text = stdout(&output);
    for other in USERS.iter().filter(|other| **other != uid) {
        assert!(!text.contains(&format!("example.org/{other}/")), "{text}");
    }
    (0..EACH).filter(|n| text.contains(&format!("spiffe://example.org/{uid}/{n}"))).count()
}

#[track_caller]
fn check_all_are_given(arguments: &[&str]) {
    if !is_root("workloads of two users") {
        return;
    }
    let (_fleet, member, program) = two_users();
    // One after the other, and the first again: what one has takes nothing from the other.
    for uid in [USERS[0], USERS[1], USERS[0]] {
        eventually("all of them", || {
            (given(&member, &program, uid, arguments) == EACH).then_some(())
        });
    }
}

/// SPIRE's scenario `fetch-x509-svids`. There a cache of eight has to give ten; here each process has
/// what is its own for as long as it lives, and there is no size to set.
#[test]
fn each_user_is_given_all_its_svids() {
    check_all_are_given(&["api", "fetch", "x509", "--output", "json"]);
}

/// SPIRE's scenario `fetch-jwt-svids`, before its server is started again.
#[test]
fn each_user_is_given_all_its_tokens() {
    check_all_are_given(&["api", "fetch", "jwt", "--audience", "a", "--output", "json"]);
}

/// In SPIRE's cache the second token is the first one.
#[test]
fn two_entries_of_one_id_have_tokens_of_their_own() {
    let fleet = Fleet::start("");
    let member = fleet.join_by_certificate("node");
    let (me, group) = (this_user(), format!("unix:gid:{}", nix::unistd::getegid()));
    let short = ["--selector", &me, "--jwt-svid-ttl", "60"];
    let long = ["--selector", &me, "--selector", &group, "--jwt-svid-ttl", "600"];
    fleet.register("/workload", &member.id, &short);
    fleet.register("/workload", &member.id, &long);
    let lives = eventually("both are there", || {
        let output =
            member.workload(&["api", "fetch", "jwt", "--audience", "a", "--output", "json"]);
        let text = stdout(&output);
        let tokens: Vec<_> = text.split('"').filter(|part| part.split('.').count() == 3).collect();
        let lives: std::collections::BTreeSet<_> = tokens.iter().map(|token| life(token)).collect();
        (tokens.len() == 2).then_some(lives)
    });
    assert_eq!(lives, [60, 600].into());
}

/// How long a token lives.
fn life(token: &str) -> i64 {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

/// SPIRE's scenario `fetch-jwt-svids`, once the server makes no tokens any more.
#[test]
fn where_tokens_are_disabled_everybody_is_told_so() {
    let mut fleet = Fleet::start("");
    let member = fleet.join_by_certificate("node");
    fleet.register("/workload", &member.id, &["--selector", &this_user()]);
    member.wait_for_ids(&["/workload"]);
    let held = stdout(&member.workload(&["api", "fetch", "jwt", "--audience", "a"]));
    let held = held.split_whitespace().find(|word| word.split('.').count() == 3).unwrap();
    fleet.restart_server("disable_jwt_svids = true");
    let refused = |arguments: &[&str]| {
        let output = crate::harness::try_admin(&fleet.dir, arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
        let said = stderr(&output);
        assert!(said.contains("JWT functionality is disabled"), "{arguments:?}: {said}");
    };
    refused(&["jwt", "mint", "--spiffe-id", "spiffe://example.org/x", "--audience", "a"]);
    eventually("the agent has heard of the server that is there now", || {
        let output = member.workload(&["api", "fetch", "jwt", "--audience", "a"]);
        stderr(&output).contains("JWT functionality is disabled").then_some(())
    });
    // Certificates are made as before.
    member.wait_for_ids(&["/workload"]);
    refused(&["localauthority", "jwt", "show"]);
    refused(&["localauthority", "jwt", "prepare"]);
    // The key is there for as long as what it signed may be, and signs no more.
    let validated = member.workload(&["api", "validate", "jwt", "--audience", "a", "--svid", held]);
    assert!(validated.status.success(), "{}", stderr(&validated));
    let bundle = fleet.admin(&["bundle", "show", "--output", "json"]);
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    assert_eq!(bundle["jwt_authorities"].as_array().unwrap().len(), 1);
    let status = fleet.admin(&["localauthority", "jwt", "status"]);
    assert!(status.contains("JWT authority (old)"), "{status}");

    // Where there never was one, there is none.
    let fleet = Fleet::start("disable_jwt_svids = true");
    let bundle = fleet.admin(&["bundle", "show", "--output", "json"]);
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    assert!(bundle["jwt_authorities"].as_array().is_none_or(Vec::is_empty), "{bundle}");
}
