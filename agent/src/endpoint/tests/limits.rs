//! Clients that want too much: of one request, of one connection, of the whole endpoint.

use std::time::Duration;

use super::client::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FETCH,
    FRAME_SIZE_ERROR, GOAWAY, HEADERS, Outcome, PING, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM,
    RESET, SETTINGS, WATCH, block, frame, good, message, request,
};
use super::service::Server;
use super::{check, check_connection, fetch, fetch_on, good_client_is_served};
use crate::endpoint::limits::{Limit, Limits};

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

/// WEP-14, WAPI-11, AMB-16
#[tokio::test]
async fn requests_of_one_user_have_a_limit() {
    let mut server =
        Server::start(Limits { requests: Limit { all: 9, user: 2 }, ..Limits::default() }).await;
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

/// WAPI-11, H047, H054
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

/// Requests that never end cost little each, and there are few large ones.
#[tokio::test]
async fn large_requests_that_do_not_arrive_have_a_limit() {
    let limits = Limits { large_requests: Limit { all: 9, user: 2 }, ..Limits::default() };
    let server = Server::start(limits).await;
    let mut client = Client::connect(&server.path()).await;
    let large = fetch(&"a".repeat(5000));
    let (part, rest) = large.split_at(100);
    for stream in [1, 3, 5] {
        let head = frame(HEADERS, END_HEADERS, stream, &block(&good(FETCH)));
        client.send(&[head, frame(DATA, 0, stream, part)].concat()).await;
    }
    assert_eq!(client.outcome(5).await, Outcome::Grpc(14));
    // A small one, and one that comes in one piece, wait for nothing.
    for (stream, whole) in [(7, fetch("a")), (9, large.clone())] {
        client.send(&request(stream, &good(FETCH), &whole)).await;
        assert_eq!(client.outcome(stream).await, Outcome::Grpc(0));
    }
    client.send(&frame(DATA, END_STREAM, 1, rest)).await;
    assert_eq!(client.outcome(1).await, Outcome::Grpc(0));
    client.send(&frame(HEADERS, END_HEADERS, 11, &block(&good(FETCH)))).await;
    client.send(&frame(DATA, 0, 11, part)).await;
    client.send(&frame(DATA, END_STREAM, 11, rest)).await;
    assert_eq!(client.outcome(11).await, Outcome::Grpc(0));
}
