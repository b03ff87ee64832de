//! Bundle documents of others: Trust Domain and Bundle 4, X509-SVID 6 and JWT-SVID 6, and the
//! hostile documents.

use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::jwk::testing::{
    CA, Kind, OTHER_CA, RIGHT, certificate, jwt_jwk, key_members, merged, without, x509_jwk,
};
use crate::jwt::keys::JwtKeys;
use crate::jwt::testing::{OTHER_P256, P256, P384, P521, RSA};

use crate::x509::CertificateError;

type Outcome = Result<ParsedBundle, DocumentError>;

fn parse(document: impl AsRef<[u8]>) -> Outcome {
    let domain = TrustDomain::parse("foreign.test").unwrap();
    bundle_document(domain, document.as_ref(), clock::from_unix_seconds(1_800_000_000))
}

fn parse_keys(keys: Value) -> Outcome {
    parse(json!({ "keys": keys }).to_string())
}

/// How many X.509 and JWT authorities there are, and what was skipped.
type Summary = (usize, usize, Vec<(usize, SkipReason)>);

fn summary(parsed: ParsedBundle) -> Summary {
    let skipped = parsed.skipped.iter().map(|skipped| (skipped.index, skipped.reason));
    let bundle = &parsed.bundle;
    (bundle.x509_authorities.len(), bundle.jwt_authorities.len(), skipped.collect())
}

#[track_caller]
fn check(keys: Value, x509: usize, jwt: usize, skipped: &[(usize, SkipReason)]) {
    let outcome = parse_keys(keys.clone()).map(summary);
    assert_eq!(outcome, Ok((x509, jwt, skipped.to_vec())), "{keys}");
}

/// Checks that an element after a good one refuses the document.
#[track_caller]
fn check_refused(element: Value, fault: KeyFault) {
    let outcome = parse_keys(json!([x509(), element.clone()]));
    assert_eq!(outcome, Err(DocumentError::Key { index: 1, fault }), "{element}");
}

fn x509() -> Value {
    x509_jwk(&CA)
}

fn jwt() -> Value {
    jwt_jwk("k1", &P256.spki())
}

fn wrong(name: &'static str) -> KeyFault {
    let must_be = match name {
        "kid" => "a string of 1 to 1024 bytes",
        "crv" => "the name of a curve",
        _ => "a number in unpadded base64url",
    };
    KeyFault::Member { name, must_be }
}

#[test]
fn a_bundle_has_the_authorities_of_its_keys() {
    // TDB-01, TDB-04, X509-22, X509-24, JWT-21, JWT-22
    let document = json!({
        "keys": [x509(), jwt(), x509_jwk(&OTHER_CA), jwt_jwk("k2", &RSA.spki()), x509()],
        "spiffe_sequence": 12,
        "spiffe_refresh_hint": 600,
        "foo": 1,
    });
    let bundle = parse(document.to_string()).unwrap().bundle;
    let certificates: Vec<_> = bundle.x509_authorities.iter().map(|a| &a.certificate).collect();
    assert_eq!(certificates, [&*CA, &*OTHER_CA]);
    let keys = bundle.jwt_authorities.iter();
    let keys: Vec<_> = keys.map(|a| (a.key_id.as_str(), a.public_key.clone())).collect();
    assert_eq!(keys, [("k1", P256.spki()), ("k2", RSA.spki())]);
    assert_eq!((bundle.sequence, bundle.refresh_hint), (12, Some(Duration::from_secs(600))));
    assert_eq!(bundle.trust_domain.as_str(), "foreign.test");
    for spki in [P384.spki(), P521.spki()] {
        let parsed = parse_keys(json!([jwt_jwk("k", &spki)])).unwrap();
        assert_eq!(parsed.bundle.jwt_authorities[0].public_key, spki);
    }
}

