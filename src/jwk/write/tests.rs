//! What is published, and that it is read back as the same.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::id::TrustDomain;
use crate::jwk::parse;
use crate::jwk::testing::{CA, ED25519, OTHER_CA, certificate, jwt_jwk, without, x509_jwk};
use crate::jwt::testing::{P256, P384, P521, RSA, authority};
use crate::x509::Certificate;

fn bundle() -> Bundle {
    let x509 = |certificate: &rustls_pki_types::CertificateDer<'static>| X509Authority {
        certificate: certificate.clone(),
        tainted: false,
    };
    let keys = [("a", &P256), ("b\"", &P384), ("c", &P521), ("d", &RSA)];
    Bundle {
        x509_authorities: vec![x509(&CA), x509(&OTHER_CA)],
        jwt_authorities: keys.iter().map(|(id, key)| authority(id, key)).collect(),
        refresh_hint: Some(Duration::from_secs(300)),
        sequence: 7,
        ..Bundle::empty(TrustDomain::parse("own.test").unwrap())
    }
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_bundle_document_has_every_authority_with_its_use() {
    // TDB-01, TDB-02, TDB-03, TDB-07, TDB-08, X509-22, JWT-21, H159, PIT-31
    let document: Value = serde_json::from_str(&bundle_document(&bundle())).unwrap();
    assert_eq!(
        document,
        json!({
            "keys": [
                x509_jwk(&CA),
                x509_jwk(&OTHER_CA),
                jwt_jwk("a", &P256.spki()),
                jwt_jwk("b\"", &P384.spki()),
                jwt_jwk("c", &P521.spki()),
                jwt_jwk("d", &RSA.spki()),
            ],
            "spiffe_sequence": 7,
            "spiffe_refresh_hint": 300,
        })
    );
    let keys = document["keys"].as_array().unwrap();
    assert_eq!(members(&keys[0]), BTreeSet::from(["crv", "kty", "use", "x", "x5c", "y"]));
    assert_eq!(members(&keys[2]), BTreeSet::from(["crv", "kid", "kty", "use", "x", "y"]));
    assert_eq!(members(&keys[5]), BTreeSet::from(["e", "kid", "kty", "n", "use"]));
    assert_eq!(keys[0]["x5c"].as_array().unwrap().len(), 1);
    assert_eq!(STANDARD.decode(keys[0]["x5c"][0].as_str().unwrap()).unwrap(), CA.as_ref());
    // Numbers have their fixed length, and none a sign byte.
    let length = |key: &Value, name: &str| {
        URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap().len()
    };
    let coordinates = |key: &Value| [length(key, "x"), length(key, "y")];
    assert_eq!(coordinates(&keys[2]), [32, 32]);
    assert_eq!(coordinates(&keys[3]), [48, 48]);
    assert_eq!(coordinates(&keys[4]), [66, 66]);
    assert_eq!(length(&keys[5], "n"), 256);
    assert_eq!(keys[5]["e"], "AQAB");
}

#[test]
fn a_written_bundle_is_read_back_as_it_was() {
    let now = clock::from_unix_seconds(1_800_000_000);
    let domain = bundle().trust_domain;
    let read = parse::bundle_document(domain, bundle_document(&bundle()).as_bytes(), now).unwrap();
    assert_eq!(read.bundle, bundle());
    assert_eq!(read.skipped, []);
}

#[test]
fn a_sequence_or_hint_of_nothing_is_not_written() {
    let empty = Bundle::empty(TrustDomain::parse("own.test").unwrap());
    assert_eq!(bundle_document(&empty), r#"{"keys":[]}"#);
    let zero = Bundle { refresh_hint: Some(Duration::from_millis(900)), ..empty };
    assert_eq!(bundle_document(&zero), r#"{"keys":[]}"#);
}

#[test]
fn workloads_get_a_plain_set_of_jwt_keys() {
    // AMB-04, WAPI-46
    let document: Value = serde_json::from_slice(&jwt_keys(&bundle())).unwrap();
    let plain = |key_id: &str, spki: Vec<u8>| without(jwt_jwk(key_id, &spki), "use");
    assert_eq!(
        document,
        json!({
            "keys": [
                plain("a", P256.spki()),
                plain("b\"", P384.spki()),
                plain("c", P521.spki()),
                plain("d", RSA.spki()),
            ],
        })
    );
}

#[test]
fn a_workload_never_gets_what_its_library_cannot_read() {
    // WAPI-47: never empty, never a key without an ID, only EC and RSA
    let mut bundle = bundle();
    bundle.jwt_authorities.clear();
    assert_eq!(jwt_keys(&bundle), br#"{"keys":[]}"#);
    let ed25519 = certificate(ED25519);
    let odd = JwtAuthority {
        public_key: Certificate::parse(&ed25519).unwrap().spki_der().to_vec(),
        ..authority("odd", &P256)
    };
    bundle.jwt_authorities = vec![odd, authority("", &P256)];
    bundle.x509_authorities = vec![X509Authority { certificate: ed25519.clone(), tainted: false }];
    assert_eq!(jwt_keys(&bundle), br#"{"keys":[]}"#);
    let document: Value = serde_json::from_str(&bundle_document(&bundle)).unwrap();
    assert_eq!(document["keys"], json!([]));
}
