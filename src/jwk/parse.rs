//! Reads SPIFFE bundle documents (Trust Domain and Bundle 4), which somebody else wrote.
//!
//! What the specification leaves room for is skipped element by element: other uses, other kinds
//! of key. What is malformed although its use is known refuses the whole document, so that the
//! bundle in force stays in force: half of what a trust domain meant is not what it meant.
//! A document without any usable key is valid and revokes everything.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::authority::{Authority, AuthorityError};
use super::{JWT_SVID, LIMITS, MAX_REFRESH, WIT_SVID, X509_SVID};
use crate::bundle::{Bundle, JwtAuthority, X509Authority};
use crate::id::TrustDomain;
use crate::json::{self, Json, JsonError, Number, Object};
use crate::keys::{KeyKind, PublicKey, PublicKeyError, PublicParts};

/// Members that only a private or symmetric key has (RFC 7518 6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The longest `kid` in bytes.
const MAX_KEY_ID_LENGTH: usize = 1024;

/// What a document says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedBundle {
    /// The bundle. A sequence that is not given is 0.
    pub bundle: Bundle,
    /// The elements of `keys` that were left out, for the log.
    pub skipped: Vec<Skipped>,
}

/// An element of `keys` that was left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Which one, from 0.
    pub index: usize,
    /// Why.
    pub reason: SkipReason,
}

/// Why an element of `keys` was left out.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SkipReason {
    /// `use` is missing, is none that SPIFFE knows, or is for SVIDs that are not supported.
    #[error("no use, or one that is not supported")]
    Use,
    /// `kty` or `crv` is none that is supported.
    #[error("a type of key that is not supported")]
    KeyType,
    /// The RSA key is too weak or too long.
    #[error("an RSA key of a length or exponent that is not accepted")]
    WeakKey,
    /// `x5c` is missing or empty.
    #[error("no certificate")]
    NoCertificate,
    /// The certificate has expired.
    #[error("the certificate has expired")]
    Expired,
}

/// Why a document is no bundle. Nothing of the document is repeated.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DocumentError {
    /// It is not strict JSON.
    #[error("the bundle is not valid JSON")]
    Json(#[source] JsonError),
    /// It is not a JSON object.
    #[error("the bundle is not a JSON object")]
    NotAnObject,
    /// `keys` is missing or not an array.
    #[error("the bundle has no array `keys`")]
    NoKeys,
    /// `spiffe_sequence` is not an integer from 0 to 2^64-1.
    #[error("`spiffe_sequence` is not an integer from 0 to 2^64-1")]
    Sequence,
    /// An element of `keys` is malformed.
    #[error("keys[{index}]")]
    Key {
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        #[source]
        fault: KeyFault,
    },
}

