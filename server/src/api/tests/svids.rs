//! Certificates and tokens, for agents and admins.

use steeple::x509::verify::{AnchorSet, Anchors, Role, verify_peer};
use steeple::x509::{Certificate, Chain};
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::svid::v1 as pb;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;

use super::*;

type Client = SvidClient<Channel>;

async fn with_entry(server: &Server, entry: types::Entry) -> types::Entry {
    let request = entry_pb::BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let created = EntryClient::new(server.local()).batch_create_entry(request).await.unwrap();
    created.into_inner().results.remove(0).entry.unwrap()
}

fn params(entry_id: &str, csr: Vec<u8>) -> pb::NewX509svidParams {
    pb::NewX509svidParams { entry_id: entry_id.into(), csr }
}

async fn batch(
    client: &mut Client,
    params: Vec<pb::NewX509svidParams>,
) -> Vec<(i32, Option<types::X509svid>)> {
    let request = pb::BatchNewX509svidRequest { params };
    let results = client.batch_new_x509svid(request).await.unwrap().into_inner().results;
    results.into_iter().map(|result| (result.status.unwrap().code, result.svid)).collect()
}

/// Whom the certificates name, if the server's bundle vouches for them.
fn verified(server: &Server, svid: &types::X509svid) -> Option<String> {
    let chain: Vec<_> = svid.cert_chain.iter().map(|der| der.clone().into()).collect();
    let anchors = AnchorSet::of(td(), Anchors::from(&*server.deps.registry.own_bundle()));
    let now = server.clock.now();
    let peer = verify_peer(&chain, Role::Client, &anchors, now).ok()?;
    Some(peer.spiffe_id().to_string())
}

#[tokio::test]
async fn an_agent_has_the_svids_of_its_entries_signed() {
    let server = Server::new().await;
    let ours = types::Entry {
        x509_svid_ttl: 60,
        dns_names: vec!["a.example".into(), "b.example".into()],
        hint: "web".into(),
        ..entry("/web", "/spire/agent/a")
    };
    let (ours, theirs) = (
        with_entry(&server, ours).await,
        with_entry(&server, entry("/other", "/spire/agent/b")).await,
    );
    let mut client = Client::new(server.agent("a").await);
    let fine = || request_for(None, &[]);
    let mut forged = fine();
    *forged.last_mut().unwrap() ^= 1;
    let results = batch(
        &mut client,
        vec![
            params(&ours.id, request_for(Some("spiffe://td/admin"), &["evil.example"])),
            params(&theirs.id, fine()),
            params("unknown", fine()),
            params("not/an/id", fine()),
            params("", fine()),
            params(&ours.id, Vec::new()),
            params(&ours.id, forged),
            params(&ours.id, vec![0; 1024 * 1024]),
            params(&ours.id, fine()),
        ],
    )
    .await;
    let codes: Vec<_> = results.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 5, 5, 5, 3, 3, 3, 3, 0]); // H148
    let svid = results[0].1.as_ref().unwrap();
    assert_eq!(verified(&server, svid).as_deref(), Some("spiffe://td/web"));
    assert_eq!((svid.id.clone(), svid.hint.as_str()), (wire_id("/web"), "web"));
    assert_eq!(svid.expires_at, NOW + 60);
    let certificate = Certificate::parse(&svid.cert_chain[0]).unwrap();
    assert_eq!(certificate.dns_names(), [&b"a.example"[..], b"b.example"]);

    let second = Certificate::parse(&results[8].1.as_ref().unwrap().cert_chain[0]).unwrap();
    assert_ne!(certificate.serial(), second.serial());
}

#[tokio::test]
async fn every_signature_and_refusal_is_in_the_audit_log_in_order() {
    let server = Server::new().await;
    let ours = with_entry(&server, entry("/web", "/spire/agent/a")).await;
    let mut client = Client::new(server.agent("a").await);
    let wishes = vec![
        params(&ours.id, request_for(None, &[])),
        params("unknown", request_for(None, &[])),
        params(&ours.id, request_for(None, &[])),
    ];
    batch(&mut client, wishes).await;
    assert_eq!(
        server.audited(),
        [
            "entry_created",
            "x509_intent",
            "x509_intent",
            "x509_issued",
            "x509_issued",
            "x509_refused"
        ]
    );
    let records = server.records();
    assert_eq!(records[1]["caller"]["id"], "spiffe://td/spire/agent/a");
    assert_eq!(records[1]["serial"], records[3]["serial"]);
    assert_eq!(records[5]["entry_id"], "unknown");
    assert_eq!(records[5]["why"], "entry not found or not authorized");
}

#[tokio::test]
async fn a_batch_is_bounded_and_charged_by_its_size() {
    let server = Server::new().await;
    let mut client = Client::new(server.agent("a").await);
    let many = |count| pb::BatchNewX509svidRequest { params: vec![params("x", vec![1]); count] };
    check_status(
        client.batch_new_x509svid(many(0)).await,
        Code::InvalidArgument,
        "params: missing parameters",
    );
    check_status(
        client.batch_new_x509svid(many(501)).await,
        Code::ResourceExhausted,
        "rate (501) exceeds burst size (500)",
    );
    assert!(client.batch_new_x509svid(many(500)).await.is_ok());
    let soon = client.batch_new_x509svid(many(500)).await.unwrap_err();
    assert_eq!(soon.code(), Code::ResourceExhausted);
}

