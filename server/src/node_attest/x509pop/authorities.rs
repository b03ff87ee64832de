//! The CAs whose nodes `x509pop` believes.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::leaf::fingerprint;
use crate::node_attest::AttestError;

/// CA certificates.
#[derive(Clone, Default)]
pub struct Authorities(Vec<Authority>);

#[derive(Clone)]
struct Authority {
    anchor: TrustAnchor<'static>,
    fingerprint: String,
}

/// Why something is not a bundle of CAs.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AuthoritiesError {
    /// It is not PEM.
    #[error("is not PEM")]
    Pem,
    /// There is no certificate in it.
    #[error("has no certificate")]
    Empty,
    /// A certificate in it cannot be read.
    #[error("certificate {0} in it cannot be read")]
    Certificate(usize),
}

impl Authorities {
    /// Reads certificates in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .or(Err(AuthoritiesError::Pem))?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        let read = |(index, certificate): (usize, &CertificateDer<'static>)| {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .or(Err(AuthoritiesError::Certificate(index)))?;
            Ok(Authority { anchor: anchor.to_owned(), fingerprint: fingerprint(certificate) })
        };
        certificates.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// These and those of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Checks that `leaf` leads to one of the CAs, and gives the fingerprints of all certificates
    /// above it, in every chain that there is.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<Vec<String>, AttestError> {
        let leaf = EndEntityCert::try_from(leaf).or(Err(AttestError::Untrusted))?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = UnixTime::since_unix_epoch(now);
        let mut fingerprints = BTreeSet::new();
        for authority in &self.0 {
            let path = leaf.verify_for_usage(
                algorithms(),
                std::slice::from_ref(&authority.anchor),
                intermediates,
                now,
                AnyUsage,
                None,
                None,
            );
            let Ok(path) = path else { continue };
            fingerprints.insert(authority.fingerprint.clone());
            fingerprints
                .extend(path.intermediate_certificates().map(|cert| fingerprint(&cert.der())));
        }
        if fingerprints.is_empty() {
            return Err(AttestError::Untrusted);
        }
        Ok(fingerprints.into_iter().collect())
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|authority| &authority.fingerprint)).finish()
    }
}

/// What the certificate of a node may be used for is the business of its PKI.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    webpki::ALL_VERIFICATION_ALGS
}
