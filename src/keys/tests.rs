//! Keys sign, are read, are refused, and are kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const ALGORITHMS: [KeyAlgorithm; 3] =
    [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048];

#[test]
fn every_scheme_of_every_key_verifies_and_nothing_else_does() {
    for algorithm in ALGORITHMS {
        let key = PrivateKey::generate(algorithm).unwrap();
        // ECDSA numbers are short now and then, which a fixed length must not show.
        signs_in_every_scheme(&key, if algorithm == KeyAlgorithm::Rsa2048 { 1 } else { 300 });
    }
}

/// So many messages.
pub(super) fn signs_in_every_scheme(key: &dyn Signer, messages: u16) {
    let public = PublicKey::from_spki(key.public_key().spki_der()).unwrap();
    let kind = public.kind();
    for scheme in [Scheme::X509, Scheme::Jws, Scheme::Tls13] {
        for message in 0..messages {
            let message = message.to_be_bytes();
            let signature = key.sign(scheme, &message).unwrap();
            assert!(public.verifies(scheme, &message, &signature), "{kind:?} {scheme:?}");
            assert!(!public.verifies(scheme, b"other", &signature), "{kind:?} {scheme:?}");
        }
    }
    let jws = key.sign(Scheme::Jws, b"m").unwrap();
    let asn1 = key.sign(Scheme::Tls13, b"m").unwrap();
    assert!(!public.verifies(Scheme::Tls13, b"m", &jws), "{kind:?}");
    assert!(!public.verifies(Scheme::Jws, b"m", &asn1), "{kind:?}");
}

/// PIT-19: RFC 5208, version 0, no attributes, no trailing public key.
#[test]
fn a_workloads_key_is_pkcs8_of_version_0() {
    for algorithm in ALGORITHMS {
        let key = PrivateKey::generate(algorithm).unwrap();
        let pkcs8 = key.pkcs8().unwrap();
        let (version, parts) = crate::der::whole(pkcs8.expose(), crate::der::SEQUENCE, |r| {
            let version = r.unsigned()?;
            let mut parts = Vec::new();
            while !r.is_empty() {
                parts.push(r.element()?.tag);
            }
            Ok((version, parts))
        })
        .unwrap();
        assert_eq!(version, [0], "{algorithm}");
        assert_eq!(parts, [crate::der::SEQUENCE, crate::der::OCTET_STRING], "{algorithm}");
        let again = PrivateKey::from_pkcs8(pkcs8.expose()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let signature = again.sign(Scheme::X509, b"m").unwrap();
        assert!(key.public_key().verifies(Scheme::X509, b"m", &signature));
    }
}

#[test]
fn a_key_is_read_from_every_pem_form_that_tools_write() {
    let read = |pem: &str| PrivateKey::from_pem(pem.as_bytes()).map(|key| key.public_key().kind());
    assert_eq!(read(include_str!("tests/sec1-p256.pem")), Ok(KeyKind::EcP256));
    assert_eq!(read(include_str!("tests/pkcs8-p521.pem")), Ok(KeyKind::EcP521));
    assert_eq!(read(include_str!("tests/pkcs1-rsa2048.pem")), Ok(KeyKind::Rsa { bits: 2048 }));
    assert_eq!(read(include_str!("tests/encrypted.pem")), Err(PrivateKeyError::Pem));
    assert_eq!(read(include_str!("tests/pkcs8-ed25519.pem")), Err(PrivateKeyError::Malformed));
    assert_eq!(read("nothing"), Err(PrivateKeyError::Pem));
}

#[test]
fn a_private_key_does_not_print() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(EcP256, redacted)");
    assert_eq!(format!("{:?}", key.pkcs8().unwrap()), "Pkcs8(redacted)");
}

#[test]
fn a_public_key_is_made_again_from_its_numbers() {
    for algorithm in ALGORITHMS {
        let key = PrivateKey::generate(algorithm).unwrap();
        let public = key.public_key();
        assert_eq!(PublicKey::from_parts(public.kind(), public.parts()).as_ref(), Ok(public));
    }
}

