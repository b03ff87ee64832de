//! Authorities that an administrator moves on: what becomes of the server, the agent and workloads.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use steeple::jwt;
use steeple::x509::{Certificate, split_certificates};
use steeple_proto::workload::{JwtBundlesRequest, JwtsvidRequest, X509svid, X509svidResponse};
use tonic::Streaming;

use crate::harness::workload::{connect, first_answer, next, request};
use crate::harness::{Deployment, eventually, stderr};
use crate::workload_api::this_user;

/// The ID of an authority in what a command printed.
fn id_in(printed: &Value, member: &str) -> String {
    printed[member]["authority_id"].as_str().unwrap_or_else(|| panic!("{printed}")).to_owned()
}

fn step(node: &Deployment, kind: &str, step: &str, id: &str) {
    node.admin_json(&["localauthority", kind, step, "--authority-id", id]);
}

/// Prepares an authority beside the active one: both IDs, the active one's first.
fn prepare(node: &Deployment, kind: &str) -> (String, String) {
    let active = id_in(&node.admin_json(&["localauthority", kind, "show"]), "active");
    let prepared = node.admin_json(&["localauthority", kind, "prepare"]);
    (active, id_in(&prepared, "prepared_authority"))
}

/// The CA that signed an SVID.
fn issuer(svid: &X509svid) -> String {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    leaf.authority_key_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The CAs of the bundle that came with an SVID.
fn vouched(svid: &X509svid) -> BTreeSet<String> {
    let bundle = split_certificates(&svid.bundle, 10).unwrap();
    let ids = bundle.iter().map(|ca| Certificate::parse(ca).unwrap().subject_key_id_hex());
    ids.map(Option::unwrap).collect()
}

/// The first SVID that is as it is to be, of those that come.
async fn svid_that(
    stream: &mut Streaming<X509svidResponse>,
    is_it: impl Fn(&X509svid) -> bool,
) -> X509svid {
    loop {
        let svid = next(stream).await.unwrap().svids.remove(0);
        if is_it(&svid) {
            return svid;
        }
    }
}

fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

/// SPIRE's force-rotation-self-signed, with one server.
#[tokio::test]
async fn force_rotation_self_signed() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (first, mut stream) = first_answer(&node.socket()).await;
    let (old, new) = prepare(&node, "x509");
    assert_eq!(issuer(&first.svids[0]), old);
    let both: BTreeSet<_> = [old.clone(), new.clone()].into();
    let svid = svid_that(&mut stream, |svid| vouched(svid) == both).await;
    assert_eq!(issuer(&svid), old);
    step(&node, "x509", "activate", &new);
    node.server.wait_for_another(1, "X509 CA activated");

    step(&node, "x509", "taint", &old);
    node.server.wait_for("X.509 authority tainted successfully");
    node.server.wait_for(
        "Server SVID signed using a tainted authority, forcing rotation of the Server SVID",
    );
    let svid = svid_that(&mut stream, |svid| issuer(svid) == new).await;
    assert_eq!(vouched(&svid), both, "what others hold still is accepted");
    let at_agent = [
        "New tainted X.509 authorities found",
        "Agent SVID is tainted by a root authority, forcing rotation",
        "Scheduled rotation for SVID entries due to tainted X.509 authorities",
    ];
    for line in at_agent {
        node.agent.wait_for(line);
    }
    assert!(node.agent.wait_for(at_agent[0]).contains(&format!("subject_key_ids={old:?}")));
    assert!(node.agent.wait_for(at_agent[2]).ends_with("count=1"));
    let tainted = node.server.wait_for("X.509 authority tainted successfully");
    assert!(tainted.contains(&format!("local_authority_id={old}")), "{tainted}");
    node.agent.wait_for("SVID renewed");
    let status = ["localauthority", "x509", "status", "--watch"];
    let moved = node.admin_json(&status);
    let of = |id: &str| {
        let mut known = moved["authorities"].as_array().unwrap().iter();
        known.find(|known| known["authority_id"] == id).unwrap().clone()
    };
    assert_eq!((&of(&new)["held"], &of(&new)["agent_svids"]), (&"1".into(), &1.into()));
    assert_eq!((&of(&old)["held"], &of(&old)["tainted"]), (&"0".into(), &true.into()));
    assert_eq!(moved["agents_not_reporting"], 0);

    step(&node, "x509", "revoke", &old);
    node.server.wait_for("X.509 authority revoked successfully");
    let only: BTreeSet<_> = [new.clone()].into();
    let svid = svid_that(&mut stream, |svid| vouched(svid) == only).await;
    assert_eq!(issuer(&svid), new);
    // Everybody talks to everybody as before.
    node.register("/more", &[&this_user()]);
    let more = next(&mut stream).await.unwrap();
    assert_eq!(more.svids.len(), 2);
    for line in at_agent {
        assert_eq!(count(&node.agent.log(), line), 1, "{line}");
    }
    let by = |event: &Value| event["caller"]["class"] == "local";
    let audit = node.audit();
    let asked = audit.iter().filter(|event| by(event));
    let events: Vec<_> = asked.map(|event| event["event"].as_str().unwrap()).collect();
    for event in ["prepared", "activated", "tainted", "revoked"] {
        let event = format!("authority_{event}");
        assert_eq!(events.iter().filter(|asked| **asked == event).count(), 1, "{event}");
    }
}