#[test]
fn a_document_is_strict_json_with_an_array_of_keys() {
    // TDB-01, H150, H151, H166
    check(json!([]), 0, 0, &[]); // TDB-09, H152: valid, and revokes everything
    for document in ["", "<html><body>200</body></html>", "{\"keys\":[", "keys"] {
        assert!(matches!(parse(document), Err(DocumentError::Json(JsonError::Syntax { .. }))));
    }
    for document in ["[]", "null", "\"keys\"", "1"] {
        assert_eq!(parse(document), Err(DocumentError::NotAnObject));
    }
    for document in ["{}", "{\"keys\":null}", "{\"keys\":{}}", "{\"keys\":\"\"}", "{\"Keys\":[]}"] {
        assert_eq!(parse(document), Err(DocumentError::NoKeys), "{document}");
    }
    let padded = |length: usize| format!("{{\"keys\":[]{}}}", " ".repeat(length - 11));
    assert!(parse(padded(4 << 20)).is_ok());
    let too_long = JsonError::TooLong { limit: 4 << 20 };
    assert_eq!(parse(padded((4 << 20) + 1)), Err(DocumentError::Json(too_long)));
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(parse(deep), Err(DocumentError::Json(JsonError::TooDeep { limit: 16 })));
    let many = format!("{{\"keys\":[{}1]}}", "1,".repeat(1_000_000));
    assert_eq!(parse(many), {
        Err(DocumentError::Json(JsonError::TooManyValues { limit: 100_000 }))
    });
}

#[test]
fn members_that_occur_twice_are_refused_at_any_level() {
    // TDB-12, H165
    for document in [
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"use":"x","use":"x"}]}"#,
        r#"{"keys":[],"other":{"a":1,"a":1}}"#,
    ] {
        let refused = parse(document);
        assert!(matches!(refused, Err(DocumentError::Json(JsonError::Duplicate { .. }))));
    }
}

#[test]
fn unknown_uses_and_types_of_key_are_skipped_one_by_one() {
    // TDB-05, TDB-06, PIT-34, H153, H154
    let unknown = [
        merged(x509(), json!({ "use": "X509-SVID" })),
        merged(jwt(), json!({ "use": "JWT-SVID" })),
        merged(jwt(), json!({ "use": "sig" })),
        merged(jwt(), json!({ "use": "" })),
        merged(jwt(), json!({ "use": 1 })),
        without(jwt(), "use"),
        // Whatever else is wrong with it.
        json!({ "use": "ssh-svid", "kty": 7, "kid": [], "x5c": "?", "d": "secret" }),
        json!({}),
        merged(jwt(), json!({ "use": "wit-svid", "kid": "w" })),
    ];
    for element in &unknown {
        check(json!([element, x509(), jwt()]), 1, 1, &[(0, SkipReason::Use)]);
    }
    let skipped: Vec<_> = (0..unknown.len()).map(|index| (index, SkipReason::Use)).collect();
    check(json!(unknown), 0, 0, &skipped);
    for key_type in [json!("XYZ"), json!("OKP"), json!("ec"), json!(1), Value::Null] {
        let element = merged(x509(), json!({ "kty": key_type }));
        check(json!([element, x509()]), 1, 0, &[(0, SkipReason::KeyType)]);
        let element = merged(jwt(), json!({ "kty": key_type, "kid": "other" }));
        check(json!([element, jwt()]), 0, 1, &[(0, SkipReason::KeyType)]);
    }
    let element = merged(jwt(), json!({ "crv": "secp256k1", "kid": "other" }));
    check(json!([jwt(), element]), 0, 1, &[(1, SkipReason::KeyType)]);
}

#[test]
fn what_an_unknown_type_of_key_has_besides_means_nothing() {
    // TDB-05, PIT-34, H154: its members may be called as those of other types are
    let skipped = [(1, SkipReason::KeyType)];
    let members = [
        json!({}),
        json!({ "kid": null }),
        json!({ "kid": "k1" }),
        json!({ "d": "AQAB", "p": "AQAB", "q": "AQAB", "k": "AQAB" }),
        json!({ "x": 1, "crv": 1 }),
    ];
    for member in members {
        for usage in ["jwt-svid", "x509-svid", "wit-svid"] {
            let unknown = json!({ "kty": "XYZ", "use": usage, "x5c": "?" });
            let element = merged(unknown, member.clone());
            check(json!([jwt(), element]), 0, 1, &skipped);
        }
    }
    for member in [json!({ "kid": null }), json!({ "kid": "k1" }), json!({ "x": 1 })] {
        let curve = merged(merged(jwt(), member), json!({ "crv": "secp256k1" }));
        check(json!([jwt(), curve]), 0, 1, &skipped);
    }
    check(json!([jwt(), merged(jwt(), json!({ "kid": "k2" }))]), 0, 2, &[]);
}