/// Rows H105, H141 and H162 of hostile inputs: weak keys, curves that are not named, points that
/// are not on them.
#[test]
fn a_weak_or_impossible_public_key_is_refused() {
    let rsa = |bits: usize, exponent: &[u8]| {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0x80;
        let parts = PublicParts::Rsa { n: &n, e: exponent };
        PublicKey::from_parts(KeyKind::Rsa { bits }, parts).map(|key| key.kind())
    };
    assert_eq!(rsa(2048, &[1, 0, 1]), Ok(KeyKind::Rsa { bits: 2048 }));
    assert_eq!(rsa(2048, &[3]), Ok(KeyKind::Rsa { bits: 2048 }));
    assert_eq!(rsa(8192, &[1, 0, 1]), Ok(KeyKind::Rsa { bits: 8192 }));
    assert_eq!(rsa(2048, &[1]), Err(PublicKeyError::Weak));
    assert_eq!(rsa(2048, &[2]), Err(PublicKeyError::Weak));
    assert_eq!(rsa(2048, &[1, 0, 0, 0, 1]), Err(PublicKeyError::Weak));
    assert_eq!(rsa(1024, &[1, 0, 1]), Err(PublicKeyError::Weak));
    assert_eq!(rsa(8200, &[1, 0, 1]), Err(PublicKeyError::Weak));

    let good = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let PublicParts::Ec { x, y } = good.public_key().parts() else { panic!("an EC key") };
    let ec = |kind, x: &[u8], y: &[u8]| {
        PublicKey::from_parts(kind, PublicParts::Ec { x, y }).map(|key| key.kind())
    };
    assert_eq!(ec(KeyKind::EcP256, x, y), Ok(KeyKind::EcP256));
    assert_eq!(ec(KeyKind::EcP256, y, y), Err(PublicKeyError::NotOnCurve));
    assert_eq!(ec(KeyKind::EcP256, &x[1..], y), Err(PublicKeyError::Malformed));
    assert_eq!(ec(KeyKind::EcP384, x, y), Err(PublicKeyError::Malformed));
    assert_eq!(ec(KeyKind::Rsa { bits: 2048 }, x, y), Err(PublicKeyError::Malformed));

    let spki = |hex: &str| PublicKey::from_spki(&unhex(hex)).map(|key| key.kind());
    let point = x.iter().chain(y).map(|byte| format!("{byte:02x}")).collect::<String>();
    let named = |curve: &str| {
        let tail = format!("06072a8648ce3d0201{curve}");
        let algorithm = format!("30{:02x}{tail}", tail.len() / 2);
        let rest = format!("{algorithm}03420004{point}");
        format!("30{:02x}{rest}", rest.len() / 2)
    };
    assert_eq!(spki(&named("06082a8648ce3d030107")), Ok(KeyKind::EcP256));
    assert_eq!(spki(&named("06082a8648ce3d030101")), Err(PublicKeyError::Unsupported)); // P-192
    assert_eq!(spki(&named("06052b8104000a")), Err(PublicKeyError::Unsupported)); // secp256k1
    assert_eq!(spki(&named("3003020101")), Err(PublicKeyError::Unsupported)); // spelled out
    assert_eq!(spki(&named("")), Err(PublicKeyError::Malformed));
    assert_eq!(spki(&format!("{}00", named("06082a8648ce3d030107"))), {
        Err(PublicKeyError::Malformed)
    });
    let ed25519 = format!("302a300506032b6570032100{}", "11".repeat(32));
    assert_eq!(spki(&ed25519), Err(PublicKeyError::Unsupported));
}

#[test]
fn a_key_id_is_a_safe_file_name() {
    for good in ["x509-CA-A", "JWT_Signer", "a"] {
        assert_eq!(good.parse::<KeyId>().map(|id| id.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "..", "a/b", "a.key", "é", &"a".repeat(65)] {
        assert_eq!(bad.parse::<KeyId>(), Err(KeyIdError), "{bad}");
    }
}

#[tokio::test]
async fn every_key_store_keeps_its_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    keeps_contract(&MemoryKeyStore::default()).await;
    keeps_contract(&DirectoryKeyStore::open(&path).unwrap()).await;
}

pub(super) async fn keeps_contract(store: &dyn KeyStore) {
    let [a, b] = ["a", "b-2"].map(|id| id.parse::<KeyId>().unwrap());
    assert_eq!(store.list().await.unwrap(), []);
    assert!(store.load(&a).await.unwrap().is_none());
    store.remove(&a).await.unwrap();

    let second = store.generate(&b, KeyAlgorithm::EcP384).await.unwrap();
    let first = store.generate(&a, KeyAlgorithm::EcP256).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [a.clone(), b.clone()]);
    let loaded = store.load(&b).await.unwrap().unwrap();
    assert_eq!(loaded.public_key(), second.public_key());
    assert_eq!(loaded.public_key().kind(), KeyKind::EcP384);

    let replaced = store.generate(&a, KeyAlgorithm::EcP256).await.unwrap();
    assert_ne!(replaced.public_key(), first.public_key());
    let signature = first.sign(Scheme::X509, b"m").unwrap();
    assert!(first.public_key().verifies(Scheme::X509, b"m", &signature));
    let loaded = store.load(&a).await.unwrap().unwrap();
    assert_eq!(loaded.public_key(), replaced.public_key());

    store.remove(&a).await.unwrap();
    assert!(store.load(&a).await.unwrap().is_none());
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&b));
    let signature = loaded.sign(Scheme::X509, b"m").unwrap();
    assert!(loaded.public_key().verifies(Scheme::X509, b"m", &signature));

    let next = store.generate(&a, KeyAlgorithm::EcP256).await.unwrap();
    let loaded = store.load(&a).await.unwrap().unwrap();
    assert_eq!(loaded.public_key(), next.public_key());
    assert_eq!(store.list().await.unwrap(), [a, b]);
}

