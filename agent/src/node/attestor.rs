//! How a node proves what it is: one trait, and the methods that there are.

use std::fmt;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::server_api::node_api::{ChallengeError, Responder};

/// One method of node attestation, the agent's half.
#[tonic::async_trait]
pub trait NodeAttestor: fmt::Debug + Send + Sync {
    /// Its name on the wire.
    fn method(&self) -> &'static str;

    /// What the node can present now. Files are read anew, as they may have been replaced.
    async fn begin(&self) -> Result<Session, EvidenceError>;

    /// What whoever runs this node can do when the server refuses it.
    fn advice(&self) -> &'static str;

    /// And where there is nothing to present to a server, if more helps than to know what is wrong.
    fn advice_without_evidence(&self) -> Option<&'static str> {
        None
    }
}

/// One attestation in the making.
pub struct Session {
    /// What opens it.
    pub evidence: Zeroizing<Vec<u8>>,
    /// What tells this evidence from any other, if it can be used once only.
    pub once: Option<Mark>,
    /// Who answers the server's questions.
    pub responder: Box<dyn Responder>,
}

/// The SHA-256 hash of evidence that can be used once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark(String);

/// Why a node has nothing to present.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is not {must_be}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        must_be: &'static str,
    },
    /// The certificate is for another key.
    #[error("the certificate in {} is not for the key in {}", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// There is no way for this node to prove what it is.
    #[error(
        "there is no join token; give one by --join-token, --join-token-file or STEEPLE_JOIN_TOKEN"
    )]
    NoToken,
}

/// Answers no challenge: for methods that have none.
#[derive(Clone, Copy, Debug)]
pub struct NoChallenge;

#[tonic::async_trait]
impl Responder for NoChallenge {
    async fn respond(&self, _: &[u8]) -> Result<Vec<u8>, ChallengeError> {
        Err(ChallengeError::Unexpected)
    }
}

impl Mark {
    /// The mark of this evidence.
    #[must_use]
    pub fn of(evidence: &[u8]) -> Self {
        let digest = digest(&SHA256, evidence);
        Self(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A mark as it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The hash in lower-case hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("once", &self.once).finish_non_exhaustive()
    }
}