#[test]
fn keys_for_other_svids_verify_no_token() {
    // JWT-22, X509-25, WAPI-64, H099
    let named = json!({ "kid": "k1" });
    let as_x509 = merged(x509(), named.clone());
    let as_wit = merged(merged(jwt(), named), json!({ "use": "wit-svid" }));
    for (element, expected) in [(as_x509, false), (as_wit, false), (jwt(), true)] {
        let parsed = parse_keys(json!([element])).unwrap();
        let keys = JwtKeys::new(&parsed.bundle.jwt_authorities);
        assert_eq!(keys.contains("k1"), expected, "{element}");
    }
    assert!(parse_keys(json!([jwt()])).unwrap().bundle.x509_authorities.is_empty());
}

#[test]
fn the_first_certificate_of_x5c_is_the_authority() {
    // X509-24, H155, H156, H159
    for none in [without(x509(), "x5c"), merged(x509(), json!({ "x5c": [] })), {
        merged(x509(), json!({ "x5c": null }))
    }] {
        check(json!([none, jwt()]), 0, 1, &[(0, SkipReason::NoCertificate)]);
        // Whatever else it says or leaves out.
        for other in [json!({ "crv": null }), json!({ "x": "?" }), json!({ "y": "AQAB" })] {
            let element = merged(none.clone(), other);
            check(json!([element, jwt()]), 0, 1, &[(0, SkipReason::NoCertificate)]);
        }
    }
    let first = x509()["x5c"][0].clone();
    for second in [x509_jwk(&OTHER_CA)["x5c"][0].clone(), json!("garbage"), json!(1)] {
        let parsed = parse_keys(json!([merged(x509(), json!({ "x5c": [first, second] }))]));
        assert_eq!(parsed.unwrap().bundle.x509_der(), CA.as_ref());
    }
    check(json!([merged(x509(), json!({ "kid": "tolerated" }))]), 1, 0, &[]);
}

#[test]
fn a_certificate_in_another_spelling_refuses_the_document() {
    // PIT-31, H157
    let must_be = "an array of certificates in standard base64";
    let refused = KeyFault::Member { name: "x5c", must_be };
    let right = x509()["x5c"][0].as_str().unwrap().to_owned();
    let lines = format!("{}\n{}", &right[..64], &right[64..]);
    let url = right.replace('+', "-").replace('/', "_");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{right}\n-----END CERTIFICATE-----\n");
    // The alphabets differ in two characters, one of which nearly every certificate has.
    assert_ne!(url, right);
    for text in [lines, url, pem, format!(" {right}"), format!("{right}===="), "?".to_owned()] {
        check_refused(merged(x509(), json!({ "x5c": [text] })), refused);
    }
    check_refused(merged(x509(), json!({ "x5c": [1] })), refused);
    let array = KeyFault::Member { name: "x5c", must_be: "an array" };
    check_refused(merged(x509(), json!({ "x5c": right })), array);
    let malformed = KeyFault::Certificate(AuthorityError::Malformed(CertificateError::Malformed));
    check_refused(merged(x509(), json!({ "x5c": ["AAAA"] })), malformed);
    check_refused(merged(x509(), json!({ "x5c": [""] })), malformed);
    let trailing = STANDARD.encode([CA.as_ref(), &[0]].concat());
    check_refused(merged(x509(), json!({ "x5c": [trailing] })), malformed);
}

