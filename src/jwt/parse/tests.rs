//! The form of tokens: JWT-SVID 2, RFC 7515, and the hostile inputs that end at the form.

use super::*;
use crate::jwt::testing::{encode, signed_part, with};

const HEADER: &[(&str, &str)] = &[("alg", "\"ES256\""), ("kid", "\"k\""), ("typ", "\"JWT\"")];
const CLAIMS: &str = r#"{"sub":"spiffe://own.test/web","aud":["db"],"exp":1}"#;

fn plain() -> String {
    with(HEADER, "", None)
}

/// What comes of a token with this header and claims.
fn outcome(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> Result<(), ParseError> {
    parse(&format!("{}.{}", signed_part(header, claims), encode("signature"))).map(drop)
}

#[track_caller]
fn check_header(name: &str, value: Option<&str>, expected: Result<(), ParseError>) {
    assert_eq!(outcome(with(HEADER, name, value), CLAIMS), expected, "{name}: {value:?}");
}

#[track_caller]
fn check_text(token: &str, expected: Result<(), ParseError>) {
    assert_eq!(parse(token).map(drop), expected, "{token}");
}

#[test]
fn a_token_is_taken_apart() {
    let token = format!("{}.{}", signed_part(plain(), CLAIMS), encode([1, 2, 3]));
    let parsed = parse(&token).unwrap();
    assert_eq!(parsed.algorithm, Algorithm::Es256);
    assert_eq!(parsed.key_id.as_deref(), Some("k"));
    assert_eq!(parsed.claims.get("sub").unwrap().as_str(), Some("spiffe://own.test/web"));
    assert_eq!(parsed.signed, signed_part(plain(), CLAIMS).as_bytes());
    assert_eq!(parsed.signature, [1, 2, 3]);
}

#[test]
fn only_the_nine_algorithms_are_read() {
    // JWT-03
    for name in ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"] {
        check_header("alg", Some(&format!("\"{name}\"")), Ok(()));
    }
    let refused = [
        // H080
        "none",
        "None",
        "NONE",
        "nOnE", // H081
        "HS256",
        "HS384",
        "HS512", // H082
        "EdDSA",
        "ES256K",
        "ML-DSA-65", // H084
        "ES256 ",
        " ES256",
        "es256",
        "",
        "ES256\\u0000", // JWT-03
        "RSA-OAEP",
        "dir",
    ];
    for name in refused {
        check_header("alg", Some(&format!("\"{name}\"")), Err(ParseError::Algorithm));
    }
    // H084
    for value in ["1", "[\"ES256\"]", "null", "{}", "true"] {
        check_header("alg", Some(value), Err(ParseError::Algorithm));
    }
    check_header("alg", None, Err(ParseError::Algorithm));
    // The algorithm is judged before anything else of the header.
    let worst = r#"{"alg":"none","typ":1,"crit":[],"kid":1}"#;
    assert_eq!(outcome(worst, "no JSON"), Err(ParseError::Algorithm));
}

#[test]
fn typ_is_absent_or_jwt_or_jose() {
    // JWT-06, H100, H111
    for value in [None, Some("\"JWT\""), Some("\"JOSE\"")] {
        check_header("typ", value, Ok(()));
    }
    for value in
        ["\"jwt\"", "\"at+jwt\"", "\"wit+jwt\"", "\"\"", "1", "[\"JWT\"]", "null", "\"JWT \""]
    {
        check_header("typ", Some(value), Err(ParseError::Type));
    }
}

#[test]
fn kid_is_absent_or_any_string() {
    // JWT-05, H097
    for value in [None, Some("\"k\""), Some("\"../../etc/passwd\""), Some("\"\\u0000\"")] {
        check_header("kid", value, Ok(()));
    }
    for value in ["1", "null", "[\"k\"]", "{}", "true"] {
        check_header("kid", Some(value), Err(ParseError::KeyId));
    }
    // H097
    check_header("kid", Some(&format!("\"{}\"", "k".repeat(1 << 20))), Err(ParseError::TooLong));
}

#[test]
fn a_critical_extension_is_refused_whatever_it_is() {
    // JWT-17, H101
    check_header("exp", Some("1"), Ok(()));
    check_header("b64", Some("true"), Ok(()));
    for value in ["[\"exp\"]", "[]", "[\"b64\"]", "[\"foo\"]", "[\"alg\"]", "null", "\"exp\""] {
        check_header("crit", Some(value), Err(ParseError::Critical));
    }
    let unencoded = r#"{"alg":"ES256","crit":["b64"],"b64":false}"#;
    assert_eq!(outcome(unencoded, CLAIMS), Err(ParseError::Critical));
}

