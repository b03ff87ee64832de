//! When authorities are prepared and activated, in tables and in virtual time.

use steeple::clock::from_unix_seconds;

use super::Slot::{A, B};
use super::Status::{Active, Old, Prepared};
use super::*;

/// When the first authority of each table is made.
const T: i64 = 1_000_000;

/// An X.509 CA that is made at `T + at` and lives for `lifetime`.
fn ca(status: Status, at: i64, lifetime: i64) -> Option<Occupant> {
    let issued_at = T + at;
    let backdate = CLOCK_TOLERANCE.min(lifetime / 6);
    Some(Occupant {
        status,
        issued_at,
        not_before: issued_at - backdate,
        not_after: issued_at + lifetime,
        intact: true,
    })
}

/// The same for a JWT key.
fn key(status: Status, at: i64, lifetime: i64) -> Option<Occupant> {
    ca(status, at, lifetime).map(|ca| Occupant { not_before: i64::MIN, ..ca })
}

fn lost(occupant: Option<Occupant>) -> Option<Occupant> {
    occupant.map(|occupant| Occupant { intact: false, ..occupant })
}

#[track_caller]
fn check(a: Option<Occupant>, b: Option<Occupant>, at: i64, expected: &[Step]) {
    assert_eq!(plan(&Slots { a, b }, from_unix_seconds(T + at)), expected);
}

#[test]
fn the_next_is_prepared_at_half_of_life_and_takes_over_at_five_sixths() {
    let day = 24 * HOUR;
    check(ca(Active, 0, day), None, 0, &[]);
    check(ca(Active, 0, day), None, 12 * HOUR - 1, &[]);
    check(ca(Active, 0, day), None, 12 * HOUR, &[Step::Prepare(B)]);
    check(None, ca(Active, 0, day), 12 * HOUR, &[Step::Prepare(A)]);
    check(ca(Old, -day / 2, day), ca(Active, 0, day), 12 * HOUR, &[Step::Prepare(A)]);

    let next = ca(Prepared, 12 * HOUR, day);
    check(ca(Active, 0, day), next, 12 * HOUR, &[]);
    check(ca(Active, 0, day), next, 20 * HOUR - 1, &[]);
    check(ca(Active, 0, day), next, 20 * HOUR, &[Step::Activate(B)]);
    check(next, ca(Active, 0, day), 20 * HOUR, &[Step::Activate(A)]);
}

#[test]
fn of_a_long_life_30_and_7_days_are_enough() {
    let year = 365 * DAY;
    check(ca(Active, 0, year), None, 335 * DAY - 1, &[]);
    check(ca(Active, 0, year), None, 335 * DAY, &[Step::Prepare(B)]);
    check(ca(Active, 0, year), ca(Prepared, 335 * DAY, year), 358 * DAY - 1, &[]);
    check(ca(Active, 0, year), ca(Prepared, 335 * DAY, year), 358 * DAY, &[Step::Activate(B)]);
}

#[test]
fn a_life_of_a_minute_is_enough_to_publish_before_signing() {
    check(ca(Active, 0, 60), None, 29, &[]);
    check(ca(Active, 0, 60), None, 30, &[Step::Prepare(B)]);
    check(ca(Active, 0, 60), ca(Prepared, 30, 60), 49, &[]);
    check(ca(Active, 0, 60), ca(Prepared, 30, 60), 50, &[Step::Activate(B)]);
    // Prepared late: agents have not seen it yet, and the active one still works.
    check(ca(Active, 0, 60), ca(Prepared, 49, 60), 50, &[]);
    check(ca(Active, 0, 60), ca(Prepared, 49, 60), 59, &[Step::Activate(B)]);
    // Prepared so late that waiting would mean to sign with an expired one.
    check(ca(Active, 0, 60), ca(Prepared, 55, 60), 60, &[Step::Activate(B)]);
}

#[test]
fn after_a_long_absence_agents_get_an_hour_to_learn_of_the_next() {
    let day = 24 * HOUR;
    check(ca(Active, 0, day), None, 21 * HOUR, &[Step::Prepare(B)]);
    check(ca(Active, 0, day), ca(Prepared, 21 * HOUR, day), 22 * HOUR - 1, &[]);
    check(ca(Active, 0, day), ca(Prepared, 21 * HOUR, day), 22 * HOUR, &[Step::Activate(B)]);
    // If there is an hour.
    check(ca(Active, 0, day), ca(Prepared, day - 9, day), day - 1, &[]);
    check(ca(Active, 0, day), ca(Prepared, day - 9, day), day, &[Step::Activate(B)]);
}

#[test]
fn without_a_usable_one_a_new_one_signs_at_once() {
    let at_once = |slot| [Step::Prepare(slot), Step::Activate(slot)];
    check(None, None, 0, &at_once(A));
    // A memory key store after a restart.
    check(lost(ca(Active, 0, HOUR)), None, 1, &at_once(B));
    check(lost(ca(Old, -HOUR, HOUR)), lost(ca(Active, 0, HOUR)), 1, &at_once(A));
    check(lost(ca(Active, 0, HOUR)), lost(ca(Prepared, 0, HOUR)), 1, &at_once(B));
    // A server that was away for longer than an authority lives.
    check(ca(Active, 0, HOUR), None, HOUR, &at_once(B));
    check(ca(Active, 0, HOUR), ca(Prepared, 0, HOUR), HOUR, &at_once(B));
    check(ca(Active, 0, HOUR), None, HOUR - 1, &[Step::Prepare(B)]);
}

