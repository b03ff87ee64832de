//! Claims, times, audiences and trust domains: JWT-SVID 3 to 5 and the hostile inputs of tokens
//! that are well formed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::jwt::claims::into_struct;
use crate::jwt::testing::{OTHER_P256, P256, TestKey, authority, token, with};

const NOW: i64 = 1_700_000_000;
const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#;
const CLAIMS: &[(&str, &str)] = &[
    ("sub", "\"spiffe://own.test/web\""),
    ("aud", "[\"db\"]"),
    ("exp", "1700000300"),
    ("iat", "1700000000"),
];

/// own.test has the keys k1 and shared; foreign.test has k2 and another key that is also called
/// shared; revoked.test has a bundle without keys.
fn bundles() -> BTreeMap<TrustDomain, Arc<JwtKeys>> {
    let domain = |name: &str, keys: &[(&str, &TestKey)]| {
        let authorities: Vec<_> = keys.iter().map(|(id, key)| authority(id, key)).collect();
        (TrustDomain::parse(name).unwrap(), Arc::new(JwtKeys::new(&authorities)))
    };
    BTreeMap::from([
        domain("own.test", &[("k1", &P256), ("shared", &P256)]),
        domain("foreign.test", &[("k2", &OTHER_P256), ("shared", &OTHER_P256)]),
        domain("revoked.test", &[]),
    ])
}

fn verify_at(now: i64, audience: &str, token: &str) -> Result<JwtSvid, JwtError> {
    let (bundles, own) = (bundles(), TrustDomain::parse("own.test").unwrap());
    let expected = Expected { audience, own: &own };
    verify(token, &expected, |domain| bundles.get(domain).cloned(), clock::from_unix_seconds(now))
}

fn signed(claims: &str) -> String {
    token(HEADER, claims, &P256, Algorithm::Es256)
}

/// Checks a token that is right but for one claim.
#[track_caller]
fn check(name: &str, value: Option<&str>, expected: Result<(), JwtError>) {
    let outcome = verify_at(NOW, "db", &signed(&with(CLAIMS, name, value)));
    assert_eq!(outcome.map(drop), expected, "{name}: {value:?}");
}

fn wrong(name: &'static str, must_be: &'static str) -> Result<(), JwtError> {
    Err(JwtError::Claim { name, must_be })
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[test]
fn a_valid_token_tells_whom_it_identifies_and_what_it_claims() {
    // JWT-07, JWT-14, H112, WAPI-50
    let claims = with(CLAIMS, "https://example.org/role", Some("{\"admin\":null,\"n\":[1.5]}"));
    let svid = verify_at(NOW, "db", &signed(&claims)).unwrap();
    assert_eq!(svid.id().as_str(), "spiffe://own.test/web");
    assert_eq!(svid.audience(), ["db"]);
    assert_eq!(svid.expires_at(), 1_700_000_300);
    let names: Vec<_> = svid.claims().keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "exp", "https://example.org/role", "iat", "sub"]);
}

#[test]
fn the_claims_of_a_foreign_token_can_be_cut_to_those_allowed() {
    let claims = with(CLAIMS, "role", Some("\"admin\""));
    let mut svid = verify_at(NOW, "db", &signed(&claims)).unwrap();
    svid.keep_only(["role"]);
    assert_eq!(svid.claims().keys().collect::<Vec<_>>(), ["aud", "exp", "role", "sub"]);
    svid.keep_only([]);
    assert_eq!(svid.claims().keys().collect::<Vec<_>>(), ["aud", "exp", "sub"]);
}

#[test]
fn claims_become_a_struct_with_aud_as_a_list() {
    // WAPI-51, PIT-39
    let claims = with(CLAIMS, "aud", Some("\"db\""));
    let claims = claims.replace("1700000300", "9007199254740993");
    let claims =
        claims.replace("\"iat\"", "\"big\":18446744073709551615,\"x\":[true,null],\"iat\"");
    let svid = verify_at(NOW, "db", &signed(&claims)).unwrap();
    let fields = into_struct(svid).fields;
    let shown = |name: &str| format!("{:?}", fields.get(name).unwrap().kind.as_ref().unwrap());
    assert_eq!(
        shown("aud"),
        "ListValue(ListValue { values: [Value { kind: Some(StringValue(\"db\")) }] })"
    );
    assert_eq!(shown("exp"), "NumberValue(9007199254740992.0)");
    assert_eq!(shown("big"), "NumberValue(1.8446744073709552e19)");
    assert_eq!(shown("sub"), "StringValue(\"spiffe://own.test/web\")");
    assert!(shown("x").contains("BoolValue(true)") && shown("x").contains("NullValue"));

    let deepest = format!("{}{}", "[".repeat(15), "]".repeat(15));
    let svid = verify_at(NOW, "db", &signed(&with(CLAIMS, "x", Some(&deepest)))).unwrap();
    let encoded = prost::Message::encode_to_vec(&into_struct(svid));
    assert!(<prost_types::Struct as prost::Message>::decode(&*encoded).is_ok());
}

