//! What is in the messages of the X.509 profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::clock::Clock as _;
use steeple::keys::{KeyAlgorithm, KeyKind, PrivateKey, Signer as _};
use steeple::x509::make::{IntermediateRequest, Issuer, Validity};
use steeple::x509::verify::{AnchorSet, Anchors, Role, verify_peer};
use steeple::x509::{Certificate, Chain, Name, Subject, split_certificates};
use steeple_proto::workload::{
    JwtBundlesRequest, X509BundlesRequest, X509svid, X509svidRequest, X509svidResponse,
};

use super::client::{Bench, federating, first, foreign, own, request, web, younger};
use crate::identity::tests::entry;
use crate::identity::tests::node::TTL;

pub(super) async fn svids(bench: &Bench) -> X509svidResponse {
    first(bench.api().fetch_x509svid(request(X509svidRequest {})).await).await.unwrap()
}

/// Reads an SVID as a client does, with nothing but what is in it.
pub(super) fn check(svid: &X509svid, bench: &Bench) {
    let chain = Chain::from_concatenated(&svid.x509_svid).unwrap();
    assert_eq!(chain.concatenated(), svid.x509_svid, "nothing but certificates");
    let authorities = split_certificates(&svid.bundle, 10).unwrap();
    let anchors = AnchorSet::of(own(), Anchors::new(&authorities));
    for role in [Role::Client, Role::Server] {
        let peer = verify_peer(chain.certificates(), role, &anchors, bench.node.clock.now());
        assert_eq!(peer.unwrap().spiffe_id().as_str(), svid.spiffe_id);
    }
    let leaf = Certificate::parse(chain.leaf()).unwrap();
    assert_eq!(leaf.uris(), [svid.spiffe_id.as_bytes()]);
    let key = PrivateKey::from_pkcs8(&svid.x509_svid_key).unwrap();
    assert_eq!(leaf.spki_der(), key.public_key().spki_der());
}

fn keys<T>(map: &BTreeMap<String, T>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

/// X509-01, X509-28, X509-29, WAPI-20, WAPI-21, WAPI-22, WAPI-23, WAPI-24, WAPI-29
#[tokio::test(start_paused = true)]
async fn a_message_has_each_identity_whole() {
    let bench = Bench::new(vec![younger("db"), web(), entry("other", 0, &["u:2"])]).await;
    let message = svids(&bench).await;
    let ids: Vec<_> = message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, ["spiffe://td/web", "spiffe://td/db"], "the oldest first");
    for svid in &message.svids {
        check(svid, &bench);
        assert_eq!(svid.bundle, bench.node.bundle.x509_der());
        // PKCS #8 of version 0, and a key that every client knows.
        assert_eq!(svid.x509_svid_key[..2], [0x30, 0x81]);
        assert_eq!(svid.x509_svid_key[3..8], [2, 1, 0, 0x30, 0x13]);
        let key = PrivateKey::from_pkcs8(&svid.x509_svid_key).unwrap();
        assert_eq!(key.public_key().kind(), KeyKind::EcP256);
    }
    assert_ne!(message.svids[0].x509_svid_key, message.svids[1].x509_svid_key);
    assert!(message.crl.is_empty() && message.federated_bundles.is_empty());
}

/// WAPI-22, X509-08: with an authority between, the leaf comes first and the root not at all.
#[tokio::test(start_paused = true)]
async fn a_chain_goes_from_the_leaf_to_below_the_root() {
    let bench = Bench::new(vec![web()]).await;
    let root = bench.node.server.issuer.lock().unwrap().clone();
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let subject = Subject { common_name: Some("between".into()), ..Subject::default() };
    let request = IntermediateRequest {
        trust_domain: &own(),
        subject: &Name::from(&subject),
        public_key: key.public_key(),
        validity: Validity::new(bench.node.clock.now(), TTL * 10),
    };
    let between = root.prepare_ca(&request).unwrap().sign_chain().unwrap();
    *bench.node.server.issuer.lock().unwrap() = Arc::new(Issuer::new(&between, key).unwrap());
    let svid = svids(&bench).await.svids.remove(0);
    check(&svid, &bench);
    let chain = Chain::from_concatenated(&svid.x509_svid).unwrap();
    assert_eq!(chain.certificates()[1..], *between.certificates());
    assert_eq!(svid.bundle, bench.node.bundle.x509_der());
}

/// SID-10, H024: 2048 bytes from one end to the other.
#[tokio::test(start_paused = true)]
async fn the_longest_id_is_served() {
    let mut longest = web();
    let id = format!("{:a<2048}", "spiffe://td/");
    longest.content.spiffe_id = id.parse().unwrap();
    let bench = Bench::new(vec![longest]).await;
    let message = svids(&bench).await;
    assert_eq!(message.svids[0].spiffe_id, id);
    check(&message.svids[0], &bench);
    let token = super::tokens::fetch(&bench, &["db"], "").await.unwrap().svids.remove(0);
    assert_eq!(token.spiffe_id, id);
    let valid = super::validation::validate(&bench, "db", &token.svid).await.unwrap();
    assert_eq!(valid.spiffe_id, id);
}