#[test]
fn what_is_prepared_is_used_and_not_overwritten() {
    // Stopped between the two steps.
    check(ca(Prepared, 0, HOUR), None, 0, &[Step::Activate(A)]);
    check(lost(ca(Active, 0, HOUR)), ca(Prepared, 5, HOUR), 6, &[Step::Activate(B)]);
    check(ca(Active, 0, HOUR), ca(Prepared, HOUR - 1, HOUR), HOUR, &[Step::Activate(B)]);
    // Only one that cannot be used makes room.
    check(ca(Active, 0, HOUR), lost(ca(Prepared, 1, HOUR)), HOUR / 2, &[Step::Prepare(B)]);
    check(ca(Active, 0, HOUR), ca(Prepared, -HOUR, HOUR), HOUR / 2, &[Step::Prepare(B)]);
    check(ca(Active, 0, HOUR), ca(Prepared, 1, HOUR), HOUR / 2, &[]);
}

#[test]
fn a_clock_set_forward_rotates_as_if_the_time_had_passed() {
    check(ca(Active, 0, HOUR), None, 40 * 60, &[Step::Prepare(B)]);
    check(ca(Active, 0, HOUR), ca(Prepared, 30 * 60, HOUR), 59 * 60, &[Step::Activate(B)]);
    check(ca(Active, 0, HOUR), ca(Prepared, 0, HOUR), DAY, &[Step::Prepare(B), Step::Activate(B)]);
}

#[test]
fn a_clock_set_back_by_less_than_the_backdating_changes_nothing() {
    check(ca(Active, 0, HOUR), None, -60, &[]);
    check(key(Active, 0, HOUR), None, -60, &[]);
}

#[test]
fn an_authority_out_of_the_future_is_replaced() {
    let at_once = [Step::Prepare(B), Step::Activate(B)];
    // Nobody would accept what such a CA signs.
    check(ca(Active, 0, HOUR), None, -61, &at_once);
    check(ca(Active, 0, HOUR), ca(Prepared, 0, HOUR), -HOUR, &at_once);
    check(ca(Active, 0, HOUR), ca(Prepared, -DAY, 2 * DAY), -HOUR, &[Step::Activate(B)]);
    // A key works, so its successor is published first.
    check(key(Active, 0, HOUR), None, -DAY, &[Step::Prepare(B)]);
    check(key(Active, 0, HOUR), key(Prepared, -DAY, HOUR), 599 - DAY, &[]);
    check(key(Active, 0, HOUR), key(Prepared, -DAY, HOUR), 600 - DAY, &[Step::Activate(B)]);
    // A successor that is out of the future itself takes over and is replaced in its turn.
    check(key(Active, 0, HOUR), key(Prepared, 0, HOUR), -DAY, &[Step::Activate(B)]);
    check(key(Old, 0, HOUR), key(Active, 0, HOUR), -DAY, &[Step::Prepare(A)]);
}

/// What happens when, to one kind with authorities that live for `lifetime` seconds.
fn history(
    lifetime: i64,
    until: i64,
    occupy: fn(Status, i64, i64) -> Option<Occupant>,
) -> Vec<(i64, Step)> {
    let mut slots = Slots::default();
    let mut history = Vec::new();
    let mut at = 0;
    while at < until {
        let now = from_unix_seconds(T + at);
        for step in plan(&slots, now) {
            let place = |slots: &mut Slots, slot, occupant| match slot {
                A => slots.a = occupant,
                B => slots.b = occupant,
            };
            match step {
                Step::Prepare(slot) => place(&mut slots, slot, occupy(Prepared, at, lifetime)),
                Step::Activate(slot) => {
                    let becomes = |o: Option<Occupant>, status| o.map(|o| Occupant { status, ..o });
                    let (new, old) = (slots.of(slot), slots.of(slot.other()));
                    place(&mut slots, slot, becomes(new, Active));
                    place(&mut slots, slot.other(), becomes(old, Old));
                }
            }
            history.push((at, step));
        }
        at += i64::try_from(wait(&slots, now).as_secs()).unwrap();
    }
    history
}

#[test]
fn the_schedule_repeats_itself_to_the_second() {
    use Step::{Activate, Prepare};
    let expected = [
        (0, Prepare(A)),
        (0, Activate(A)),
        (30, Prepare(B)),
        (50, Activate(B)),
        (60, Prepare(A)),
        (80, Activate(A)),
        (90, Prepare(B)),
        (110, Activate(B)),
    ];
    assert_eq!(history(60, 115, ca), expected);
    assert_eq!(history(60, 115, key), expected);
    // No tick is a multiple of these.
    let odd = history(61, 120, ca);
    assert_eq!(odd[2..5], [(31, Prepare(B)), (51, Activate(B)), (62, Prepare(A))]);
}

#[test]
fn nothing_waits_longer_than_a_tick_or_less_than_a_second() {
    let slots = Slots { a: ca(Active, 0, HOUR), b: None };
    let wait_at = |at| wait(&slots, from_unix_seconds(T + at)).as_secs();
    assert_eq!(wait_at(0), 10);
    assert_eq!(wait_at(HOUR / 2 - 3), 3);
    assert_eq!(wait_at(HOUR / 2), 10);
    assert_eq!(wait_at(HOUR - 1), 1);
    assert_eq!(wait(&Slots::default(), from_unix_seconds(T)), TICK);
}
