//! What the head of a request must say before anybody looks at the request; pure.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use tonic::Status;

use super::Audience;
use super::authority::OVERSIZED_PATH;

/// Proves that whoever made a workload send the request could also set a header, which a browser
/// or a careless proxy could not (Workload Endpoint 4.1).
pub(super) const SECURITY_HEADER: &str = "workload.spiffe.io";

/// All methods of the Workload API, those not invented yet included. Each takes one message.
const WORKLOAD_API: &str = "/SpiffeWorkloadAPI/";

/// Services whose clients do not send the security header: health probes, reflection, Envoy.
/// Everything else demands it, services that do not exist included.
const WITHOUT_SECURITY_HEADER: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.", "/envoy.service.secret.v3."];

/// A request that is refused by its head alone.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no gRPC at all.
    Http(StatusCode),
    /// It is gRPC, and gets an answer a gRPC client understands.
    Grpc(Status),
}

/// How a request is to be taken on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Terms {
    /// How many messages it may consist of.
    pub(super) messages: Messages,
    /// How long the client will wait for the answer to begin.
    pub(super) timeout: Option<Duration>,
}

/// How many messages a request may consist of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Messages {
    /// One, and it is to come soon.
    One,
    /// Any number, whenever the client likes.
    Any,
}

/// Looks at the head of a request. The order matters: what a client learns first is what it would
/// have to put right first.
///
/// # Errors
/// The answer to give instead of serving it.
pub(super) fn examine(head: &Parts, audience: Audience) -> Result<Terms, Refusal> {
    let path = head.uri.path();
    if path == OVERSIZED_PATH {
        return Err(Refusal::Grpc(Status::resource_exhausted("request metadata is too large")));
    }
    if head.method != Method::POST || !is_grpc(&head.headers) {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let exempt = match audience {
        Audience::Everybody => {
            WITHOUT_SECURITY_HEADER.iter().any(|prefix| path.starts_with(prefix))
        }
        // What may connect there is no workload that somebody else could make send a request.
        Audience::Administrators => true,
    };
    if !exempt && !is_secured(&head.headers) {
        let message = "security header missing from request";
        return Err(Refusal::Grpc(Status::invalid_argument(message)));
    }
    let is_one = audience == Audience::Administrators || path.starts_with(WORKLOAD_API);
    let messages = if is_one { Messages::One } else { Messages::Any };
    Ok(Terms { messages, timeout: timeout(&head.headers)? })
}

/// `application/grpc`, or the same with the one message format there is here.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.as_bytes().split(|octet| *octet == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii_end();
    essence.eq_ignore_ascii_case(b"application/grpc")
        || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// Exactly one value, and exactly this one: a list might come from two sources.
fn is_secured(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(SECURITY_HEADER).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

/// gRPC over HTTP/2: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let malformed = || Refusal::Grpc(Status::internal("grpc-timeout is malformed"));
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(malformed)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Some(Duration::from_secs(count * 3600))),
        b'M' => Ok(Some(Duration::from_secs(count * 60))),
        b'S' => Ok(Some(Duration::from_secs(count))),
        b'm' => Ok(Some(Duration::from_millis(count))),
        b'u' => Ok(Some(Duration::from_micros(count))),
        b'n' => Ok(Some(Duration::from_nanos(count))),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tonic::Code;

    use super::*;

    const FETCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
    const GOOD: [(&str, &str); 2] =
        [("content-type", "application/grpc"), ("workload.spiffe.io", "true")];

    /// The gRPC code that answers the request, the HTTP status where it gets none, 0 if served.
    fn outcome(method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match examine(&request.body(()).unwrap().into_parts().0, Audience::Everybody) {
            Ok(_) => 0,
            Err(Refusal::Http(status)) => status.as_u16(),
            Err(Refusal::Grpc(status)) => u16::try_from(i32::from(status.code())).unwrap(),
        }
    }

    #[track_caller]
    fn check_security(values: &[&str], expected: Code) {
        let mut headers = vec![GOOD[0]];
        headers.extend(values.iter().map(|value| ("workload.spiffe.io", *value)));
        let expected = u16::try_from(i32::from(expected)).unwrap();
        assert_eq!(outcome("POST", FETCH, &headers), expected, "{values:?}");
    }

    #[test]
    fn the_security_header_is_there_once_and_true() {
        check_security(&["true"], Code::Ok);
        check_security(&[], Code::InvalidArgument); // H030, WEP-04
        for wrong in
            ["True", "TRUE", " true", "true ", "1", "", "false", "true,false", "true, true"]
        {
            check_security(&[wrong], Code::InvalidArgument); // H031, H032
        }
        check_security(&["true", "true"], Code::InvalidArgument); // H032
        check_security(&["true", "false"], Code::InvalidArgument);
        let binary = [GOOD[0], ("workload.spiffe.io-bin", "true")];
        assert_eq!(outcome("POST", FETCH, &binary), 3); // H033
    }

    #[test]
    fn every_service_but_the_exempt_demands_the_security_header() {
        for path in [
            FETCH,
            "/SpiffeWorkloadAPI/NoSuchMethod", // H034, AMB-06
            "/SpiffeWorkloadAPI/",
            "/spiffe.workload.SpiffeWorkloadAPI/FetchX509SVID",
            "/no.such.Service/Method",
            "/grpc.health.v1.HealthX/Check",
            "/grpc.health.v1/Health",
            "/x/grpc.health.v1.Health/Check",
            "/",
        ] {
            assert_eq!(outcome("POST", path, &GOOD[..1]), 3, "{path}");
            assert_eq!(outcome("POST", path, &GOOD), 0, "{path}");
        }
        for path in [
            "/grpc.health.v1.Health/Check", // AMB-05
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        ] {
            assert_eq!(outcome("POST", path, &GOOD[..1]), 0, "{path}");
        }
    }

    #[test]
    fn a_request_is_a_post_of_grpc() {
        for method in ["GET", "PUT", "HEAD", "OPTIONS", "post"] {
            assert_eq!(outcome(method, FETCH, &GOOD), 415, "{method}"); // H038, PIT-10
        }
        let typed = |kind| outcome("POST", FETCH, &[("content-type", kind), GOOD[1]]);
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC ; charset=x"] {
            assert_eq!(typed(kind), 0, "{kind}");
        }
        for kind in [
            "",
            "application/json",
            "text/html",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/grpc+json",
            " application/grpc",
            "text/x;application/grpc",
        ] {
            assert_eq!(typed(kind), 415, "{kind}"); // H038
        }
        assert_eq!(outcome("POST", FETCH, &GOOD[1..]), 415);
        assert_eq!(outcome("POST", FETCH, &[GOOD[0], GOOD[0], GOOD[1]]), 415);
        assert_eq!(outcome("POST", OVERSIZED_PATH, &[]), 8); // H044
    }

    #[test]
    fn a_timeout_is_honoured_or_refused() {
        let examined = |value| {
            let request = Request::post(FETCH).header("grpc-timeout", value);
            let request = GOOD.iter().fold(request, |r, (name, value)| r.header(*name, *value));
            examine(&request.body(()).unwrap().into_parts().0, Audience::Everybody)
                .ok()
                .map(|terms| terms.timeout)
        };
        for (value, expected) in [
            ("1n", Duration::from_nanos(1)), // H055
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("00000005u", Duration::from_micros(5)),
        ] {
            assert_eq!(examined(value), Some(Some(expected)), "{value}");
        }
        for wrong in
            ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "100000000S", "1 S", "garbage", "\u{e9}S"]
        {
            assert_eq!(examined(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_workload_api_request_is_one_message() {
        let messages = |path| {
            let request = Request::post(path);
            let request = GOOD.iter().fold(request, |r, (name, value)| r.header(*name, *value));
            let head = request.body(()).unwrap().into_parts().0;
            examine(&head, Audience::Everybody).unwrap().messages
        };
        assert_eq!(messages(FETCH), Messages::One);
        assert_eq!(
            messages("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            Messages::Any
        );
    }

    #[test]
    fn administrators_need_no_security_header_and_send_one_message() {
        let of = |audience| {
            let path = "/spire.agent.debug.v1.Debug/GetInfo";
            let request = Request::builder().method("POST").uri(path).header(GOOD[0].0, GOOD[0].1);
            let head = request.body(()).unwrap().into_parts().0;
            examine(&head, audience).map(|terms| terms.messages).ok()
        };
        assert_eq!(of(Audience::Administrators), Some(Messages::One));
        assert_eq!(of(Audience::Everybody), None);
    }
}