#[test]
fn the_audience_has_to_be_among_those_of_the_token() {
    // JWT-08, PIT-22, H085, H087
    let thirty: Vec<_> = (0..30).map(|number| format!("\"other-{number}\"")).collect();
    check("aud", Some("\"db\""), Ok(()));
    check("aud", Some("[\"x\",\"db\"]"), Ok(()));
    check("aud", Some(&format!("[{},\"db\"]", thirty.join(","))), Ok(()));
    let others = ["d", "dbx", "xdb", "DB", "db/", " db", "db ", "db\\u0000", "", "*"];
    for other in others {
        let aud = format!("[\"{other}\"]");
        let outcome = verify_at(NOW, "db", &signed(&with(CLAIMS, "aud", Some(&aud))));
        assert!(matches!(outcome, Err(JwtError::Audience { .. })), "{other}: {outcome:?}");
    }
    // An empty expectation is met by nothing.
    let empty = signed(&with(CLAIMS, "aud", Some("[\"\"]")));
    assert!(matches!(verify_at(NOW, "", &empty), Err(JwtError::Audience { .. })));
}

#[test]
fn aud_is_a_string_or_a_list_of_strings() {
    // H086, H111
    for value in ["null", "[]", "[1]", "{}", "[[\"db\"]]", "[\"db\",1]", "[\"db\",null]", "1"] {
        check("aud", Some(value), wrong("aud", "a string or a list of strings"));
    }
    check("aud", None, wrong("aud", "a string or a list of strings"));
    let empty = verify_at(NOW, "db", &signed(&with(CLAIMS, "aud", Some("\"\""))));
    assert!(matches!(empty, Err(JwtError::Audience { .. })));
}

#[test]
fn exp_is_required_and_has_to_be_ahead() {
    // JWT-11, PIT-20, H088, H089, H090
    check("exp", None, Err(JwtError::NoExpiry));
    for value in ["null", "\"1700000300\"", "[1700000300]", "{}", "true", "\"NaN\""] {
        check("exp", Some(value), wrong("exp", "a number"));
    }
    for value in ["0", "-1", "-9223372036854775808", "-1e300", "-0", "1699996400"] {
        check("exp", Some(value), Err(JwtError::Expired));
    }
    check("exp", Some("1699999971"), Ok(())); // within the leeway
    check("exp", Some("1699999970"), Err(JwtError::Expired)); // 30 s
    check("exp", Some("1699999969"), Err(JwtError::Expired)); // 31 s
    check("exp", Some("1699999970.9"), Err(JwtError::Expired));
    for far in ["1700000300.5", "9007199254740993", "18446744073709551615", "1e300", "17000003e2"] {
        check("exp", Some(far), Ok(()));
    }
}

#[test]
fn nbf_and_iat_may_not_be_ahead() {
    // JWT-12, JWT-13, H091, H092
    for (name, ahead) in [("nbf", JwtError::NotYetValid), ("iat", JwtError::IssuedInFuture)] {
        check(name, None, Ok(()));
        check(name, Some("1600000000"), Ok(()));
        check(name, Some("-5"), Ok(()));
        check(name, Some("1700000060"), Ok(())); // within the leeway
        check(name, Some("1700000061"), Err(ahead.clone()));
        check(name, Some("1700000600"), Err(ahead.clone()));
        check(name, Some("1e300"), Err(ahead));
        check(name, Some("\"1700000000\""), wrong(name, "a number"));
        check(name, Some("null"), wrong(name, "a number"));
    }
}

#[test]
fn sub_is_a_spiffe_id() {
    // JWT-07, H093: every hostile spelling of an ID is a case of `id`; these show that it is asked
    use id::ParseError;
    check("sub", None, Err(JwtError::NoSubject));
    for value in ["null", "1", "[\"spiffe://own.test/web\"]", "{}"] {
        check("sub", Some(value), wrong("sub", "a string"));
    }
    for (sub, error) in [
        ("", ParseError::Scheme),
        ("web", ParseError::Scheme),
        ("https://accounts.example.org/1", ParseError::Scheme), // H113
        ("SPIFFE://own.test/web", ParseError::Scheme),
        ("spiffe://", ParseError::NoTrustDomain),
        ("spiffe://OWN.test/web", ParseError::UpperCase),
        ("spiffe://own.test:443/web", ParseError::TrustDomain),
        ("spiffe://own.test/web/", ParseError::EmptySegment),
        ("spiffe://own.test//web", ParseError::EmptySegment),
        ("spiffe://own.test/a/../web", ParseError::DotSegment),
        ("spiffe://own.test/%77eb", ParseError::Path),
        ("spiffe://own.test/web ", ParseError::Path),
        ("spiffe://own.test/web\n", ParseError::Path),
        ("spiffe://own.test/web\0", ParseError::Path),
        ("spiffe://own.test/web?x", ParseError::QueryOrFragment),
        ("spiffe://own.test/web#x", ParseError::QueryOrFragment),
    ] {
        check("sub", Some(&text(sub)), Err(JwtError::Subject(error)));
    }
}

