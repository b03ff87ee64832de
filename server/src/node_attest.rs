//! How a node proves to the server what it is: the server's half of each method.
//!
//! A method decides who the node is and what is known of it. Whether that agent is banned, what is
//! signed for it and what is remembered of it is the business of the caller.

use std::fmt;

use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;
use thiserror::Error;

pub mod join_token;
pub mod path_template;
pub mod x509pop;

/// The longest payload or answer to a challenge that is read, in bytes.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// The server's half of one method of node attestation.
#[tonic::async_trait]
pub trait NodeAttestor: fmt::Debug + Send + Sync {
    /// The name of the method on the wire.
    fn kind(&self) -> &'static str;

    /// Decides who the node is that opened with `payload`. It may be asked more through `node`, any
    /// number of times. An answer is proof; every doubt is an error.
    async fn attest(
        &self,
        payload: &[u8],
        node: &mut dyn Conversation,
    ) -> Result<Attested, AttestError>;
}

/// The node at the other end of an attestation.
#[tonic::async_trait]
pub trait Conversation: Send {
    /// Sends a challenge, and waits for the answer to it.
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError>;
}

/// A node that proved what it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attested {
    /// Its identity as an agent.
    pub agent_id: SpiffeId,
    /// A further name that it gets, which entries may have as their parent.
    pub name: Option<SpiffeId>,
    /// What is known of it.
    pub selectors: SelectorSet,
    /// Whether it can prove the same again, so that it need not be renewed.
    pub can_reattest: bool,
}

/// Why a node is not attested.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AttestError {
    /// What the node sent cannot be read.
    #[error("{what} is malformed: {expected}")]
    Malformed {
        /// What cannot be read.
        what: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// What the node sent is too long.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// There is no such join token.
    #[error("join token does not exist or has already been used")]
    UnknownToken,
    /// The join token has expired.
    #[error("join token expired")]
    ExpiredToken,
    /// The node's certificate does not lead to a configured CA, or is not valid now.
    #[error("certificate verification failed")]
    Untrusted,
    /// The node's certificate is of a kind that the method does not take.
    #[error("certificate cannot be used: {0}")]
    Unsuitable(&'static str),
    /// The node does not hold the key of its certificate.
    #[error("challenge response verification failed")]
    NoPossession,
    /// The configured template gives no path for this node.
    #[error("no agent path for this node: {0}")]
    AgentPath(#[from] path_template::RenderError),
    /// The conversation ended early.
    #[error("the node went away before it had answered")]
    Gone,
    /// The server is about to end.
    #[error("the server is shutting down")]
    Stopping,
    /// What is needed to decide cannot be reached.
    #[error("attestation is not available")]
    Unavailable,
}
