//! The status codes of errors that come from further in.

use tonic::Code;

use crate::ca::IssueError;
use crate::ca::request::Refusal;
use crate::ca::upstream::UpstreamError;
use crate::node_attest::AttestError;
use crate::registry::bundles::BundleWriteError;
use crate::registry::entries::EntryWriteError;
use crate::registry::nodes::NodeWriteError;
use crate::registry::relationships::RelationshipWriteError;
use crate::registry::tokens::TokenError;

pub(super) fn entry_code(error: &EntryWriteError) -> Code {
    match error {
        EntryWriteError::Similar(_) | EntryWriteError::IdTaken(_) => Code::AlreadyExists,
        EntryWriteError::NotFound(_) => Code::NotFound,
        EntryWriteError::Revision { .. } => Code::Aborted,
        EntryWriteError::NoFederatedBundle(_) => Code::FailedPrecondition,
        EntryWriteError::Invalid(_) => Code::InvalidArgument,
        EntryWriteError::NotWritten(_) => Code::Unavailable,
    }
}

pub(super) fn node_code(error: &NodeWriteError) -> Code {
    match error {
        NodeWriteError::NotFound(_) => Code::NotFound,
        NodeWriteError::Banned | NodeWriteError::NotActive => Code::PermissionDenied,
        NodeWriteError::AgentVersion => Code::InvalidArgument,
        NodeWriteError::NotWritten(_) => Code::Unavailable,
    }
}

pub(super) fn token_code(error: &TokenError) -> Code {
    match error {
        TokenError::Exists => Code::AlreadyExists,
        TokenError::Unknown | TokenError::Expired => Code::InvalidArgument,
        TokenError::NotWritten(_) => Code::Unavailable,
    }
}

pub(super) fn bundle_code(error: &BundleWriteError) -> Code {
    match error {
        BundleWriteError::Exists => Code::AlreadyExists,
        BundleWriteError::NotFound => Code::NotFound,
        BundleWriteError::InUse(_) => Code::FailedPrecondition,
        BundleWriteError::Own => Code::InvalidArgument,
        BundleWriteError::NotWritten(_) => Code::Unavailable,
    }
}

pub(super) fn relationship_code(error: &RelationshipWriteError) -> Code {
    match error {
        RelationshipWriteError::Exists => Code::AlreadyExists,
        RelationshipWriteError::NotFound => Code::NotFound,
        RelationshipWriteError::ForeignBundle(_) => Code::InvalidArgument,
        RelationshipWriteError::Bundle(error) => bundle_code(error),
        RelationshipWriteError::NotWritten(_) => Code::Unavailable,
    }
}

pub(super) fn attest_code(error: &AttestError) -> Code {
    match error {
        AttestError::Malformed { .. }
        | AttestError::TooLong(_)
        | AttestError::UnknownToken
        | AttestError::ExpiredToken => Code::InvalidArgument,
        AttestError::Untrusted
        | AttestError::Unsuitable(_)
        | AttestError::NoPossession
        | AttestError::AgentPath(_) => Code::PermissionDenied,
        AttestError::Gone => Code::Cancelled,
        AttestError::Stopping | AttestError::Unavailable => Code::Unavailable,
    }
}

/// Whatever it was, to ask again is right, and what is wrong above is not the caller's fault.
pub(super) fn upstream_code(error: &UpstreamError) -> Code {
    match error {
        UpstreamError::Unavailable(_) | UpstreamError::Refused(_) | UpstreamError::Answer(_) => {
            Code::Unavailable
        }
    }
}

pub(super) fn issue_code(error: &IssueError) -> Code {
    match error {
        IssueError::Refused(refusal) => refusal_code(refusal),
        IssueError::Unrecorded(_) => Code::Unavailable,
        IssueError::Sign(error) if error.is_unavailable() => Code::Unavailable,
        IssueError::Sign(_) => Code::Internal,
    }
}

fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::ForeignTrustDomain(..)
        | Refusal::NoPath(_)
        | Refusal::Reserved(_)
        | Refusal::NotAnAgent(_)
        | Refusal::NoLife
        | Refusal::LifeTooLong
        | Refusal::NoAudience
        | Refusal::TooManyAudiences
        | Refusal::EmptyAudience
        | Refusal::AudienceTooLong
        | Refusal::AudienceControl
        | Refusal::Certificate(_) => Code::InvalidArgument,
        Refusal::AuthorityExpired => Code::Unavailable,
        Refusal::NoTokens => Code::Unimplemented,
        Refusal::Random => Code::Internal,
    }
}
