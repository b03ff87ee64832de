//! Certificate signing requests (PKCS #10, RFC 2986).
//!
//! A request proves that its maker has the key. What else it asks for is a wish: the issuer
//! decides what is written.

use thiserror::Error;

use super::certificate::AlternativeNames;
use super::{Name, name, signature};
use crate::der::{self, Malformed, Reader, Writer};
use crate::id::SpiffeId;
use crate::keys::{PublicKey, PublicKeyError, Scheme, SignError, Signer};

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The longest request that is read. One with an RSA key of 8192 bits takes 3 KiB.
pub const MAX_LENGTH: usize = 32 * 1024;

/// A request whose maker has the key that it names.
#[derive(Clone, Debug)]
pub struct Csr {
    public_key: PublicKey,
    subject: Name,
    uris: Vec<Vec<u8>>,
    dns_names: Vec<Vec<u8>>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The subject; an empty one is allowed.
    pub subject: &'a Name,
    /// The identity, where the request says it and not the call that carries it.
    pub spiffe_id: Option<&'a SpiffeId>,
    /// DNS names.
    pub dns_names: &'a [String],
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CsrError {
    /// The request is longer than [`MAX_LENGTH`].
    #[error("the request is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// The bytes are not DER of a request.
    #[error("the request is malformed")]
    Malformed,
    /// The key is not one that is trusted.
    #[error("the key is not trusted")]
    Key(#[from] PublicKeyError),
    /// The request is not signed with the key that it names.
    #[error("the signature does not fit the request and its key")]
    Signature,
}

/// Makes a request, as DER.
pub fn make(key: &dyn Signer, wish: &Wish<'_>) -> Result<Vec<u8>, SignError> {
    let public = key.public_key();
    let mut writer = Writer::with_capacity(512);
    writer.nest(der::SEQUENCE, |w| {
        w.unsigned(&[0]); // version 1
        w.raw(wish.subject.as_der());
        w.raw(public.spki_der());
        w.nest(der::constructed(0), |w| write_attributes(w, wish));
    });
    let signed = writer.finish();
    let signature = key.sign(Scheme::X509, &signed)?;
    let mut writer = Writer::with_capacity(signed.len() + signature.len() + 32);
    writer.nest(der::SEQUENCE, |w| {
        w.raw(&signed);
        signature::write(w, public.kind());
        w.bytes(&signature);
    });
    Ok(writer.finish())
}

impl Csr {
    /// Reads a request and checks that it is signed with the key that it names.
    pub fn parse_verified(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_LENGTH {
            return Err(CsrError::TooLong);
        }
        let (signed, algorithm, signature) = der::whole(der, der::SEQUENCE, |r| {
            Ok((r.element()?, r.expect(der::SEQUENCE)?, r.bytes()?))
        })?;
        let mut outer = Reader::new(signed.raw);
        let mut reader = outer.nested(der::SEQUENCE)?;
        if reader.unsigned()? != [0] {
            return Err(CsrError::Malformed);
        }
        let subject = Name::from_der(reader.element()?.raw)?;
        let public_key = PublicKey::from_spki(reader.element()?.raw)?;
        let names = match reader.optional(der::constructed(0))? {
            Some(attributes) => read_attributes(attributes)?,
            None => AlternativeNames::default(),
        };
        reader.finish()?;
        if !signature::verifies(&public_key, algorithm, signed.raw, signature) {
            return Err(CsrError::Signature);
        }
        let owned = |names: Vec<&[u8]>| names.into_iter().map(<[u8]>::to_vec).collect();
        let (uris, dns_names) = (owned(names.uris), owned(names.dns_names));
        Ok(Self { public_key, subject, uris, dns_names })
    }

    /// The key, which the maker of the request has.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The subject that is asked for; maybe empty.
    #[must_use]
    pub fn subject(&self) -> &Name {
        &self.subject
    }

    /// The URIs that are asked for, as raw bytes.
    #[must_use]
    pub fn uris(&self) -> &[Vec<u8>] {
        &self.uris
    }

    /// The DNS names that are asked for, as raw bytes.
    #[must_use]
    pub fn dns_names(&self) -> &[Vec<u8>] {
        &self.dns_names
    }
}

impl From<Malformed> for CsrError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

fn write_attributes(writer: &mut Writer, wish: &Wish<'_>) {
    if wish.spiffe_id.is_none() && wish.dns_names.is_empty() {
        return;
    }
    let mut names = Writer::with_capacity(256);
    names.nest(der::SEQUENCE, |w| {
        if let Some(id) = wish.spiffe_id {
            w.value(der::context(6), id.as_str().as_bytes());
        }
        for name in wish.dns_names {
            w.value(der::context(2), name.as_bytes());
        }
    });
    let mut extension = Writer::with_capacity(256);
    extension.nest(der::SEQUENCE, |w| {
        w.value(der::OID, SUBJECT_ALTERNATIVE_NAME);
        if name::is_empty(wish.subject.as_der()) {
            w.value(der::BOOLEAN, &[0xff]);
        }
        w.value(der::OCTET_STRING, &names.finish());
    });
    writer.nest(der::SEQUENCE, |w| {
        w.value(der::OID, EXTENSION_REQUEST);
        w.nest(der::SET, |w| w.value(der::SEQUENCE, &extension.finish()));
    });
}

/// The names of the one extension request there may be.
fn read_attributes(attributes: &[u8]) -> Result<AlternativeNames<'_>, Malformed> {
    let mut reader = Reader::new(attributes);
    let mut requested = None;
    while !reader.is_empty() {
        let mut attribute = reader.nested(der::SEQUENCE)?;
        let kind = attribute.oid()?;
        let values = attribute.expect(der::SET)?;
        attribute.finish()?;
        if kind == EXTENSION_REQUEST && requested.replace(values).is_some() {
            return Err(Malformed);
        }
    }
    let Some(values) = requested else {
        return Ok(AlternativeNames::default());
    };
    let mut values = Reader::new(values);
    let mut extensions = values.nested(der::SEQUENCE)?;
    values.finish()?;
    let mut names = None;
    while !extensions.is_empty() {
        let mut extension = extensions.nested(der::SEQUENCE)?;
        let kind = extension.oid()?;
        extension.default_false()?;
        let value = extension.expect(der::OCTET_STRING)?;
        extension.finish()?;
        if kind == SUBJECT_ALTERNATIVE_NAME
            && names.replace(AlternativeNames::read(value)?).is_some()
        {
            return Err(Malformed);
        }
    }
    Ok(names.unwrap_or_default())
}

#[cfg(test)]
mod tests;
