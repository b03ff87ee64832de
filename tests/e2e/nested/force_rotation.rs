//! Roots that are replaced by hand, and all tiers that move with them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use steeple_proto::spire::api::server::localauthority::v1 as pb;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use tonic::transport::Channel;

use super::{
    DISK, below_with, check_validated, downstream_entry, jwt_keys, svid, this_process, token,
    validates, verified, write_ca,
};
use crate::harness::workload::{self, first_answer};
use crate::harness::{Deployment, Dir, Settings, api, eventually, stderr};

/// The ID of the key that signed a token.
fn key_of(token: &str) -> String {
    let (header, _) = token.split_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn authorities(node: &Deployment) -> LocalAuthorityClient<Channel> {
    LocalAuthorityClient::new(api::admin(&node.dir))
}

async fn state(node: &Deployment) -> pb::GetX509AuthorityStateResponse {
    let request = pb::GetX509AuthorityStateRequest {};
    authorities(node).get_x509_authority_state(request).await.unwrap().into_inner()
}

/// Prepares and activates another CA; what it was, and what it is.
async fn replace(node: &Deployment) -> [pb::AuthorityState; 2] {
    let old = state(node).await.active.unwrap();
    let request = pb::PrepareX509AuthorityRequest {};
    let prepared = authorities(node).prepare_x509_authority(request).await.unwrap();
    let new = prepared.into_inner().prepared_authority.unwrap();
    let request = pb::ActivateX509AuthorityRequest { authority_id: new.authority_id.clone() };
    authorities(node).activate_x509_authority(request).await.unwrap();
    [old, new]
}

/// The roots that a server vouches with, in DER, each with whether it is tainted.
fn roots(node: &Deployment) -> Vec<(Vec<u8>, bool)> {
    let bundle = node.admin_json(&["bundle", "show"]);
    let roots = bundle["x509_authorities"].as_array().unwrap().iter();
    let decode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let root = |root: &serde_json::Value| {
        (decode(root["asn1"].as_str().unwrap()), root["tainted"].as_bool().unwrap_or(false))
    };
    roots.map(root).collect()
}

/// Waits until the SVID of this process at `node` leads to that root and to no other one.
async fn moved(node: &Deployment, root: &[u8]) {
    let (first, mut updates) = first_answer(&node.socket()).await;
    let mut svid = first.svids[0].clone();
    while verified(&svid, root).is_err() {
        svid = workload::next(&mut updates).await.unwrap().svids.remove(0);
    }
}

/// Scenario force-rotation-self-signed: the root of a tree is replaced, and all tiers with it.
#[tokio::test]
async fn force_rotation_self_signed() {
    let root = Deployment::start();
    downstream_entry(&root);
    let middle =
        Deployment::with(Settings { server: below_with(&root, ""), ..Settings::default() });
    downstream_entry(&middle);
    let leaf =
        Deployment::with(Settings { server: below_with(&middle, ""), ..Settings::default() });
    let nodes = [&root, &middle, &leaf];
    for node in nodes {
        node.register("/web", &[&this_process()]);
        first_answer(&node.socket()).await;
    }

    let [old, new] = replace(&root).await;
    let both = roots(&root);
    assert_eq!(both.len(), 2);
    for node in nodes {
        eventually("the new root is known", || (roots(node) == both).then_some(()));
    }
    let request = pb::TaintX509AuthorityRequest { authority_id: old.authority_id.clone() };
    authorities(&root).taint_x509_authority(request).await.unwrap();
    for node in [&middle, &leaf] {
        node.server.wait_for("New tainted X.509 authorities found");
        node.server.wait_for(
            "Current root CA is signed by a tainted upstream authority, preparing rotation",
        );
        node.server.wait_for("Successfully rotated X.509 CA");
        let prepared = node.server.wait_for_another(1, "X509 CA prepared");
        assert!(prepared.contains("self_signed=false"), "{prepared}");
        let upstream = format!("upstream_authority_id={}", new.authority_id);
        assert!(prepared.contains(&upstream), "{prepared}");
    }
    let expected = [(both[0].0.clone(), true), (both[1].0.clone(), false)];
    for node in nodes {
        eventually("the taint is known", || (roots(node) == expected).then_some(()));
        node.server.wait_for("Server SVID signed using a tainted authority, forcing rotation");
        node.agent.wait_for("Agent SVID is tainted by a root authority, forcing rotation");
        node.agent.wait_for("SVID renewed");
        moved(node, &both[1].0).await;
    }

    let request = pb::RevokeX509AuthorityRequest { authority_id: old.authority_id };
    authorities(&root).revoke_x509_authority(request).await.unwrap();
    for node in nodes {
        let only = [(both[1].0.clone(), false)];
        eventually("the old root is gone", || (roots(node) == only).then_some(()));
        let (first, mut updates) = first_answer(&node.socket()).await;
        let mut bundle = first.svids[0].bundle.clone();
        while bundle != both[1].0 {
            bundle = workload::next(&mut updates).await.unwrap().svids[0].bundle.clone();
        }
        verified(&svid(node).await, &bundle).unwrap();
    }
    for node in [&middle, &leaf] {
        let active = state(node).await.active.unwrap();
        assert_eq!(active.upstream_authority_subject_key_id, new.authority_id);
    }
}

/// Scenario force-rotation-upstream-authority: the files of a CA are replaced.
#[tokio::test]
async fn force_rotation_upstream_authority() {
    let dir = Dir::new();
    let old = write_ca(&dir);
    let node = Deployment::inside(dir, Settings { server: DISK, ..Settings::default() });
    node.register("/web", &[&this_process()]);
    first_answer(&node.socket()).await;
    let new = write_ca(&node.dir);
    let [former, active] = replace(&node).await;
    assert_eq!(former.upstream_authority_subject_key_id, old);
    assert_eq!(active.upstream_authority_subject_key_id, new);
    node.server.wait_for("the upstream authority in the files was replaced");
    let both = roots(&node);
    assert_eq!(both.len(), 2);

    let taint = |subject_key_id: &str| {
        let request =
            pb::TaintX509UpstreamAuthorityRequest { subject_key_id: subject_key_id.into() };
        let mut client = authorities(&node);
        async move { client.taint_x509_upstream_authority(request).await }
    };
    taint(&new).await.unwrap_err();
    taint(&old.to_uppercase()).await.unwrap();
    node.agent.wait_for("Agent SVID is tainted by a root authority, forcing rotation");
    node.agent.wait_for("SVID renewed");
    node.server.wait_for("Server SVID signed using a tainted authority, forcing rotation");
    moved(&node, &both[1].0).await;
    let request = pb::RevokeX509UpstreamAuthorityRequest { subject_key_id: old };
    authorities(&node).revoke_x509_upstream_authority(request).await.unwrap();
    assert_eq!(roots(&node), [(both[1].0.clone(), false)]);
}

/// Whoever has to do something about it is told what.
#[test]
fn a_ca_that_cannot_be_replaced_is_told_with_the_status_of_authorities() {
    let root = Deployment::start();
    let entry = downstream_entry(&root);
    let server = below_with(&root, "ca_ttl = \"30s\"\n");
    let node = Deployment::with(Settings { server, ..Settings::default() });
    let status = || node.admin_json(&["localauthority", "x509", "status"]);
    assert_eq!(status()["failing_because"], "");
    root.admin(&["entry", "delete", "--entry-id", &entry]);
    // Each try may fail for a reason of its own.
    eventually("the next CA cannot be made, and both forms say why", || {
        let why = status()["failing_because"].as_str().unwrap().to_owned();
        assert!(why.is_empty() || why.contains("upstream authority"), "{why}");
        let said = node.admin(&["localauthority", "x509", "status"]);
        let is_said = said.contains("Rotation fails since") && said.contains(&why);
        (!why.is_empty() && is_said).then_some(())
    });
    downstream_entry(&root);
    eventually("rotation goes on", || (status()["failing_because"] == "").then_some(()));
}

/// Nobody else takes its tokens any more, so that it must not go on until it would rotate anyway.
#[tokio::test]
async fn a_branch_leaves_a_key_that_was_revoked_above_while_it_was_away() {
    let root = Deployment::start();
    downstream_entry(&root);
    let mut node =
        Deployment::with(Settings { server: below_with(&root, ""), ..Settings::default() });
    for node in [&root, &node] {
        node.register("/web", &[&this_process()]);
        first_answer(&node.socket()).await;
    }
    check_validated(&node, &root).await;
    let active = |node: &Deployment| {
        let state = node.admin_json(&["localauthority", "jwt", "show"]);
        state["active"]["authority_id"].as_str().unwrap().to_owned()
    };
    let old = active(&node);
    node.server.kill();
    for step in ["taint", "revoke"] {
        root.admin(&["localauthority", "jwt", step, "--authority-id", &old]);
    }
    node.restart_server();
    node.server.wait_for("JWT key was revoked upstream, forcing rotation");
    eventually("another key signs, and is known above", || {
        let new = active(&node);
        (new != old && jwt_keys(&root).contains(&new)).then_some(())
    });
    assert!(!jwt_keys(&node).contains(&old));
    check_validated(&node, &root).await;
}

/// Whoever activates when nobody is said to be missing cuts nobody off, in any branch.
#[tokio::test]
async fn an_authority_that_has_come_round_is_known_in_every_branch_when_it_signs() {
    let root = Deployment::start();
    downstream_entry(&root);
    let branches = [(); 2].map(|()| {
        Deployment::with(Settings { server: below_with(&root, ""), ..Settings::default() })
    });
    let nodes = [&root, &branches[0], &branches[1]];
    for node in nodes {
        node.register("/web", &[&this_process()]);
        first_answer(&node.socket()).await;
    }
    for from in nodes {
        let prepared = from.admin_json(&["localauthority", "jwt", "prepare"]);
        let id = prepared["prepared_authority"]["authority_id"].as_str().unwrap().to_owned();
        // It is known above with the answer.
        assert!(jwt_keys(&root).contains(&id));
        eventually("the key has come round", || {
            let status = from.admin_json(&["localauthority", "jwt", "status"]);
            let authorities = status["authorities"].as_array().unwrap();
            let above = &authorities.iter().find(|known| known["authority_id"] == *id)?["above"];
            let is_known = status["agents"] == status["agents_up_to_date"]
                && status["servers_below"] == status["servers_below_up_to_date"]
                && (above == "known" || above == "");
            is_known.then_some(())
        });
        let activated =
            from.try_admin(&["localauthority", "jwt", "activate", "--authority-id", &id]);
        assert!(activated.status.success() && stderr(&activated).is_empty(), "{activated:?}");
        let token = token(from).await;
        assert_eq!(key_of(&token), id);
        for to in nodes {
            assert!(validates(to, &token).await, "of {} at {}", from.agent_id, to.agent_id);
        }
    }
}
