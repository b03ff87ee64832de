//! X.509-SVIDs: certificates as they are read, made and checked.
//!
//! [`Certificate`] reads one strictly, [`make`] writes the profiles, [`csr`] reads and writes
//! requests, [`verify`] decides who a peer is.

use std::fmt;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;

use crate::der::Reader;
use crate::id::{ParseError, SpiffeId};

mod certificate;
pub mod csr;
pub mod make;
mod name;
mod serial;
mod signature;
mod time;
pub mod verify;

pub use self::certificate::{BasicConstraints, Certificate, CertificateError, KeyUsage};
pub use self::name::{Name, Subject};
pub use self::serial::Serial;

/// The most certificates in a chain, leaf included; clients refuse longer ones too.
pub const MAX_CHAIN_LENGTH: usize = 16;

/// A certificate and those that lead from it towards a trust anchor, in that order. Never empty,
/// never longer than [`MAX_CHAIN_LENGTH`]. Each is one element of DER, so that they can be told apart
/// where they are written one after the other; that they hold together is not known yet.
#[derive(Clone, Eq, PartialEq)]
pub struct Chain(Vec<CertificateDer<'static>>);

/// A chain whose leaf names a SPIFFE ID, and what is known of it. Nothing about its signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Svid {
    chain: Chain,
    spiffe_id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: Serial,
    authority_key_id: Option<String>,
}

/// Why bytes are not a chain of certificates.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ChainError {
    /// There is no certificate.
    #[error("no certificate")]
    Empty,
    /// There are more than [`MAX_CHAIN_LENGTH`].
    #[error("more than {MAX_CHAIN_LENGTH} certificates")]
    TooLong,
    /// The bytes are not DER, or the text is not PEM.
    #[error("malformed certificate encoding")]
    Encoding,
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The leaf does not name exactly one URI.
    #[error("the certificate does not have exactly one URI name")]
    NotOneUri,
    /// The leaf's URI is no SPIFFE ID.
    #[error("the URI name is not a SPIFFE ID")]
    SpiffeId(#[from] ParseError),
}

impl Chain {
    /// A chain of DER certificates, the leaf first.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, ChainError> {
        let one = |der: &[u8]| Reader::new(der).element().is_ok_and(|e| e.raw.len() == der.len());
        match certificates.len() {
            0 => Err(ChainError::Empty),
            1..=MAX_CHAIN_LENGTH if certificates.iter().all(|der| one(der)) => {
                Ok(Self(certificates))
            }
            1..=MAX_CHAIN_LENGTH => Err(ChainError::Encoding),
            _ => Err(ChainError::TooLong),
        }
    }

    /// Reads DER certificates written one after the other, as the Workload API carries them.
    pub fn from_concatenated(der: &[u8]) -> Result<Self, ChainError> {
        Self::new(split_certificates(der, MAX_CHAIN_LENGTH)?)
    }

    /// Reads the certificates of a PEM text and ignores its other sections.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ChainError> {
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|_error| ChainError::Encoding)?;
            if kind == SectionKind::Certificate {
                certificates.push(CertificateDer::from(der));
            }
        }
        Self::new(certificates)
    }

    /// The first certificate.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        self.0.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// All certificates, the leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// All certificates one after the other, as the Workload API carries them.
    #[must_use]
    pub fn concatenated(&self) -> Vec<u8> {
        self.0.iter().flat_map(|certificate| certificate.iter()).copied().collect()
    }

    /// All certificates as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} certificates)", self.0.len())
    }
}

impl X509Svid {
    /// Reads the leaf of `chain`.
    pub fn new(chain: Chain) -> Result<Self, ChainError> {
        let leaf = Certificate::parse(chain.leaf())?;
        let [uri] = leaf.uris() else {
            return Err(ChainError::NotOneUri);
        };
        Ok(Self {
            spiffe_id: SpiffeId::from_bytes(uri)?,
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            serial: leaf.serial(),
            authority_key_id: leaf.authority_key_id().map(hex),
            chain,
        })
    }

    /// The key identifiers of all issuers of the chain in lower-case hexadecimal, from that of the
    /// leaf upwards: the IDs of the authorities that it depends on.
    #[must_use]
    pub fn issuer_key_ids(&self) -> Vec<String> {
        let parsed = self.chain.certificates().iter().map(|der| Certificate::parse(der));
        parsed.filter_map(|certificate| certificate.ok()?.authority_key_id().map(hex)).collect()
    }

    /// The leaf and its intermediates.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Whom the leaf names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// From when on the leaf is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the leaf is valid, to the second and including it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The serial number of the leaf.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The key identifier of the leaf's issuer in lower-case hexadecimal, which is the ID of the
    /// authority that signed it.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&str> {
        self.authority_key_id.as_deref()
    }
}

/// Takes DER certificates apart that stand back to back, as the Workload API sends them; at most
/// `limit`.
pub fn split_certificates(
    der: &[u8],
    limit: usize,
) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let mut reader = Reader::new(der);
    let mut certificates = Vec::new();
    while !reader.is_empty() {
        if certificates.len() == limit {
            return Err(ChainError::TooLong);
        }
        let element = reader.element().map_err(|_malformed| ChainError::Encoding)?;
        certificates.push(CertificateDer::from(element.raw.to_vec()));
    }
    Ok(certificates)
}

/// DER as a PEM section (RFC 7468) with this label.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |&byte| char::from(byte));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
