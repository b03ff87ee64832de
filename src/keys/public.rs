//! Public keys as SubjectPublicKeyInfo, and the rule which ones are strong enough to be trusted.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};
use thiserror::Error;

use super::Scheme;
use crate::der::{self, Malformed, Reader, Writer};

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// The name of P-256, the content of an object identifier.
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The name of P-384.
pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// The largest modulus, in bits. Checking a signature takes time with the square of it.
const MAX_RSA_BITS: usize = 8192;

/// A public key that is strong enough to be trusted: EC on P-256, P-384 or P-521, or RSA of 2048
/// to 8192 bits with an odd exponent of at least 3.
#[derive(Clone)]
pub struct PublicKey {
    spki: Box<[u8]>,
    kind: KeyKind,
    parsed: ParsedPublicKey,
}

/// What kind of key a public key is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// ECDSA on P-521.
    EcP521,
    /// RSA.
    Rsa {
        /// The length of the modulus.
        bits: usize,
    },
}

/// The numbers a public key is made of, as JWK wants them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicParts<'a> {
    /// The coordinates of the point, each as long as the curve's field.
    Ec {
        /// The x coordinate.
        x: &'a [u8],
        /// The y coordinate.
        y: &'a [u8],
    },
    /// Big-endian numbers without leading zeros.
    Rsa {
        /// The modulus.
        n: &'a [u8],
        /// The exponent.
        e: &'a [u8],
    },
}

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PublicKeyError {
    /// The bytes are not a SubjectPublicKeyInfo.
    #[error("the public key is malformed")]
    Malformed,
    /// The key is neither EC on a known, named curve nor RSA.
    #[error("the public key is neither EC on P-256, P-384 or P-521 nor RSA")]
    Unsupported,
    /// The RSA key is too short or too long, or has an exponent that is too small or even.
    #[error("the RSA key is not of 2048 to 8192 bits with an odd exponent of at least 3")]
    Weak,
    /// The point is not on the curve.
    #[error("the public key is not a point on its curve")]
    NotOnCurve,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let (algorithm, key) = split(spki)?;
        let kind = kind_of(algorithm, key)?;
        let parsed = ParsedPublicKey::new(kind.x509_algorithm(), spki);
        let parsed = parsed.map_err(|_rejected| PublicKeyError::NotOnCurve)?;
        Ok(Self { spki: spki.into(), kind, parsed })
    }

    /// Makes a key from its numbers; those of an EC key need to say on which curve, by `kind`.
    pub fn from_parts(kind: KeyKind, parts: PublicParts<'_>) -> Result<Self, PublicKeyError> {
        let mut writer = Writer::with_capacity(640);
        let field = match kind {
            KeyKind::EcP256 => 32,
            KeyKind::EcP384 => 48,
            KeyKind::EcP521 => 66,
            KeyKind::Rsa { .. } => 0,
        };
        match parts {
            PublicParts::Ec { x, y } if field != 0 && x.len() == field && y.len() == field => {
                writer.nest(der::SEQUENCE, |w| {
                    write_algorithm(w, kind);
                    w.bytes(&[&[4], x, y].concat());
                });
            }
            PublicParts::Rsa { n, e } if field == 0 => writer.nest(der::SEQUENCE, |w| {
                write_algorithm(w, kind);
                let mut key = Writer::with_capacity(n.len() + 16);
                key.nest(der::SEQUENCE, |w| {
                    w.unsigned(n);
                    w.unsigned(e);
                });
                w.bytes(&key.finish());
            }),
            PublicParts::Ec { .. } | PublicParts::Rsa { .. } => {
                return Err(PublicKeyError::Malformed);
            }
        }
        Self::from_spki(&writer.finish())
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// What kind of key this is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The numbers this key is made of.
    #[must_use]
    pub fn parts(&self) -> PublicParts<'_> {
        let key = self.subject_public_key();
        match self.kind {
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => {
                let point = key.get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                PublicParts::Ec { x, y }
            }
            KeyKind::Rsa { .. } => {
                let (n, e) = rsa_numbers(key).unwrap_or_default();
                PublicParts::Rsa { n, e }
            }
        }
    }

    /// The bits of the subjectPublicKey field: the uncompressed point, or an RSAPublicKey.
    #[must_use]
    pub fn subject_public_key(&self) -> &[u8] {
        split(&self.spki).map(|(_, key)| key).unwrap_or_default()
    }

    /// The identifier that certificates carry as subject key identifier: SHA-1 over the bits of
    /// the subjectPublicKey (RFC 5280 4.2.1.2, method 1). It names a key and protects nothing.
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.subject_public_key());
        let mut identifier = [0; 20];
        identifier.copy_from_slice(hash.as_ref());
        identifier
    }

    /// Whether `signature` over `message` was made with this key in this scheme.
    #[must_use]
    pub fn verifies(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (scheme, self.kind) {
            (Scheme::X509, _) => return self.parsed.verify_sig(message, signature).is_ok(),
            (Scheme::Tls13, KeyKind::Rsa { .. }) => &RSA_PSS_2048_8192_SHA256,
            (Scheme::Jws, KeyKind::EcP256) => &ECDSA_P256_SHA256_FIXED,
            (Scheme::Jws, KeyKind::EcP384) => &ECDSA_P384_SHA384_FIXED,
            (Scheme::Jws, KeyKind::EcP521) => &ECDSA_P521_SHA512_FIXED,
            (Scheme::Jws, KeyKind::Rsa { .. })
            | (Scheme::Tls13, KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521) => {
                self.kind.x509_algorithm()
            }
        };
        ParsedPublicKey::new(algorithm, &self.spki)
            .is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

impl KeyKind {
    fn x509_algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcP256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcP384 => &ECDSA_P384_SHA384_ASN1,
            Self::EcP521 => &ECDSA_P521_SHA512_ASN1,
            Self::Rsa { .. } => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.kind).finish()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl From<Malformed> for PublicKeyError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The AlgorithmIdentifier of a public key of this kind.
pub(super) fn write_algorithm(writer: &mut Writer, kind: KeyKind) {
    writer.nest(der::SEQUENCE, |w| match kind {
        KeyKind::Rsa { .. } => {
            w.value(der::OID, RSA_ENCRYPTION);
            w.value(der::NULL, &[]);
        }
        KeyKind::EcP256 => write_curve(w, P256),
        KeyKind::EcP384 => write_curve(w, P384),
        KeyKind::EcP521 => write_curve(w, P521),
    });
}

fn write_curve(writer: &mut Writer, curve: &[u8]) {
    writer.value(der::OID, EC_PUBLIC_KEY);
    writer.value(der::OID, curve);
}

/// The AlgorithmIdentifier's content and the key's bits.
fn split(spki: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    der::whole(spki, der::SEQUENCE, |r| Ok((r.expect(der::SEQUENCE)?, r.bytes()?)))
}

fn kind_of(algorithm: &[u8], key: &[u8]) -> Result<KeyKind, PublicKeyError> {
    let mut reader = Reader::new(algorithm);
    let oid = reader.oid()?;
    if oid == RSA_ENCRYPTION {
        // RFC 3279 2.3.1: the parameters are NULL.
        let null = reader.expect(der::NULL)?;
        reader.finish()?;
        return if null.is_empty() { rsa_kind(key) } else { Err(PublicKeyError::Malformed) };
    }
    if oid != EC_PUBLIC_KEY {
        return Err(PublicKeyError::Unsupported);
    }
    let parameters = reader.element()?;
    reader.finish()?;
    let (kind, length) = match parameters.content {
        // RFC 5480 2.1.1: curves are named; parameters spelled out are an attacker's tool.
        _ if parameters.tag != der::OID => return Err(PublicKeyError::Unsupported),
        P256 => (KeyKind::EcP256, 65),
        P384 => (KeyKind::EcP384, 97),
        P521 => (KeyKind::EcP521, 133),
        _ => return Err(PublicKeyError::Unsupported),
    };
    // The uncompressed form, which all implementations know.
    if key.first() == Some(&4) && key.len() == length {
        Ok(kind)
    } else {
        Err(PublicKeyError::Malformed)
    }
}

fn rsa_kind(key: &[u8]) -> Result<KeyKind, PublicKeyError> {
    let (n, e) = rsa_numbers(key)?;
    let leading = n.first().map_or(0, |byte| byte.leading_zeros());
    let bits = n.len().saturating_mul(8).saturating_sub(leading as usize);
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let at_least_three = e.len() > 1 || e.first() >= Some(&3);
    // 33 bits are what the cryptographic library takes, and what anybody uses is 17.
    let fits = e.len() <= 4;
    if (2048..=MAX_RSA_BITS).contains(&bits) && odd(n) && odd(e) && at_least_three && fits {
        Ok(KeyKind::Rsa { bits })
    } else {
        Err(PublicKeyError::Weak)
    }
}

fn rsa_numbers(key: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    der::whole(key, der::SEQUENCE, |r| Ok((r.positive()?, r.positive()?)))
}
