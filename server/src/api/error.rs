//! Errors become gRPC statuses here and nowhere else. A status tells the caller what to do about
//! it; what happened inside is logged.

use std::sync::Arc;

use prost::Message as _;
use prost_types::Any;
use steeple::convert::ConvertError;
use steeple::id::TrustDomain;
use steeple::x509::csr::CsrError;
use steeple::x509::verify::PeerError;
use steeple_proto::google::rpc;
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::permission_denied_details::Reason;
use thiserror::Error;
use tonic::{Code, Status};
use tracing::error;

use super::limits::Exceeded;
use super::local_authority::refusal::AuthorityRefusal;
use super::pages::LONGEST_ANSWER;
use crate::authz::agent_status::AgentRefusal;
use crate::ca::IssueError;
use crate::ca::upstream::UpstreamError;
use crate::federation::UrlError;
use crate::node_attest::AttestError;
use crate::registry::bundles::BundleWriteError;
use crate::registry::entries::EntryWriteError;
use crate::registry::list::PageError;
use crate::registry::nodes::NodeWriteError;
use crate::registry::relationships::RelationshipWriteError;
use crate::registry::tokens::TokenError;
use crate::registry::writer::WriteError;

mod codes;

use self::codes::{
    attest_code, bundle_code, entry_code, issue_code, node_code, relationship_code, token_code,
    upstream_code,
};

