//! What credentials say, as the server's settings, the agent's and the entry's want it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use steeple::keys::{KeyKind, PublicKey};
use steeple::x509::{Certificate, split_certificates};
use steeple_proto::workload::JwtsvidRequest;

use crate::harness::workload::{connect, first_answer, request};
use crate::harness::{Deployment, Settings, eventually, stderr};
use crate::workload_api::this_user;

/// Nothing is as it would be by default.
const SERVER: &str = "ca_ttl = \"1h\"\nca_key_type = \"ec-p384\"\njwt_key_type = \"rsa-2048\"\n\
    jwt_issuer = \"https://issuer.example\"\ndefault_x509_svid_ttl = \"90s\"\n\
    default_jwt_svid_ttl = \"50s\"\n\
    ca_subject = { country = [\"DE\"], organization = [\"Ours\"], common_name = \"Root\" }\n";
const AGENT: &str = "workload_x509_svid_key_type = \"rsa-2048\"\n";

/// How far back a certificate of these lives is valid at most.
const BACKDATE: Duration = Duration::from_secs(15);

/// The header and the claims of a token for this identity.
async fn token(node: &Deployment, path: &str) -> (Value, Value) {
    let spiffe_id = format!("spiffe://example.org{path}");
    let wish = JwtsvidRequest { audience: vec!["db".into()], spiffe_id };
    let mut client = connect(&node.socket()).await;
    let answer = client.fetch_jwtsvid(request(wish)).await.unwrap().into_inner();
    let mut parts = answer.svids[0].svid.split('.');
    let mut part = || {
        let json = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    (part(), part())
}

fn kind(certificate: &Certificate<'_>) -> KeyKind {
    PublicKey::from_spki(certificate.spki_der()).unwrap().kind()
}

#[tokio::test]
async fn credentials_are_as_they_are_configured() {
    let node = Deployment::with(Settings { server: SERVER, agent: AGENT, ..Settings::default() });
    node.register("/plain", &[&this_user()]);
    let own = ["--x509-svid-ttl", "40", "--jwt-svid-ttl", "30", "--jwt-svid-include-jti"];
    node.register_with("/own", &[&this_user()], &own);
    let answer = loop {
        let (answer, _) = first_answer(&node.socket()).await;
        if answer.svids.len() == 2 {
            break answer;
        }
    };
    for svid in &answer.svids {
        let chain = split_certificates(&svid.x509_svid, 10).unwrap();
        let leaf = Certificate::parse(&chain[0]).unwrap();
        let life = leaf.not_after().duration_since(leaf.not_before()).unwrap();
        let ttl = Duration::from_secs(if svid.spiffe_id.ends_with("/own") { 40 } else { 90 });
        assert!((ttl..=ttl + BACKDATE).contains(&life), "{}: {life:?}", svid.spiffe_id);
        assert_eq!(kind(&leaf), KeyKind::Rsa { bits: 2048 });
        let roots = split_certificates(&svid.bundle, 10).unwrap();
        let root = Certificate::parse(&roots[0]).unwrap();
        assert_eq!(kind(&root), KeyKind::EcP384);
        for name in ["DE", "Ours", "Root"] {
            let is_there = root.subject().windows(name.len()).any(|part| part == name.as_bytes());
            assert!(is_there, "{name}");
        }
    }

    let (header, plain) = token(&node, "/plain").await;
    assert_eq!(header["alg"], "RS256");
    let life = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!((life(&plain), &plain["iss"]), (50, &"https://issuer.example".into()));
    assert_eq!(plain["jti"], Value::Null);
    let (_, again) = token(&node, "/plain").await;
    assert_eq!(again, plain, "one token for all who ask");
    let ((_, own), (_, another)) = (token(&node, "/own").await, token(&node, "/own").await);
    assert_eq!(life(&own), 30);
    assert!(own["jti"].is_string() && own["jti"] != another["jti"], "{own} {another}");
}

#[tokio::test]
async fn a_life_that_is_cut_is_no_secret() {
    let server = "ca_ttl = \"5m\"\ndefault_jwt_svid_ttl = \"10m\"\n";
    let node = Deployment::with(Settings { server, ..Settings::default() });
    node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    token(&node, "/web").await;
    for kind in ["X509-SVID", "JWT-SVID"] {
        node.server.wait_for(&format!("{kind} lifetime was cut, as its authority ends before"));
        node.agent.wait_for(&format!("{kind} ends with its authority"));
    }

    let id = "spiffe://example.org/minted";
    for (arguments, said) in [
        (&["x509", "mint", "--spiffe-id", id, "--ttl", "1h"][..], "X509-SVID lifetime was capped"),
        (
            &["jwt", "mint", "--spiffe-id", id, "--audience", "a", "--ttl", "1h"],
            "JWT-SVID lifetime",
        ),
    ] {
        let minted = node.try_admin(arguments);
        assert!(minted.status.success() && stderr(&minted).contains(said), "{}", stderr(&minted));
    }
    for event in ["x509_issued", "jwt_issued"] {
        eventually(event, || {
            let is_told = |record: &Value| record["event"] == event && record["capped"] == true;
            node.audit().iter().any(is_told).then_some(())
        });
    }
    // One line for each authority, and not for each SVID.
    let told = node.server.log().iter().filter(|line| line.contains("lifetime was cut")).count();
    assert_eq!(told, 2);
}