#[test]
fn a_token_may_not_bring_its_own_key() {
    // JWT-18, H102
    check_header("x5t", Some("\"AAAA\""), Ok(()));
    for (name, value) in [
        ("jwk", r#"{"kty":"EC"}"#),
        ("jku", "\"https://attacker.example/keys\""),
        ("x5u", "\"https://attacker.example/chain\""),
        ("x5c", "[\"AAAA\"]"),
        ("jwk", "null"),
    ] {
        check_header(name, Some(value), Err(ParseError::EmbeddedKey));
    }
}

#[test]
fn unknown_headers_are_ignored_unless_the_token_is_nested() {
    // AMB-12, H112
    check_header("spire", Some("{\"a\":[1]}"), Ok(()));
    // H107
    check_header("cty", Some("\"JWT\""), Err(ParseError::ContentType));
}

#[test]
fn members_that_occur_twice_are_refused() {
    // JWT-19, H106
    let json = |part| move |refused| matches!(refused, Err(ParseError::Json(p, JsonError::Duplicate { .. })) if p == part);
    let twice_alg = r#"{"alg":"ES256","alg":"ES256"}"#;
    assert!(json(Part::Header)(outcome(twice_alg, CLAIMS)));
    for claims in [
        r#"{"aud":"x","aud":"db"}"#,
        r#"{"sub":"spiffe://a/b","sub":"spiffe://a/b"}"#,
        r#"{"sub":"spiffe://a/b","\u0073ub":"spiffe://a/b"}"#,
        r#"{"x":{"y":1,"y":1}}"#,
    ] {
        assert!(json(Part::Claims)(outcome(plain(), claims)), "{claims}");
    }
}

#[test]
fn a_token_has_three_parts_in_one_spelling() {
    // JWT-01, H107, H108, H109
    let (header, claims) = (encode(plain()), encode(CLAIMS));
    check_text(&format!("{header}.{claims}.AQID"), Ok(()));
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        header.clone(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."), // H080: no signature
        format!("{header}..AQID"),     // a detached payload
        format!(".{claims}.AQID"),
        format!("{header}.{claims}.AQID."),
        format!("{header}.{claims}.AQID.AQID"),
        format!("{header}.AQID.AQID.{claims}.AQID"), // JWE
        format!(r#"{{"protected":"{header}","payload":"{claims}","signature":"AQID"}}"#),
        format!(r#"{{"payload":"{claims}","signatures":[{{"signature":"AQID"}}]}}"#),
    ] {
        check_text(&token, Err(ParseError::Parts));
    }
    let refused = |part| Err(ParseError::Base64(part));
    for signature in [
        "AQIDBA==", "AQIDBA=", "AQ+D", "AQ/D", "AQ D", "AQ\nD", "AQID\n", " AQID", "A",
        "AQIDBB", // non-zero trailing bits
        "AQÏD",
    ] {
        check_text(&format!("{header}.{claims}.{signature}"), refused(Part::Signature));
    }
    check_text(&format!("{header}.{claims}.AQIDBA"), Ok(()));
    check_text(&format!("{header}=.{claims}.AQID"), refused(Part::Header));
    check_text(&format!("{header}\n.{claims}.AQID"), refused(Part::Header));
    check_text(&format!(" {header}.{claims}.AQID"), refused(Part::Header));
    check_text(&format!("{header}.{claims} .AQID"), refused(Part::Claims));
}

#[test]
fn both_json_parts_are_strict_objects() {
    // H109
    let json = |part, error| Err(ParseError::Json(part, error));
    let control = outcome(plain(), "{}");
    assert_eq!(control, Ok(()));
    assert_eq!(outcome(plain(), b"{\"sub\":\"\xff\"}"), json(Part::Claims, JsonError::NotUtf8));
    for claims in ["\u{feff}{}", "{} {}", "{}x", "{", "", "{\"exp\":1e400}", "{\"exp\":NaN}"] {
        let refused = outcome(plain(), if claims.is_empty() { " " } else { claims });
        let is_syntax =
            matches!(refused, Err(ParseError::Json(Part::Claims, JsonError::Syntax { .. })));
        assert!(is_syntax, "{claims}: {refused:?}");
    }
    for other in ["[]", "null", "1", "\"{}\""] {
        assert_eq!(outcome(plain(), other), Err(ParseError::NotAnObject(Part::Claims)));
        assert_eq!(outcome(other, CLAIMS), Err(ParseError::NotAnObject(Part::Header)));
    }
}

#[test]
fn a_token_is_bounded() {
    // H110
    let of_length = |length: usize| {
        let start = format!("{}.", signed_part(plain(), CLAIMS));
        let signature = "A".repeat(length - start.len());
        start + &signature
    };
    let most = (MAX_TOKEN_LENGTH - 3..=MAX_TOKEN_LENGTH).rev().map(of_length);
    assert!(most.into_iter().any(|token| parse(&token).is_ok()));
    check_text(&of_length(MAX_TOKEN_LENGTH + 1), Err(ParseError::TooLong));
    check_text(&of_length(10 << 20), Err(ParseError::TooLong));

    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(outcome(plain(), nested(15)), Ok(()));
    let too_deep = Err(ParseError::Json(Part::Claims, JsonError::TooDeep { limit: 16 }));
    assert_eq!(outcome(plain(), nested(16)), too_deep);
    assert_eq!(outcome(plain(), nested(5000)), too_deep);
    assert_eq!(outcome(plain(), nested(100_000)), Err(ParseError::TooLong));

    let members = |count: usize| format!("{{\"x\":[{}0]}}", "0,".repeat(count - 1));
    assert_eq!(outcome(plain(), members(2046)), Ok(()));
    let too_many = Err(ParseError::Json(Part::Claims, JsonError::TooManyValues { limit: 2048 }));
    assert_eq!(outcome(plain(), members(2047)), too_many);

    let huge = format!("{{\"exp\":{}}}", "9".repeat(9000));
    assert!(matches!(
        outcome(plain(), huge),
        Err(ParseError::Json(Part::Claims, JsonError::Syntax { .. }))
    ));
}
