//! Private keys in this process's memory.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::public::write_algorithm;
use super::{KeyAlgorithm, KeyKind, Pace, PublicKey, PublicKeyError, Scheme, SignError, Signer};
use crate::der::{self, Writer};

/// A private key in memory. It cannot be copied or printed; [`PrivateKey::pkcs8`] is how a
/// workload gets its own.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

/// An unencrypted PKCS #8 document, wiped when dropped.
pub struct Pkcs8(Zeroizing<Vec<u8>>);

/// Why there is no private key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PrivateKeyError {
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Failed,
    /// The text has no PEM block with a private key.
    #[error("no unencrypted private key in PEM form")]
    Pem,
    /// The bytes are no private key of a kind that is used here.
    #[error("not an unencrypted EC (P-256, P-384, P-521) or RSA private key")]
    Malformed,
    /// The key is of a kind that is not trusted.
    #[error("the key is not trusted")]
    Policy(#[from] PublicKeyError),
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl PrivateKey {
    /// Makes a new key. An RSA key takes a second or more of a core.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, PrivateKeyError> {
        let pair = match algorithm {
            KeyAlgorithm::EcP256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Pair::Ec)
            }
            KeyAlgorithm::EcP384 => {
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Pair::Ec)
            }
            KeyAlgorithm::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::rsa),
            KeyAlgorithm::Rsa4096 => RsaKeyPair::generate(KeySize::Rsa4096).map(Pair::rsa),
        };
        Self::new(pair.map_err(|_unspecified| PrivateKeyError::Failed)?)
    }

    /// Reads an unencrypted PKCS #8 document, of version 0 or 1.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, PrivateKeyError> {
        let curves: [&'static EcdsaSigningAlgorithm; 3] = [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            &ECDSA_P521_SHA512_ASN1_SIGNING,
        ];
        let ec = |curve| EcdsaKeyPair::from_pkcs8(curve, pkcs8).map(Pair::Ec).ok();
        let rsa = || RsaKeyPair::from_pkcs8(pkcs8).map(Pair::rsa).ok();
        let pair = curves.into_iter().find_map(ec).or_else(rsa);
        Self::new(pair.ok_or(PrivateKeyError::Malformed)?)
    }

    /// Reads the first private key of a PEM file: PKCS #8, or what older tools write for EC
    /// (RFC 5915) and RSA (PKCS #1).
    pub fn from_pem(pem: &[u8]) -> Result<Self, PrivateKeyError> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Sec1(der)) => Self::from_sec1(der.secret_sec1_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => {
                let pair = RsaKeyPair::from_der(der.secret_pkcs1_der());
                Self::new(pair.map(Pair::rsa).map_err(|_rejected| PrivateKeyError::Malformed)?)
            }
            Ok(_) | Err(_) => Err(PrivateKeyError::Pem),
        }
    }

    /// The key as PKCS #8, to be handed to its owner: RFC 5208, version 0, without attributes,
    /// which is what every client library reads.
    pub fn pkcs8(&self) -> Result<Pkcs8, PrivateKeyError> {
        match &self.pair {
            Pair::Ec(pair) => {
                let secret: EcPrivateKeyBin<'_> = pair
                    .private_key()
                    .as_be_bytes()
                    .map_err(|_unspecified| PrivateKeyError::Failed)?;
                Ok(Pkcs8(Zeroizing::new(self.ec_pkcs8(secret.as_ref()))))
            }
            Pair::Rsa(pair) => {
                let document: Pkcs8V1Der<'_> =
                    pair.as_der().map_err(|_unspecified| PrivateKeyError::Failed)?;
                Ok(Pkcs8(Zeroizing::new(document.as_ref().to_vec())))
            }
        }
    }

    fn from_sec1(sec1: &[u8]) -> Result<Self, PrivateKeyError> {
        let curves: [&'static EcdsaSigningAlgorithm; 3] = [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            &ECDSA_P521_SHA512_ASN1_SIGNING,
        ];
        let pair = curves
            .into_iter()
            .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, sec1).map(Pair::Ec).ok());
        Self::new(pair.ok_or(PrivateKeyError::Malformed)?)
    }

    fn new(pair: Pair) -> Result<Self, PrivateKeyError> {
        let spki = match &pair {
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        let spki = spki.map_err(|_unspecified| PrivateKeyError::Failed)?;
        Ok(Self { pair, public: PublicKey::from_spki(spki.as_ref())? })
    }

    /// The inner ECPrivateKey (RFC 5915) carries the public key, as OpenSSL writes it. The curve
    /// is named once, outside.
    fn ec_pkcs8(&self, secret: &[u8]) -> Vec<u8> {
        // Never grows beyond its capacity, which would leave a copy of the secret behind.
        let mut writer = Writer::with_capacity(secret.len() * 3 + 96);
        writer.nest(der::SEQUENCE, |w| {
            w.unsigned(&[0]);
            write_algorithm(w, self.public.kind());
            w.nest(der::OCTET_STRING, |w| {
                w.nest(der::SEQUENCE, |w| {
                    w.unsigned(&[1]);
                    w.value(der::OCTET_STRING, secret);
                    w.nest(der::constructed(1), |w| w.bytes(self.public.subject_public_key()));
                });
            });
        });
        writer.finish()
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                let signature = signature.map_err(|_unspecified| SignError::Failed)?;
                match scheme {
                    Scheme::X509 | Scheme::Tls13 => Ok(signature.as_ref().to_vec()),
                    Scheme::Jws => fixed_length(signature.as_ref(), self.public.kind()),
                }
            }
            Pair::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match scheme {
                    Scheme::X509 | Scheme::Jws => &RSA_PKCS1_SHA256,
                    Scheme::Tls13 => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_unspecified| SignError::Failed)?;
                Ok(signature)
            }
        }
    }

    fn pace(&self) -> Pace {
        match self.public.kind() {
            KeyKind::EcP256 => Pace::Quick,
            KeyKind::EcP384 | KeyKind::EcP521 | KeyKind::Rsa { .. } => Pace::Slow,
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, redacted)", self.public.kind())
    }
}

impl Pkcs8 {
    /// The DER bytes of the key.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pkcs8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pkcs8(redacted)")
    }
}

impl Pair {
    fn rsa(pair: RsaKeyPair) -> Self {
        Self::Rsa(Box::new(pair))
    }
}

/// Turns an ASN.1 signature into two numbers, each as long as the curve's order (RFC 7518 3.4).
fn fixed_length(asn1: &[u8], kind: KeyKind) -> Result<Vec<u8>, SignError> {
    let length = match kind {
        KeyKind::EcP256 => 32,
        KeyKind::EcP384 => 48,
        KeyKind::EcP521 => 66,
        KeyKind::Rsa { .. } => return Err(SignError::Failed),
    };
    let numbers = der::whole(asn1, der::SEQUENCE, |r| Ok([r.positive()?, r.positive()?]));
    let numbers = numbers.map_err(|_malformed| SignError::Failed)?;
    let mut fixed = Vec::with_capacity(2 * length);
    for number in numbers {
        let padding = length.checked_sub(number.len()).ok_or(SignError::Failed)?;
        fixed.resize(fixed.len() + padding, 0);
        fixed.extend_from_slice(number);
    }
    Ok(fixed)
}
