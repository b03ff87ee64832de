//! More clients than there are places for.

use std::time::Duration;

use super::client::{
    Client, DATA, END_HEADERS, Event, FETCH, HEADERS, Outcome, RESET, WATCH, block, frame, good,
    message, request,
};
use super::service::Server;
use super::{fetch, fetch_on, good_client_is_served};
use crate::endpoint::budget::Place;
use crate::endpoint::limits::{AT_THE_DOOR, Limit, Limits};

/// Three places of a user, and nine of all.
async fn server() -> Server {
    let connections = Limit { all: 9, user: 3 };
    Server::start(Limits { connections, ..Limits::default() }).await
}

/// A client that is served, and asks for nothing more.
async fn idle(server: &Server) -> Client {
    let mut client = Client::connect(&server.path()).await;
    assert_eq!(client.ask(&fetch_on(1, "a")).await, Outcome::Grpc(0));
    client
}

/// A client with an open stream.
async fn watcher(server: &Server) -> Client {
    let mut client = Client::connect(&server.path()).await;
    client.send(&request(1, &good(WATCH), &message(&[]))).await;
    while !matches!(client.event().await, Event::Data { stream: 1, .. }) {}
    client
}

async fn is_served(client: &mut Client, stream: u32) {
    client.send(&fetch_on(stream, "a")).await;
    assert_eq!(client.outcome(stream).await, Outcome::Grpc(0));
}

/// Told that there is more room elsewhere, and only then cut off.
async fn is_seen_off(client: &mut Client) {
    assert_eq!(client.event().await, Event::GoAway { code: 0 });
    while client.event().await != Event::Closed {}
}

/// H046, WEP-14: whoever is over the limit is told so.
#[tokio::test]
async fn connections_of_one_user_have_a_limit() {
    let server = server().await;
    let mut clients = vec![watcher(&server).await, watcher(&server).await, watcher(&server).await];
    for _ in 0..5 {
        let mut refused = Client::connect(&server.path()).await;
        assert_eq!(refused.ask(&fetch_on(1, "a")).await, Outcome::Grpc(14));
        is_seen_off(&mut refused).await;
    }
    server.comes_from(2, 2, Place::Unknown);
    good_client_is_served(&server).await;
    server.comes_from(1, 1, Place::Unknown);
    for client in &mut clients {
        is_served(client, 3).await;
    }
    // A request that ends gives up the place before the next client is looked at.
    clients[1].send(&frame(RESET, 0, 1, &8_u32.to_be_bytes())).await;
    is_served(&mut clients[1], 5).await;
    good_client_is_served(&server).await;
    is_seen_off(&mut clients[1]).await;
}

#[tokio::test]
async fn who_asks_for_nothing_makes_room_for_who_comes() {
    let server = server().await;
    let (mut first, mut second) = (idle(&server).await, idle(&server).await);
    let mut third = watcher(&server).await;
    is_served(&mut first, 3).await;
    let mut fourth = idle(&server).await;
    is_seen_off(&mut second).await;
    for client in [&mut first, &mut third, &mut fourth] {
        is_served(client, 5).await;
    }
}

/// Anybody can begin a request, and begin another before it takes too long.
#[tokio::test]
async fn a_request_that_does_not_arrive_holds_no_place() {
    let server = server().await;
    let _watchers = [watcher(&server).await, watcher(&server).await];
    let mut beginner = idle(&server).await;
    let head = frame(HEADERS, END_HEADERS, 3, &block(&good(FETCH)));
    beginner.send(&[head, frame(DATA, 0, 3, &fetch("a")[..4])].concat()).await;
    is_served(&mut beginner, 5).await;
    idle(&server).await;
    assert_eq!(beginner.event().await, Event::GoAway { code: 0 });
}

/// One that is being answered is let end, however long it takes.
#[tokio::test]
async fn a_request_that_has_arrived_holds_the_place() {
    let mut server = server().await;
    let _watchers = [watcher(&server).await, watcher(&server).await];
    let mut asker = Client::connect(&server.path()).await;
    asker.send(&fetch_on(1, "hang")).await;
    server.busy(3).await;
    let mut refused = Client::connect(&server.path()).await;
    assert_eq!(refused.ask(&fetch_on(1, "a")).await, Outcome::Grpc(14));
    is_served(&mut asker, 3).await;
}

/// In virtual time
#[tokio::test(start_paused = true)]
async fn who_does_not_listen_is_cut_off() {
    let server = server().await;
    let mut deaf = [
        Client::silent(&server.path()).await,
        Client::connect(&server.path()).await,
        Client::connect(&server.path()).await,
    ];
    let _others = [idle(&server).await, idle(&server).await, idle(&server).await];
    for client in &mut deaf {
        client.patience = Duration::from_secs(4);
        client.ends_without_an_answer().await;
    }
}

/// What the attack of a container's process looks like that becomes one user after another.
#[tokio::test]
async fn a_container_is_one_however_many_users_are_in_it() {
    let connections = Limit { all: 12, user: 6 };
    let server = Server::start(Limits { connections, ..Limits::default() }).await;
    server.comes_from(1, 1, Place::Unknown);
    let mut early = idle(&server).await;
    let mut crowd = Vec::new();
    for user in 70_000..70_030 {
        server.comes_from(user, user, Place::Namespace(4));
        crowd.push(idle(&server).await);
    }
    is_served(&mut early, 3).await;
    // With streams it gets no further.
    let mut crowd = Vec::new();
    for user in 70_000..70_003 {
        server.comes_from(user, user, Place::Namespace(4));
        crowd.push(watcher(&server).await);
    }
    server.comes_from(70_003, 70_003, Place::Namespace(4));
    let mut refused = Client::connect(&server.path()).await;
    assert_eq!(refused.ask(&fetch_on(1, "a")).await, Outcome::Grpc(14));
    server.comes_from(2, 70_000, Place::Namespace(5));
    good_client_is_served(&server).await;
    server.comes_from(1, 1, Place::Unknown);
    is_served(&mut early, 5).await;
}

#[tokio::test]
async fn a_keeper_comes_in_where_all_is_taken() {
    let server = server().await;
    let mut watchers = Vec::new();
    for user in 1..=3 {
        server.comes_from(user, user, Place::Here);
        for _ in 0..3 {
            watchers.push(watcher(&server).await);
        }
    }
    for (user, outcome) in [(4, Outcome::Grpc(14)), (0, Outcome::Grpc(0))] {
        server.comes_from(9, user, Place::Here);
        let mut client = Client::connect(&server.path()).await;
        assert_eq!(client.ask(&fetch_on(1, "a")).await, outcome);
    }
}

/// Who only stands at the door makes way for who wants to hear an answer.
#[tokio::test]
async fn few_are_told_at_a_time_that_there_is_no_room() {
    let server = server().await;
    let _watchers = [watcher(&server).await, watcher(&server).await, watcher(&server).await];
    let mut first = Client::connect(&server.path()).await;
    let mut others = Vec::new();
    for _ in 0..AT_THE_DOOR {
        others.push(Client::connect(&server.path()).await);
    }
    assert_eq!(first.outcome(1).await, Outcome::Closed);
    for client in &mut others {
        assert_eq!(client.ask(&fetch_on(1, "a")).await, Outcome::Grpc(14));
    }
}
