//! What the extensions of a certificate say.

use super::CertificateError;
use crate::der::{self, Malformed, Reader};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// More extensions than anybody has use for.
const MAX_EXTENSIONS: usize = 64;

/// The extensions that mean something here.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions<'a> {
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Option<Vec<&'a [u8]>>,
    pub(super) alternative_names: AlternativeNames<'a>,
    pub(super) subject_key_id: Option<&'a [u8]>,
    pub(super) authority_key_id: Option<&'a [u8]>,
    pub(super) unknown_critical: bool,
}

/// The names of a subjectAltName extension that are used here.
#[derive(Clone, Debug, Default)]
pub(in crate::x509) struct AlternativeNames<'a> {
    pub(in crate::x509) uris: Vec<&'a [u8]>,
    pub(in crate::x509) dns_names: Vec<&'a [u8]>,
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
    pub(super) fn read(list: &'a [u8]) -> Result<Self, CertificateError> {
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
    pub(in crate::x509) fn read(value: &'a [u8]) -> Result<Self, Malformed> {
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
