//! The endpoint on a real socket, under clients that behave and clients that do not.
//!
//! Rows cite `H…` and `PIT-…` of the compliance checklist. Each hostile client is followed by a
//! good one on a new connection, which must be served.

mod client;
mod service;

use std::time::Duration;

use prost::Message as _;
use steeple_proto::workload::JwtsvidRequest;

use self::client::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Event, FETCH, GOAWAY, HEADERS, Outcome,
    PING, PRIORITY, RESET, SETTINGS, WATCH, block, frame, good, message, request,
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

const PROTOCOL_ERROR: u32 = 1;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

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

/// WEP-04, H030 to H034
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

/// H039 to H043
#[tokio::test]
async fn a_body_is_checked_before_it_is_held() {
    let server = Server::start(Limits::default()).await;
    let ask = |body: &[u8]| request(1, &good(FETCH), body);
    check(&server, &ask(&fetch("a")[..4]), Outcome::Grpc(13)).await; // H039
    check(&server, &ask(&[0, 0, 0, 0, 9, 1]), Outcome::Grpc(13)).await;
    check(&server, &ask(&[0, 0xff, 0xff, 0xff, 0xff, 1]), Outcome::Grpc(8)).await;
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

/// H043
#[tokio::test]
async fn a_message_that_is_too_long_leaves_the_connection_usable() {
    let server = Server::start(Limits::default()).await;
    let mut client = Client::connect(&server.path()).await;
    client.send(&fetch_on(1, &"a".repeat(65_000))).await;
    assert_eq!(client.outcome(1).await, Outcome::Grpc(0));
    for (stream, length) in [(3, 64 * 1024 - 3), (5, 4 * 1024 * 1024), (7, 64 * 1024 * 1024)] {
        // As much of it as a client may send before the server reads.
        let body = &fetch(&"a".repeat(length))[..65_000];
        client.send(&request(stream, &good(FETCH), body)).await;
        assert_eq!(client.outcome(stream).await, Outcome::Grpc(8), "{length}");
    }
    client.send(&fetch_on(9, "a")).await;
    assert_eq!(client.outcome(9).await, Outcome::Grpc(0));
}

/// H044
#[tokio::test]
async fn metadata_beyond_the_limit_is_refused() {
    let server = Server::start(Limits::default()).await;
    let mut client = Client::connect(&server.path()).await;
    let long = "b".repeat(20 * 1024);
    let many: Vec<_> = std::iter::repeat_n(("a", "b"), 10_000).collect();
    for (stream, extra) in [(1, vec![("a", long.as_str())]), (3, many)] {
        let fields = block(&[good(FETCH), extra].concat());
        let mut parts = fields.chunks(16_384);
        client.send(&frame(HEADERS, END_STREAM, stream, parts.next().unwrap())).await;
        for part in parts {
            client.send(&frame(CONTINUATION, 0, stream, part)).await;
        }
        client.send(&frame(CONTINUATION, END_HEADERS, stream, &[])).await;
        assert_eq!(client.outcome(stream).await, Outcome::Grpc(8));
    }
    client.send(&fetch_on(5, "a")).await;
    assert_eq!(client.outcome(5).await, Outcome::Grpc(0));

    let within = [good(FETCH), vec![("a", &long[..15_000])]].concat();
    check(&server, &request(1, &within, &fetch("a")), Outcome::Grpc(0)).await;
    let part = block(&[("a", &long[..16_000])]);
    let mut mebibyte = frame(HEADERS, 0, 1, &part);
    mebibyte.extend(frame(CONTINUATION, 0, 1, &part).repeat(65));
    check_connection(&server, &mebibyte, PROTOCOL_ERROR).await;
    let mut flood = frame(HEADERS, 0, 1, &block(&good(FETCH)));
    flood.extend(frame(CONTINUATION, 0, 1, &[]).repeat(10_000));
    check_connection(&server, &flood, PROTOCOL_ERROR).await;
}

/// H045
#[tokio::test]
async fn streams_of_one_connection_have_a_limit() {
    let limits = Limits { requests_per_connection: 20, ..Limits::default() };
    let mut server = Server::start(limits).await;
    let mut client = Client::connect(&server.path()).await;
    for stream in 0..1000 {
        client.send(&request(2 * stream + 1, &good(WATCH), &message(&[]))).await;
    }
    // A client that sees the limit keeps to it; one that does not is refused what is beyond.
    let refused = client.outcome(41).await;
    assert!(matches!(refused, Outcome::Reset(REFUSED_STREAM) | Outcome::GoAway(_)), "{refused:?}");
    good_client_is_served(&server).await;
    drop(client);
    server.busy(0).await;
}

/// H045: rapid reset
#[tokio::test]
async fn a_client_that_opens_and_resets_streams_is_cut_off() {
    let mut server = Server::start(Limits::default()).await;
    let mut client = Client::connect(&server.path()).await;
    let mut frames = Vec::new();
    for stream in (1..20_000).step_by(2) {
        frames.extend(frame(HEADERS, END_HEADERS, stream, &block(&good(WATCH))));
        frames.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    client.send(&frames).await;
    assert_eq!(client.outcome(0).await, Outcome::GoAway(ENHANCE_YOUR_CALM));
    good_client_is_served(&server).await;
    server.busy(0).await;
}

/// H046
#[tokio::test]
async fn connections_of_one_user_have_a_limit() {
    let server = Server::start(Limits { connections_per_user: 3, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&server.path()).await;
        assert_eq!(client.ask(&fetch_on(1, "a")).await, Outcome::Grpc(0));
        clients.push(client);
    }
    for _ in 0..5 {
        let mut refused = Client::connect(&server.path()).await;
        assert_eq!(refused.ask(&fetch_on(1, "a")).await, Outcome::Closed);
    }
    for client in &mut clients {
        client.send(&fetch_on(3, "a")).await;
        assert_eq!(client.outcome(3).await, Outcome::Grpc(0));
    }
    // The server notices before it looks at the next client, or soon after.
    drop(clients.pop());
    while Client::connect(&server.path()).await.ask(&fetch_on(1, "a")).await != Outcome::Grpc(0) {}
}

/// AMB-16
#[tokio::test]
async fn requests_of_one_user_have_a_limit() {
    let mut server = Server::start(Limits { requests_per_user: 2, ..Limits::default() }).await;
    let mut watcher = Client::connect(&server.path()).await;
    watcher.send(&request(1, &good(WATCH), &message(&[]))).await;
    let mut other = Client::connect(&server.path()).await;
    other.send(&fetch_on(1, "hang")).await;
    server.busy(2).await;
    let mut client = Client::connect(&server.path()).await;
    assert_eq!(client.ask(&fetch_on(1, "a")).await, Outcome::Grpc(14));
    // H054: a client that cancels, and one that is cut off, give back what they had.
    other.send(&frame(RESET, 0, 1, &8_u32.to_be_bytes())).await;
    server.busy(1).await;
    client.send(&fetch_on(3, "a")).await;
    assert_eq!(client.outcome(3).await, Outcome::Grpc(0));
    drop(watcher);
    server.busy(0).await;
}

/// H047, H054
#[tokio::test]
async fn a_client_that_does_not_read_or_goes_away_holds_up_nobody() {
    let mut server = Server::start(Limits::default()).await;
    let mut shut = Client::connect(&server.path()).await;
    shut.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await; // A window of nothing.
    for stream in (1..40).step_by(2) {
        shut.send(&request(stream, &good(WATCH), &message(&[]))).await;
    }
    server.busy(20).await;
    good_client_is_served(&server).await;
    drop(shut);
    server.busy(0).await;
    let whole = fetch_on(1, &"a".repeat(1000));
    for cut in [whole.len() - 600, whole.len() - 9] {
        let mut client = Client::connect(&server.path()).await;
        client.send(&whole[..cut]).await;
        drop(client);
        good_client_is_served(&server).await;
    }
    server.busy(0).await;
}

/// H048
#[tokio::test]
async fn floods_and_broken_frames_are_survived() {
    let server = Server::start(Limits::default()).await;
    let ping = frame(PING, 0, 0, &[0; 8]);
    let fetched = fetch_on(1, "a");
    for kind in [ping.clone(), frame(SETTINGS, 0, 0, &[]), frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])]
    {
        // Floods that nobody reads the answers to.
        let mut flood = Client::connect(&server.path()).await;
        let frames = kind.repeat(500);
        let flooded = async {
            for _ in 0..200 {
                flood.send(&frames).await
            }
        };
        drop(tokio::time::timeout(Duration::from_millis(300), flooded).await);
        good_client_is_served(&server).await;
    }
    check(&server, &[ping.repeat(50), fetched.clone()].concat(), Outcome::Grpc(0)).await;
    for (frames, expected) in [
        (frame(DATA, 0, 0, b"a"), PROTOCOL_ERROR),
        (frame(HEADERS, 4, 0, &block(&good(FETCH))), PROTOCOL_ERROR),
        (frame(RESET, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        (frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        (frame(PING, 0, 0, &[0; 7]), PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, &[0; 5]), PROTOCOL_ERROR),
        (frame(CONTINUATION, 4, 1, &[]), PROTOCOL_ERROR),
        (frame(HEADERS, 4, 1, &[0xbe]), PROTOCOL_ERROR),
        (frame(HEADERS, 4, 2, &block(&good(FETCH))), PROTOCOL_ERROR),
        (frame(0xfa, 0, 0, &[0; 20_000]), FRAME_SIZE_ERROR),
        (frame(DATA, 0, 1, &[0; 20_000]), FRAME_SIZE_ERROR),
    ] {
        check_connection(&server, &frames, expected).await;
    }
    check(&server, &[frame(GOAWAY, 0, 0, &[0; 8]), fetched].concat(), Outcome::Grpc(0)).await;
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

/// PIT-03, PIT-04: a clean end and a cancelled stream both stop clients for good.
#[tokio::test]
async fn a_handler_that_panics_makes_the_service_unavailable() {
    let server = Server::start(Limits::default()).await;
    check(&server, &fetch_on(1, "panic"), Outcome::Grpc(14)).await;
    let watch = request(1, &good("/SpiffeWorkloadAPI/FetchX509Bundles"), &message(&[]));
    let mut client = Client::connect(&server.path()).await;
    client.send(&watch).await;
    assert!(matches!(client.event().await, Event::Headers { stream: 1, .. }));
    assert_eq!(client.outcome(1).await, Outcome::Grpc(14));
}

/// PIT-05: what ends by itself is not cut off. In virtual time
#[tokio::test(start_paused = true)]
async fn a_stop_lets_streams_end() {
    let mut server = Server::start(Limits::default()).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(&server.path()).await;
        client.send(&request(1, &good(WATCH), &message(&[]))).await;
        clients.push(client);
    }
    server.busy(50).await;
    let begun = tokio::time::Instant::now();
    server.stop.cancel();
    server.end.cancel();
    for client in &mut clients {
        assert_eq!(client.outcome(1).await, Outcome::Grpc(14));
        while client.event().await != Event::Closed {}
        assert!(client.told_to_go);
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    server.task.await.unwrap();
}

/// PIT-05: in virtual time
#[tokio::test(start_paused = true)]
async fn a_stop_cuts_off_what_does_not_end() {
    let mut server = Server::start(Limits::default()).await;
    let mut client = Client::connect(&server.path()).await;
    client.send(&request(1, &good(WATCH), &message(&[]))).await;
    client.send(&fetch_on(3, "hang")).await;
    server.busy(2).await;
    let mut silent = Client::silent(&server.path()).await;
    let begun = tokio::time::Instant::now();
    server.stop.cancel();
    (&mut server.task).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    server.busy(0).await;
    assert_eq!(client.outcome(1).await, Outcome::Closed);
    assert_eq!(silent.outcome(1).await, Outcome::Closed);
    assert_eq!(std::fs::read_dir(server.directory()).unwrap().count(), 0);
}
