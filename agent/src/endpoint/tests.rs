//! The endpoint on a real socket, under clients that behave and clients that do not.
//!
//! Rows cite `H…` and `PIT-…` of the compliance checklist. Each hostile client is followed by a
//! good one on a new connection, which must be served.

mod client;
mod ends;
mod limits;
mod places;
mod service;

use std::time::Duration;

use prost::Message as _;
use steeple_proto::workload::JwtsvidRequest;

use self::client::{
    Client, FETCH, Outcome, PING, PROTOCOL_ERROR, SETTINGS, frame, good, message, request,
};
use self::service::Server;
use super::authority::PREFACE;
use super::limits::Limits;

/// A request for a token, for this audience.
fn fetch(audience: &str) -> Vec<u8> {
    message(
        &JwtsvidRequest { audience: vec![audience.to_owned()], ..Default::default() }
            .encode_to_vec(),
    )
}

fn fetch_on(stream: u32, audience: &str) -> Vec<u8> {
    request(stream, &good(FETCH), &fetch(audience))
}

/// The good request with one field replaced or, with no value, taken out.
fn spoilt<'a>(name: &'a str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut fields = good(FETCH);
    let at = fields.iter().position(|(n, _)| *n == name).unwrap();
    match value {
        Some(value) => fields[at].1 = value,
        None => drop(fields.remove(at)),
    }
    fields
}

async fn good_client_is_served(server: &Server) {
    let mut client = Client::connect(&server.path()).await;
    assert_eq!(client.ask(&fetch_on(1, "a")).await, Outcome::Grpc(0), "the good client");
}

/// Sends frames on a connection of their own, and expects this of stream 1.
async fn check(server: &Server, frames: &[u8], expected: Outcome) {
    let outcome = Client::connect(&server.path()).await.ask(frames).await;
    let shown = String::from_utf8_lossy(&frames[..frames.len().min(300)]);
    assert_eq!(outcome, expected, "{shown:?}");
    good_client_is_served(server).await;
}

/// Sends frames that concern no request, and expects the connection to end with this GOAWAY.
async fn check_connection(server: &Server, frames: &[u8], expected: u32) {
    check(server, frames, Outcome::GoAway(expected)).await;
}

/// PIT-01, H035
#[tokio::test]
async fn any_authority_is_served() {
    let server = Server::start(Limits::default()).await;
    for authority in [
        Some("localhost"),
        None,
        Some("tmp%2Fa.sock"),
        Some("/run/spire/agent.sock"),
        Some("unix:///tmp/a.sock"),
        Some(""),
        Some("a b"),
        Some("a|b"),
        Some("\u{fffd}\t"),
    ] {
        let fields = spoilt(":authority", authority);
        check(&server, &request(1, &fields, &fetch("a")), Outcome::Grpc(0)).await;
    }
}

/// WEP-04, WEP-17, H030, H031, H032, H033, H034
#[tokio::test]
async fn the_security_header_is_demanded_before_anything_else() {
    let server = Server::start(Limits::default()).await;
    let ask = |fields: &[(&str, &str)]| request(1, fields, &fetch("a"));
    check(&server, &ask(&spoilt("workload.spiffe.io", None)), Outcome::Grpc(3)).await;
    for value in ["True", " true", "true ", "1", "", "true, true"] {
        check(&server, &ask(&spoilt("workload.spiffe.io", Some(value))), Outcome::Grpc(3)).await;
    }
    let twice = [good(FETCH), vec![("workload.spiffe.io", "true")]].concat();
    check(&server, &ask(&twice), Outcome::Grpc(3)).await;
    let binary = [spoilt("workload.spiffe.io", None), vec![("workload.spiffe.io-bin", "dHJ1ZQ")]];
    check(&server, &ask(&binary.concat()), Outcome::Grpc(3)).await;
    for path in [
        "/SpiffeWorkloadAPI/Nothing",
        "/no.Service/Nothing",
        "/spiffe.SpiffeWorkloadAPI/FetchJWTSVID",
    ] {
        let mut fields = good(path);
        check(&server, &ask(&fields), Outcome::Grpc(12)).await;
        fields.pop();
        check(&server, &ask(&fields), Outcome::Grpc(3)).await;
    }
    let mut health = good("/grpc.health.v1.Health/Check");
    health.pop();
    check(&server, &ask(&health), Outcome::Grpc(12)).await; // Not served here, and not refused.
}

/// H036, and what else is malformed about one request only
#[tokio::test]
async fn malformed_headers_end_a_stream_or_the_connection() {
    let server = Server::start(Limits::default()).await;
    let upper = [good(FETCH), vec![("X-Upper", "a")]].concat();
    check(&server, &request(1, &upper, &fetch("a")), Outcome::GoAway(PROTOCOL_ERROR)).await;
    let twice = [vec![(":authority", "a")], good(FETCH)].concat();
    check(&server, &request(1, &twice, &fetch("a")), Outcome::Reset(PROTOCOL_ERROR)).await;
    let late = [spoilt(":authority", None), vec![(":authority", "a")]].concat();
    check(&server, &request(1, &late, &fetch("a")), Outcome::Reset(PROTOCOL_ERROR)).await;
    let connection = [good(FETCH), vec![("connection", "close")]].concat();
    check(&server, &request(1, &connection, &fetch("a")), Outcome::Reset(PROTOCOL_ERROR)).await;
}

