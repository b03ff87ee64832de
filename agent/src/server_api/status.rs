//! What the status of a call means; the one place where gRPC codes become [`ServerError`]s.

use std::error::Error;
use std::time::Duration;

use prost::Message as _;
use steeple_proto::google::rpc;
use steeple_proto::spire::api::types::permission_denied_details::Reason;
use steeple_proto::spire::api::types::{PermissionDeniedDetails, Status as ItemStatus};
use tonic::{Code, Status, TimeoutExpired};

use super::dial::DialError;
use super::{Denial, MAX_RETRY_AFTER, MintRefusal, ServerError};

/// How much of somebody else's message is kept.
const MAX_MESSAGE: usize = 400;

/// A hint when to try again, as `google.rpc.RetryInfo` gives it.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// Why a call failed that ended with `status`.
pub(super) fn server_error(status: &Status) -> ServerError {
    // What the server sent has no source: this one comes from the connection.
    if let Some(source) = status.source() {
        return connection_error(source);
    }
    let message = excerpt(status.message());
    match status.code() {
        Code::Unavailable | Code::Cancelled => ServerError::Unavailable(message),
        Code::DeadlineExceeded => ServerError::Timeout,
        Code::ResourceExhausted if is_too_large(&message) => ServerError::TooLarge(message),
        Code::ResourceExhausted => ServerError::Busy { retry_after: retry_after(status) },
        Code::PermissionDenied | Code::Unauthenticated => match denial(status) {
            Some(denial) => ServerError::Denied(denial),
            None => ServerError::Forbidden(message),
        },
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange => ServerError::Invalid(message),
        Code::Unimplemented => ServerError::Unsupported(message),
        Code::Ok | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => {
            ServerError::Failed(message)
        }
    }
}

/// Why one of several SVIDs was not signed.
pub(super) fn mint_refusal(status: Option<&ItemStatus>) -> MintRefusal {
    let Some(status) = status else {
        return MintRefusal::Failed("neither an SVID nor a reason".into());
    };
    let message = excerpt(&status.message);
    match Code::from_i32(status.code) {
        Code::NotFound | Code::PermissionDenied => MintRefusal::NotAuthorized,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            MintRefusal::Invalid(message)
        }
        Code::Ok => MintRefusal::Failed("no SVID".into()),
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => MintRefusal::Failed(message),
    }
}

/// The innermost of what went wrong with a connection, which is what helps.
fn connection_error(outermost: &(dyn Error + 'static)) -> ServerError {
    let mut error = outermost;
    loop {
        if let Some(dialing) = error.downcast_ref::<DialError>() {
            return dialing.clone().into();
        }
        if error.is::<TimeoutExpired>() {
            return ServerError::Timeout;
        }
        match error.source() {
            Some(source) => error = source,
            None => return ServerError::Unavailable(excerpt(&error.to_string())),
        }
    }
}

fn denial(status: &Status) -> Option<Denial> {
    let reason = details(status).find_map(|detail| {
        let details = detail.to_msg::<PermissionDeniedDetails>().ok()?;
        Reason::try_from(details.reason).ok()
    });
    match reason? {
        Reason::Unknown => None,
        Reason::AgentExpired => Some(Denial::Expired),
        Reason::AgentNotAttested => Some(Denial::NotAttested),
        Reason::AgentNotActive => Some(Denial::NotActive),
        Reason::AgentBanned => Some(Denial::Banned),
        Reason::AgentMustReattest => Some(Denial::MustReattest),
    }
}

/// Whether the call will never be granted as it is. There are only the words to tell by: those of
/// SPIRE's rate limits, and those of gRPC for a message.
fn is_too_large(message: &str) -> bool {
    message.contains("exceeds burst size") || message.contains("larger than max")
}

fn retry_after(status: &Status) -> Option<Duration> {
    let info = details(status)
        .filter(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))
        .find_map(|detail| RetryInfo::decode(detail.value.as_slice()).ok());
    let delay = info.and_then(|info| Duration::try_from(info.retry_delay?).ok());
    // gRPC A6: how a server says so without details.
    let pushback = || {
        let text = status.metadata().get("grpc-retry-pushback-ms")?.to_str().ok()?;
        text.parse().map(Duration::from_millis).ok()
    };
    delay.or_else(pushback).map(|delay| delay.min(MAX_RETRY_AFTER))
}

fn details(status: &Status) -> impl Iterator<Item = prost_types::Any> {
    let details = rpc::Status::decode(status.details()).map(|status| status.details);
    details.unwrap_or_default().into_iter()
}