#[test]
fn a_certificate_that_is_no_authority_is_never_an_anchor() {
    // X509-22, H158
    use rcgen::KeyUsagePurpose;
    let not_a_ca = KeyFault::Certificate(AuthorityError::NotACa);
    let leaf = certificate(Kind { is_ca: false, usages: &[], ..RIGHT });
    check_refused(x509_jwk(&leaf), not_a_ca);
    let no_signer = Kind { usages: &[KeyUsagePurpose::DigitalSignature], ..RIGHT };
    check_refused(x509_jwk(&certificate(no_signer)), not_a_ca);
    check(json!([x509_jwk(&certificate(Kind { usages: &[], ..RIGHT }))]), 1, 0, &[]);

    let expired = x509_jwk(&certificate(Kind { expires: 2026, ..RIGHT }));
    check(json!([expired, x509()]), 1, 0, &[(0, SkipReason::Expired)]);

    check_refused(merged(x509(), key_members(&P256.spki())), KeyFault::OtherKey);
    check_refused(merged(x509(), key_members(&RSA.spki())), KeyFault::OtherKey);
    check_refused(without(x509(), "x"), wrong("x"));
    check_refused(without(x509(), "crv"), wrong("crv"));
}

#[test]
fn every_jwt_key_has_an_id_of_its_own() {
    // JWT-21, PIT-31, H160
    check(json!([jwt(), jwt_jwk("k2", &P256.spki())]), 0, 2, &[]);
    check_refused(without(jwt(), "kid"), wrong("kid"));
    for key_id in [json!(""), json!(1), json!(null), json!("x".repeat(1025))] {
        check_refused(merged(jwt(), json!({ "kid": key_id })), wrong("kid"));
    }
    check(json!([merged(jwt(), json!({ "kid": "x".repeat(1024) }))]), 0, 1, &[]);
    let wit = merged(jwt(), json!({ "use": "wit-svid" }));
    let weak = merged(jwt(), json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }));
    for other in [jwt(), jwt_jwk("k1", &OTHER_P256.spki()), wit, weak] {
        for keys in [json!([jwt(), other]), json!([other, jwt()])] {
            let fault = KeyFault::DuplicateKeyId;
            assert_eq!(parse_keys(keys), Err(DocumentError::Key { index: 1, fault }));
        }
    }
}

#[test]
fn a_disclosed_private_key_refuses_the_document() {
    // JWT-21, H161
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let disclosed = KeyFault::PrivateKey;
        check_refused(merged(jwt(), json!({ name: "AQAB" })), disclosed);
        check_refused(merged(jwt(), json!({ name: null })), disclosed);
        check_refused(merged(x509(), json!({ name: "AQAB" })), disclosed);
    }
    let edwards = json!({ "use": "jwt-svid", "kid": "e", "kty": "OKP", "crv": "Ed25519", "x": "" });
    check(json!([edwards]), 0, 0, &[(0, SkipReason::KeyType)]);
    check_refused(merged(edwards, json!({ "d": "AQAB" })), KeyFault::PrivateKey);
    for usage in ["jwt-svid", "x509-svid", "wit-svid"] {
        let symmetric = json!({ "use": usage, "kty": "oct", "kid": "s", "alg": "HS256" });
        check_refused(symmetric, KeyFault::PrivateKey);
    }
}

#[test]
fn numbers_that_are_no_key_refuse_the_document() {
    // PIT-31, H162
    let key = |error| KeyFault::Key(error);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let x = URL_SAFE_NO_PAD.decode(jwt()["x"].as_str().unwrap()).unwrap();
    let edit = |name: &str, value: Value| merged(jwt(), json!({ name: value }));
    let mut off_curve = x.clone();
    off_curve[31] ^= 1;
    // Half of all x have no point; with this y none but the right one has.
    check_refused(edit("x", json!(encode(&off_curve))), key(PublicKeyError::NotOnCurve));
    check_refused(edit("x", json!(encode(&[0; 32]))), key(PublicKeyError::NotOnCurve));
    for bytes in [&x[1..], &[&[0], x.as_slice()].concat(), &[]] {
        check_refused(edit("x", json!(encode(bytes))), key(PublicKeyError::Malformed));
    }
    check_refused(edit("crv", json!("P-384")), key(PublicKeyError::Malformed));
    check_refused(edit("crv", json!(256)), wrong("crv"));
    for text in [format!("{}=", encode(&x)), STANDARD.encode([0xff; 32]), String::from("a\n")] {
        check_refused(edit("x", json!(text)), wrong("x"));
    }
    check_refused(edit("y", json!([1])), wrong("y"));
    check_refused(without(merged(jwt(), key_members(&RSA.spki())), "n"), wrong("n"));
}

