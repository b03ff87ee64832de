//! What `x509pop` reads in a node's certificate.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use steeple::id::TrustDomain;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::proof::{EcKey, RsaKey};
use crate::node_attest::AttestError;

/// The smallest RSA key that proves anything, in bits.
const MIN_RSA_BITS: usize = 2_048;

/// A node's certificate.
#[derive(Debug)]
pub(super) struct Leaf {
    /// SHA-1 over the certificate, in hexadecimal, as SPIRE names agents by it.
    pub(super) fingerprint: String,
    /// The serial number in hexadecimal, with an even number of digits.
    pub(super) serial_hex: String,
    /// The subject's common name.
    pub(super) common_name: Option<String>,
    /// What URI names of the form `x509pop://TRUST-DOMAIN/KEY/VALUE` say.
    pub(super) san_selectors: BTreeMap<String, String>,
    /// Its key.
    pub(super) key: LeafKey,
}

/// A key that a node can prove that it has.
#[derive(Debug)]
pub(super) enum LeafKey {
    Rsa(RsaKey),
    Ec(EcKey),
}

impl Leaf {
    /// Reads a certificate.
    pub(super) fn read(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, AttestError> {
        let malformed =
            AttestError::Malformed { what: "certificate", expected: "an X.509 certificate in DER" };
        let (rest, certificate) = X509Certificate::from_der(der).or(Err(malformed.clone()))?;
        if !rest.is_empty() {
            return Err(malformed);
        }
        let signs = certificate
            .key_usage()
            .or(Err(malformed.clone()))?
            .is_some_and(|usage| usage.value.digital_signature());
        if !signs {
            return Err(AttestError::Unsuitable("its key usage does not have digitalSignature"));
        }
        let names = certificate.subject_alternative_name().or(Err(malformed.clone()))?;
        let prefix = format!("x509pop://{trust_domain}/");
        let san_selectors = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => uri.strip_prefix(&prefix)?.split_once('/'),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::DNSName(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => None,
            })
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let common_name = certificate
            .subject()
            .iter_common_name()
            .last()
            .and_then(|name| name.as_str().ok())
            .filter(|name| !name.is_empty())
            .map(ToOwned::to_owned);
        Ok(Self {
            fingerprint: fingerprint(der),
            serial_hex: hex(certificate.serial.to_bytes_be().as_slice()),
            common_name,
            san_selectors,
            key: LeafKey::of(&certificate)?,
        })
    }
}

impl LeafKey {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, AttestError> {
        let unsuitable =
            AttestError::Unsuitable("its key is neither RSA nor on P-256, P-384 or P-521");
        match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => {
                Ok(Self::Rsa(RsaKey::new(key.modulus, key.exponent).ok_or(unsuitable)?))
            }
            Ok(PublicKey::EC(point)) => {
                let parameters = certificate.public_key().algorithm.parameters.as_ref();
                let curve =
                    parameters.and_then(|curve| curve.as_oid().ok()).ok_or(unsuitable.clone())?;
                Ok(Self::Ec(EcKey::new(&curve.to_id_string(), point.data()).ok_or(unsuitable)?))
            }
            Ok(
                PublicKey::DSA(_)
                | PublicKey::GostR3410(_)
                | PublicKey::GostR3410_2012(_)
                | PublicKey::Unknown(_),
            )
            | Err(_) => Err(unsuitable),
        }
    }

    /// Whether the key is strong enough, and cheap enough to check against.
    pub(super) fn check(&self, max_rsa_bits: usize) -> Result<(), AttestError> {
        match self {
            Self::Rsa(key) if key.bits() > max_rsa_bits => {
                Err(AttestError::Unsuitable("its RSA key is larger than the server checks"))
            }
            Self::Rsa(key) if key.bits() < MIN_RSA_BITS => {
                Err(AttestError::Unsuitable("its RSA key has fewer than 2048 bits"))
            }
            Self::Rsa(_) | Self::Ec(_) => Ok(()),
        }
    }
}

/// SHA-1 over a certificate, in hexadecimal. It is a name and proves nothing.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
