//! Signatures and the keys they are checked with: JWT-SVID 2.1 and 4, RFC 7518 3.

use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::clock;
use crate::id::TrustDomain;
use crate::jwt::parse::ParseError;
use crate::jwt::testing::{
    OTHER_P256, P256, P384, P521, RSA, TestKey, authority, encode, signed_part, token,
};
use crate::jwt::verify::{Expected, JwtError, verify};

const CLAIMS: &str = r#"{"sub":"spiffe://own.test/web","aud":["db"],"exp":1700000300}"#;

fn now() -> SystemTime {
    clock::from_unix_seconds(1_700_000_000)
}

fn header(algorithm: Algorithm, key_id: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","kid":"{key_id}"}}"#)
}

/// The key of each algorithm under the name of its kind.
fn keys() -> JwtKeys {
    JwtKeys::new(&[
        authority("p256", &P256),
        authority("p384", &P384),
        authority("p521", &P521),
        authority("rsa", &RSA),
    ])
}

fn key_id(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Es256 => "p256",
        Algorithm::Es384 => "p384",
        Algorithm::Es512 => "p521",
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => "rsa",
    }
}

fn outcome(keys: &JwtKeys, token: &str) -> Result<(), JwtError> {
    let own = TrustDomain::parse("own.test").unwrap();
    let expected = Expected { audience: "db", own: &own };
    verify(token, &expected, |_| Some(keys), now()).map(drop)
}

#[track_caller]
fn check(keys: &JwtKeys, token: &str, expected: Result<(), JwtError>) {
    assert_eq!(outcome(keys, token), expected, "{token}");
}

#[test]
fn each_algorithm_verifies_with_its_key() {
    // JWT-03, JWT-15
    for algorithm in Algorithm::ALL {
        let key = TestKey::fitting(algorithm);
        let token = token(header(algorithm, key_id(algorithm)), CLAIMS, key, algorithm);
        check(&keys(), &token, Ok(()));
    }
}

#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    // JWT-15, PIT-23, H083
    for algorithm in Algorithm::ALL {
        for id in ["p256", "p384", "p521", "rsa"] {
            if id != key_id(algorithm) {
                let key = TestKey::fitting(algorithm);
                let token = token(header(algorithm, id), CLAIMS, key, algorithm);
                check(&keys(), &token, Err(JwtError::Algorithm(algorithm)));
            }
        }
    }
    // The header names one RSA scheme and the signature is of another.
    for (named, used) in [
        (Algorithm::Rs256, Algorithm::Ps256),
        (Algorithm::Ps256, Algorithm::Rs256),
        (Algorithm::Rs256, Algorithm::Rs384),
    ] {
        let token = token(header(named, "rsa"), CLAIMS, &RSA, used);
        check(&keys(), &token, Err(JwtError::Signature));
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // H081
    let control = token(header(Algorithm::Es256, "p256"), CLAIMS, &P256, Algorithm::Es256);
    check(&keys(), &control, Ok(()));
    let der = P256.spki();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    let point = encode(&der[27..]);
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","x":"{point}","y":"{point}"}}"#);
    for secret in [der.as_slice(), pem.as_bytes(), jwk.as_bytes()] {
        let signed = signed_part(r#"{"alg":"HS256","kid":"p256"}"#, CLAIMS);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = format!("{signed}.{}", encode(tag));
        check(&keys(), &token, Err(JwtError::Malformed(ParseError::Algorithm)));
        // The same tag under an algorithm that the key allows.
        let signed = signed_part(header(Algorithm::Es256, "p256"), CLAIMS);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), signed.as_bytes());
        check(&keys(), &format!("{signed}.{}", encode(tag)), Err(JwtError::Signature));
    }
}

#[test]
fn a_flipped_bit_breaks_the_signature() {
    // SID-16, H103
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps512] {
        let key = TestKey::fitting(algorithm);
        let (first, id) = (header(algorithm, key_id(algorithm)), "spiffe://own.test/web");
        let good = token(&first, CLAIMS, key, algorithm);
        check(&keys(), &good, Ok(()));
        let signature = good.rsplit_once('.').unwrap().1;
        let other_claims = CLAIMS.replace(id, "spiffe://own.test/wec");
        let other_header = first.replace("}", " }");
        for signed in [signed_part(&first, other_claims), signed_part(other_header, CLAIMS)] {
            check(&keys(), &format!("{signed}.{signature}"), Err(JwtError::Signature));
        }
        let signed = signed_part(&first, CLAIMS);
        let made = key.sign(algorithm, signed.as_bytes());
        for at in [0, made.len() / 2, made.len() - 1] {
            let mut flipped = made.clone();
            flipped[at] ^= 1;
            check(&keys(), &format!("{signed}.{}", encode(flipped)), Err(JwtError::Signature));
        }
    }
}

