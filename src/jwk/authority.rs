//! What makes a certificate fit to be an authority of a bundle.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::keys::{PublicKey, PublicKeyError};
use crate::x509::{Certificate, CertificateError};

/// Why a certificate cannot vouch for anybody.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AuthorityError {
    /// It is not one DER certificate.
    #[error("not an X.509 certificate in DER")]
    Malformed(#[source] CertificateError),
    /// It is not a CA that may sign certificates.
    #[error("the certificate is not that of a CA")]
    NotACa,
    /// Its key cannot be used.
    #[error("the key of the certificate cannot be used")]
    Key(#[source] PublicKeyError),
}

/// What a bundle needs to know of a CA certificate.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) key: PublicKey,
    not_after: SystemTime,
}

impl Authority {
    /// Reads a certificate. Its names are not looked at: the specification's own example has one
    /// that is no SPIFFE ID.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, AuthorityError> {
        let certificate = Certificate::parse(der).map_err(AuthorityError::Malformed)?;
        if !certificate.is_ca() || certificate.key_usage().is_some_and(|u| !u.key_cert_sign()) {
            return Err(AuthorityError::NotACa);
        }
        let key = certificate.public_key().map_err(AuthorityError::Key)?;
        Ok(Self { key, not_after: certificate.not_after() })
    }

    /// Whether nothing that it signed can be valid any more.
    pub(super) fn has_expired(&self, now: SystemTime) -> bool {
        self.not_after + Duration::from_secs(1) <= now
    }
}
