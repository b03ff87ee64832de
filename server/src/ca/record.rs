//! What the audit log is told of what is signed: the intent before, the result after.

use std::error::Error as StdError;

use steeple::clock::unix_seconds;

use super::issue::{PreparedJwt, PreparedX509, SignError};
use super::request::{JwtRequest, Refusal, X509Request};
use super::{Attempt, IssueError, IssuedX509, Order};
use crate::audit::Correlation;
use crate::audit::event::{Event, Hex, sha256};

/// Before a signature.
pub(super) fn x509_decision(
    order: &Order<'_, X509Request<'_>>,
    correlation: Correlation,
    decision: &Result<PreparedX509, Refusal>,
) -> Event {
    match decision {
        Ok(prepared) => Event::X509Intent {
            correlation,
            profile: prepared.profile(),
            spiffe_id: prepared.spiffe_id().clone(),
            entry_id: order.entry_id.cloned(),
            serial: Hex(prepared.serial()),
            not_after: unix_seconds(prepared.not_after()),
            authority_id: prepared.authority_id().clone(),
        },
        Err(refusal) => x509_refused(order, correlation, refusal.to_string()),
    }
}

/// After a signature. Of a refusal the log has been told.
pub(super) fn x509_result(
    order: &Order<'_, X509Request<'_>>,
    attempt: &Attempt<IssuedX509, IssueError>,
) -> Option<Event> {
    let correlation = attempt.correlation;
    match &attempt.result {
        Ok(issued) => Some(Event::X509Issued {
            correlation,
            spiffe_id: issued.svid.spiffe_id().clone(),
            entry_id: order.entry_id.cloned(),
            serial: Hex(issued.svid.serial()),
            not_after: unix_seconds(issued.svid.not_after()),
            capped: issued.capped,
        }),
        Err(IssueError::Sign(error)) => Some(x509_refused(order, correlation, chain(error))),
        Err(IssueError::Refused(_) | IssueError::Unrecorded(_)) => None,
    }
}

/// Before a signature.
pub(super) fn jwt_decision(
    order: &Order<'_, JwtRequest<'_>>,
    correlation: Correlation,
    decision: Result<&PreparedJwt, &Refusal>,
) -> Event {
    match decision {
        Ok(prepared) => Event::JwtIntent {
            correlation,
            spiffe_id: prepared.spiffe_id().clone(),
            entry_id: order.entry_id.cloned(),
            audience: prepared.audience().to_vec(),
            jti: prepared.token_id().map(Into::into),
            expires_at: prepared.expires_at(),
            key_id: prepared.authority_id().clone(),
        },
        Err(refusal) => jwt_refused(order, correlation, refusal.to_string()),
    }
}

/// After a signature.
pub(super) fn jwt_result(
    order: &Order<'_, JwtRequest<'_>>,
    correlation: Correlation,
    prepared: &PreparedJwt,
    signed: Result<&str, &SignError>,
) -> Event {
    match signed {
        Ok(token) => Event::JwtIssued {
            correlation,
            spiffe_id: prepared.spiffe_id().clone(),
            entry_id: order.entry_id.cloned(),
            jti: prepared.token_id().map(Into::into),
            token_sha256: sha256(token.as_bytes()),
            expires_at: prepared.expires_at(),
            capped: prepared.is_capped(),
        },
        Err(error) => jwt_refused(order, correlation, chain(error)),
    }
}

fn x509_refused(
    order: &Order<'_, X509Request<'_>>,
    correlation: Correlation,
    why: String,
) -> Event {
    let spiffe_id = match order.request {
        X509Request::Workload { spiffe_id, .. }
        | X509Request::Agent { spiffe_id, .. }
        | X509Request::Minted { spiffe_id, .. } => Some(spiffe_id.clone()),
        X509Request::Server { .. } => None,
    };
    let entry_id = order.entry_id.cloned();
    Event::X509Refused { correlation: Some(correlation), spiffe_id, entry_id, why }
}

fn jwt_refused(order: &Order<'_, JwtRequest<'_>>, correlation: Correlation, why: String) -> Event {
    Event::JwtRefused {
        correlation: Some(correlation),
        spiffe_id: Some(order.request.spiffe_id.clone()),
        entry_id: order.entry_id.cloned(),
        why,
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
