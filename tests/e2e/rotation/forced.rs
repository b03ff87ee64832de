//! Authorities that are replaced, tainted and revoked under workloads which talk to each other all
//! the time.

use std::time::{Duration, Instant};

use super::{Peer, peer};
use crate::harness::workload::first_answer;
use crate::harness::{Deployment, Settings, eventually};
use crate::workload_api::this_user;

/// Who talks to whom: each to all others.
const PEERS: usize = 50;

/// Each calls another one that often: together some dozen handshakes a second.
const PACE: Duration = Duration::from_secs(1);

/// The longest that all of them together take to move.
const SOON: Duration = Duration::from_secs(60);

/// SPIRE's force-rotation-self-signed and force-rotation-jwt-authority under load.
#[tokio::test]
async fn no_handshake_and_no_token_fails_while_authorities_are_replaced_and_revoked() {
    let node = Deployment::with(Settings::default());
    node.register("/peer", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut peers: Vec<_> = (0..PEERS).map(|_| Peer::start(&node, PACE)).collect();
    Peer::introduce(&mut peers);
    // Each has presented something of the old ones, and will have of both.
    reported(&mut peers, "called");

    let prepared = ["x509", "jwt"].map(|kind| {
        let active = node.admin_json(&["localauthority", kind, "show"]);
        let prepared = node.admin_json(&["localauthority", kind, "prepare"]);
        let id = |authority: &serde_json::Value| authority["authority_id"].as_str().unwrap().into();
        let (old, new): (String, String) =
            (id(&active["active"]), id(&prepared["prepared_authority"]));
        (kind, old, new)
    });
    // Whoever is presented with something signed by the new ones knows them.
    reported(&mut peers, "knows 2 2");
    let step = |step: &str, kind: &str, id: &str| {
        node.admin_json(&["localauthority", kind, step, "--authority-id", id]);
    };
    prepared.iter().for_each(|(kind, _, new)| step("activate", kind, new));

    for (kind, old, new) in &prepared {
        let tainted = Instant::now();
        step("taint", kind, old);
        let word = if *kind == "x509" { "holds" } else { "presents" };
        peers.iter_mut().for_each(|peer| peer.has_reported(&format!("{word} {new}")));
        let moved = tainted.elapsed();
        println!("{kind}: {PEERS} workloads moved {moved:?} after the taint");
        assert!(moved < SOON, "{moved:?}");
        nobody_holds(&node, kind, old);
        println!("{kind}: the server knew {:?} after the taint", tainted.elapsed());
    }
    prepared.iter().for_each(|(kind, old, _)| step("revoke", kind, old));
    reported(&mut peers, "knows 1 1");
    // And all goes on without the old ones.
    for _ in 0..3 {
        reported(&mut peers, "called");
    }

    let outcomes = Peer::outcomes(&mut peers);
    let handshakes: usize = outcomes.iter().map(|outcome| outcome.handshakes).sum();
    let tokens: usize = outcomes.iter().map(|outcome| outcome.tokens).sum();
    println!("{handshakes} handshakes, {tokens} tokens");
    assert!(handshakes > PEERS && tokens > PEERS);
    for peer::Outcome { failures, x509_authorities, jwt_authorities, .. } in outcomes {
        assert_eq!(failures, [""; 0]);
        assert_eq!((x509_authorities, jwt_authorities), (2, 2));
    }
}

/// Waits until all agents say so. What was handed out is valid for longer, which `--watch` waits for.
fn nobody_holds(node: &Deployment, kind: &str, id: &str) {
    eventually("nobody holds what it signed", || {
        let status = node.admin_json(&["localauthority", kind, "status"]);
        let mut known = status["authorities"].as_array().unwrap().iter();
        let known = known.find(|known| known["authority_id"] == id).unwrap();
        (known["held"] == "0" && known["agent_svids"] == 0).then_some(())
    });
}

/// Waits until each peer has said so.
fn reported(peers: &mut [Peer], line: &str) {
    for peer in peers {
        peer.report(line);
    }
}