fn excerpt(message: &str) -> String {
    let printable = message.chars().filter(|character| !character.is_control());
    printable.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tonic::metadata::MetadataMap;

    use super::*;

    fn with_details(code: Code, details: Vec<prost_types::Any>) -> Status {
        let rpc_status = rpc::Status { code: code as i32, message: "no".into(), details };
        Status::with_details(code, "no", Bytes::from(rpc_status.encode_to_vec()))
    }

    fn denied(reason: Reason) -> Status {
        let details = PermissionDeniedDetails { reason: reason.into() };
        with_details(Code::PermissionDenied, vec![prost_types::Any::from_msg(&details).unwrap()])
    }

    #[track_caller]
    fn check(status: &Status, expected: &ServerError) {
        assert_eq!(&server_error(status), expected);
    }

    #[test]
    fn a_denial_says_why_in_its_details() {
        check(&denied(Reason::AgentExpired), &Denial::Expired.into());
        check(&denied(Reason::AgentNotAttested), &Denial::NotAttested.into());
        check(&denied(Reason::AgentNotActive), &Denial::NotActive.into());
        check(&denied(Reason::AgentBanned), &Denial::Banned.into());
        check(&denied(Reason::AgentMustReattest), &Denial::MustReattest.into());
        check(&denied(Reason::Unknown), &ServerError::Forbidden("no".into()));
        check(&Status::permission_denied("no"), &ServerError::Forbidden("no".into()));
        let garbage = Status::with_details(Code::PermissionDenied, "no", Bytes::from("\u{7f}"));
        check(&garbage, &ServerError::Forbidden("no".into()));
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let info = |seconds| prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: RetryInfo { retry_delay: Some(prost_types::Duration { seconds, nanos: 0 }) }
                .encode_to_vec(),
        };
        let busy = |seconds| ServerError::Busy { retry_after: Some(Duration::from_secs(seconds)) };
        check(&with_details(Code::ResourceExhausted, vec![info(3)]), &busy(3));
        check(&with_details(Code::ResourceExhausted, vec![info(1 << 40)]), &busy(600));
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-retry-pushback-ms", "4000".parse().unwrap());
        check(&Status::with_metadata(Code::ResourceExhausted, "no", metadata), &busy(4));
        check(&Status::resource_exhausted("no"), &ServerError::Busy { retry_after: None });
        check(
            &with_details(Code::ResourceExhausted, vec![info(-1)]),
            &ServerError::Busy { retry_after: None },
        );
    }

    #[test]
    fn a_call_that_will_never_be_granted_is_told_from_one_that_comes_too_early() {
        for words in ["rate (501) exceeds burst size (500)", "received message larger than max"] {
            let too_large = ServerError::TooLarge(words.into());
            check(&Status::resource_exhausted(words), &too_large);
        }
    }

    #[test]
    fn every_code_is_one_thing_that_a_caller_can_do() {
        check(&Status::unavailable("no"), &ServerError::Unavailable("no".into()));
        check(&Status::deadline_exceeded("no"), &ServerError::Timeout);
        check(&Status::invalid_argument("no\n"), &ServerError::Invalid("no".into()));
        check(&Status::not_found("no"), &ServerError::Invalid("no".into()));
        check(&Status::unimplemented("no"), &ServerError::Unsupported("no".into()));
        check(&Status::internal("no"), &ServerError::Failed("no".into()));
    }

    #[test]
    fn a_broken_connection_says_what_is_wrong_with_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport")]
        struct Transport(#[source] DialError);

        let through = |error| Status::from_error(Box::new(Transport(error)));
        check(
            &through(DialError::Untrusted("expired".into())),
            &ServerError::Untrusted("expired".into()),
        );
        check(
            &through(DialError::Unreachable("nobody there".into())),
            &ServerError::Unavailable("nobody there".into()),
        );
    }

    #[test]
    fn an_item_is_refused_for_its_own_reason() {
        let item = |code: Code| ItemStatus { code: code as i32, message: "no".into() };
        assert_eq!(mint_refusal(Some(&item(Code::NotFound))), MintRefusal::NotAuthorized);
        assert_eq!(
            mint_refusal(Some(&item(Code::InvalidArgument))),
            MintRefusal::Invalid("no".into())
        );
        assert_eq!(mint_refusal(Some(&item(Code::Internal))), MintRefusal::Failed("no".into()));
        assert!(matches!(mint_refusal(None), MintRefusal::Failed(_)));
    }
}