#[test]
fn rsa_keys_that_are_too_weak_or_too_long_are_skipped() {
    // H105, H162
    let rsa = |n: &[u8], e: &[u8]| {
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        json!({ "use": "jwt-svid", "kid": "r", "kty": "RSA", "n": encode(n), "e": encode(e) })
    };
    let odd = |length: usize| [vec![0xc1; length - 1], vec![0xc3]].concat();
    check(json!([rsa(&odd(256), &[1, 0, 1])]), 0, 1, &[]);
    check(json!([rsa(&odd(1024), &[3])]), 0, 1, &[]);
    // A producer may have put a sign byte in front.
    check(json!([rsa(&[&[0], odd(256).as_slice()].concat(), &[1, 0, 1])]), 0, 1, &[]);
    for (n, e) in [
        (odd(128), vec![1, 0, 1]),
        (odd(255), vec![1, 0, 1]),
        (odd(1025), vec![1, 0, 1]),
        (odd(2048), vec![1, 0, 1]),
        (odd(256), vec![1]),
        (odd(256), vec![2]),
    ] {
        check(json!([rsa(&n, &e), jwt()]), 0, 1, &[(0, SkipReason::WeakKey)]);
    }
    for (n, e) in [(vec![0], vec![1, 0, 1]), (vec![], vec![3]), (odd(256), vec![0])] {
        check_refused(rsa(&n, &e), KeyFault::Key(PublicKeyError::Malformed));
    }
}

#[test]
fn elements_are_objects() {
    for element in [json!(1), json!("key"), json!([]), Value::Null] {
        check_refused(element, KeyFault::NotAnObject);
    }
}

#[test]
fn a_sequence_is_an_unsigned_integer_of_64_bits() {
    // TDB-02, H163
    let sequence = |value: &str| {
        let parsed = parse(format!("{{\"keys\":[],\"spiffe_sequence\":{value}}}"));
        parsed.map(|parsed| parsed.bundle.sequence)
    };
    assert_eq!(parse("{\"keys\":[]}").unwrap().bundle.sequence, 0);
    assert_eq!(sequence("0"), Ok(0));
    assert_eq!(sequence("9007199254740993"), Ok(9_007_199_254_740_993));
    assert_eq!(sequence("18446744073709551615"), Ok(u64::MAX));
    for value in ["-1", "1e30", "18446744073709551616", "1.0", "\"7\"", "null", "[]"] {
        assert_eq!(sequence(value), Err(DocumentError::Sequence), "{value}");
    }
}

#[test]
fn a_refresh_hint_is_believed_within_reason() {
    // TDB-03, TDB-15, H164
    let hint = |value: &str| {
        let parsed = parse(format!("{{\"keys\":[],\"spiffe_refresh_hint\":{value}}}"));
        parsed.unwrap().bundle.refresh_hint.map(|hint| hint.as_secs())
    };
    assert_eq!(parse("{\"keys\":[]}").unwrap().bundle.refresh_hint, None);
    assert_eq!(hint("1"), Some(1));
    assert_eq!(hint("86400"), Some(86_400));
    for longer in ["86401", "1000000000000", "18446744073709551615"] {
        assert_eq!(hint(longer), Some(86_400));
    }
    for ignored in ["0", "-1", "300.0", "1e3", "\"300\"", "null", "[300]"] {
        assert_eq!(hint(ignored), None, "{ignored}");
    }
}
