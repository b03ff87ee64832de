//! The signatures that prove possession of a node's key.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1,
    EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use x509_parser::num_bigint::BigUint;

use crate::node_attest::AttestError;

/// How long each side's nonce is.
pub(super) const NONCE_LENGTH: usize = 32;

/// The length of a SHA-256 hash.
const HASH: usize = 32;

/// A nonce.
pub(super) type Nonce = [u8; NONCE_LENGTH];

/// An RSA key of a node.
#[derive(Debug)]
pub(super) struct RsaKey {
    modulus: BigUint,
    exponent: BigUint,
}

/// A key of a node on an elliptic curve.
#[derive(Debug)]
pub(super) struct EcKey {
    algorithm: &'static EcdsaVerificationAlgorithm,
    /// How many bytes a number of the curve takes.
    width: usize,
    point: Vec<u8>,
}

/// A nonce that nobody could foresee.
pub(super) fn nonce() -> Result<Nonce, AttestError> {
    let mut nonce = [0; NONCE_LENGTH];
    aws_lc_rs::rand::fill(&mut nonce).or(Err(AttestError::Unavailable))?;
    Ok(nonce)
}

/// What is hashed and signed: the challenger's nonce and the responder's.
pub(super) fn message(ours: &Nonce, theirs: &Nonce) -> Vec<u8> {
    [*ours, *theirs].concat()
}

impl RsaKey {
    /// The key with this modulus and exponent, both big-endian.
    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) =
            (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        // An odd exponent of at most 32 bits: real ones are 65537, and each bit costs time.
        let is_fine = exponent.bit(0) && (2..=32).contains(&exponent.bits()) && modulus.bit(0);
        is_fine.then_some(Self { modulus, exponent })
    }

    /// The size of the modulus.
    pub(super) fn bits(&self) -> usize {
        usize::try_from(self.modulus.bits()).unwrap_or(usize::MAX)
    }

    /// Checks a signature by RSASSA-PSS with SHA-256 over `message` (RFC 8017 8.1.2).
    ///
    /// The salt may have any length, which is found out from the signature: SPIRE's agents take as
    /// much as the modulus has room for, and libraries verify only one length that is given.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        if signature.len() != self.bits().div_ceil(8) {
            return Err(AttestError::NoPossession);
        }
        let number = BigUint::from_bytes_be(signature);
        if number >= self.modulus {
            return Err(AttestError::NoPossession);
        }
        let encoded = number.modpow(&self.exponent, &self.modulus).to_bytes_be();
        let bits = self.bits().saturating_sub(1);
        let length = bits.div_ceil(8);
        let mut padded = vec![0; length.saturating_sub(encoded.len())];
        padded.extend(encoded);
        if padded.len() == length && is_pss(&padded, bits, digest(&SHA256, message).as_ref()) {
            Ok(())
        } else {
            Err(AttestError::NoPossession)
        }
    }
}

impl EcKey {
    /// The key with this point on the curve with this object identifier.
    pub(super) fn new(curve: &str, point: &[u8]) -> Option<Self> {
        let (algorithm, width) = match curve {
            "1.2.840.10045.3.1.7" => (&ECDSA_P256_SHA256_ASN1, 32),
            "1.3.132.0.34" => (&ECDSA_P384_SHA256_ASN1, 48),
            "1.3.132.0.35" => (&ECDSA_P521_SHA256_ASN1, 66),
            _ => return None,
        };
        Some(Self { algorithm, width, point: point.to_owned() })
    }

    /// Checks an ECDSA signature with SHA-256 over `message`.
    pub(super) fn verify(&self, message: &[u8], r: &[u8], s: &[u8]) -> Result<(), AttestError> {
        let numbers = [self.integer(r), self.integer(s)];
        let [Some(r), Some(s)] = numbers else { return Err(AttestError::NoPossession) };
        UnparsedPublicKey::new(self.algorithm, &self.point)
            .verify(message, &tagged(0x30, &[r, s].concat()))
            .or(Err(AttestError::NoPossession))
    }

    /// The DER of a number that is no larger than the curve has them.
    fn integer(&self, number: &[u8]) -> Option<Vec<u8>> {
        let start = number.iter().position(|byte| *byte != 0)?;
        let digits = number.get(start..).filter(|digits| digits.len() <= self.width)?;
        let sign: &[u8] =
            if digits.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
        Some(tagged(0x02, &[sign, digits].concat()))
    }
}

/// DER of at most 255 bytes of content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    let head: &[u8] = if length < 0x80 { &[tag, length] } else { &[tag, 0x81, length] };
    [head, content].concat()
}

/// EMSA-PSS-VERIFY (RFC 8017 9.1.2) with MGF1, SHA-256 and a salt of any length.
fn is_pss(encoded: &[u8], bits: usize, message_hash: &[u8]) -> bool {
    let Some((0xbc, body)) = encoded.split_last().map(|(last, body)| (*last, body)) else {
        return false;
    };
    let Some((masked, hash)) =
        body.len().checked_sub(HASH).and_then(|at| body.split_at_checked(at))
    else {
        return false;
    };
    let unused = encoded.len() * 8 - bits;
    let used = 0xff_u8.checked_shr(u32::try_from(unused).unwrap_or(8)).unwrap_or(0);
    if masked.first().is_none_or(|first| *first & !used != 0) {
        return false;
    }
    let mut block: Vec<u8> =
        masked.iter().zip(mask(hash, masked.len())).map(|(masked, mask)| masked ^ mask).collect();
    if let Some(first) = block.first_mut() {
        *first &= used;
    }
    let Some(one) = block.iter().position(|byte| *byte != 0) else { return false };
    let (Some(1), Some(salt)) = (block.get(one), block.get(one + 1..)) else { return false };
    digest(&SHA256, &[&[0; 8], message_hash, salt].concat()).as_ref() == hash
}

/// MGF1 with SHA-256 (RFC 8017 B.2.1).
fn mask(seed: &[u8], length: usize) -> impl Iterator<Item = u8> {
    (0_u32..)
        .flat_map(move |counter| {
            let block = digest(&SHA256, &[seed, &counter.to_be_bytes()].concat());
            block.as_ref().to_vec()
        })
        .take(length)
}