/// WAPI-24, WAPI-25, WAPI-26, WAPI-33, TDB-11: bundles by trust domain, never pooled, and of X.509
/// authorities alone.
#[tokio::test(start_paused = true)]
async fn bundles_are_those_of_the_own_and_of_the_named_trust_domains() {
    let bench = Bench::new(vec![web()]).await;
    let [b, c] = ["b", "c"].map(|name| foreign(name).bundle);
    let der = b.x509_der();
    // The own name is of no use there, and what no entry names is nobody's business.
    let entries = vec![federating(web(), &["td"]), federating(younger("db"), &["b", "missing"])];
    bench.publish(entries, vec![b, c]);
    let message = svids(&bench).await;
    assert_eq!(keys(&message.federated_bundles), ["spiffe://b"]);
    assert_eq!(message.federated_bundles["spiffe://b"], der);
    assert_eq!(message.svids[0].bundle, bench.node.bundle.x509_der());

    let fetched = bench.api().fetch_x509_bundles(request(X509BundlesRequest {})).await;
    let bundles = first(fetched).await.unwrap().bundles;
    assert_eq!(keys(&bundles), ["spiffe://b", "spiffe://td"]);
    assert_eq!(bundles["spiffe://td"], bench.node.bundle.x509_der());
    assert_eq!(bundles["spiffe://b"], der);
    for der in bundles.values() {
        let authorities = split_certificates(der, 10).unwrap();
        assert!(authorities.iter().all(|ca| Certificate::parse(ca).unwrap().is_ca()));
    }

    bench.publish(vec![web()], vec![foreign("b").bundle]);
    assert!(svids(&bench).await.federated_bundles.is_empty());
}

/// H075, WAPI-25: a foreign trust domain appears in the maps of what it has.
#[tokio::test(start_paused = true)]
async fn a_trust_domain_with_jwt_keys_alone_is_in_no_map_of_certificates() {
    let bench = Bench::new(vec![web()]).await;
    for (has_x509, expected) in
        [(false, &["spiffe://td"][..]), (true, &["spiffe://b", "spiffe://td"])]
    {
        let mut b = foreign("b").bundle;
        if !has_x509 {
            b.x509_authorities.clear();
        }
        bench.publish(vec![federating(web(), &["b"])], vec![b]);
        assert_eq!(svids(&bench).await.federated_bundles.len(), usize::from(has_x509));
        let fetched = bench.api().fetch_x509_bundles(request(X509BundlesRequest {})).await;
        assert_eq!(keys(&first(fetched).await.unwrap().bundles), expected);
        let fetched = bench.api().fetch_jwt_bundles(request(JwtBundlesRequest {})).await;
        assert_eq!(keys(&first(fetched).await.unwrap().bundles), ["spiffe://b", "spiffe://td"]);
    }
}

/// WAPI-27, H071: of two entries with one hint the older has it, and the other is not there.
#[tokio::test(start_paused = true)]
async fn hints_are_unique_in_a_message() {
    let hinted = |mut entry: steeple::entry::Entry, hint: &str| {
        entry.content.hint = steeple::entry::Hint::new(hint).unwrap();
        entry
    };
    let bench = Bench::new(vec![hinted(younger("db"), "x"), hinted(web(), "x")]).await;
    let shown = |message: X509svidResponse| {
        let svids = message.svids.into_iter();
        svids.map(|svid| (svid.spiffe_id, svid.hint)).collect::<Vec<_>>()
    };
    let [web_id, db_id] = ["web", "db"].map(|name| format!("spiffe://td/{name}"));
    assert_eq!(shown(svids(&bench).await), [(web_id.clone(), "x".to_owned())]);
    bench.publish(vec![hinted(younger("db"), "y"), hinted(web(), "x")], Vec::new());
    assert_eq!(shown(svids(&bench).await), [(web_id, "x".into()), (db_id, "y".into())]);
}

/// One identity that the server will not sign for does not take the others away.
#[tokio::test(start_paused = true)]
async fn an_identity_that_is_refused_leaves_the_others() {
    let bench = Bench::new(vec![web()]).await;
    bench.publish(vec![web(), younger("db")], Vec::new());
    let db = bench.node.server.entries.lock().unwrap().pop().unwrap();
    let opened = bench.api().fetch_x509svid(request(X509svidRequest {})).await;
    let mut stream = opened.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids.len(), 1);
    assert_eq!(first.svids[0].spiffe_id, "spiffe://td/web");
    bench.node.server.entries.lock().unwrap().push(db);
    let both = stream.message().await.unwrap().unwrap();
    assert_eq!(both.svids.len(), 2);
    assert_eq!(both.svids[0].x509_svid, first.svids[0].x509_svid);
}
