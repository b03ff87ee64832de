//! What is made of the answers of an agent.

use steeple::keys::KeyAlgorithm;

use super::*;
use crate::ca::testing::tiers::{Tier, td};

fn answer(change: impl FnOnce(&mut X509svid)) -> X509svidResponse {
    let root = Tier::root();
    let leaf = root.leaf();
    let mut svid = X509svid {
        spiffe_id: "spiffe://td/web".into(),
        x509_svid: leaf.chain.concatenated(),
        x509_svid_key: leaf.key.pkcs8().unwrap().expose().to_vec(),
        bundle: root.chain.concatenated(),
        ..X509svid::default()
    };
    change(&mut svid);
    X509svidResponse { svids: vec![svid], ..X509svidResponse::default() }
}

#[track_caller]
fn check(change: impl FnOnce(&mut X509svid), expected: Option<&str>) {
    match (read(&answer(change), &td("td")), expected) {
        (Ok(found), None) => assert_eq!(found.spiffe_id.as_str(), "spiffe://td/web"),
        (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
        (found, _) => panic!("{:?}", found.map(|found| found.spiffe_id)),
    }
}

#[test]
fn an_svid_is_read_with_its_key_and_what_vouches_for_the_server() {
    check(|_| {}, None);
    check(|svid| svid.spiffe_id = "spiffe://other/web".into(), Some("is not in trust domain `td`"));
    check(|svid| svid.spiffe_id = "web".into(), Some("`spiffe://`"));
    check(|svid| svid.x509_svid.clear(), Some("no certificate"));
    check(|svid| svid.x509_svid_key.clear(), Some("private key"));
    let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().pkcs8().unwrap();
    check(|svid| svid.x509_svid_key = other.expose().to_vec(), Some("do not belong together"));
    check(|svid| svid.bundle = vec![1], Some("malformed"));
    assert!(matches!(read(&X509svidResponse::default(), &td("td")), Err(UnusableSvid::Missing)));
}
