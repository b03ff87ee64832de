//! Requests of ours, of other tools, and of attackers.

use super::*;
use crate::keys::{KeyAlgorithm, PrivateKey};
use crate::x509::Subject;

fn nobody() -> Name {
    Name::from(&Subject::default())
}

#[test]
fn a_request_is_read_as_it_was_made() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let key = PrivateKey::generate(algorithm).unwrap();
        let subject = Name::from(&Subject { common_name: Some("a".into()), ..Subject::default() });
        let id = "spiffe://example.org/a".parse().unwrap();
        let wish =
            Wish { subject: &subject, spiffe_id: Some(&id), dns_names: &["a.example.org".into()] };
        let csr = Csr::parse_verified(&make(&key, &wish).unwrap()).unwrap();
        assert_eq!(csr.public_key(), key.public_key());
        assert_eq!(csr.subject(), &subject);
        assert_eq!(csr.uris(), [b"spiffe://example.org/a"]);
        assert_eq!(csr.dns_names(), [b"a.example.org"]);

        let wish = Wish { subject: &nobody(), spiffe_id: None, dns_names: &[] };
        let csr = Csr::parse_verified(&make(&key, &wish).unwrap()).unwrap();
        assert!(csr.subject().is_empty() && csr.uris().is_empty() && csr.dns_names().is_empty());
    }
}

/// What other tools write: `openssl req` with an authority's extensions asked for, and Go's
/// `x509.CreateCertificateRequest`, which always writes its attributes.
#[test]
fn requests_of_other_tools_are_read_and_their_wishes_stay_wishes() {
    let parse = |pem: &str| {
        use rustls_pki_types::CertificateSigningRequestDer;
        use rustls_pki_types::pem::PemObject as _;
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        Csr::parse_verified(&der)
    };
    let csr = parse(include_str!("tests/openssl-ca.pem")).unwrap();
    assert_eq!(csr.uris(), [&b"spiffe://example.org/a"[..], b"https://example.org"]);
    assert!(parse(include_str!("tests/openssl-p521-sha256.pem")).is_ok());
    assert!(parse(include_str!("tests/openssl-rsa-sha512.pem")).is_ok());
    let refused = parse(include_str!("tests/openssl-rsa1024.pem")).map(|_| ());
    assert_eq!(refused, Err(CsrError::Key(PublicKeyError::Weak)));
    let refused = parse(include_str!("tests/openssl-sha1.pem")).map(|_| ());
    assert_eq!(refused, Err(CsrError::Signature));
    let refused = parse(include_str!("tests/openssl-explicit-curve.pem")).map(|_| ());
    assert_eq!(refused, Err(CsrError::Key(PublicKeyError::Unsupported)));
}

/// H148: each row is a good request that was changed in one thing.
#[test]
fn a_request_that_proves_nothing_is_refused() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let id = "spiffe://example.org/a".parse().unwrap();
    let wish = Wish { subject: &nobody(), spiffe_id: Some(&id), dns_names: &[] };
    let good = make(&key, &wish).unwrap();
    let check = |request: &[u8], expected| {
        assert_eq!(Csr::parse_verified(request).map(|_| ()), expected);
    };
    check(&good, Ok(()));

    let mut other_id = good.clone();
    let at = good.windows(6).position(|window| window == b"spiffe").unwrap();
    other_id[at] = b'S';
    check(&other_id, Err(CsrError::Signature));
    let mut bad_signature = good.clone();
    *bad_signature.last_mut().unwrap() ^= 1;
    check(&bad_signature, Err(CsrError::Signature));
    check(&[&good[..], &[0]].concat(), Err(CsrError::Malformed));
    check(&good[..good.len() - 1], Err(CsrError::Malformed));
    check(&[], Err(CsrError::Malformed));
    check(&vec![0x30; 1024 * 1024], Err(CsrError::TooLong));
}

#[test]
fn no_request_survives_a_change_of_any_byte() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let wish = Wish { subject: &nobody(), spiffe_id: None, dns_names: &["a.b".into()] };
    let good = make(&key, &wish).unwrap();
    for at in 0..good.len() {
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= change;
            let outcome = Csr::parse_verified(&changed);
            assert!(outcome.is_err(), "byte {at} changed by {change:#x}");
        }
        assert!(Csr::parse_verified(&good[..at]).is_err(), "cut at byte {at}");
    }
}

#[test]
fn names_are_asked_for_once() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let id = "spiffe://example.org/a".parse().unwrap();
    let mut attributes = Writer::default();
    write_attributes(
        &mut attributes,
        &Wish { subject: &nobody(), spiffe_id: Some(&id), dns_names: &[] },
    );
    let attribute = attributes.finish();
    let request = |count: usize| {
        let mut writer = Writer::default();
        writer.nest(der::SEQUENCE, |w| {
            w.unsigned(&[0]);
            w.raw(nobody().as_der());
            w.raw(key.public_key().spki_der());
            w.nest(der::constructed(0), |w| w.raw(&attribute.repeat(count)));
        });
        let signed = writer.finish();
        let signature = key.sign(Scheme::X509, &signed).unwrap();
        let mut writer = Writer::default();
        writer.nest(der::SEQUENCE, |w| {
            w.raw(&signed);
            signature::write(w, key.public_key().kind());
            w.bytes(&signature);
        });
        Csr::parse_verified(&writer.finish()).map(|csr| csr.uris().len())
    };
    assert_eq!(request(0), Ok(0));
    assert_eq!(request(1), Ok(1));
    assert_eq!(request(2), Err(CsrError::Malformed));
}