/// Why a call, or one item of it, was not done.
#[derive(Clone, Debug, Error)]
pub enum ApiError {
    /// A field has something that will not do.
    #[error("{field}: {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// The same, and what it has.
    #[error("{field}: {expected}, and not {found}")]
    Found {
        /// The field.
        field: &'static str,
        /// What it has, as it can be shown.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A field cannot be read.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// An agent's ID is not one.
    #[error("invalid agent ID: {0}")]
    AgentId(&'static str),
    /// A CSR is malformed, or not signed by its key.
    #[error("invalid CSR: {0}")]
    Csr(#[from] CsrError),
    /// Health is asked for of one service.
    #[error("per-service health is not supported")]
    PerServiceHealth,
    /// There is no such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The answer would be longer than clients accept.
    #[error(
        "the answer would be longer than {LONGEST_ANSWER} bytes; ask for it in pages (page_size), \
         or for fewer fields (output_mask)"
    )]
    TooLong,
    /// The same, of an answer that cannot be in pages.
    #[error(
        "the answer would be longer than {LONGEST_ANSWER} bytes; ask for fewer fields \
         (output_mask), or use SyncAuthorizedEntries, which answers in pages as if page_size were \
         500"
    )]
    TooLongWithoutPages,
    /// There is no such entry.
    #[error("entry not found")]
    NoEntry,
    /// The entry is not among those of the agent.
    #[error("entry not found or not authorized")]
    NotYourEntry,
    /// There is no such agent.
    #[error("agent not found")]
    NoAgent,
    /// There is no such relationship.
    #[error("federation relationship not found")]
    NoRelationship,
    /// There is no relationship by which a bundle could be had.
    #[error("no relationship with trust domain {:?}", .0.as_str())]
    NotRefreshed(TrustDomain),
    /// The URL of a bundle endpoint is not one.
    #[error("bundle_endpoint_url: {0}")]
    EndpointUrl(#[source] UrlError),
    /// A relationship was not written.
    #[error(transparent)]
    Relationship(#[from] RelationshipWriteError),
    /// There is no such bundle.
    #[error("bundle not found")]
    NoBundle,
    /// An entry was not written.
    #[error(transparent)]
    Entry(#[from] EntryWriteError),
    /// An agent's record was not written.
    #[error(transparent)]
    Node(#[from] NodeWriteError),
    /// A join token was not written.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A bundle was not written.
    #[error(transparent)]
    Bundle(#[from] BundleWriteError),
    /// Something else was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A node was not attested.
    #[error("failed to attest: {0}")]
    Attest(#[from] AttestError),
    /// There is no such method of attestation here.
    #[error("attestation type {0:?} is not configured on this server")]
    UnknownAttestor(String),
    /// No node could join with a token.
    #[error(
        "join tokens are not accepted by this server; set `enabled = true` in \
         [node_attestor.join_token] of its configuration, or leave that out"
    )]
    NoJoinTokens,
    /// The node is banned.
    #[error("failed to attest: agent is banned")]
    BannedNode,
    /// The agent can attest again, and has to.
    #[error("agent must reattest instead of renew")]
    MustReattest,
    /// The caller may not do this.
    #[error("authorization denied for method {method}")]
    Denied {
        /// The full name of the method.
        method: &'static str,
        /// What is wrong with the caller, if it is an agent.
        reason: Option<AgentRefusal>,
    },
    /// The caller's certificate is nobody's SVID.
    #[error("the client's certificate is no X509-SVID: {0}")]
    NoSvid(PeerError),
    /// The caller has to wait.
    #[error(transparent)]
    Limited(#[from] Exceeded),
    /// Nothing was signed.
    #[error("not signed: {0}")]
    Issue(#[from] IssueError),
    /// The server above this one did not do its part.
    #[error("{0}")]
    Upstream(#[source] Arc<UpstreamError>),
    /// Nothing was done with an authority.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// Nothing is granted that cannot be recorded.
    #[error("nothing was done, as the audit log cannot be written")]
    Unrecorded,
    /// The call is known and not served.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// The caller took too long.
    #[error("{0}")]
    TooSlow(&'static str),
    /// The server is about to end.
    #[error("the server is shutting down")]
    Stopping,
    /// Something is wrong with the server.
    #[error("internal error; the server's log says more")]
    Internal,
}

impl ApiError {
    /// The status code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid { .. }
            | Self::Found { .. }
            | Self::Convert(_)
            | Self::AgentId(_)
            | Self::Csr(_)
            | Self::PerServiceHealth
            | Self::EndpointUrl(_)
            | Self::Page(_) => Code::InvalidArgument,
            Self::NoEntry
            | Self::NotYourEntry
            | Self::NoAgent
            | Self::NoRelationship
            | Self::NotRefreshed(_)
            | Self::NoBundle => Code::NotFound,
            Self::Entry(error) => entry_code(error),
            Self::Node(error) => node_code(error),
            Self::Token(error) => token_code(error),
            Self::Bundle(error) => bundle_code(error),
            Self::Relationship(error) => relationship_code(error),
            Self::Write(_) | Self::Unrecorded | Self::Stopping => Code::Unavailable,
            Self::Issue(error) => issue_code(error),
            Self::Upstream(error) => upstream_code(error),
            Self::Authority(refusal) => refusal.code(),
            Self::Attest(error) => attest_code(error),
            Self::UnknownAttestor(_) | Self::NoJoinTokens => Code::FailedPrecondition,
            Self::BannedNode | Self::MustReattest | Self::Denied { .. } => Code::PermissionDenied,
            Self::NoSvid(_) => Code::Unauthenticated,
            Self::Limited(_) | Self::TooLong | Self::TooLongWithoutPages => Code::ResourceExhausted,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::TooSlow(_) => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// What goes with code and message.
    fn details(&self) -> Option<Any> {
        match self {
            Self::Denied { reason: Some(reason), .. } => denial(*reason),
            Self::MustReattest => denial(AgentRefusal::MustReattest),
            Self::BannedNode | Self::Node(NodeWriteError::Banned) => denial(AgentRefusal::Banned),
            Self::Node(NodeWriteError::NotActive) => denial(AgentRefusal::NotActive),
            Self::Limited(Exceeded::Wait(wait)) => {
                let retry_delay = prost_types::Duration::try_from(*wait).ok();
                Any::from_msg(&rpc::RetryInfo { retry_delay }).ok()
            }
            Self::Invalid { .. }
            | Self::Found { .. }
            | Self::Convert(_)
            | Self::AgentId(_)
            | Self::Csr(_)
            | Self::PerServiceHealth
            | Self::Page(_)
            | Self::TooLong
            | Self::TooLongWithoutPages
            | Self::NoEntry
            | Self::NotYourEntry
            | Self::NoAgent
            | Self::NoBundle
            | Self::NoRelationship
            | Self::NotRefreshed(_)
            | Self::EndpointUrl(_)
            | Self::Relationship(_)
            | Self::Entry(_)
            | Self::Node(_)
            | Self::Token(_)
            | Self::Bundle(_)
            | Self::Write(_)
            | Self::Attest(_)
            | Self::UnknownAttestor(_)
            | Self::NoJoinTokens
            | Self::Denied { reason: None, .. }
            | Self::NoSvid(_)
            | Self::Limited(Exceeded::Burst { .. })
            | Self::Issue(_)
            | Self::Upstream(_)
            | Self::Authority(_)
            | Self::Unrecorded
            | Self::Unimplemented(_)
            | Self::TooSlow(_)
            | Self::Stopping
            | Self::Internal => None,
        }
    }
}

impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(Arc::new(error))
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let code = error.code();
        let message = if let ApiError::Authority(refusal) = &error {
            refusal.message()
        } else {
            error.to_string()
        };
        if matches!(code, Code::Internal | Code::Unavailable) {
            error!(error = &error as &dyn std::error::Error, "call failed");
        }
        let Some(detail) = error.details() else {
            return Self::new(code, message);
        };
        let details =
            rpc::Status { code: code.into(), message: message.clone(), details: vec![detail] };
        let mut status = Self::with_details(code, message, details.encode_to_vec().into());
        if let ApiError::Limited(Exceeded::Wait(wait)) = error
            && let Ok(value) = wait.as_millis().to_string().parse()
        {
            // Clients with a retry policy wait for this long (gRPC proposal A6).
            status.metadata_mut().insert("grpc-retry-pushback-ms", value);
        }
        status
    }
}

/// The status of one item of a batch.
#[must_use]
pub fn item_status<T>(result: &Result<T, ApiError>) -> types::Status {
    match result {
        Ok(_) => types::Status { code: Code::Ok.into(), message: "OK".into() },
        Err(error) => {
            if matches!(error.code(), Code::Internal) {
                error!(error = error as &dyn std::error::Error, "item failed");
            }
            types::Status { code: error.code().into(), message: error.to_string() }
        }
    }
}

fn denial(reason: AgentRefusal) -> Option<Any> {
    let reason = match reason {
        AgentRefusal::Expired => Reason::AgentExpired,
        AgentRefusal::NotAttested => Reason::AgentNotAttested,
        AgentRefusal::NotActive => Reason::AgentNotActive,
        AgentRefusal::Banned => Reason::AgentBanned,
        AgentRefusal::MustReattest => Reason::AgentMustReattest,
    };
    Any::from_msg(&types::PermissionDeniedDetails { reason: reason.into() }).ok()
}
