//! The signature algorithms of certificates and requests.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as algorithms;

use crate::der::{self, Malformed, Reader, Writer};
use crate::keys::{KeyKind, PublicKey, Scheme};

const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

/// Writes the algorithm of signatures that a key of this kind makes by [`Scheme::X509`].
pub(super) fn write(writer: &mut Writer, kind: KeyKind) {
    writer.nest(der::SEQUENCE, |w| match kind {
        KeyKind::EcP256 => w.value(der::OID, ECDSA_SHA256),
        KeyKind::EcP384 => w.value(der::OID, ECDSA_SHA384),
        KeyKind::EcP521 => w.value(der::OID, ECDSA_SHA512),
        KeyKind::Rsa { .. } => {
            w.value(der::OID, RSA_SHA256);
            w.value(der::NULL, &[]);
        }
    });
}

/// Whether `signature` over `message` was made with `key` by `algorithm`, the content of an
/// AlgorithmIdentifier. One that is unknown or too weak verifies nothing.
pub(super) fn verifies(
    key: &PublicKey,
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Ok(identifier) = identify(algorithm) else {
        return false;
    };
    let other: &dyn SignatureVerificationAlgorithm = match (identifier, key.kind()) {
        (ECDSA_SHA256, KeyKind::EcP256)
        | (ECDSA_SHA384, KeyKind::EcP384)
        | (ECDSA_SHA512, KeyKind::EcP521)
        | (RSA_SHA256, KeyKind::Rsa { .. }) => {
            return key.verifies(Scheme::X509, message, signature);
        }
        (ECDSA_SHA384, KeyKind::EcP256) => algorithms::ECDSA_P256_SHA384,
        (ECDSA_SHA512, KeyKind::EcP256) => algorithms::ECDSA_P256_SHA512,
        (ECDSA_SHA256, KeyKind::EcP384) => algorithms::ECDSA_P384_SHA256,
        (ECDSA_SHA512, KeyKind::EcP384) => algorithms::ECDSA_P384_SHA512,
        (ECDSA_SHA256, KeyKind::EcP521) => algorithms::ECDSA_P521_SHA256,
        (ECDSA_SHA384, KeyKind::EcP521) => algorithms::ECDSA_P521_SHA384,
        (RSA_SHA384, KeyKind::Rsa { .. }) => algorithms::RSA_PKCS1_2048_8192_SHA384,
        (RSA_SHA512, KeyKind::Rsa { .. }) => algorithms::RSA_PKCS1_2048_8192_SHA512,
        _ => return false,
    };
    other.verify_signature(key.subject_public_key(), message, signature).is_ok()
}

fn identify(algorithm: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(algorithm);
    let identifier = reader.oid()?;
    match identifier {
        RSA_SHA256 | RSA_SHA384 | RSA_SHA512 => match reader.expect(der::NULL)? {
            [] => {}
            _ => return Err(Malformed),
        },
        _ => {}
    }
    reader.finish()?;
    Ok(identifier)
}
