//! Why a caller gets nothing, and the status that tells it so.
//!
//! PERMISSION_DENIED makes clients give up what they have, so it is for one thing alone: a
//! completed attestation that no entry matches, or none that makes a delegate, and for a node that is banned. Whatever may pass is UNAVAILABLE.

use steeple::convert::ConvertError;
use steeple::id::ParseError;
use steeple::jwt::verify::JwtError;
use thiserror::Error;
use tonic::Status;

use crate::identity::IdentityError;
use crate::peer::PeerError;

/// Why a caller gets nothing. The text goes to the caller.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum WorkloadError {
    /// It is not known who is calling.
    #[error("the caller is not known: {0}")]
    Peer(#[from] PeerError),
    /// It could not be found out what the caller is, or not enough of it.
    #[error("workload attestation failed; try again")]
    Attestation,
    /// What the caller is matches no entry (Workload Endpoint 6).
    #[error("no identity issued")]
    NoIdentity,
    /// The server has banned the node, so that nobody on it has an identity.
    #[error("no identity issued: the server has banned this node")]
    Banned,
    /// The agent has not heard from the server yet.
    #[error("the agent has not synchronised with the server yet")]
    NotSynchronised,
    /// The own trust domain has no authority.
    #[error("the trust domain has no X.509 authority at the moment")]
    NoAuthority,
    /// The credentials could not be had.
    #[error("could not fetch SVID: {0}")]
    Identity(#[from] IdentityError),
    /// What the caller may have changed as often as it was minted.
    #[error("the identities of the caller are changing; try again")]
    Changing,
    /// There are entries that ask for more than was read of the caller.
    #[error("the entries have just changed; try again")]
    Unread,
    /// The answer would be longer than clients read.
    #[error("the caller has so many identities that the answer would exceed 4 MiB")]
    TooLarge,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// There is no audience.
    #[error("audience must be specified")]
    NoAudience,
    /// There are too many audiences.
    #[error("at most {0} audiences can be in one JWT-SVID")]
    TooManyAudiences(usize),
    /// An audience cannot be in a token.
    #[error("an audience must be 1 to {0} bytes without control characters")]
    Audience(usize),
    /// The audiences are too long for one token.
    #[error("all audiences together must be at most {0} bytes")]
    Audiences(usize),
    /// The identity that was asked for cannot be read.
    #[error("invalid requested SPIFFE ID: {0}")]
    SpiffeId(ParseError),
    /// There is no token to validate.
    #[error("svid must be specified")]
    NoToken,
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// The caller may not ask for others.
    #[error("caller not configured as an authorized delegate")]
    NotDelegate,
    /// It is not said for whom a delegate asks, or twice.
    #[error("must provide either selectors or non-zero PID, but not both")]
    NoSubject,
    /// The selectors that a delegate names cannot be read.
    #[error("could not parse provided selectors: {0}")]
    Selectors(ConvertError),
    /// It could not be found out what the process is that a delegate asks for.
    #[error("workload attestation failed")]
    Subject,
    /// The process that a delegate asks for has ended, or is not what it was.
    #[error("the process that was asked for has ended or is not what it was")]
    SubjectEnded,
    /// Profiles that this agent does not have.
    #[error("fetching WIT-SVIDs is not implemented")]
    NoWit,
}

impl From<WorkloadError> for Status {
    fn from(error: WorkloadError) -> Self {
        let message = error.to_string();
        match error {
            WorkloadError::NoIdentity | WorkloadError::Banned | WorkloadError::NotDelegate => {
                Self::permission_denied(message)
            }
            WorkloadError::Peer(_)
            | WorkloadError::Attestation
            | WorkloadError::NotSynchronised
            | WorkloadError::NoAuthority
            | WorkloadError::Identity(_)
            | WorkloadError::Changing
            | WorkloadError::Unread
            | WorkloadError::TooLarge
            | WorkloadError::Stopping => Self::unavailable(message),
            WorkloadError::NoAudience
            | WorkloadError::TooManyAudiences(_)
            | WorkloadError::Audience(_)
            | WorkloadError::Audiences(_)
            | WorkloadError::SpiffeId(_)
            | WorkloadError::NoToken
            | WorkloadError::NoSubject
            | WorkloadError::Selectors(_)
            | WorkloadError::Token(_) => Self::invalid_argument(message),
            // As SPIRE has it.
            WorkloadError::Subject => Self::internal(message),
            WorkloadError::SubjectEnded => Self::not_found(message),
            WorkloadError::NoWit => Self::unimplemented(message),
        }
    }
}
