//! How streams and connections end when the server is what ends them.

use std::time::Duration;

use super::client::{Client, Event, Outcome, WATCH, good, message, request};
use super::service::Server;
use super::{check, fetch_on};
use crate::endpoint::limits::Limits;

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

/// PIT-05: what ends by itself is not cut off, with a thousand workloads. In virtual time
#[tokio::test(start_paused = true)]
async fn a_stop_lets_streams_end() {
    let mut server = Server::start(Limits::default()).await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = Client::connect(&server.path()).await;
        client.send(&request(1, &good(WATCH), &message(&[]))).await;
        clients.push(client);
    }
    server.busy(1000).await;
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
