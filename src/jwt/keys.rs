//! The keys of one bundle, prepared to verify tokens with.
//!
//! The verifier is chosen by the key; a token's `alg` only has to be one that this key allows
//! (RFC 8725 3.1). Preparing costs as much as several verifications, so it is done once for each
//! change of a bundle.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    VerificationAlgorithm,
};

use super::Algorithm;
use crate::bundle::JwtAuthority;
use crate::keys::{KeyKind, PublicKey};

/// The prepared JWT keys of one trust domain.
#[derive(Clone, Default)]
pub struct JwtKeys {
    /// Oldest first.
    keys: Vec<JwtKey>,
    by_id: HashMap<String, usize>,
    unusable: Vec<String>,
}

/// A key that tokens are verified with.
#[derive(Clone)]
pub(super) struct JwtKey {
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl JwtKeys {
    /// Prepares the keys of a bundle.
    ///
    /// A key that JWT-SVID has no algorithm for, a weak one (H105) and keys that share a key ID
    /// are left out; [`Self::unusable`] names them.
    #[must_use]
    pub fn new(authorities: &[JwtAuthority]) -> Self {
        let mut wanted: HashMap<&str, Option<&JwtAuthority>> = HashMap::new();
        for authority in authorities {
            match wanted.entry(&authority.key_id) {
                Entry::Vacant(entry) => drop(entry.insert(Some(authority))),
                // Which of the two is meant is for nobody to guess.
                Entry::Occupied(mut entry) => drop(entry.insert(None)),
            }
        }
        let mut keys = Self::default();
        for authority in authorities {
            let alone = wanted.get(authority.key_id.as_str()).copied().flatten();
            match alone.and_then(|authority| JwtKey::new(&authority.public_key)) {
                Some(key) => {
                    keys.by_id.insert(authority.key_id.clone(), keys.keys.len());
                    keys.keys.push(key);
                }
                None => keys.unusable.push(authority.key_id.clone()),
            }
        }
        keys
    }

    /// The IDs of the keys that were left out.
    #[must_use]
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// Whether no token can be valid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is a key of this ID.
    #[must_use]
    pub fn contains(&self, key_id: &str) -> bool {
        self.by_id.contains_key(key_id)
    }

    /// The key of this ID.
    pub(super) fn by_id(&self, key_id: &str) -> Option<&JwtKey> {
        self.by_id.get(key_id).and_then(|index| self.keys.get(*index))
    }

    /// The keys that an algorithm fits, newest first.
    pub(super) fn that_allow(&self, algorithm: Algorithm) -> impl Iterator<Item = &JwtKey> {
        self.keys.iter().rev().filter(move |key| key.allows(algorithm))
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_id.keys()).finish()
    }
}

impl JwtKey {
    fn new(spki: &[u8]) -> Option<Self> {
        let algorithms: &[Algorithm] = match PublicKey::from_spki(spki).ok()?.kind() {
            KeyKind::EcP256 => &[Algorithm::Es256],
            KeyKind::EcP384 => &[Algorithm::Es384],
            KeyKind::EcP521 => &[Algorithm::Es512],
            KeyKind::Rsa { .. } => &[
                Algorithm::Rs256,
                Algorithm::Rs384,
                Algorithm::Rs512,
                Algorithm::Ps256,
                Algorithm::Ps384,
                Algorithm::Ps512,
            ],
        };
        let verifier = |algorithm: &Algorithm| {
            let parsed = ParsedPublicKey::new(verification(*algorithm), spki).ok()?;
            Some((*algorithm, parsed))
        };
        Some(Self { verifiers: algorithms.iter().map(verifier).collect::<Option<_>>()? })
    }

    /// Whether a token that this key signed may name that algorithm.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(allowed, _)| *allowed == algorithm)
    }

    /// Whether `signature` is that of `signed` by this key and algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verifier = self.verifiers.iter().find(|(allowed, _)| *allowed == algorithm);
        verifier.is_some_and(|(_, key)| key.verify_sig(signed, signature).is_ok())
    }
}

fn verification(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
    }
}

#[cfg(test)]
mod tests;
