//! Scenario downstream-endpoints: what servers below this one are served, and nobody else.

use steeple::keys::Signer as _;
use steeple::x509::Certificate;
use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use steeple_proto::spire::api::server::localauthority::v1::{
    RevokeJwtAuthorityRequest, TaintJwtAuthorityRequest,
};
use steeple_proto::spire::api::server::svid::v1 as svid_pb;
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::steeple::authority::v1::authority_use_client::AuthorityUseClient;
use steeple_proto::steeple::authority::v1::{GetUseRequest, Kind};

use super::*;
use crate::api::limits::{Limited, Source};
use crate::ca::testing::tiers::{HOUR, Tier};
use crate::ca::testing::upstream::{FakeUpstream, Revoked};

async fn with_downstream(server: &Server, x509_svid_ttl: i32) -> String {
    let entry =
        types::Entry { downstream: true, x509_svid_ttl, ..entry("/below", "/spire/agent/a") };
    let request = entry_pb::BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let created = EntryClient::new(server.local()).batch_create_entry(request).await.unwrap();
    created.into_inner().results.remove(0).entry.unwrap().id
}

async fn new_ca(
    channel: Channel,
    csr: Vec<u8>,
    preferred_ttl: i32,
) -> Result<svid_pb::NewDownstreamX509caResponse, Status> {
    let request = svid_pb::NewDownstreamX509caRequest { csr, preferred_ttl };
    SvidClient::new(channel).new_downstream_x509ca(request).await.map(tonic::Response::into_inner)
}

async fn publish(
    channel: Channel,
    key: Option<types::JwtKey>,
) -> Result<Vec<types::JwtKey>, Status> {
    let request = bundle_pb::PublishJwtAuthorityRequest { jwt_authority: key };
    let answer = BundleClient::new(channel).publish_jwt_authority(request).await?;
    Ok(answer.into_inner().jwt_authorities)
}

fn jwt_key(key_id: &str) -> types::JwtKey {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    types::JwtKey {
        public_key: key.public_key().spki_der().to_vec(),
        key_id: key_id.into(),
        expires_at: NOW + 600,
        tainted: false,
    }
}

