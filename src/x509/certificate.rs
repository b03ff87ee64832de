//! One certificate, read strictly; nothing in it is believed yet.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::{Serial, hex, name, signature, time};
use crate::der::{self, BitString, Malformed, Reader};
use crate::keys::{PublicKey, PublicKeyError};

mod extensions;

pub(super) use self::extensions::AlternativeNames;
use self::extensions::Extensions;
pub use self::extensions::{BasicConstraints, KeyUsage};

/// A certificate of version 3 (RFC 5280 4.1). It borrows the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    serial: Serial,
    issuer: &'a [u8],
    not_before: SystemTime,
    not_after: SystemTime,
    subject: &'a [u8],
    spki: &'a [u8],
    extensions: Extensions<'a>,
}

/// Why bytes are not a certificate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CertificateError {
    /// The bytes are not DER of a certificate.
    #[error("the certificate is malformed")]
    Malformed,
    /// The certificate is not of version 3.
    #[error("the certificate is not of version 3")]
    Version,
    /// The serial number is not positive, or longer than 20 bytes.
    #[error("the serial number is not positive, or longer than 20 bytes")]
    Serial,
    /// An extension appears twice.
    #[error("an extension appears twice")]
    DuplicateExtension,
    /// The signed and the unsigned algorithm differ.
    #[error("the signature algorithm is not the one that was signed")]
    Algorithm,
}

impl<'a> Certificate<'a> {
    /// Reads one certificate that is all of `der`.
    pub fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        let parts = der::whole(der, der::SEQUENCE, |r| {
            Ok((r.element()?, r.expect(der::SEQUENCE)?, r.bytes()?))
        });
        let (signed, algorithm, signature) = parts?;
        let mut outer = Reader::new(signed.raw);
        let mut reader = outer.nested(der::SEQUENCE)?;
        let version = reader.optional(der::constructed(0))?.ok_or(CertificateError::Version)?;
        if version != [der::INTEGER, 1, 2] {
            return Err(CertificateError::Version);
        }
        let serial = read_serial(&mut reader)?;
        if reader.expect(der::SEQUENCE)? != algorithm {
            return Err(CertificateError::Algorithm);
        }
        let issuer = read_name(&mut reader)?;
        let mut validity = reader.nested(der::SEQUENCE)?;
        let (not_before, not_after) = (time::read(&mut validity)?, time::read(&mut validity)?);
        validity.finish()?;
        let subject = read_name(&mut reader)?;
        let spki = read_spki(&mut reader)?;
        // issuerUniqueID and subjectUniqueID, which nobody writes and nothing here reads.
        for tag in [der::context(1), der::context(2)] {
            reader.optional(tag)?.map(BitString::read).transpose()?;
        }
        let extensions = match reader.optional(der::constructed(3))? {
            Some(extensions) => Extensions::read(extensions)?,
            None => Extensions::default(),
        };
        reader.finish()?;
        Ok(Self {
            signed: signed.raw,
            algorithm,
            signature,
            serial,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            extensions,
        })
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// From when on the certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the certificate is valid, to the second and including it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The end of the validity's last second, which belongs to it as a whole.
    pub(super) fn last_moment(&self) -> SystemTime {
        self.not_after.checked_add(Duration::from_nanos(999_999_999)).unwrap_or(self.not_after)
    }

    /// The subject, a Name as DER.
    #[must_use]
    pub fn subject(&self) -> &'a [u8] {
        self.subject
    }

    /// The issuer, a Name as DER.
    #[must_use]
    pub fn issuer(&self) -> &'a [u8] {
        self.issuer
    }

    /// The subject's public key as SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> &'a [u8] {
        self.spki
    }

    /// The subject's public key, if it is one that is trusted.
    pub fn public_key(&self) -> Result<PublicKey, PublicKeyError> {
        PublicKey::from_spki(self.spki)
    }

    /// Whether basicConstraints says that this is an authority.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
    }

    /// The basicConstraints extension.
    #[must_use]
    pub fn basic_constraints(&self) -> Option<BasicConstraints> {
        self.extensions.basic_constraints
    }

    /// The keyUsage extension.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// The object identifiers of the extendedKeyUsage extension, as the content of their DER.
    #[must_use]
    pub fn extended_key_usage(&self) -> Option<&[&'a [u8]]> {
        self.extensions.extended_key_usage.as_deref()
    }

    /// Every URI among the subject's alternative names, as its raw bytes.
    #[must_use]
    pub fn uris(&self) -> &[&'a [u8]] {
        &self.extensions.alternative_names.uris
    }

    /// Every DNS name among the subject's alternative names, as its raw bytes.
    #[must_use]
    pub fn dns_names(&self) -> &[&'a [u8]] {
        &self.extensions.alternative_names.dns_names
    }

    /// The subject key identifier.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&'a [u8]> {
        self.extensions.subject_key_id
    }

    /// The subject key identifier in lower-case hexadecimal, which is the ID of an authority.
    #[must_use]
    pub fn subject_key_id_hex(&self) -> Option<String> {
        self.extensions.subject_key_id.map(hex)
    }

    /// The key identifier of the issuer.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&'a [u8]> {
        self.extensions.authority_key_id
    }

    /// Whether a critical extension is there that nobody here understands.
    #[must_use]
    pub fn has_unknown_critical_extension(&self) -> bool {
        self.extensions.unknown_critical
    }

    /// Whether the certificate names itself as its issuer, as a root does.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the certificate is signed with its own key.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.public_key().is_ok_and(|key| self.is_signed_by(&key))
    }

    /// Whether the certificate's signature was made with this key.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        signature::verifies(key, self.algorithm, self.signed, self.signature)
    }
}

impl From<Malformed> for CertificateError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

fn read_serial(reader: &mut Reader<'_>) -> Result<Serial, CertificateError> {
    let digits = reader.positive().map_err(|_malformed| CertificateError::Serial)?;
    Serial::from_be_bytes(digits).ok_or(CertificateError::Serial)
}

/// Whether the key is one of any use is for whoever asks for it.
fn read_spki<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let element = reader.element()?;
    let mut algorithm = der::whole(element.raw, der::SEQUENCE, |r| {
        let algorithm = r.nested(der::SEQUENCE)?;
        r.bits().map(|_key| algorithm)
    })?;
    algorithm.oid()?;
    if !algorithm.is_empty() {
        algorithm.element()?;
    }
    algorithm.finish()?;
    Ok(element.raw)
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let element = reader.element()?;
    name::check(element.raw)?;
    Ok(element.raw)
}
