//! CA certificates of a bundle in PEM files: one `CERTIFICATE` block after the other.

use std::collections::HashSet;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;

use super::MAX_DOCUMENT_LENGTH;
use super::authority::{Authority, AuthorityError};
use crate::bundle::X509Authority;
use crate::x509;

/// Why a file is no bundle in PEM.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PemError {
    /// It is larger than [`MAX_DOCUMENT_LENGTH`].
    #[error("larger than {MAX_DOCUMENT_LENGTH} bytes")]
    TooLong,
    /// A block does not end, or is not base64.
    #[error("a PEM block is malformed")]
    Malformed,
    /// There is no block `CERTIFICATE`.
    #[error("no PEM block `CERTIFICATE`")]
    NoCertificate,
    /// There is a block that is no certificate. A bundle is given to many; a private key in it
    /// most of all is a mistake.
    #[error("a PEM block other than `CERTIFICATE`")]
    OtherBlock,
    /// A certificate is no authority.
    #[error("certificate {index} cannot be used")]
    Certificate {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        fault: AuthorityError,
    },
}

/// Reads the CA certificates of a PEM file, each once.
pub fn parse(pem: &[u8]) -> Result<Vec<X509Authority>, PemError> {
    if pem.len() > MAX_DOCUMENT_LENGTH {
        return Err(PemError::TooLong);
    }
    let mut authorities = Vec::new();
    let mut seen = HashSet::new();
    for (index, block) in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).enumerate() {
        let (kind, der) = block.map_err(|_malformed| PemError::Malformed)?;
        if kind != SectionKind::Certificate {
            return Err(PemError::OtherBlock);
        }
        Authority::from_der(&der).map_err(|fault| PemError::Certificate { index, fault })?;
        if seen.insert(der.clone()) {
            let certificate = CertificateDer::from(der);
            authorities.push(X509Authority { certificate, tainted: false });
        }
    }
    if authorities.is_empty() { Err(PemError::NoCertificate) } else { Ok(authorities) }
}

/// Writes certificates as a PEM file, such as those of a bundle or of an SVID's chain.
#[must_use]
pub fn write<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    certificates.into_iter().map(|certificate| x509::pem("CERTIFICATE", certificate)).collect()
}

#[cfg(test)]
mod tests;
