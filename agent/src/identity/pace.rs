//! Decides when the server is asked to sign, how often at once and for how much; performs no I/O.
//!
//! A server that has enough to do says when to come back. Then everybody waits for that, and
//! carefully goes on from one call at a time, so that as much is asked for as the server signs.

use std::time::Duration;

use steeple::backoff::Backoff;
use tokio::time::Instant;

/// How long to leave a server alone that does not say for how long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The shortest wait, whatever the server says: by then it can sign more than one.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// How often a wait doubles where each was in vain.
const MAX_DOUBLINGS: u32 = 6;

/// Until where a wait doubles, unless the server itself says that it is longer. Whoever asks waits
/// for a minute at most, in which there have to be several tries: many nodes may share one limit,
/// and to be refused again and again is then nobody's fault.
const LONGEST_DOUBLED: Duration = Duration::from_secs(10);

/// How much is asked for, at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    /// Calls at once.
    pub(super) calls: usize,
    /// Requests in one call.
    pub(super) batch: usize,
}

/// How the server is asked.
#[derive(Debug)]
pub(super) struct Pace {
    most: Bounds,
    /// How many calls may be under way at the moment, and how many requests be in one.
    now: Bounds,
    under_way: usize,
    held_until: Option<Instant>,
    /// How often the server was busy; a call belongs to the round in which it began.
    round: u64,
    /// How many rounds ended without any success.
    in_vain: u32,
    backoff: Backoff,
}

/// A call that was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Begun {
    /// How many requests it may have.
    pub(super) batch: usize,
    round: u64,
}

/// How a call ended, as far as the pace goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The server did what it was asked, or failed for a reason of its own.
    Answered,
    /// It has enough to do, perhaps for as long as it says.
    Busy(Option<Duration>),
    /// It never grants as many requests at once as these.
    TooLarge(usize),
}

impl Pace {
    pub(super) fn new(most: Bounds) -> Self {
        Self {
            most,
            now: most,
            under_way: 0,
            held_until: None,
            round: 0,
            in_vain: 0,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        }
    }