#[tokio::test]
async fn downstream_endpoints_are_for_downstream_servers() {
    let server = Server::new().await;
    let entry_id = with_downstream(&server, 0).await;
    let admin = || server.peer("spiffe://other/admin", "1");
    let others = [
        server.local(),
        server.anonymous(),
        server.agent("a").await,
        server.peer("spiffe://td/web", "1"),
        admin(),
        server.peer("spiffe://other/below", "1"),
    ];
    for channel in others {
        let refused = new_ca(channel.clone(), request_for(None, &[]), 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let refused = publish(channel, Some(jwt_key("kid"))).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let below = server.peer("spiffe://td/below", "1");
    new_ca(below.clone(), request_for(None, &[]), 0).await.unwrap();
    publish(below, Some(jwt_key("kid"))).await.unwrap();
    let records = server.records();
    let issued = records.iter().find(|record| record["event"] == "x509_issued").unwrap();
    assert_eq!(issued["caller"]["class"], "downstream");
    assert_eq!(issued["entry_id"], entry_id);
}

#[tokio::test]
async fn a_downstream_ca_is_for_the_key_and_for_nothing_else_in_the_request() {
    let server = Server::new().await;
    with_downstream(&server, 900).await;
    let below = server.peer("spiffe://td/below", "1");
    let check = async |preferred: i32, expected: i64| {
        let csr = request_for(Some("spiffe://evil/x"), &["evil.example"]);
        let answer = new_ca(below.clone(), csr, preferred).await.unwrap();
        assert_eq!(answer.x509_authorities.len(), 1);
        let [ca] = &answer.ca_cert_chain[..] else {
            panic!("{} in the chain", answer.ca_cert_chain.len())
        };
        let ca = Certificate::parse(ca).unwrap();
        let root = Certificate::parse(&answer.x509_authorities[0]).unwrap();
        assert!(ca.is_ca() && ca.is_signed_by(&root.public_key().unwrap()));
        assert_eq!((ca.uris(), ca.dns_names().len()), (&[&b"spiffe://td"[..]][..], 0));
        assert_eq!(steeple::clock::unix_seconds(ca.not_after()) - NOW, expected);
    };
    check(0, 900).await;
    check(60, 60).await;
    check(7_200, 7_200).await;
    check(i32::MAX, 86_400).await;
    for (csr, ttl) in [(Vec::new(), 0), (vec![0; 4], 0), (request_for(None, &[]), -1)] {
        let refused = new_ca(below.clone(), csr, ttl).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

#[tokio::test]
async fn a_jwt_key_from_below_is_vouched_for_here() {
    let server = Server::new().await;
    with_downstream(&server, 0).await;
    let below = server.peer("spiffe://td/below", "1");
    let key = jwt_key("kid");
    let keys = publish(below.clone(), Some(key.clone())).await.unwrap();
    assert_eq!(keys.len(), 2); // the server's own one is the first
    assert_eq!(keys[1], key);
    let bundle = server.deps.registry.own_bundle();
    assert_eq!(bundle.jwt_authorities[1].key_id, "kid");
    // Again, it is no news.
    publish(below.clone(), Some(types::JwtKey { tainted: true, ..key.clone() })).await.unwrap();
    assert_eq!(server.deps.registry.own_bundle(), bundle);

    let other = jwt_key("kid").public_key;
    for bad in [
        None,
        Some(types::JwtKey { public_key: other, ..key.clone() }),
        Some(types::JwtKey { key_id: String::new(), ..key.clone() }),
        Some(types::JwtKey { public_key: vec![1], ..key.clone() }),
        Some(types::JwtKey { expires_at: NOW, ..jwt_key("late") }),
        Some(types::JwtKey { expires_at: 0, ..jwt_key("for ever") }),
        Some(jwt_key(&"k".repeat(256))),
        Some(jwt_key("two\nlines")),
    ] {
        let refused = publish(below.clone(), bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    assert_eq!(server.deps.registry.own_bundle(), bundle);
    publish(below, Some(jwt_key(&"k".repeat(255)))).await.unwrap();
}

/// A key from below is an administrator's to take away, and stays away.
#[tokio::test]
async fn a_jwt_key_from_below_is_tainted_and_revoked_and_not_taken_again() {
    let server = Server::new().await;
    with_downstream(&server, 0).await;
    let (below, key) = (server.peer("spiffe://td/below", "1"), jwt_key("kid"));
    publish(below.clone(), Some(key.clone())).await.unwrap();
    let mut admin = LocalAuthorityClient::new(server.local());
    let authority_id = || String::from("kid");
    let revoke = RevokeJwtAuthorityRequest { authority_id: authority_id() };
    let early = admin.revoke_jwt_authority(revoke.clone()).await.unwrap_err();
    assert_eq!(early.code(), Code::InvalidArgument, "{early:?}");
    let taint = TaintJwtAuthorityRequest { authority_id: authority_id() };
    admin.taint_jwt_authority(taint).await.unwrap();
    let keys = publish(below.clone(), Some(key.clone())).await.unwrap();
    assert!(keys[1].tainted);
    admin.revoke_jwt_authority(revoke).await.unwrap();
    let refused = publish(below, Some(key)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(server.deps.registry.own_bundle().jwt_authorities.len(), 1);
}

#[tokio::test]
async fn keys_are_published_at_the_rate_of_signatures() {
    let server = Server::new().await;
    with_downstream(&server, 0).await;
    let below = server.peer("spiffe://td/below", "1");
    publish(below.clone(), Some(jwt_key("kid"))).await.unwrap();
    // Somebody at that address has used up all that there is for an hour.
    let (source, later) = (Source::Address("192.0.2.1".parse().unwrap()), Instant::now() + HOUR);
    server.deps.limits.charge(source, Limited::JwtSigning, 500, later).unwrap();
    let refused = publish(below, Some(jwt_key("more"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
}

/// Other than all that is about the tokens of the server itself.
#[tokio::test]
async fn a_server_that_makes_no_tokens_vouches_for_the_keys_of_those_below() {
    let server = Server::without_tokens().await;
    with_downstream(&server, 0).await;
    let published = publish(server.peer("spiffe://td/below", "1"), Some(jwt_key("kid"))).await;
    let names: Vec<_> = published.unwrap().into_iter().map(|key| key.key_id).collect();
    assert_eq!(names, ["kid"]);
    let refused = publish(server.local(), Some(jwt_key("kid"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// `spire.md` 1.8: a server that is a branch itself passes keys on, and answers with its own bundle.
#[tokio::test]
async fn a_jwt_key_from_below_goes_on_to_the_server_above() {
    let mut server = Server::new().await;
    let root = Tier::root();
    let signer = root.below("td", HOUR);
    let upstream = FakeUpstream::new(server.clock.clone(), signer, &root);
    let sibling = steeple::convert::jwt_authority_from_proto(&jwt_key("sibling")).unwrap();
    upstream.state().keys = Some(vec![sibling]);
    Arc::get_mut(&mut server.deps).unwrap().upstream = Some(upstream.clone());
    with_downstream(&server, 0).await;
    let below = server.peer("spiffe://td/below", "1");
    let published = publish(below.clone(), Some(jwt_key("kid"))).await.unwrap();
    let names: Vec<_> = published.iter().skip(1).map(|key| key.key_id.as_str()).collect();
    // What else is known above comes by following it, and not by way of an answer.
    assert_eq!(names, ["kid"]);
    assert_eq!(upstream.state().keys.as_ref().unwrap()[1].key_id, "kid");

    // It is vouched for here at least, and the caller asks again.
    upstream.state().away = true;
    let refused = publish(below, Some(jwt_key("later"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let bundle = server.deps.registry.own_bundle();
    assert!(bundle.jwt_authorities.iter().any(|key| key.key_id == "later"));

    // Revoked above, it is not vouched for here, and the caller is told why.
    upstream.state().away = false;
    upstream.state().revoked = Revoked::These(vec!["bad".into()]);
    let below = server.peer("spiffe://td/below", "1");
    let refused = publish(below.clone(), Some(jwt_key("bad"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let bundle = server.deps.registry.own_bundle();
    assert!(!bundle.jwt_authorities.iter().any(|key| key.key_id == "bad"));
    // What is refused here does not get above.
    let before = upstream.keys().len();
    let refused = publish(below, Some(jwt_key("kid"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "another key has that name: {refused:?}");
    assert_eq!(upstream.keys().len(), before);
}

/// Nobody has heard of the taint: while this server was away, an administrator above has revoked a key
/// that it vouches for.
#[tokio::test]
async fn a_jwt_key_from_below_that_is_revoked_above_is_no_longer_vouched_for_here() {
    let mut server = Server::new().await;
    let root = Tier::root();
    let upstream = FakeUpstream::new(server.clock.clone(), root.below("td", HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    Arc::get_mut(&mut server.deps).unwrap().upstream = Some(upstream.clone());
    with_downstream(&server, 0).await;
    let below = server.peer("spiffe://td/below", "1");
    let names = || {
        let bundle = server.deps.registry.own_bundle();
        let names = bundle.jwt_authorities.iter().skip(1).map(|key| key.key_id.clone());
        names.collect::<Vec<_>>()
    };
    let (bad, good) = (jwt_key("bad"), jwt_key("good"));
    for key in [&bad, &good] {
        publish(below.clone(), Some(key.clone())).await.unwrap();
    }
    upstream.state().revoked = Revoked::These(vec!["bad".into()]);
    let refused = publish(below.clone(), Some(bad.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(names(), ["good"]);
    let records = server.records();
    let revoked = records.iter().filter(|record| record["event"] == "authority_revoked");
    assert_eq!(revoked.map(|record| &record["authority_id"]).collect::<Vec<_>>(), ["bad"]);
    // Nor again while what is above cannot be asked.
    upstream.state().away = true;
    let refused = publish(below, Some(bad)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(names(), ["good"]);

    // What this server signs with itself is not for those below to have taken away.
    upstream.state().away = false;
    upstream.state().revoked = Revoked::All;
    let own = server.deps.registry.own_bundle().jwt_authorities[0].clone();
    let key = types::JwtKey {
        public_key: own.public_key.clone(),
        key_id: own.key_id.clone(),
        expires_at: NOW + 600,
        tainted: false,
    };
    let refused = publish(server.peer("spiffe://td/below", "1"), Some(key)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(server.deps.registry.own_bundle().jwt_authorities[0], own);
}

/// Whoever is below has no tokens that are taken here before its key is vouched for.
#[tokio::test]
async fn a_server_above_that_does_not_answer_holds_up_no_key_from_below() {
    let mut server = Server::new().await;
    let root = Tier::root();
    let upstream = FakeUpstream::new(server.clock.clone(), root.below("td", HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    upstream.state().takes = Duration::from_secs(20);
    Arc::get_mut(&mut server.deps).unwrap().upstream = Some(upstream.clone());
    with_downstream(&server, 0).await;
    let (below, key) = (server.peer("spiffe://td/below", "1"), jwt_key("kid"));
    tokio::time::pause();
    let refused = publish(below.clone(), Some(key.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let bundle = server.deps.registry.own_bundle();
    assert_eq!(bundle.jwt_authorities[1].key_id, "kid");
    // The caller asks again, and then it is known above as well.
    upstream.state().takes = Duration::ZERO;
    publish(below, Some(key)).await.unwrap();
    assert_eq!(upstream.keys()[0].key_id, "kid");
}

#[tokio::test(start_paused = true)]
async fn a_server_below_counts_once_the_bundle_has_come_round_there() {
    let server = Server::new().await;
    with_downstream(&server, 0).await;
    let below = server.peer("spiffe://td/below", "1");
    let others = [
        server.local(),
        server.anonymous(),
        server.agent("a").await,
        server.peer("spiffe://td/web", "1"),
    ];
    for channel in others.into_iter().chain([below.clone()]) {
        let request = bundle_pb::GetBundleRequest { output_mask: None };
        BundleClient::new(channel).get_bundle(request).await.unwrap();
    }
    let counts = async || {
        let request = GetUseRequest { kind: Kind::X509.into() };
        let answer = AuthorityUseClient::new(server.local()).get_use(request).await.unwrap();
        let answer = answer.into_inner();
        (answer.servers_below, answer.servers_below_up_to_date)
    };
    assert_eq!(counts().await, (1, 0));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(counts().await, (1, 1));
    let key = Some(jwt_key("changes the bundle"));
    publish(below, key).await.unwrap();
    assert_eq!(counts().await, (1, 0));
}
