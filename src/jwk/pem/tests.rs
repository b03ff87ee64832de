//! PEM files: written and read back, and what is no bundle.

use super::*;
use crate::jwk::testing::{CA, ED25519, Kind, OTHER_CA, RIGHT, certificate};
use crate::keys::PublicKeyError;
use crate::x509::CertificateError;

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    parse(pem.as_bytes())
        .map(|authorities| authorities.into_iter().map(|one| one.certificate).collect())
}

#[test]
fn a_written_bundle_is_read_back() {
    let pem = write([&*CA, &*OTHER_CA]);
    assert_eq!(certificates(&pem), Ok(vec![CA.clone(), OTHER_CA.clone()]));
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(pem.ends_with("\n-----END CERTIFICATE-----\n"));
    assert_eq!(write([]), "");
    // What tools put around blocks does no harm, nor does a certificate that is there twice.
    let commented = format!("# own.test\r\n{}\n\nfriend:\n{pem}", write([&*CA]));
    assert_eq!(certificates(&commented), Ok(vec![CA.clone(), OTHER_CA.clone()]));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = write([&*CA]);
    assert_eq!(certificates(&good), Ok(vec![CA.clone()]));
    assert_eq!(certificates(""), Err(PemError::NoCertificate));
    assert_eq!(certificates("{\"keys\":[]}"), Err(PemError::NoCertificate));
    assert_eq!(certificates(good.trim_end_matches("-\n")), Err(PemError::Malformed));
    assert_eq!(certificates(&good.replace("MII", "M?I")), Err(PemError::Malformed));
    let key = good.replace("CERTIFICATE", "PRIVATE KEY");
    assert_eq!(certificates(&format!("{good}{key}")), Err(PemError::OtherBlock));
    let long = " ".repeat(MAX_DOCUMENT_LENGTH + 1);
    assert_eq!(certificates(&long), Err(PemError::TooLong));
    for (kind, fault) in [
        (Kind { is_ca: false, usages: &[], ..RIGHT }, AuthorityError::NotACa),
        (ED25519, AuthorityError::Key(PublicKeyError::Unsupported)),
    ] {
        let pem = write([&*CA, &certificate(kind)]);
        assert_eq!(certificates(&pem), Err(PemError::Certificate { index: 1, fault }));
    }
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let fault = AuthorityError::Malformed(CertificateError::Malformed);
    assert_eq!(certificates(garbage), Err(PemError::Certificate { index: 0, fault }));
}