/// H037
#[tokio::test]
async fn what_is_not_http_2_is_closed() {
    let server = Server::start(Limits::default()).await;
    let tls = [0x16, 3, 1, 0, 0xa5, 1, 0, 0, 0xa1, 3, 3];
    for input in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
        &tls,
        &[0xff; 100],
        b"\n",
        b"PRI * HTTP/1",
    ] {
        let mut client = Client::silent(&server.path()).await;
        assert_eq!(client.ask(input).await, Outcome::Closed);
        good_client_is_served(&server).await;
    }
    let mut client = Client::silent(&server.path()).await;
    let first = frame(PING, 0, 0, &[0; 8]); // The preface goes on with SETTINGS.
    let outcome = client.ask(&[PREFACE, &first].concat()).await;
    assert_eq!(outcome, Outcome::GoAway(PROTOCOL_ERROR));
}

/// H037, H049: in virtual time
#[tokio::test(start_paused = true)]
async fn a_preface_or_a_header_block_that_stops_half_way_times_out() {
    let server = Server::start(Limits::default()).await;
    for sent in [0, 1, 12, PREFACE.len(), PREFACE.len() + 8] {
        let mut client = Client::silent(&server.path()).await;
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        assert_eq!(client.ask(&hello[..sent]).await, Outcome::Closed);
    }
    let mut slow = Client::silent(&server.path()).await;
    for octet in PREFACE {
        slow.send(&[*octet]).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(slow.outcome(1).await, Outcome::Closed);
    let headers = fetch_on(1, "a");
    for sent in [9, 20, 60] {
        let mut client = Client::connect(&server.path()).await;
        assert_eq!(client.ask(&headers[..sent]).await, Outcome::Closed);
    }
    let mut idle = Client::connect(&server.path()).await;
    assert_eq!(idle.ask(&fetch_on(1, "a")).await, Outcome::Grpc(0));
    tokio::time::advance(Duration::from_secs(86_400)).await; // PIT-08
    idle.send(&fetch_on(3, "a")).await;
    assert_eq!(idle.outcome(3).await, Outcome::Grpc(0));
}

/// H038, PIT-10
#[tokio::test]
async fn what_is_not_grpc_is_refused() {
    let server = Server::start(Limits::default()).await;
    for method in ["GET", "PUT", "HEAD"] {
        check(
            &server,
            &request(1, &spoilt(":method", Some(method)), &fetch("a")),
            Outcome::Http(415),
        )
        .await;
    }
    for kind in [Some("application/json"), Some("text/html"), Some("application/grpc-web"), None] {
        check(&server, &request(1, &spoilt("content-type", kind), &fetch("a")), Outcome::Http(415))
            .await;
    }
    let kind = spoilt("content-type", Some("application/grpc+proto"));
    check(&server, &request(1, &kind, &fetch("a")), Outcome::Grpc(0)).await;
}

/// H039, H040, H041, H042, H043
#[tokio::test]
async fn a_body_is_checked_before_it_is_held() {
    let server = Server::start(Limits::default()).await;
    let ask = |body: &[u8]| request(1, &good(FETCH), body);
    check(&server, &ask(&fetch("a")[..4]), Outcome::Grpc(13)).await; // H039
    check(&server, &ask(&[0, 0, 0, 0, 9, 1]), Outcome::Grpc(13)).await;
    check(&server, &ask(&[0, 0xff, 0xff, 0xff, 0xff, 1]), Outcome::Grpc(8)).await; // H043
    check(&server, &ask(&[7, 0, 0, 0, 0]), Outcome::Grpc(13)).await;
    check(&server, &ask(&[]), Outcome::Grpc(13)).await;
    check(&server, &ask(&[fetch("a"), fetch("a")].concat()), Outcome::Grpc(13)).await;
    check(&server, &ask(&message(&[0xff; 20])), Outcome::Grpc(13)).await; // H040
    check(&server, &ask(&message(&[0xa, 1, 0xff])), Outcome::Grpc(13)).await;
    check(&server, &ask(&message(&[0xfa, 0x3f, 1, b'x'])), Outcome::Grpc(0)).await; // H041
    let gzip = [good(FETCH), vec![("grpc-encoding", "gzip")]].concat();
    check(&server, &request(1, &gzip, &[1, 0, 0, 0, 1, 0]), Outcome::Grpc(12)).await; // H042
    check(&server, &ask(&[1, 0, 0, 0, 1, 0]), Outcome::Grpc(13)).await;
}

/// H055: in virtual time
#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_client_is_kept() {
    let server = Server::start(Limits::default()).await;
    let ask = |timeout, audience| {
        request(1, &[good(FETCH), vec![("grpc-timeout", timeout)]].concat(), &fetch(audience))
    };
    for timeout in ["1n", "100m", "2H", "99999999H"] {
        let mut client = Client::connect(&server.path()).await;
        client.patience = Duration::MAX;
        assert_eq!(client.ask(&ask(timeout, "hang")).await, Outcome::Grpc(4));
    }
    check(&server, &ask("99999999H", "a"), Outcome::Grpc(0)).await;
    check(&server, &ask("garbage", "a"), Outcome::Grpc(13)).await;
}

/// In virtual time
#[tokio::test(start_paused = true)]
async fn a_request_has_to_arrive() {
    let server = Server::start(Limits::default()).await;
    let whole = fetch_on(1, "a");
    for cut in [whole.len() - 9, whole.len() - 11] {
        check(&server, &whole[..cut], Outcome::Grpc(14)).await;
    }
}