/// What is wrong with an element of `keys` whose use is known.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum KeyFault {
    /// It is not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A member is missing or malformed.
    #[error("`{name}` is not {must_be}")]
    Member {
        /// Which member.
        name: &'static str,
        /// What it should be.
        must_be: &'static str,
    },
    /// It has a private or symmetric key in it, which by now everybody can have.
    #[error("it discloses a private or symmetric key, which must be considered compromised")]
    PrivateKey,
    /// The numbers are no public key.
    #[error("the key cannot be used")]
    Key(#[source] PublicKeyError),
    /// The certificate is no authority.
    #[error("`x5c` cannot be used")]
    Certificate(#[source] AuthorityError),
    /// The certificate is of another key than the element.
    #[error("the certificate in `x5c` has another key than the element")]
    OtherKey,
    /// Another JWT or WIT key has the same `kid`.
    #[error("`kid` is that of another key, too")]
    DuplicateKeyId,
}

/// Reads the bundle document of a trust domain.
///
/// * `spiffe_sequence` must be an integer from 0 to 2^64-1; whether it may go back is for whoever
///   stores bundles.
/// * `spiffe_refresh_hint` is ignored unless it is an integer of at least 1, and cut to
///   [`MAX_REFRESH`].
/// * A CA that has expired `now` is skipped.
pub fn bundle_document(
    trust_domain: TrustDomain,
    document: &[u8],
    now: SystemTime,
) -> Result<ParsedBundle, DocumentError> {
    let document = json::parse_object(document, &LIMITS).map_err(DocumentError::Json)?;
    read(trust_domain, &document.ok_or(DocumentError::NotAnObject)?, now)
}

/// Reads a bundle document that is JSON already.
pub(super) fn read(
    trust_domain: TrustDomain,
    document: &Object,
    now: SystemTime,
) -> Result<ParsedBundle, DocumentError> {
    let keys = document.get("keys").and_then(Json::as_array).ok_or(DocumentError::NoKeys)?;

    let mut bundle = Bundle::empty(trust_domain);
    if let Some(sequence) = document.get("spiffe_sequence") {
        let sequence = sequence.as_number().and_then(Number::as_u64);
        bundle.sequence = sequence.ok_or(DocumentError::Sequence)?;
    }
    bundle.refresh_hint = document.get("spiffe_refresh_hint").and_then(refresh_hint);

    let mut reading =
        Reading { now, bundle, key_ids: HashSet::new(), certificates: HashSet::new() };
    let mut skipped = Vec::new();
    for (index, element) in keys.iter().enumerate() {
        match reading.element(element) {
            Ok(()) => {}
            Err(Outcome::Skip(reason)) => skipped.push(Skipped { index, reason }),
            Err(Outcome::Refuse(fault)) => return Err(DocumentError::Key { index, fault }),
        }
    }
    Ok(ParsedBundle { bundle: reading.bundle, skipped })
}

pub(super) fn refresh_hint(hint: &Json) -> Option<Duration> {
    let seconds = hint.as_number().and_then(Number::as_u64).filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(MAX_REFRESH))
}

/// Why an element does not become an authority.
enum Outcome {
    Skip(SkipReason),
    Refuse(KeyFault),
}

struct Reading<'a> {
    now: SystemTime,
    bundle: Bundle,
    /// Those of JWT and WIT keys, which share one space.
    key_ids: HashSet<&'a str>,
    certificates: HashSet<Vec<u8>>,
}

impl<'a> Reading<'a> {
    fn element(&mut self, element: &'a Json) -> Result<(), Outcome> {
        let Json::Object(jwk) = element else { return Err(KeyFault::NotAnObject.into()) };
        let usage = jwk.get("use").and_then(Json::as_str);
        let usage = usage.filter(|usage| [X509_SVID, JWT_SVID, WIT_SVID].contains(usage));
        let usage = usage.ok_or(SkipReason::Use)?;
        check_secrecy(jwk)?;
        match usage {
            X509_SVID => self.x509(jwk),
            JWT_SVID => self.jwt(jwk),
            _wit_svid => {
                key_kind(jwk)?;
                if let Some(Json::String(key_id)) = jwk.get("kid") {
                    self.take_key_id(key_id)?;
                }
                Err(SkipReason::Use.into())
            }
        }
    }

    /// Trust Domain and Bundle 4.2.2, X509-SVID 6.2. A `kid` is not allowed and does no harm.
    fn x509(&mut self, jwk: &Object) -> Result<(), Outcome> {
        let chain = match jwk.get("x5c") {
            None | Some(Json::Null) => return Err(SkipReason::NoCertificate.into()),
            Some(Json::Array(chain)) if chain.is_empty() => {
                return Err(SkipReason::NoCertificate.into());
            }
            Some(chain) => chain,
        };
        let key = public_key(jwk)?;
        // The first is the authority; what follows says nothing about trust.
        let first = chain.as_array().and_then(<[_]>::first).ok_or(member("x5c", "an array"))?;
        let der = first.as_str().and_then(|text| STANDARD.decode(text).ok());
        let der = der.ok_or(member("x5c", "an array of certificates in standard base64"))?;
        let authority = match Authority::from_der(&der) {
            Ok(authority) => authority,
            Err(AuthorityError::Key(PublicKeyError::Weak)) => {
                return Err(SkipReason::WeakKey.into());
            }
            Err(error) => return Err(KeyFault::Certificate(error).into()),
        };
        if authority.key != key {
            return Err(KeyFault::OtherKey.into());
        }
        if authority.has_expired(self.now) {
            return Err(SkipReason::Expired.into());
        }
        if self.certificates.insert(der.clone()) {
            let certificate = CertificateDer::from(der);
            self.bundle.x509_authorities.push(X509Authority { certificate, tainted: false });
        }
        Ok(())
    }

