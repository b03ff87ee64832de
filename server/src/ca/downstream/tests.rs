//! What servers below this one get.

use std::collections::BTreeSet;
use steeple::clock::from_unix_seconds;
use steeple::jwt::make::JwtSigner;
use steeple::keys::Signer as _;
use steeple::x509::Name;
use steeple::x509::make::Issuer;

use super::*;
use crate::ca::authorities::{JwtAuthority, Tail, X509Authority};
use crate::ca::testing::tiers::{HOUR, Tier, at, key, td};
use crate::ca::testing::{Bench, NOW};

fn authorities(ca: &Tier) -> Authorities {
    let x509 = Issuer::new(&ca.chain, ca.key.clone()).unwrap();
    let x509 = X509Authority::new(x509, ca.key.pace(), at(0), Tail::new());
    let signer = JwtSigner::new("kid", key()).unwrap();
    let jwt = JwtAuthority::new(signer, at(3_600), Tail::new());
    Authorities::new(td("td"), x509, Some(jwt), BTreeSet::new())
}

fn unit(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let start = text.find("DOWNSTREAM-").unwrap();
    text[start..].chars().take("DOWNSTREAM-1".len()).collect()
}

/// `DOWNSTREAM-1` below a root, and one more for each tier.
#[test]
fn an_authority_below_is_called_by_its_tier() {
    let root = Tier::root();
    let middle = root.below("td", 5 * HOUR);
    for (ca, expected) in [(&root, "DOWNSTREAM-1"), (&middle, "DOWNSTREAM-2")] {
        let key = key();
        let request = DownstreamRequest { public_key: key.public_key(), ttl: HOUR };
        let chain = authorities(ca).prepare_downstream(&request, at(0)).unwrap().issue().unwrap();
        let made = Certificate::parse(chain.leaf()).unwrap();
        assert_eq!(unit(made.subject()), expected);
        assert_eq!(made.uris(), [b"spiffe://td"]);
        assert!(made.is_ca() && made.key_usage().unwrap().key_cert_sign());
        assert_eq!(made.basic_constraints().unwrap().path_length, None);
        assert_eq!(made.spki_der(), key.public_key().spki_der());
        assert_eq!(made.not_after(), at(3_600));
        assert_eq!(chain.certificates()[1..], *ca.issuer().intermediates());
        let issuer = ca.issuer();
        assert_eq!(Name::from_der(made.issuer()).unwrap(), *issuer.name());
    }
}

#[test]
fn an_authority_below_lives_no_longer_than_its_issuer() {
    let middle = Tier::root().below("td", 2 * HOUR);
    let key = key();
    let check = |ttl: Duration, now: i64, expected: Result<(i64, bool), Refusal>| {
        let request = DownstreamRequest { public_key: key.public_key(), ttl };
        let found = authorities(&middle).prepare_downstream(&request, at(now));
        let found = found.map(|found| (unix_seconds(found.not_after()) - NOW, found.capped));
        assert_eq!(found, expected, "{ttl:?} {now}");
    };
    check(HOUR, 0, Ok((3_600, false)));
    check(2 * HOUR, 0, Ok((7_200, false)));
    check(9 * HOUR, 0, Ok((7_200, true)));
    check(HOUR, 7_200, Err(Refusal::AuthorityExpired));
    check(Duration::ZERO, 0, Err(Refusal::NoLife));
}

#[tokio::test(start_paused = true)]
async fn the_signature_is_recorded_before_and_after() {
    let bench = Bench::new();
    let rotation = bench.start(HOUR).await.unwrap();
    let ca = bench.ca(&rotation);
    let key = key();
    let request = DownstreamRequest { public_key: key.public_key(), ttl: 2 * HOUR };
    let order = Order { request, entry_id: None };
    let known = bench.events().len();
    let issued = ca.issue_downstream(&Caller::Server, &order).await.unwrap();
    assert!(issued.capped);
    let not_after = Certificate::parse(issued.chain.leaf()).unwrap().not_after();
    assert_eq!(not_after, from_unix_seconds(NOW + 3_600));
    let live = ca.tally_of_cas().live(ca.authorities().x509().id(), NOW);
    assert_eq!((live.count, live.last.is_some_and(|end| end >= NOW + 3_600)), (1, true));
    let events = bench.events().split_off(known);
    let names: Vec<_> = events.iter().map(|event| event["event"].clone()).collect();
    assert_eq!(names, ["x509_intent", "x509_issued"]);
    assert_eq!(events[0]["profile"], "downstream_ca");
    assert_eq!(events[0]["serial"], events[1]["serial"]);
    let request = DownstreamRequest { ttl: Duration::ZERO, ..request };
    let refused = ca.issue_downstream(&Caller::Server, &Order { request, entry_id: None }).await;
    assert!(matches!(refused, Err(IssueError::Refused(Refusal::NoLife))));
    assert_eq!(bench.events().last().unwrap()["event"], "x509_refused");
}
