//! JWK sets, bundle maps and PEM files: what is read is fit to be trusted by another reader's
//! measure, and writing it and reading it again gives the same.

use std::collections::HashSet;

use serde_json::{Value, json};
use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::from_unix_seconds;
use steeple::id::TrustDomain;
use steeple::jwk::{MAX_REFRESH, map, parse, pem, write};
use steeple::keys::{KeyAlgorithm, PrivateKey, PublicKey, Signer as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::input::{Input, Seed};
use crate::target::Target;
use crate::targets::svid::{Authority, NOW};

pub(crate) const TARGET: Target = Target {
    name: "jwk",
    check,
    seeds,
    words: &[
        "\"keys\":[",
        "\"use\":\"x509-svid\"",
        "\"use\":\"jwt-svid\"",
        "\"use\":\"wit-svid\"",
        "\"kty\":\"EC\"",
        "\"kty\":\"RSA\"",
        "\"kty\":\"oct\"",
        "\"crv\":\"P-256\"",
        "\"crv\":\"P-384\"",
        "\"crv\":\"P-521\"",
        "\"x\":",
        "\"y\":",
        "\"n\":",
        "\"e\":\"AQAB\"",
        "\"d\":\"\"",
        "\"k\":\"\"",
        "\"kid\":\"a\"",
        "\"x5c\":[",
        "\"spiffe_sequence\":1",
        "\"spiffe_refresh_hint\":60",
        "\"trust_domains\":{",
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "18446744073709551616",
        "-1",
        "1e3",
        "null",
        "{},",
    ],
    max_length: 32 * 1024,
};

fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let form = input.byte() % 3;
    let (document, now) = (input.rest(), from_unix_seconds(NOW));
    let name = TrustDomain::parse("a.org").unwrap();
    match form {
        0 => {
            if let Ok(parsed) = parse::bundle_document(name, document, now) {
                check_bundle(&parsed.bundle);
                let document: Value = serde_json::from_slice(document).unwrap();
                check_against(&parsed, &document);
            }
        }
        1 => {
            let Ok(map) = map::bundle_map(document, now) else { return };
            let document: Value = serde_json::from_slice(document).unwrap();
            let domains = document["trust_domains"].as_object().unwrap();
            assert_eq!(domains.len(), map.bundles.len());
            for (name, parsed) in &map.bundles {
                assert_eq!((name, None), (&parsed.bundle.trust_domain, parsed.bundle.refresh_hint));
                check_bundle(&parsed.bundle);
                check_against(parsed, &domains[name.as_str()]);
            }
        }
        _ => {
            let Ok(authorities) = pem::parse(document) else { return };
            let mut bundle = Bundle::empty(name);
            bundle.x509_authorities = authorities;
            assert!(!bundle.x509_authorities.is_empty());
            let certificates = bundle.x509_authorities.iter().map(|one| &one.certificate);
            let written = pem::write(certificates);
            assert_eq!(pem::parse(written.as_bytes()).as_ref(), Ok(&bundle.x509_authorities));
            check_authorities(&bundle);
        }
    }
}

/// The bundle is one that may be published, and survives that.
fn check_bundle(bundle: &Bundle) {
    check_authorities(bundle);
    assert!(bundle.refresh_hint.is_none_or(|hint| hint.as_secs() > 0 && hint <= MAX_REFRESH));
    let written = write::bundle_document(bundle);
    let again = parse::bundle_document(
        bundle.trust_domain.clone(),
        written.as_bytes(),
        from_unix_seconds(NOW),
    );
    let again = again.unwrap();
    assert_eq!((&again.bundle, &*again.skipped), (bundle, &[][..]), "{written}");
    let keys: Value = serde_json::from_slice(&write::jwt_keys(bundle)).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), bundle.jwt_authorities.len());
}

