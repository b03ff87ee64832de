//! What becomes of calls that fail.

use steeple::clock::SystemClock;

use super::*;
use crate::ca::testing::tiers::td;

fn server() -> (Server, watch::Sender<Option<String>>) {
    let (fault, reason) = watch::channel(None);
    let name = Name { spiffe_id: "spiffe://td/web".parse().unwrap(), offered: 2 };
    let identity = Identity {
        material: watch::channel(None).1,
        anchors: watch::channel(Arc::default()).1,
        name: watch::channel(Some(name)).1,
        fault: reason,
    };
    let address = "root.example:8081";
    (Server::new(address, td("td"), identity, Arc::new(SystemClock)).unwrap(), fault)
}

/// Who is told what, and whether it is worth to try again.
#[test]
fn a_failure_says_whose_it_is() {
    let (server, _) = server();
    let check = |code: Code, refused: bool, part: &str| {
        let error = UpstreamError::from(server.failed(Status::new(code, "because")));
        assert_eq!(matches!(error, UpstreamError::Refused(_)), refused, "{code:?}");
        let text = steeple::telemetry::with_causes(&error);
        assert!(text.contains("root.example:8081") && text.contains(part), "{text}");
    };
    let shown = "it showed spiffe://td/web (the first of 2 that the agent has for this server)";
    check(Code::PermissionDenied, true, shown);
    check(Code::PermissionDenied, true, "marked as downstream");
    check(Code::Unauthenticated, true, "marked as downstream");
    check(Code::InvalidArgument, true, "because");
    check(Code::Unimplemented, true, "Unimplemented");
    check(Code::Unavailable, false, "because");
    check(Code::ResourceExhausted, false, "because");
    check(Code::Internal, false, "because");
}

#[tokio::test(start_paused = true)]
async fn without_an_svid_a_call_waits_and_says_why() {
    let (server, fault) = server();
    fault.send_replace(Some("no entry matches".into()));
    let error = server.vouched().await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable(_)));
    assert!(steeple::telemetry::with_causes(&error).contains("no entry matches"));
}
