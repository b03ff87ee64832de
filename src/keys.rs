//! Keys: what signs, what verifies, and where private keys live.
//!
//! A private key never leaves its [`KeyStore`]: what comes out is a [`Signer`]. The exception is
//! [`PrivateKey`], made for a workload, which the Workload API hands over as PKCS #8.
//!
//! Keys live in memory, in a directory, or in a PKCS #11 token. What lives elsewhere, such as in the
//! key service of a cloud, is one more implementation of [`KeyStore`] and [`Signer`] and of nothing
//! else: neither says how a key is reached, all of a store's calls may take long, and a signer says
//! by its [`Pace`] that its signatures do.

use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod directory;
mod memory;
pub mod pkcs11;
mod private;
mod public;

pub use self::directory::DirectoryKeyStore;
pub use self::memory::MemoryKeyStore;
use self::pkcs11::Pkcs11Error;
pub use self::private::{Pkcs8, PrivateKey, PrivateKeyError};
pub use self::public::{KeyKind, PublicKey, PublicKeyError, PublicParts};

/// What helps against what may be wrong with a file.
const REMEDIES: [(ErrorKind, &str); 4] = [
    (ErrorKind::PermissionDenied, "; make it, and the directory that it is in, the user's own"),
    (ErrorKind::StorageFull, "; free some space"),
    (ErrorKind::QuotaExceeded, "; free some space"),
    (ErrorKind::ReadOnlyFilesystem, "; mount its file system writable"),
];

/// What keys are made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on P-384.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// What a signature is for, which together with the key says how it is made and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// A certificate or a request: ECDSA as an ASN.1 sequence with the curve's hash, RSA with
    /// PKCS #1 v1.5 padding and SHA-256.
    X509,
    /// A JWS: ECDSA as two numbers of fixed length (`ES256`, `ES384`, `ES512`), RSA as `RS256`.
    Jws,
    /// TLS 1.3: ECDSA as for X.509, RSA with PSS padding, SHA-256 and a salt as long as the hash.
    Tls13,
}

/// A private key that can be used and not read.
///
/// Signing may block for as long as the key's home takes: nothing for a key in memory, a round
/// trip for one in a hardware module.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, which is hashed here. An error is temporary unless somebody else has
    /// destroyed the key.
    fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// How long that takes, which decides where it may be done.
    fn pace(&self) -> Pace;
}

/// How long a signature takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Less than a tenth of a millisecond, always.
    Quick,
    /// Milliseconds of computation, or as long as another device takes to answer: never to be
    /// waited for by a thread that has something else to do.
    Slow,
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SignError {
    /// The cryptographic library or module failed.
    #[error("the key failed to sign")]
    Failed,
    /// The key is no longer there, or out of reach.
    #[error("the key is not available")]
    Unavailable,
}

/// Where private keys live.
///
/// Every method is durable when it returns. A failed `generate` or `remove` leaves either the old
/// or the new state, never a mix, and the caller learns which by `load`. Two calls for one key at
/// the same time are the caller's fault and leave one of their results.
#[tonic::async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Makes a new key. It takes the place of the key that had this ID; signers of that one go on
    /// working for as long as they are held.
    async fn generate(
        &self,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyStoreError>;

    /// The key with this ID; none is an answer, an error is not knowing.
    async fn load(&self, id: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyStoreError>;

    /// The IDs of all keys, sorted.
    async fn list(&self) -> Result<Vec<KeyId>, KeyStoreError>;

    /// Removes the key, so that it is neither loaded nor listed any more. Signers of it go on
    /// working for as long as they are held; where keys are outside of this process, a key that
    /// is held goes by the next `remove` or `generate` for its ID after that. That there was none is
    /// not an error.
    async fn remove(&self, id: &KeyId) -> Result<(), KeyStoreError>;
}

/// The name of a key in its store: 1 to 64 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(Arc<str>);

/// A key ID is empty, too long, or has another character than `[A-Za-z0-9_-]`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a key ID is 1 to 64 characters of [A-Za-z0-9_-]")]
pub struct KeyIdError;

/// Why a key store did not do what it was asked.
#[derive(Debug, Error)]
pub enum KeyStoreError {
    /// The store itself could not be read or written.
    #[error("the key store failed")]
    Io(#[from] std::io::Error),
    /// A file of the store could not be read or written.
    #[error("{path} cannot be {action}{}", remedy(source.kind()))]
    File {
        /// The file or directory.
        path: String,
        /// What was to be done with it.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A key is there and cannot be used; somebody has to look at it.
    #[error(
        "key `{id}` in {path} cannot be used; restore that file, or move it away, and another key takes \
         its place"
    )]
    Unusable {
        /// Which key.
        id: KeyId,
        /// Its file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PrivateKeyError,
    },
    /// Others than the owner could read the keys.
    #[error("{path} may be read by others (mode {mode:o}); set its mode to {expected:o}")]
    Exposed {
        /// The file or directory.
        path: String,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        expected: u32,
    },
    /// No key could be made.
    #[error("no key could be made")]
    Generate(#[source] PrivateKeyError),
    /// The token that the keys are in did not do it.
    #[error(transparent)]
    Pkcs11(#[from] Pkcs11Error),
}

/// What would help, where that is known.
fn remedy(kind: ErrorKind) -> &'static str {
    let known = REMEDIES.iter().find(|(cause, _)| *cause == kind);
    known.map_or("", |(_, remedy)| remedy)
}

impl KeyId {
    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(KeyIdError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        })
    }
}

#[cfg(test)]
mod tests;
