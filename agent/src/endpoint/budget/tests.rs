//! What users, containers and keepers may take, and when a place is held.

use super::*;
use crate::endpoint::limits::{Limit, Limits};

const AGENT: u32 = 990;

const LIMITS: Limits = Limits {
    connections: Limit { all: 6, user: 4 },
    requests: Limit { all: 6, user: 4 },
    large_requests: Limit { all: 6, user: 4 },
    requests_per_connection: 10,
};

fn budget() -> Arc<Budget> {
    Budget::new(LIMITS, AGENT)
}

fn from(user: u32, place: Place) -> Origin {
    Origin { pid: 7, user, place }
}

/// What becomes of as many connections from there.
fn connect(budget: &Arc<Budget>, origin: Origin, count: usize) -> Vec<Arc<Seat>> {
    let seat = |_| budget.seat(origin, Reserve::Kept).unwrap();
    (0..count).map(seat).collect()
}

#[track_caller]
fn refused(budget: &Arc<Budget>, origin: Origin, limit: Exhausted) {
    assert_eq!(budget.seat(origin, Reserve::Kept).map(drop), Err(limit));
}

#[test]
fn one_user_cannot_use_up_what_others_need() {
    let budget = budget();
    let (one, other) = (from(1, Place::Here), from(2, Place::Unknown));
    let mut first = connect(&budget, one, 4);
    refused(&budget, one, Exhausted::User(Resource::Connections));
    let _others = connect(&budget, other, 2);
    refused(&budget, from(3, Place::Here), Exhausted::All(Resource::Connections));
    first.pop();
    let _third = connect(&budget, from(3, Place::Here), 1);
    refused(&budget, one, Exhausted::All(Resource::Connections));
}

#[test]
fn one_container_cannot_use_up_what_its_users_or_others_need() {
    let budget = budget();
    // Whatever users it is.
    let held: Vec<_> =
        (0..2).flat_map(|user| connect(&budget, from(user, Place::Namespace(1)), 1)).collect();
    for user in 0..3 {
        let limit = Exhausted::Namespace(Resource::Connections);
        refused(&budget, from(user, Place::Namespace(1)), limit);
    }
    let request = |seat: &Arc<Seat>| seat.request(true);
    let requests: Vec<_> = held.iter().map(request).collect();
    assert!(requests.iter().all(Result::is_ok));
    let limit = Exhausted::Namespace(Resource::Requests);
    assert_eq!(held[0].request(true).map(drop), Err(limit));
    let _same_user = connect(&budget, from(0, Place::Namespace(2)), 2);
    let _on_the_host = connect(&budget, from(0, Place::Here), 1);
    refused(&budget, from(0, Place::Here), Exhausted::User(Resource::Connections));
}

#[test]
fn requests_are_counted_over_all_connections_of_a_user() {
    let budget = budget();
    let held = connect(&budget, from(1, Place::Here), 2);
    let other = connect(&budget, from(2, Place::Here), 1);
    let mut requests: Vec<_> = (0..4).map(|n| held[n % 2].request(true).unwrap()).collect();
    let limit = Exhausted::User(Resource::Requests);
    assert_eq!(held[0].request(true).map(drop), Err(limit));
    let _others = [other[0].request(true).unwrap(), other[0].request(false).unwrap()];
    let limit = Exhausted::All(Resource::Requests);
    assert_eq!(other[0].request(true).map(drop), Err(limit));
    requests.pop();
    held[1].request(true).unwrap();
}

#[test]
fn keepers_alone_find_something_left() {
    let budget = budget();
    let _all =
        [connect(&budget, from(1, Place::Here), 3), connect(&budget, from(2, Place::Here), 3)];
    for (origin, reserve) in [
        (from(0, Place::Here), Reserve::Open),
        (from(AGENT, Place::Here), Reserve::Open),
        (from(1, Place::Here), Reserve::Kept),
        // Whoever is root in a container could come from anywhere.
        (from(0, Place::Namespace(1)), Reserve::Kept),
        (from(AGENT, Place::Namespace(1)), Reserve::Kept),
        (from(0, Place::Unknown), Reserve::Kept),
    ] {
        assert_eq!(budget.reserve(origin), reserve, "{origin:?}");
    }
    let keepers: Vec<_> =
        (0..RESERVED).map(|_| budget.seat(from(0, Place::Here), Reserve::Open).unwrap()).collect();
    let limit = Exhausted::All(Resource::Connections);
    let beyond = budget.seat(from(0, Place::Here), Reserve::Open).map(drop);
    assert_eq!(beyond, Err(limit));
    let requests: Vec<_> = (0..4 + RESERVED).map(|_| keepers[0].request(true).is_ok()).collect();
    assert!(requests.iter().all(|taken| *taken));
}

#[test]
fn a_refusal_uses_up_nothing() {
    let budget = budget();
    let origins = [from(1, Place::Here), from(1, Place::Namespace(1)), from(2, Place::Here)];
    let _held = [connect(&budget, origins[1], 2), connect(&budget, origins[2], 3)];
    let mut last = connect(&budget, origins[0], 1);
    for origin in origins {
        for _ in 0..5 {
            assert!(budget.seat(origin, Reserve::Kept).is_err());
        }
    }
    last.pop();
    let _last = connect(&budget, origins[0], 1);
}

#[test]
fn a_place_is_held_by_a_request_that_has_arrived_for_as_long_as_it_is_open() {
    let budget = budget();
    let [seat, other] = [0; 2].map(|_| connect(&budget, from(1, Place::Here), 1).remove(0));
    let idle = |seat: &Seat| seat.standing().idle_since;
    assert!(idle(&seat) < idle(&other));
    let (arriving, probe) = (seat.request(true).unwrap(), seat.request(false).unwrap());
    assert!(idle(&seat).is_some());
    seat.arrived();
    assert_eq!(idle(&seat), None);
    drop(probe);
    assert_eq!(idle(&seat), None);
    drop(arriving);
    assert!(idle(&seat) > idle(&other));
}

#[test]
fn a_place_that_is_given_up_is_given_back_once() {
    let budget = budget();
    let mut held = connect(&budget, from(1, Place::Here), 4);
    assert_eq!(held[0].standing().process, 4);
    let given_up = held.pop().unwrap();
    given_up.dismiss();
    given_up.dismiss();
    assert_eq!(held[0].standing().process, 3);
    assert_eq!(given_up.standing().idle_since, None, "nobody else may have it");
    held.extend(connect(&budget, from(1, Place::Here), 1));
    drop(given_up);
    refused(&budget, from(1, Place::Here), Exhausted::User(Resource::Connections));
}

#[test]
fn a_count_that_ends_late_takes_no_other_with_it() {
    let budget = budget();
    let old = connect(&budget, from(1, Place::Here), 1);
    budget.usages().clear();
    let new = connect(&budget, from(1, Place::Here), 1);
    drop(old);
    assert_eq!(budget.usages().len(), 3);
    drop(new);
    assert!(budget.usages().is_empty());
}

#[test]
fn what_was_refused_or_given_back_leaves_no_trace() {
    let budget = budget();
    for _ in 0..10 {
        let held: Vec<_> =
            (0..5).map(|_| budget.seat(from(1, Place::Here), Reserve::Kept)).collect();
        let requests: Vec<_> = held.iter().flatten().map(|seat| seat.request(true)).collect();
        drop(held);
        assert_eq!(budget.usages().len(), 3);
        drop(requests);
        assert!(budget.usages().is_empty());
    }
    assert_eq!(budget.counts.connections.load(Ordering::Acquire), 0);
    assert_eq!(budget.counts.requests.load(Ordering::Acquire), 0);
}