#[test]
fn an_ecdsa_signature_is_two_numbers_of_fixed_length_within_the_order() {
    // JWT-16, H104
    let order_p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&order_p256[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let signed = signed_part(header(Algorithm::Es256, "p256"), CLAIMS);
    let made = P256.sign(Algorithm::Es256, signed.as_bytes());
    let (r, s) = made.split_at(32);
    let zero = [0; 32];
    let der = {
        let positive = |number: &[u8]| [&[2, 33, 0], number].concat();
        let numbers = [positive(r), positive(s)].concat();
        [&[0x30, u8::try_from(numbers.len()).unwrap()], numbers.as_slice()].concat()
    };
    let with_signature = |signature: &[u8]| format!("{signed}.{}", encode(signature));
    check(&keys(), &with_signature(&made), Ok(()));
    let ones = [0xff; 32];
    for (what, signature) in [
        ("DER", der),
        ("63 bytes", made[..63].to_vec()),
        ("65 bytes", [made.as_slice(), &[0]].concat()),
        ("65 bytes in front", [&[0], made.as_slice()].concat()),
        ("r = 0", [&zero, s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = s = 0", [zero, zero].concat()),
        ("r = n", [order.as_slice(), s].concat()),
        ("s = n", [r, order.as_slice()].concat()),
        ("r > n", [&ones, s].concat()),
        ("s > n", [r, &ones].concat()),
    ] {
        assert_eq!(
            outcome(&keys(), &with_signature(&signature)),
            Err(JwtError::Signature),
            "{what}"
        );
    }
    for (algorithm, key, length) in [(Algorithm::Es384, &P384, 96), (Algorithm::Es512, &P521, 132)]
    {
        let signed = signed_part(header(algorithm, key_id(algorithm)), CLAIMS);
        let made = key.sign(algorithm, signed.as_bytes());
        assert_eq!(made.len(), length);
        let half = length / 2;
        // One byte less in each number: for ES512 the 128 bytes that a wrong size would give.
        let cut = if length == 132 { 2 } else { 1 };
        let short = [&made[cut..half], &made[half + cut..]].concat();
        check(&keys(), &format!("{signed}.{}", encode(&made)), Ok(()));
        check(&keys(), &format!("{signed}.{}", encode(short)), Err(JwtError::Signature));
    }
}

#[test]
fn a_token_without_kid_is_tried_with_a_few_keys_that_fit() {
    // JWT-05, AMB-03, H098
    let anonymous = |algorithm: Algorithm| format!(r#"{{"alg":"{algorithm}"}}"#);
    for algorithm in [Algorithm::Es256, Algorithm::Es512, Algorithm::Ps384] {
        let made = token(anonymous(algorithm), CLAIMS, TestKey::fitting(algorithm), algorithm);
        check(&keys(), &made, Ok(()));
    }
    let token = token(anonymous(Algorithm::Es256), CLAIMS, &P256, Algorithm::Es256);
    check(&JwtKeys::new(&[authority("p384", &P384)]), &token, Err(JwtError::Signature));
    check(&JwtKeys::new(&[authority("other", &OTHER_P256)]), &token, Err(JwtError::Signature));
    // Newest first, and no more than eight.
    let among = |others: usize| {
        let mut authorities = vec![authority("right", &P256)];
        let key = |number| authority(&format!("wrong-{number}"), &OTHER_P256);
        authorities.extend((0..others).map(key));
        JwtKeys::new(&authorities)
    };
    check(&among(7), &token, Ok(()));
    check(&among(8), &token, Err(JwtError::Signature));
}

/// A SubjectPublicKeyInfo for RSA with this modulus and exponent.
fn rsa_spki(n: &[u8], e: &[u8]) -> Vec<u8> {
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    }
    // Lengths in two bytes are DER only from 256 on; the short ones are written out.
    let exponent = [&[2, u8::try_from(e.len()).unwrap()], e].concat();
    let modulus = if n.len() < 255 {
        [&[2, 0x81, u8::try_from(n.len() + 1).unwrap(), 0], n].concat()
    } else {
        der(2, &[&[0], n].concat())
    };
    let numbers = [modulus, exponent].concat();
    let inner = if numbers.len() < 256 {
        [&[0x30, 0x81, u8::try_from(numbers.len()).unwrap()], numbers.as_slice()].concat()
    } else {
        der(0x30, &numbers)
    };
    let bits = if inner.len() < 255 {
        [&[3, 0x81, u8::try_from(inner.len() + 1).unwrap(), 0], inner.as_slice()].concat()
    } else {
        der(3, &[&[0], inner.as_slice()].concat())
    };
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let content = [algorithm, bits.as_slice()].concat();
    if content.len() < 256 {
        [&[0x30, 0x81, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
    } else {
        der(0x30, &content)
    }
}

#[test]
fn weak_and_unknown_keys_are_left_out_and_the_others_stay() {
    // H082, H105
    let odd = |length: usize| [vec![0xc1; length - 1], vec![0xc3]].concat();
    let ed25519 =
        [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), &[7; 32]].concat();
    let named =
        |key_id: &str, public_key: Vec<u8>| JwtAuthority { public_key, ..authority(key_id, &P256) };
    let keys = JwtKeys::new(&[
        authority("good", &P256),
        named("rsa-1024", rsa_spki(&odd(128), &[1, 0, 1])),
        named("rsa-e-1", rsa_spki(&odd(256), &[1])),
        named("rsa-16k", rsa_spki(&odd(2048), &[1, 0, 1])),
        named("ed25519", ed25519),
        named("garbage", vec![1, 2, 3]),
        named("rsa-2048", rsa_spki(&odd(256), &[1, 0, 1])), // the control
    ]);
    assert_eq!(keys.unusable(), ["rsa-1024", "rsa-e-1", "rsa-16k", "ed25519", "garbage"]);
    assert!(keys.contains("good") && keys.contains("rsa-2048") && !keys.contains("rsa-1024"));
    let good = token(header(Algorithm::Es256, "good"), CLAIMS, &P256, Algorithm::Es256);
    check(&keys, &good, Ok(()));
}

#[test]
fn a_key_id_that_two_keys_share_names_neither() {
    // H160
    let keys = JwtKeys::new(&[
        authority("twice", &P256),
        authority("once", &P384),
        authority("twice", &OTHER_P256),
    ]);
    assert_eq!(keys.unusable(), ["twice", "twice"]);
    assert!(keys.contains("once") && !keys.contains("twice"));
}