/// The key of a token that this process is given.
async fn token_key(socket: &Path) -> String {
    let mut client = connect(socket).await;
    let asked = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(request(asked)).await.unwrap().into_inner().svids.remove(0);
    jwt::parse::parse(&token.svid).unwrap().key_id.unwrap().to_string()
}

/// SPIRE's force-rotation-jwt-authority.
#[tokio::test]
async fn force_rotation_jwt_authority() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut client = connect(&node.socket()).await;
    let bundles = client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.unwrap();
    let mut bundles = bundles.into_inner();
    let mut keys = async |expected: usize| loop {
        let message = next(&mut bundles).await.unwrap();
        let bundle = &message.bundles["spiffe://example.org"];
        let bundle: Value = serde_json::from_slice(bundle).unwrap();
        if bundle["keys"].as_array().unwrap().len() == expected {
            return;
        }
    };
    keys(1).await;
    let (old, new) = prepare(&node, "jwt");
    keys(2).await;
    assert_eq!(token_key(&node.socket()).await, old);
    step(&node, "jwt", "activate", &new);
    step(&node, "jwt", "taint", &old);
    node.server.wait_for("JWT authority tainted successfully");
    let dropped = "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted \
                   authority";
    node.agent.wait_for("New tainted JWT authorities found");
    node.agent.wait_for(dropped);
    assert_eq!(token_key(&node.socket()).await, new);
    eventually("nobody holds what the old key signed", || {
        let status = node.admin_json(&["localauthority", "jwt", "status"]);
        let mut known = status["authorities"].as_array().unwrap().iter();
        let old = known.find(|known| known["authority_id"] == *old).unwrap();
        // What was handed out is valid still, though nobody is given it any more.
        assert_eq!(old["signed"], "1");
        (old["held"] == "0").then_some(())
    });
    let revoke = ["localauthority", "jwt", "revoke", "-authorityID", &old];
    let warned = stderr(&node.try_admin(&revoke));
    assert!(warned.contains("this authority has signed 1 SVIDs valid until"), "{warned}");
    node.server.wait_for("JWT authority revoked successfully");
    keys(1).await;
    assert_eq!(token_key(&node.socket()).await, new);
    assert_eq!(count(&node.agent.log(), dropped), 1);
}

/// Each step of SPIRE's force-rotation-self-signed and force-rotation-jwt-authority is there after
/// a `kill -9`, and another one can follow.
#[tokio::test]
async fn what_was_done_to_an_authority_outlasts_a_kill() {
    let mut node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (_, mut stream) = first_answer(&node.socket()).await;
    for kind in ["x509", "jwt"] {
        let (old, new) = prepare(&node, kind);
        // An agent that does not know what signs the server's SVID cannot come back to it.
        eventually("the agent knows it", || {
            let status = node.admin_json(&["localauthority", kind, "status"]);
            Some(status).filter(|status| status["agents_up_to_date"] == 1)
        });
        node.restart_server();
        assert_eq!(prepare(&node, kind), (old.clone(), new.clone()), "it is not thrown away");
        step(&node, kind, "activate", &new);
        node.restart_server();
        let state = node.admin_json(&["localauthority", kind, "show"]);
        assert_eq!((id_in(&state, "active"), id_in(&state, "old")), (new.clone(), old.clone()));
        let revoke = ["localauthority", kind, "revoke", "-authorityID", &old];
        let refused = stderr(&node.try_admin(&revoke));
        assert!(refused.contains("it is not possible to revoke an untainted"), "{refused}");
        step(&node, kind, "taint", &old);
        node.restart_server();
        let bundle = node.admin_json(&["bundle", "show"]);
        let authorities = &bundle[format!("{kind}_authorities")];
        assert_eq!(authorities[0]["tainted"], true, "{bundle}");
        if kind == "x509" {
            svid_that(&mut stream, |svid| issuer(svid) == new).await;
        }
        node.admin_json(&["localauthority", kind, "status", "--watch"]);
        step(&node, kind, "revoke", &old);
        node.restart_server();
        let state = node.admin_json(&["localauthority", kind, "show"]);
        assert_eq!((id_in(&state, "active"), &state["old"]), (new.clone(), &Value::Null));
    }
    let health = eventually("the agent goes on with it", || {
        Some(node.workload(&["healthcheck"])).filter(|output| output.status.success())
    });
    assert!(health.status.success());
}