fn check_authorities(bundle: &Bundle) {
    let mut seen = HashSet::new();
    for X509Authority { certificate, tainted } in &bundle.x509_authorities {
        let (rest, read) = X509Certificate::from_der(certificate).unwrap();
        assert!(rest.is_empty() && read.is_ca() && !tainted, "{read:?}");
        assert!(read.key_usage().unwrap().is_none_or(|usage| usage.value.key_cert_sign()));
        assert!(seen.insert(certificate.to_vec()), "an authority is there twice");
    }
    let mut seen = HashSet::new();
    for JwtAuthority { key_id, public_key, expires_at, tainted } in &bundle.jwt_authorities {
        assert!((1..=1024).contains(&key_id.len()) && expires_at.is_none() && !tainted);
        PublicKey::from_spki(public_key).unwrap();
        assert!(seen.insert(key_id), "{key_id} is there twice");
    }
}

/// Every key comes from an element that is for it, and every element went somewhere.
fn check_against(parsed: &parse::ParsedBundle, document: &Value) {
    let keys = document["keys"].as_array().unwrap();
    let sequence = document.get("spiffe_sequence").map_or(0, |value| value.as_u64().unwrap());
    assert_eq!(parsed.bundle.sequence, sequence);
    let mut skipped = parsed.skipped.iter().map(|skipped| skipped.index).peekable();
    let mut jwt = parsed.bundle.jwt_authorities.iter();
    for (index, element) in keys.iter().enumerate() {
        if skipped.next_if_eq(&index).is_some() {
            continue;
        }
        for secret in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(element.get(secret).is_none(), "keys[{index}] has a private key in it");
        }
        match element["use"].as_str().unwrap() {
            "jwt-svid" => assert_eq!(element["kid"], *jwt.next().unwrap().key_id),
            "x509-svid" => assert!(element["x5c"][0].is_string()),
            other => panic!("keys[{index}] is for {other}"),
        }
    }
    assert_eq!((skipped.next(), jwt.next()), (None, None), "an authority from nowhere");
}

fn seeds() -> Vec<Vec<u8>> {
    let keys = [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048];
    let keys = keys.map(|algorithm| PrivateKey::generate(algorithm).unwrap());
    let jwt = |(index, key): (usize, &PrivateKey)| JwtAuthority {
        key_id: format!("key {index}"),
        public_key: key.public_key().spki_der().to_vec(),
        expires_at: None,
        tainted: false,
    };
    let mut bundle = Bundle::empty(TrustDomain::parse("a.org").unwrap());
    let empty = write::bundle_document(&bundle);
    bundle.jwt_authorities = keys.iter().enumerate().map(jwt).collect();
    let without_ca = write::bundle_document(&bundle);
    let certificates = [Authority::new("a.org"), Authority::new("b.org")];
    let certificates = certificates.map(|authority| authority.certificate().clone());
    let authority = |certificate| X509Authority { certificate, tainted: false };
    bundle.x509_authorities = certificates.clone().map(authority).to_vec();
    (bundle.sequence, bundle.refresh_hint) = (7, Some(MAX_REFRESH / 2));
    let full = write::bundle_document(&bundle);
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let map = json!({
        "trust_domains": { "a.org": read(&full), "b.org": read(&empty) },
        "spiffe_refresh_hint": 60
    });
    let mut odd = read(&full);
    odd["keys"][0]["d"] = json!("AA");
    let elements = [json!({ "use": "sig" }), json!({ "use": "wit-svid", "kid": "w", "kty": "EC" })];
    let skipped = json!({ "keys": elements, "spiffe_sequence": u64::MAX });
    let seed = |form: u8, text: &str| Seed::default().byte(form).rest(text.as_bytes());
    vec![
        seed(0, &full),
        seed(0, &without_ca),
        seed(0, &empty),
        seed(0, &odd.to_string()),
        seed(0, &skipped.to_string()),
        seed(1, &map.to_string()),
        seed(2, &pem::write(&certificates)),
    ]
}