async fn jwt(
    client: &mut Client,
    entry_id: &str,
    audience: &[&str],
) -> Result<types::Jwtsvid, Status> {
    let request = pb::NewJwtsvidRequest {
        entry_id: entry_id.into(),
        audience: audience.iter().map(ToString::to_string).collect(),
    };
    client.new_jwtsvid(request).await.map(|answer| answer.into_inner().svid.unwrap())
}

/// The claims of a token.
fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[tokio::test]
async fn an_agent_has_tokens_of_its_entries_signed() {
    let server = Server::new().await;
    let attributes =
        types::entry::AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() };
    let ours = types::Entry {
        jwt_svid_ttl: 60,
        hint: "web".into(),
        additional_attributes: Some(attributes),
        ..entry("/web", "/spire/agent/a")
    };
    let ours = with_entry(&server, ours).await;
    let plain = with_entry(&server, entry("/plain", "/spire/agent/a")).await;
    let theirs = with_entry(&server, entry("/other", "/spire/agent/b")).await;
    let mut client = Client::new(server.agent("a").await);
    let svid = jwt(&mut client, &ours.id, &["x", "y", "x"]).await.unwrap();
    assert_eq!((svid.id, svid.hint.as_str()), (wire_id("/web"), "web"));
    assert_eq!((svid.issued_at, svid.expires_at), (NOW, NOW + 60));
    let said = claims(&svid.token);
    assert_eq!(said["sub"], "spiffe://td/web");
    assert_eq!(said["aud"], serde_json::json!(["x", "y"]));
    assert!(said["jti"].is_string());
    let svid = jwt(&mut client, &plain.id, &["x"]).await.unwrap();
    assert_eq!(svid.expires_at, NOW + 300);
    assert!(claims(&svid.token).get("jti").is_none());

    for (entry_id, audience, code) in [
        (theirs.id.as_str(), &["x"][..], Code::NotFound),
        ("", &["x"], Code::InvalidArgument),
        (ours.id.as_str(), &[], Code::InvalidArgument),
        (ours.id.as_str(), &["x", ""], Code::InvalidArgument),
        (ours.id.as_str(), &["x"; 200], Code::InvalidArgument),
    ] {
        assert_eq!(jwt(&mut client, entry_id, audience).await.unwrap_err().code(), code);
    }
    let refused = server.audited().iter().filter(|event| *event == "jwt_refused").count();
    assert_eq!(refused, 5);
}

async fn mint(client: &mut Client, csr: Vec<u8>, ttl: i32) -> Result<types::X509svid, Status> {
    let request = pb::MintX509svidRequest { csr, ttl };
    client.mint_x509svid(request).await.map(|answer| answer.into_inner().svid.unwrap())
}

#[tokio::test]
async fn an_administrator_mints_without_an_entry() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let csr = request_for(Some("spiffe://td/x"), &["a.example"]);
    let svid = mint(&mut client, csr, 60).await.unwrap();
    assert_eq!(verified(&server, &svid).as_deref(), Some("spiffe://td/x"));
    assert_eq!(svid.expires_at, NOW + 60);
    let chain = Chain::new(vec![svid.cert_chain[0].clone().into()]).unwrap();
    let certificate = Certificate::parse(chain.leaf()).unwrap();
    assert_eq!(certificate.dns_names(), [&b"a.example"[..]]);

    for (id, names, ttl) in [
        (None, &[][..], 0),
        (Some("spiffe://td"), &[], 0),
        (Some("spiffe://other/x"), &[], 0),
        (Some("spiffe://td/spire/server"), &[], 0),
        (Some("spiffe://td/x"), &["*.example", "a.example"], 0),
        (Some("spiffe://td/x"), &["a b"], 0),
        (Some("spiffe://td/x"), &[], -1),
    ] {
        let status = mint(&mut client, request_for(id, names), ttl).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?} {names:?} {status}");
    }
    let empty = mint(&mut client, Vec::new(), 0).await;
    check_status(empty, Code::InvalidArgument, "csr: missing CSR");

    let request =
        pb::MintJwtsvidRequest { id: wire_id("/x"), audience: vec!["aud".into()], ttl: 60 };
    let token = client.mint_jwtsvid(request.clone()).await.unwrap().into_inner().svid.unwrap();
    assert_eq!(claims(&token.token)["exp"], NOW + 60);
    for wrong in [
        pb::MintJwtsvidRequest { id: None, ..request.clone() },
        pb::MintJwtsvidRequest { id: wire_id("/spire/agent/a"), ..request.clone() },
        pb::MintJwtsvidRequest { audience: Vec::new(), ..request.clone() },
        pb::MintJwtsvidRequest { ttl: -1, ..request.clone() },
    ] {
        let code = client.mint_jwtsvid(wrong).await.unwrap_err().code();
        assert_eq!(code, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn what_comes_with_a_later_version_answers_unimplemented() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let wit = client.mint_witsvid(pb::MintWitsvidRequest::default()).await.unwrap_err();
    assert_eq!(wit.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_server_says_whether_it_can_sign() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let server = Server::new().await;
    let mut client = HealthClient::new(server.local());
    let mut check =
        async |service: &str| client.check(HealthCheckRequest { service: service.into() }).await;
    let serving = check("").await.unwrap().into_inner().status;
    assert_eq!(serving, i32::from(ServingStatus::Serving));
    assert_eq!(check("x").await.unwrap_err().code(), Code::InvalidArgument);
    server.clock.set(from_unix_seconds(NOW + 90_000)); // nothing rotates here
    let serving = check("").await.unwrap().into_inner().status;
    assert_eq!(serving, i32::from(ServingStatus::NotServing));
}
