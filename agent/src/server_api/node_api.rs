//! What a server does for a node that wants to become or stay an agent.

use std::fmt;

use rustls::pki_types::CertificateDer;
use steeple::bundle::Bundle;
use steeple::id::SpiffeId;
use thiserror::Error;
use zeroize::Zeroizing;

use super::ServerError;

/// The calls of a node. Each ends within a deadline of its own.
#[tonic::async_trait]
pub trait NodeApi: fmt::Debug + Send + Sync {
    /// Attests the node. The server may ask `responder` any number of questions, within reason.
    async fn attest(
        &self,
        opening: Opening,
        responder: &dyn Responder,
    ) -> Result<Attested, AttestError>;

    /// A new SVID for the key of `csr`. The old one is valid until the new one is first used.
    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, ServerError>;

    /// Tells the server which version this agent is.
    async fn post_status(&self, version: &str) -> Result<(), ServerError>;

    /// The bundle of the server's trust domain.
    async fn own_bundle(&self) -> Result<Bundle, ServerError>;
}

/// Answers the server's questions during an attestation.
#[tonic::async_trait]
pub trait Responder: Send + Sync {
    /// The answer to one challenge, as it travels. An error ends the attestation.
    async fn respond(&self, challenge: &[u8]) -> Result<Vec<u8>, ChallengeError>;
}

/// How an attestation begins.
pub struct Opening {
    /// The method, as it is named on the wire.
    pub method: &'static str,
    /// The evidence. It may be worth an identity to whoever reads it.
    pub evidence: Zeroizing<Vec<u8>>,
    /// A certificate request in DER for the agent's key.
    pub csr: Vec<u8>,
}

/// An attestation that succeeded, as the server sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attested {
    /// Whom the server says this agent is.
    pub spiffe_id: SpiffeId,
    /// The leaf and its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether the method works again for the same node.
    pub reattestable: bool,
}

/// Why an attestation did not succeed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AttestError {
    /// The server refused, or cannot be reached.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server asked something that has no answer.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
}

/// Why a challenge is not answered.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ChallengeError {
    /// The method has no challenges.
    #[error("the server sent a challenge, which this method does not have")]
    Unexpected,
    /// The challenge is not what this method's challenges look like.
    #[error("the server's challenge cannot be read: {0}")]
    Malformed(String),
    /// The key could not sign.
    #[error("the key did not sign the server's challenge")]
    Sign,
    /// The server goes on asking.
    #[error("the server asks without end")]
    Endless,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("method", &self.method).finish_non_exhaustive()
    }
}