#[tokio::test]
async fn a_directory_keeps_keys_private_and_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let id = "a".parse::<KeyId>().unwrap();
    let made = DirectoryKeyStore::open(&path).unwrap();
    let made = made.generate(&id, KeyAlgorithm::EcP256).await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("a.key")), 0o600);

    // What is not a key of ours is left alone.
    fs::write(path.join("README"), "").unwrap();
    fs::write(path.join(".new-x.key"), "").unwrap();
    let store = DirectoryKeyStore::open(&path).unwrap();
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&id));
    let loaded = store.load(&id).await.unwrap().unwrap();
    assert_eq!(loaded.public_key(), made.public_key());
}

#[tokio::test]
async fn a_key_that_others_may_read_or_that_is_damaged_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let id = "a".parse::<KeyId>().unwrap();
    let store = DirectoryKeyStore::open(&path).unwrap();
    store.generate(&id, KeyAlgorithm::EcP256).await.unwrap();
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };

    set(&path.join("a.key"), 0o640);
    let error = store.load(&id).await.unwrap_err();
    assert!(matches!(error, KeyStoreError::Exposed { mode: 0o640, .. }), "{error}");
    set(&path.join("a.key"), 0o400);
    assert!(store.load(&id).await.unwrap().is_some());

    set(&path, 0o750);
    let error = DirectoryKeyStore::open(&path).unwrap_err();
    assert!(matches!(error, KeyStoreError::Exposed { mode: 0o750, .. }), "{error}");
    set(&path, 0o700);

    set(&path.join("a.key"), 0o600);
    let whole = fs::read(path.join("a.key")).unwrap();
    fs::write(path.join("a.key"), &whole[..whole.len() - 1]).unwrap();
    let error = store.load(&id).await.unwrap_err();
    assert!(matches!(error, KeyStoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains(path.join("a.key").to_str().unwrap()), "{error}");
    fs::write(path.join("a.key"), vec![0; 65 * 1024]).unwrap();
    let error = store.load(&id).await.unwrap_err();
    assert!(matches!(error, KeyStoreError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_fails_is_named_with_what_would_help() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let id = "a".parse::<KeyId>().unwrap();
    let store = DirectoryKeyStore::open(&path).unwrap();
    let check = |error: KeyStoreError, path: &std::path::Path, action: &str| {
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} cannot be {action}", path.display())), "{text}");
        assert!(std::error::Error::source(&error).is_some());
    };
    let file = path.join("a.key");
    fs::create_dir(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    check(store.load(&id).await.unwrap_err(), &file, "read");
    check(store.generate(&id, KeyAlgorithm::EcP256).await.unwrap_err(), &file, "written");
    check(store.remove(&id).await.unwrap_err(), &file, "removed");
    fs::remove_dir_all(&path).unwrap();
    check(store.list().await.unwrap_err(), &path, "listed");
    fs::write(&path, "").unwrap();
    check(DirectoryKeyStore::open(&path).unwrap_err(), &path, "made");

    let told = |kind: ErrorKind| {
        let source = kind.into();
        KeyStoreError::File { path: "/k".into(), action: "read", source }.to_string()
    };
    let own = "/k cannot be read; make it, and the directory that it is in, the user's own";
    assert_eq!(told(ErrorKind::PermissionDenied), own);
    assert_eq!(told(ErrorKind::StorageFull), "/k cannot be read; free some space");
    assert_eq!(told(ErrorKind::IsADirectory), "/k cannot be read");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