#[test]
fn a_bare_trust_domain_is_nobody_at_home_and_somebody_abroad() {
    // AMB-13
    check("sub", Some("\"spiffe://own.test\""), Err(JwtError::TrustDomainSubject));
    let header = HEADER.replace("k1", "k2");
    let claims = with(CLAIMS, "sub", Some("\"spiffe://foreign.test\""));
    let foreign = token(header, claims, &OTHER_P256, Algorithm::Es256);
    assert_eq!(verify_at(NOW, "db", &foreign).unwrap().id().as_str(), "spiffe://foreign.test");
}

#[test]
fn keys_are_those_of_the_subjects_trust_domain() {
    // TDB-09, TDB-11, H094, H095, H096, H114
    let from = |domain: &str, key_id: &str, key: &TestKey| {
        let claims = with(CLAIMS, "sub", Some(&text(&format!("spiffe://{domain}/web"))));
        let token = token(HEADER.replace("k1", key_id), claims, key, Algorithm::Es256);
        verify_at(NOW, "db", &token).map(|svid| svid.id().to_string())
    };
    let domain = |name: &str| TrustDomain::parse(name).unwrap();
    let unknown = |key_id: &str, name: &str| JwtError::UnknownKey {
        key_id: Excerpt::of(key_id),
        trust_domain: domain(name),
    };
    assert_eq!(from("foreign.test", "k2", &OTHER_P256), Ok("spiffe://foreign.test/web".into()));
    assert_eq!(from("foreign.test", "shared", &OTHER_P256).map(drop), Ok(()));
    assert_eq!(from("own.test", "shared", &P256).map(drop), Ok(()));
    // A key of one domain that signs for another, with and without an ID that both know.
    assert_eq!(from("foreign.test", "k1", &P256), Err(unknown("k1", "foreign.test")));
    assert_eq!(from("foreign.test", "shared", &P256), Err(JwtError::Signature));
    assert_eq!(from("own.test", "shared", &OTHER_P256), Err(JwtError::Signature));
    assert_eq!(from("own.test", "gone", &P256), Err(unknown("gone", "own.test")));
    assert_eq!(from("own.test", "", &P256), Err(unknown("", "own.test")));
    assert_eq!(from("own.test", "K1", &P256), Err(unknown("K1", "own.test")));
    assert_eq!(from("own.test", "../../etc/passwd", &P256), {
        Err(unknown("../../etc/passwd", "own.test")) // H097
    });
    for name in ["unknown.test", "revoked.test"] {
        assert_eq!(from(name, "k1", &P256), Err(JwtError::NoKeys(domain(name))));
    }
}

#[test]
fn errors_say_what_spires_do_and_stay_short() {
    // Operators and tools know these texts.
    let said =
        |audience: &str, token: &str| verify_at(NOW, audience, token).unwrap_err().to_string();
    assert_eq!(said("db", &signed(&with(CLAIMS, "exp", Some("1")))), "token has expired");
    assert_eq!(said("db", &signed(&with(CLAIMS, "exp", None))), "token missing exp claim");
    assert_eq!(said("db", &signed(&with(CLAIMS, "sub", None))), "token missing subject claim");
    let two = signed(&with(CLAIMS, "aud", Some("[\"x\",\"y\"]")));
    assert_eq!(said("db", &two), r#"expected audience in ["db"] (audience=["x" "y"])"#);
    let elsewhere = signed(&with(CLAIMS, "sub", Some("\"spiffe://a.test/b\"")));
    assert_eq!(said("db", &elsewhere), r#"no keys found for trust domain "a.test""#);
    let unknown =
        token(HEADER.replace("k1", "k9"), with(CLAIMS, "", None), &P256, Algorithm::Es256);
    assert_eq!(said("db", &unknown), r#"public key "k9" not found in trust domain "own.test""#);

    // Nothing that a caller chose is repeated without a limit: the text goes into a header.
    let long = "\u{1F600}".repeat(300);
    let many = format!("[{}\"z\"]", format!("\"{long}\",").repeat(6));
    let key_id =
        token(HEADER.replace("k1", &long), with(CLAIMS, "", None), &P256, Algorithm::Es256);
    assert!(said(&long[4..], &signed(&with(CLAIMS, "aud", Some(&many)))).len() < 1200);
    assert!(said("db", &key_id).len() < 400);
    assert_eq!(Excerpt::of("a\n").to_string(), r#""a\n""#);
    assert_eq!(Excerpt::of(&"a".repeat(65)).to_string(), format!("\"{}\"…", "a".repeat(64)));
}
