//! One certificate, read strictly; nothing in it is believed yet.

use std::time::SystemTime;

use thiserror::Error;

use super::{Serial, hex, name, signature, time};
use crate::der::{self, Malformed, Reader};
use crate::keys::{PublicKey, PublicKeyError};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// More extensions than anybody has use for.
const MAX_EXTENSIONS: usize = 64;

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

/// The extensions that mean something here.
#[derive(Clone, Debug, Default)]
struct Extensions<'a> {
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<Vec<&'a [u8]>>,
    alternative_names: AlternativeNames<'a>,
    subject_key_id: Option<&'a [u8]>,
    authority_key_id: Option<&'a [u8]>,
    unknown_critical: bool,
}

/// The names of a subjectAltName extension that are used here.
#[derive(Clone, Debug, Default)]
pub(super) struct AlternativeNames<'a> {
    pub(super) uris: Vec<&'a [u8]>,
    pub(super) dns_names: Vec<&'a [u8]>,
}

/// Whether a certificate is an authority's (RFC 5280 4.2.1.9).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BasicConstraints {
    /// Whether the certificate is an authority's.
    pub ca: bool,
    /// How many more authorities may follow below.
    pub path_length: Option<u8>,
}

/// What a certificate's key may be used for (RFC 5280 4.2.1.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyUsage {
    bits: u16,
    critical: bool,
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
        let spki = reader.element()?;
        // issuerUniqueID and subjectUniqueID, which nobody writes and nothing here reads.
        reader.optional(der::context(1))?;
        reader.optional(der::context(2))?;
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
            spki: spki.raw,
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

    /// Whether the certificate is valid at this time.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        // The last second belongs to the validity as a whole.
        self.not_before <= now && now < self.not_after + std::time::Duration::from_secs(1)
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

impl KeyUsage {
    const DIGITAL_SIGNATURE: u16 = 0x8000;
    const KEY_CERT_SIGN: u16 = 0x0400;
    const CRL_SIGN: u16 = 0x0200;

    /// Whether the key may make signatures other than those of certificates and their lists.
    #[must_use]
    pub fn digital_signature(self) -> bool {
        self.bits & Self::DIGITAL_SIGNATURE != 0
    }

    /// Whether the key may sign certificates.
    #[must_use]
    pub fn key_cert_sign(self) -> bool {
        self.bits & Self::KEY_CERT_SIGN != 0
    }

    /// Whether the key may sign lists of revoked certificates.
    #[must_use]
    pub fn crl_sign(self) -> bool {
        self.bits & Self::CRL_SIGN != 0
    }

    /// Whether the extension is critical.
    #[must_use]
    pub fn is_critical(self) -> bool {
        self.critical
    }

    fn read(value: &[u8], critical: bool) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value);
        let list = reader.bits()?;
        reader.finish()?;
        let last = list.bytes.last().copied().ok_or(Malformed)?;
        // The last bit that is written is set (X.690 11.2.2), and RFC 5280 names nine of them.
        if last & (1 << list.unused) == 0 {
            return Err(Malformed);
        }
        let bits = match *list.bytes {
            [first] => u16::from_be_bytes([first, 0]),
            [first, second @ 0x80] => u16::from_be_bytes([first, second]),
            _ => return Err(Malformed),
        };
        Ok(Self { bits, critical })
    }
}

impl<'a> Extensions<'a> {
    fn read(list: &'a [u8]) -> Result<Self, CertificateError> {
        let mut outer = Reader::new(list);
        let mut entries = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let mut extensions = Self::default();
        let mut seen: Vec<&[u8]> = Vec::with_capacity(8);
        while !entries.is_empty() {
            let mut entry = entries.nested(der::SEQUENCE)?;
            let kind = entry.oid()?;
            let critical = entry.default_false()?;
            let value = entry.expect(der::OCTET_STRING)?;
            entry.finish()?;
            if seen.contains(&kind) {
                return Err(CertificateError::DuplicateExtension);
            }
            if seen.len() == MAX_EXTENSIONS {
                return Err(CertificateError::Malformed);
            }
            seen.push(kind);
            extensions.take(kind, critical, value)?;
        }
        if seen.is_empty() { Err(CertificateError::Malformed) } else { Ok(extensions) }
    }

    fn take(&mut self, kind: &[u8], critical: bool, value: &'a [u8]) -> Result<(), Malformed> {
        match kind {
            BASIC_CONSTRAINTS => self.basic_constraints = Some(BasicConstraints::read(value)?),
            KEY_USAGE => self.key_usage = Some(KeyUsage::read(value, critical)?),
            EXTENDED_KEY_USAGE => self.extended_key_usage = Some(read_purposes(value)?),
            SUBJECT_ALTERNATIVE_NAME => self.alternative_names = AlternativeNames::read(value)?,
            SUBJECT_KEY_IDENTIFIER => self.subject_key_id = Some(read_key_id(value)?),
            AUTHORITY_KEY_IDENTIFIER => self.authority_key_id = read_authority_key_id(value)?,
            // Whoever builds paths enforces these.
            NAME_CONSTRAINTS => {}
            _ => self.unknown_critical |= critical,
        }
        Ok(())
    }
}

impl BasicConstraints {
    fn read(value: &[u8]) -> Result<Self, Malformed> {
        der::whole(value, der::SEQUENCE, |r| {
            let ca = r.default_false()?;
            let path_length = if r.is_empty() { None } else { Some(r.small()?) };
            Ok(Self { ca, path_length })
        })
    }
}

impl<'a> AlternativeNames<'a> {
    pub(super) fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(value);
        let mut reader = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let mut names = Self::default();
        loop {
            let name = reader.element()?;
            match name.tag {
                0x86 => names.uris.push(name.content),
                0x82 => names.dns_names.push(name.content),
                // otherName, rfc822Name, x400Address, directoryName, ediPartyName, iPAddress and
                // registeredID. Anything else is one of these in an encoding that DER has not.
                0xa0 | 0x81 | 0xa3 | 0xa4 | 0xa5 | 0x87 | 0x88 => {}
                _ => return Err(Malformed),
            }
            if reader.is_empty() {
                return Ok(names);
            }
        }
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

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let element = reader.element()?;
    name::check(element.raw)?;
    Ok(element.raw)
}

fn read_purposes(value: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    der::whole(value, der::SEQUENCE, |r| {
        let mut purposes = vec![r.oid()?];
        while !r.is_empty() {
            purposes.push(r.oid()?);
        }
        Ok(purposes)
    })
}

fn read_key_id(value: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(value);
    let id = reader.expect(der::OCTET_STRING)?;
    reader.finish()?;
    Ok(id)
}

fn read_authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    der::whole(value, der::SEQUENCE, |r| {
        let id = r.optional(der::context(0))?;
        r.optional(der::constructed(1))?;
        r.optional(der::context(2))?;
        Ok(id)
    })
}