    /// Begins a call, if one may begin `now`.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Begun> {
        if self.held_until.is_some_and(|until| now < until) || self.under_way >= self.now.calls {
            return None;
        }
        self.under_way += 1;
        Some(Begun { batch: self.now.batch, round: self.round })
    }

    /// A call has ended. `random` is drawn uniformly from `0.0..1.0`, so that
    /// nodes that share a limit do not come back together.
    pub(super) fn ended(&mut self, call: Begun, outcome: Outcome, (now, random): (Instant, f64)) {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            Outcome::Answered => {
                self.in_vain = 0;
                self.backoff.reset();
                self.now.calls = (self.now.calls + 1).min(self.most.calls);
            }
            Outcome::TooLarge(asked) => {
                self.now.batch = self.now.batch.min(asked.div_ceil(2)).max(1)
            }
            Outcome::Busy(hint) => self.busy(call, hint, (now, random)),
        }
    }

    /// Until when nobody is asked, if that is after `now`.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| now < *until)
    }

    fn busy(&mut self, call: Begun, hint: Option<Duration>, (now, random): (Instant, f64)) {
        // What else was under way when the server became busy says nothing new.
        let is_news = call.round == self.round;
        if is_news {
            self.round += 1;
            self.in_vain += 1;
            self.now.calls = (self.now.calls / 2).max(1);
        }
        let wait = match hint {
            Some(hint) => {
                let doublings = self.in_vain.saturating_sub(1).min(MAX_DOUBLINGS);
                let hint = hint.max(SHORTEST_WAIT);
                let doubled = hint.saturating_mul(1 << doublings).min(LONGEST_DOUBLED);
                hint.max(doubled).mul_f64(1.0 + 0.1 * random)
            }
            None if is_news => self.backoff.wait(random),
            None => return,
        };
        let until = now + wait;
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Bounds = Bounds { calls: 4, batch: 100 };

    fn after(now: Instant, milliseconds: u64) -> Instant {
        now + Duration::from_millis(milliseconds)
    }

    fn busy(milliseconds: u64) -> Outcome {
        Outcome::Busy(Some(Duration::from_millis(milliseconds)))
    }

    /// Begins as many calls as may begin.
    fn begin_all(pace: &mut Pace, now: Instant) -> Vec<Begun> {
        std::iter::from_fn(|| pace.begin(now)).collect()
    }

    #[test]
    fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
        let (mut pace, now) = (Pace::new(MOST), Instant::now());
        let calls = begin_all(&mut pace, now);
        assert_eq!(calls.len(), 4);
        pace.ended(calls[0], busy(200), (now, 0.0));
        // One wait for all: that the others were refused too makes it no longer.
        pace.ended(calls[1], busy(200), (now, 0.0));
        pace.ended(calls[2], Outcome::Answered, (now, 0.0));
        assert_eq!(pace.held_until(now), Some(after(now, 200)));
        assert_eq!(pace.begin(after(now, 199)), None);
        assert!(pace.begin(after(now, 200)).is_some());
    }

    #[test]
    fn fewer_calls_are_made_at_once_until_they_succeed_again() {
        let (mut pace, now) = (Pace::new(MOST), Instant::now());
        for call in begin_all(&mut pace, now) {
            pace.ended(call, busy(200), (now, 0.0));
        }
        let later = after(now, 200);
        let calls = begin_all(&mut pace, later);
        assert_eq!(calls.len(), 2);
        for call in calls {
            pace.ended(call, Outcome::Answered, (later, 0.0));
        }
        assert_eq!(begin_all(&mut pace, later).len(), 4);
    }

    #[test]
    fn waits_in_vain_grow_longer_up_to_a_bound_or_to_what_the_server_says() {
        let mut now = Instant::now();
        let mut check = |hint, expected: [u128; 9]| {
            let mut pace = Pace::new(MOST);
            let waits = expected.map(|_| {
                let call = pace.begin(now).unwrap();
                pace.ended(call, busy(hint), (now, 0.0));
                let until = pace.held_until(now).unwrap();
                let wait = until - now;
                now = until;
                wait.as_millis()
            });
            assert_eq!(waits, expected);
        };
        check(0, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
        check(1_000, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000, 10_000]);
        check(30_000, [30_000; 9]);
        check(600_000, [600_000; 9]);
    }

    #[test]
    fn after_a_success_waits_are_short_again() {
        let (mut pace, mut now) = (Pace::new(MOST), Instant::now());
        for _ in 0..3 {
            let call = pace.begin(now).unwrap();
            pace.ended(call, busy(0), (now, 0.0));
            now = pace.held_until(now).unwrap();
        }
        let call = pace.begin(now).unwrap();
        pace.ended(call, Outcome::Answered, (now, 0.0));
        let call = pace.begin(now).unwrap();
        pace.ended(call, busy(0), (now, 1.0));
        assert_eq!(pace.held_until(now), Some(after(now, 11)), "spread by a tenth");
    }

    #[test]
    fn a_server_that_does_not_say_when_is_tried_again_after_a_while() {
        let (mut pace, now) = (Pace::new(MOST), Instant::now());
        let call = pace.begin(now).unwrap();
        pace.ended(call, Outcome::Busy(None), (now, 1.0));
        assert_eq!(pace.held_until(now), Some(after(now, 500)));
    }

    #[test]
    fn what_is_too_large_for_one_call_is_halved_down_to_one() {
        let (mut pace, now) = (Pace::new(MOST), Instant::now());
        let mut batches = Vec::new();
        for _ in 0..9 {
            let call = pace.begin(now).unwrap();
            batches.push(call.batch);
            pace.ended(call, Outcome::TooLarge(call.batch), (now, 0.0));
        }
        assert_eq!(batches, [100, 50, 25, 13, 7, 4, 2, 1, 1]);
    }
}
