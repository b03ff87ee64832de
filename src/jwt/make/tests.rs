//! What an issued token looks like, and that it is valid.

use super::*;
use crate::clock;
use crate::id::TrustDomain;
use crate::json::{self, Json, Number};
use crate::jwt::keys::JwtKeys;
use crate::jwt::testing::authority_of;
use crate::jwt::verify::{Expected, verify};
use crate::jwt::{LIMITS, parse};
use crate::keys::{KeyAlgorithm, PrivateKey};

const NOW: i64 = 1_700_000_000;

fn signer(algorithm: KeyAlgorithm) -> JwtSigner {
    JwtSigner::new("key\"1", Arc::new(PrivateKey::generate(algorithm).unwrap())).unwrap()
}

fn claims<'a>(subject: &'a SpiffeId, audience: &'a [String]) -> Claims<'a> {
    Claims {
        subject,
        audience,
        expires_at: NOW + 300,
        issued_at: NOW,
        issuer: None,
        token_id: None,
    }
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&TrustDomain::parse("own.test").unwrap(), path).unwrap()
}

fn audience(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// The JSON text of a part of a token.
fn part(token: &str, index: usize) -> String {
    let part = token.split('.').nth(index).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_has_three_headers_and_the_claims_it_was_given() {
    // JWT-01, JWT-02, JWT-04, JWT-09, JWT-13
    let (signer, subject, audience) =
        (signer(KeyAlgorithm::EcP256), id("/web"), audience(&["b", "a"]));
    let token = signer.make(&claims(&subject, &audience)).unwrap();
    assert_eq!(part(&token, 0), r#"{"alg":"ES256","kid":"key\"1","typ":"JWT"}"#);
    assert_eq!(
        part(&token, 1),
        r#"{"sub":"spiffe://own.test/web","aud":["b","a"],"exp":1700000300,"iat":1700000000}"#
    );
    assert_eq!(token.matches('.').count(), 2);

    let named = Claims {
        issuer: Some("https://issuer.test"),
        token_id: Some("0f"),
        ..claims(&subject, &audience)
    };
    let written = part(&signer.make(&named).unwrap(), 1);
    let read = json::parse_object(written.as_bytes(), &LIMITS).unwrap().unwrap();
    assert_eq!(read.keys().collect::<Vec<_>>(), ["aud", "exp", "iat", "iss", "jti", "sub"]);
    assert_eq!(read["iat"], Json::Number(Number::Integer(NOW)));
    assert_eq!(read["iss"].as_str(), Some("https://issuer.test"));
    assert_eq!(read["jti"].as_str(), Some("0f"));
}

#[test]
fn a_token_of_every_kind_of_key_is_valid() {
    // JWT-03, JWT-15, JWT-16
    let (own, subject, audience) =
        (TrustDomain::parse("own.test").unwrap(), id("/web"), audience(&["db"]));
    for (kind, name, length) in [
        (KeyAlgorithm::EcP256, "ES256", 64),
        (KeyAlgorithm::EcP384, "ES384", 96),
        (KeyAlgorithm::Rsa2048, "RS256", 256),
    ] {
        let signer = signer(kind);
        assert_eq!(signer.algorithm().name(), name);
        let token = signer.make(&claims(&subject, &audience)).unwrap();
        assert_eq!(parse::parse(&token).unwrap().signature.len(), length);
        let keys = JwtKeys::new(&[authority_of(&signer)]);
        let expected = Expected { audience: "db", own: &own };
        let svid = verify(&token, &expected, |_| Some(&keys), clock::from_unix_seconds(NOW));
        assert_eq!(svid.unwrap().id(), &subject);
    }
}

#[test]
fn what_nobody_could_use_is_not_signed() {
    let signer = signer(KeyAlgorithm::EcP256);
    let (subject, right) = (id("/web"), audience(&["db"]));
    assert!(signer.make(&claims(&subject, &right)).is_ok());
    let trust_domain = id("");
    assert_eq!(
        signer.make(&claims(&trust_domain, &right)), // AMB-13
        Err(MakeError::SubjectWithoutPath)
    );
    for none in [audience(&[]), audience(&[""]), audience(&["db", ""])] {
        assert_eq!(signer.make(&claims(&subject, &none)), Err(MakeError::NoAudience));
    }
    let long = audience(&[&"x".repeat(MAX_TOKEN_LENGTH * 3 / 4 - 350)]);
    let token = signer.make(&claims(&subject, &long)).unwrap();
    assert!(parse::parse(&token).is_ok());
    let longer = audience(&[&"x".repeat(MAX_TOKEN_LENGTH * 3 / 4)]);
    assert_eq!(signer.make(&claims(&subject, &longer)), Err(MakeError::TooLong));
    let longest = audience(&[&"x".repeat(MAX_TOKEN_LENGTH)]);
    assert_eq!(signer.make(&claims(&subject, &longest)), Err(MakeError::TooLong));
}

#[test]
fn a_signing_key_has_an_id() {
    // JWT-04
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert_eq!(JwtSigner::new("", Arc::new(key)).map(drop), Err(NoKeyId));
}
