//! Bundle maps: Trust Domain and Bundle 5.

use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::jwk::testing::{CA, jwt_jwk, merged, x509_jwk};
use crate::jwt::testing::P256;

fn parse(document: impl AsRef<[u8]>) -> Result<BundleMap, MapError> {
    bundle_map(document.as_ref(), clock::from_unix_seconds(1_800_000_000))
}

fn map(trust_domains: Value) -> Result<BundleMap, MapError> {
    parse(json!({ "trust_domains": trust_domains }).to_string())
}

#[test]
fn a_map_has_the_bundle_of_each_trust_domain() {
    // TDB-11, TDB-12, TDB-14
    let map = map(json!({
        "b.test": { "keys": [x509_jwk(&CA)], "spiffe_sequence": 3 },
        "a.test": { "keys": [jwt_jwk("k", &P256.spki())] },
    }))
    .unwrap();
    let shown = map.bundles.iter().map(|(name, parsed)| {
        let bundle = &parsed.bundle;
        assert_eq!(name, &bundle.trust_domain);
        (name.as_str(), bundle.x509_authorities.len(), bundle.jwt_authorities.len())
    });
    assert_eq!(shown.collect::<Vec<_>>(), [("a.test", 0, 1), ("b.test", 1, 0)]);
    assert!(parse(r#"{"trust_domains":{}}"#).unwrap().bundles.is_empty());
}

#[test]
fn only_the_map_has_a_refresh_hint() {
    // TDB-13, AMB-14
    for name in ["spiffe_refresh_hint", "refresh_hint"] {
        let document = json!({
            name: 60,
            "trust_domains": { "a.test": { "keys": [], "spiffe_refresh_hint": 5 } },
        });
        let map = parse(document.to_string()).unwrap();
        assert_eq!(map.refresh_hint, Some(Duration::from_secs(60)));
        assert!(map.bundles.values().all(|parsed| parsed.bundle.refresh_hint.is_none()));
    }
    let document = r#"{"trust_domains":{"a.test":{"keys":[],"spiffe_refresh_hint":5}}}"#;
    assert_eq!(parse(document).unwrap().refresh_hint, None);
}

#[test]
fn a_map_is_taken_as_a_whole_or_not_at_all() {
    // TDB-12, TDB-14, H165, H168
    for document in ["{}", "[]", r#"{"trust_domains":null}"#, r#"{"trust_domains":[]}"#] {
        assert_eq!(parse(document), Err(MapError::NoTrustDomains));
    }
    let twice = r#"{"trust_domains":{"a.test":{"keys":[]},"a.test":{"keys":[]}}}"#;
    assert!(matches!(parse(twice), Err(MapError::Json(JsonError::Duplicate { .. }))));
    let good = json!({ "a.test": { "keys": [] } });
    assert!(map(good.clone()).is_ok());
    for (name, cause) in
        [("b.Test", id::ParseError::UpperCase), ("spiffe://b.test", id::ParseError::TrustDomain)]
    {
        let odd = merged(good.clone(), json!({ name: { "keys": [] } }));
        assert_eq!(map(odd), Err(MapError::Name { index: 1, cause }));
    }
    for (bundle, cause) in
        [(json!({}), DocumentError::NoKeys), (json!([]), DocumentError::NotAnObject)]
    {
        let trust_domain = TrustDomain::parse("b.test").unwrap();
        let odd = merged(good.clone(), json!({ "b.test": bundle }));
        assert_eq!(map(odd), Err(MapError::Bundle { trust_domain, cause }));
    }
}