    /// Trust Domain and Bundle 4.2.2, JWT-SVID 6.1.
    fn jwt(&mut self, jwk: &'a Object) -> Result<(), Outcome> {
        key_kind(jwk)?;
        let key_id = jwk.get("kid").and_then(Json::as_str);
        let key_id = key_id.filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID_LENGTH);
        let key_id = key_id.ok_or(member("kid", "a string of 1 to 1024 bytes"))?;
        self.take_key_id(key_id)?;
        let public_key = public_key(jwk)?.spki_der().to_vec();
        self.bundle.jwt_authorities.push(JwtAuthority {
            key_id: key_id.to_owned(),
            public_key,
            expires_at: None,
            tainted: false,
        });
        Ok(())
    }

    fn take_key_id(&mut self, key_id: &'a str) -> Result<(), KeyFault> {
        if self.key_ids.insert(key_id) { Ok(()) } else { Err(KeyFault::DuplicateKeyId) }
    }
}

/// No key of a known type may be disclosed. What a member of another type means is not known.
fn check_secrecy(jwk: &Object) -> Result<(), KeyFault> {
    let is_private = match jwk.get("kty").and_then(Json::as_str) {
        Some("oct") => true,
        Some("EC" | "RSA" | "OKP") => PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)),
        Some(_) | None => false,
    };
    if is_private { Err(KeyFault::PrivateKey) } else { Ok(()) }
}

/// What kind of key this is, and the members that spell it. One of a type that is not known is
/// ignored, whatever else is wrong with it (Trust Domain and Bundle 4.2.1).
fn key_kind(jwk: &Object) -> Result<(KeyKind, [&'static str; 2]), Outcome> {
    match jwk.get("kty").and_then(Json::as_str) {
        Some("EC") => match jwk.get("crv").and_then(Json::as_str) {
            Some("P-256") => Ok((KeyKind::EcP256, ["x", "y"])),
            Some("P-384") => Ok((KeyKind::EcP384, ["x", "y"])),
            Some("P-521") => Ok((KeyKind::EcP521, ["x", "y"])),
            Some(_) => Err(SkipReason::KeyType.into()),
            None => Err(member("crv", "the name of a curve").into()),
        },
        Some("RSA") => Ok((KeyKind::Rsa { bits: 0 }, ["n", "e"])),
        Some(_) | None => Err(SkipReason::KeyType.into()),
    }
}

/// The key that the members of a JWK spell (RFC 7518 6.2, 6.3).
fn public_key(jwk: &Object) -> Result<PublicKey, Outcome> {
    let (kind, [first, second]) = key_kind(jwk)?;
    let (first, second) = (number(jwk, first)?, number(jwk, second)?);
    let parts = match kind {
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => {
            PublicParts::Ec { x: &first, y: &second }
        }
        KeyKind::Rsa { .. } => PublicParts::Rsa { n: &first, e: &second },
    };
    PublicKey::from_parts(kind, parts).map_err(|error| match error {
        PublicKeyError::Weak => SkipReason::WeakKey.into(),
        PublicKeyError::Malformed | PublicKeyError::Unsupported | PublicKeyError::NotOnCurve => {
            KeyFault::Key(error).into()
        }
    })
}

fn number(jwk: &Object, name: &'static str) -> Result<Vec<u8>, KeyFault> {
    let number = jwk.get(name).and_then(Json::as_str);
    let number = number.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    number.ok_or(member(name, "a number in unpadded base64url"))
}

fn member(name: &'static str, must_be: &'static str) -> KeyFault {
    KeyFault::Member { name, must_be }
}

impl From<SkipReason> for Outcome {
    fn from(reason: SkipReason) -> Self {
        Self::Skip(reason)
    }
}

impl From<KeyFault> for Outcome {
    fn from(fault: KeyFault) -> Self {
        Self::Refuse(fault)
    }
}

#[cfg(test)]
mod tests;
