//! Who has to go, as a table and by limits.

use super::*;
use crate::endpoint::budget::{Permit, Place};
use crate::endpoint::limits::{Limit, Limits, RESERVED, Resource};

const fn idle(party: usize, process: usize, since: u64) -> Standing {
    Standing { party, process, idle_since: Some(since) }
}

const fn busy(party: usize, process: usize) -> Standing {
    Standing { party, process, idle_since: None }
}

#[track_caller]
fn check(standings: &[Standing], expected: Option<usize>) {
    assert_eq!(leaver(standings.iter().copied()), expected);
}

#[test]
fn who_has_most_goes_first_and_then_who_was_idle_longest() {
    check(&[], None);
    check(&[busy(9, 9)], None);
    check(&[busy(9, 9), idle(1, 1, 5)], Some(1));
    // A container or a user before a process, and both before any time.
    check(&[idle(2, 2, 1), idle(3, 1, 9), idle(2, 1, 2)], Some(1));
    check(&[idle(3, 1, 1), idle(3, 2, 9), idle(3, 1, 2)], Some(1));
    check(&[idle(3, 2, 4), idle(3, 2, 3), idle(3, 2, 5)], Some(1));
    // What whoever has most needs is left to it.
    check(&[busy(9, 9), idle(9, 8, 7), idle(4, 4, 1)], Some(1));
}

const LIMITS: Limits = Limits {
    connections: Limit { all: 8, user: 4 },
    requests: Limit { all: 80, user: 40 },
    large_requests: Limit { all: 8, user: 4 },
    requests_per_connection: 10,
};

fn seats() -> Seats {
    Seats::new(Budget::new(LIMITS, 990))
}

fn origin(pid: u32, user: u32, place: Place) -> Origin {
    Origin { pid, user, place }
}

/// A connection on which a request is open.
fn in_use(seats: &mut Seats, origin: Origin) -> (Arc<Seat>, Permit) {
    let seat = seats.take(origin).unwrap();
    let permit = seat.request(true).unwrap();
    seat.arrived();
    (seat, permit)
}

fn given_up(seats: &[Arc<Seat>]) -> Vec<bool> {
    seats.iter().map(|seat| seat.is_given_up()).collect()
}

#[test]
fn a_place_is_made_where_the_limit_is() {
    let mut seats = seats();
    let of_user = |user| origin(user, user, Place::Unknown);
    let mut held: Vec<_> = [1, 2, 2, 2, 2].map(|user| seats.take(of_user(user)).unwrap()).into();
    // Nobody else has to go for who has too much.
    held.push(seats.take(of_user(2)).unwrap());
    assert_eq!(given_up(&held), [false, true, false, false, false, false]);
    let container = |user| origin(9, user, Place::Namespace(3));
    held.extend([4, 5, 6].map(|user| seats.take(container(user)).unwrap()));
    assert_eq!(given_up(&held[6..]), [true, false, false]);
    held.push(seats.take(of_user(7)).unwrap());
    assert!(given_up(&held).iter().filter(|gone| **gone).count() == 2, "there was room");
    // All are there now: of user 2 there are most.
    held.push(seats.take(of_user(8)).unwrap());
    assert!(held[2].is_given_up());
}

#[test]
fn nobody_else_has_to_go_for_a_user_in_several_containers() {
    let mut seats = seats();
    let mut held: Vec<_> = (0..4).map(|_| seats.take(origin(1, 1, Place::Here)).unwrap()).collect();
    let inside = |number| origin(2, 2, Place::Namespace(number));
    held.extend([5, 5, 6, 6].map(|number| seats.take(inside(number)).unwrap()));
    let _next = seats.take(origin(3, 2, Place::Here)).unwrap();
    assert_eq!(given_up(&held), [false, false, false, false, true, false, false, false]);
}

#[test]
fn who_asks_for_something_keeps_its_place() {
    let mut seats = seats();
    let user = origin(1, 1, Place::Unknown);
    let held: Vec<_> = (0..4).map(|_| in_use(&mut seats, user)).collect();
    let limit = Exhausted::User(Resource::Connections);
    assert_eq!(seats.take(user).map(drop), Err(limit));
    let (seats_held, mut requests): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    requests.remove(1);
    let _next = seats.take(user).unwrap();
    assert_eq!(given_up(&seats_held), [false, true, false, false]);
}

#[test]
fn what_is_left_for_keepers_is_taken_when_nobody_can_go() {
    let mut seats = seats();
    let root = origin(1, 0, Place::Here);
    let idle = seats.take(root).unwrap();
    let busy: Vec<_> = (0..3).map(|_| in_use(&mut seats, root)).collect();
    let others: Vec<_> = (0..4).map(|_| in_use(&mut seats, origin(2, 2, Place::Here))).collect();
    let mut keepers = vec![in_use(&mut seats, root)];
    assert!(idle.is_given_up());
    keepers.extend((0..RESERVED).map(|_| in_use(&mut seats, root)));
    assert!(seats.take(root).is_err());
    // One goes for one who comes, though there are more than there is room for.
    let freed = [0, 1].map(|at| {
        let (seat, request) = keepers.swap_remove(at);
        drop(request);
        seat
    });
    let _next = seats.take(root).unwrap();
    assert_eq!(given_up(&freed), [true, false]);
    drop((busy, others));
}

#[tokio::test]
async fn few_are_on_their_way_out() {
    let mut seats = seats();
    let user = origin(1, 1, Place::Unknown);
    let held: Vec<_> = (0..4 + LEAVING).map(|_| seats.take(user).unwrap()).collect();
    let _more = seats.take(user).unwrap();
    held[0].dismissed().await;
    // Told to end, and not to end at once.
    let told = |seat: &Arc<Seat>| futures_util::FutureExt::now_or_never(seat.dismissed()).is_some();
    assert!(told(&held[1]));
    assert!(!told(&held[1]));
    let _another = seats.take(user).unwrap();
    assert!(told(&held[1]), "told again");
    assert!(told(&held[2]));
    assert!(!told(&held[2]));
}

#[test]
fn places_that_are_free_again_are_forgotten() {
    let mut seats = seats();
    for _ in 0..1_000 {
        drop(seats.take(origin(1, 1, Place::Here)).unwrap());
    }
    assert!(seats.taken.len() <= 32);
}
