//! Challenges as a server sends them, checked as a server checks the answers.

use std::collections::BTreeMap;
use std::process::Command;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use steeple::clock::from_unix_seconds;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::x509::make::Validity;
use steeple::x509::pem;

use super::*;
use crate::node::testing::Authority;

const OURS: [u8; 32] = [2; 32];

/// The files of a node with a key of this kind.
fn node(algorithm: KeyAlgorithm) -> (tempfile::TempDir, X509Pop) {
    let directory = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate(algorithm).unwrap();
    let now = from_unix_seconds(1_000);
    let validity = Validity::new(now, std::time::Duration::from_secs(60));
    let svid = Authority::new(now).sign("spiffe://td/node", key.public_key(), validity);
    let files = X509Pop {
        private_key: directory.path().join("key.pem"),
        certificate: directory.path().join("cert.pem"),
        intermediates: None,
    };
    let pkcs8 = key.pkcs8().unwrap();
    std::fs::write(&files.private_key, pem("PRIVATE KEY", pkcs8.expose())).unwrap();
    std::fs::write(&files.certificate, svid.chain().to_pem()).unwrap();
    (directory, files)
}

fn challenge(member: &str) -> Vec<u8> {
    let other = if member == "rsa_signature" { "ecdsa_signature" } else { "rsa_signature" };
    let nonce = STANDARD.encode([1; 32]);
    format!(r#"{{"{member}":{{"nonce":"{nonce}"}},"{other}":null}}"#).into_bytes()
}

async fn answer(files: &X509Pop, member: &str) -> BTreeMap<String, Vec<u8>> {
    let key = Key::read(&files.private_key).await.unwrap();
    let answer = key.answer(&challenge(member), &OURS).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let json = json[member].as_object().unwrap();
    json.iter().map(|(k, v)| (k.clone(), STANDARD.decode(v.as_str().unwrap()).unwrap())).collect()
}

fn message() -> Vec<u8> {
    [[1; 32], OURS].concat()
}

#[tokio::test]
async fn an_rsa_key_signs_both_nonces() {
    let (_directory, files) = node(KeyAlgorithm::Rsa2048);
    let answer = answer(&files, "rsa_signature").await;
    assert_eq!(answer["nonce"], OURS);
    let key = Key::read(&files.private_key).await.unwrap();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public())
        .verify(&message(), &answer["signature"])
        .unwrap();
}

#[tokio::test]
async fn an_ec_key_signs_both_nonces() {
    let (_directory, files) = node(KeyAlgorithm::EcP256);
    let answer = answer(&files, "ecdsa_signature").await;
    assert_eq!(answer["nonce"], OURS);
    let fixed = |number: &Vec<u8>| [vec![0; 32 - number.len()], number.clone()].concat();
    let key = Key::read(&files.private_key).await.unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public())
        .verify(&message(), &[fixed(&answer["r"]), fixed(&answer["s"])].concat())
        .unwrap();
}

/// DER of a positive number of at most 127 bytes.
fn integer(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + number.len()).unwrap();
    [&[2, length], sign, number].concat()
}

#[tokio::test]
async fn a_larger_curve_signs_the_same_hash() {
    let (_directory, files) = node(KeyAlgorithm::EcP384);
    let answer = answer(&files, "ecdsa_signature").await;
    let numbers = [integer(&answer["r"]), integer(&answer["s"])].concat();
    let signature = [vec![0x30, u8::try_from(numbers.len()).unwrap()], numbers].concat();
    let key = Key::read(&files.private_key).await.unwrap();
    UnparsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, key.public())
        .verify(&message(), &signature)
        .unwrap();
}

#[tokio::test]
async fn keys_are_read_as_openssl_writes_them() {
    let (_directory, files) = node(KeyAlgorithm::EcP256);
    let sec1 = Command::new("openssl").args(["ec", "-in"]).arg(&files.private_key).output();
    // Where there is no openssl, there is nothing to compare with.
    let Ok(sec1) = sec1 else { return };
    let read = Key::from_pem(&sec1.stdout).unwrap();
    assert_eq!(read.public(), Key::read(&files.private_key).await.unwrap().public());
}

#[tokio::test]
async fn the_payload_is_the_chain_from_its_leaf_on() {
    let (_directory, files) = node(KeyAlgorithm::EcP256);
    let (_other, more) = node(KeyAlgorithm::EcP256);
    let files = X509Pop { intermediates: Some(more.certificate.clone()), ..files };
    let session = files.begin().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&session.evidence).unwrap();
    let expected =
        [chain(&files.certificate).await.unwrap(), chain(&more.certificate).await.unwrap()];
    assert_eq!(json, serde_json::json!({ "certificates": expected.concat() }));
    assert_eq!(session.once, None);
}

#[track_caller]
fn refused(key: &Key, challenge: &[u8]) {
    let error = key.answer(challenge, &OURS).unwrap_err();
    assert!(matches!(error, ChallengeError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn a_challenge_of_another_kind_is_not_answered() {
    let (_directory, files) = node(KeyAlgorithm::EcP256);
    let key = Key::read(&files.private_key).await.unwrap();
    key.answer(&challenge("ecdsa_signature"), &OURS).unwrap();
    refused(&key, &challenge("rsa_signature"));
    refused(&key, br#"{"ecdsa_signature":{"nonce":"AAAA"}}"#);
    refused(&key, br#"{"ecdsa_signature":{"nonce":"!"}}"#);
    refused(&key, b"{}");
    refused(&key, b"");
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said() {
    let (_directory, files) = node(KeyAlgorithm::EcP256);
    let (_other, other) = node(KeyAlgorithm::EcP256);
    let says = async |files: X509Pop, part: &str| {
        let error = files.begin().await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let with_key = |private_key: PathBuf| X509Pop { private_key, ..files.clone() };
    says(with_key(other.private_key), "is not for the key in").await;
    says(with_key(files.certificate.clone()), "is not an unencrypted RSA or EC").await;
    says(with_key(PathBuf::from("/nowhere")), "cannot read /nowhere").await;
    let with_certificate = |certificate| X509Pop { certificate, ..files.clone() };
    says(with_certificate(files.private_key.clone()), "is not one or more certificates").await;
}
