//! Decides when to synchronise next; performs no I/O.

use std::time::{Duration, SystemTime};

use crate::server_api::{MAX_RETRY_AFTER, ServerError};

/// How much longer each wait is than the one before, while the server fails.
const GROWTH: f64 = 1.5;

/// How far the syncs of many agents are spread.
const SPREAD: f64 = 0.1;

/// The longest wait, whatever the interval.
const MAX_WAIT: Duration = Duration::from_secs(480);

/// The longest wait as a multiple of the interval.
const MAX_FACTOR: u32 = 48;

/// The least time between two syncs that somebody asked for.
const LEAST_GAP: Duration = Duration::from_secs(1);

/// How often to ask the server.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// The wait before the next try, jitter aside; the interval as long as nothing fails.
    wait: Duration,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, wait: interval }
    }

    /// The wait after a success.
    pub(super) fn after_success(&mut self, random: f64) -> Duration {
        self.wait = self.interval;
        spread(self.wait, random)
    }

    /// The wait after a failure: longer each time, but not while there is nothing to `serve`.
    pub(super) fn after_failure(
        &mut self,
        error: &ServerError,
        serves: bool,
        random: f64,
    ) -> Duration {
        let wait = spread(self.wait, random);
        let cap = MAX_WAIT.min(self.interval.saturating_mul(MAX_FACTOR)).max(self.interval);
        self.wait = if serves { self.wait.mul_f64(GROWTH).min(cap) } else { self.interval };
        match error {
            ServerError::Busy { retry_after: Some(after) } => wait.max(*after),
            ServerError::Busy { retry_after: None }
            | ServerError::Unavailable(_)
            | ServerError::Untrusted(_)
            | ServerError::Timeout
            | ServerError::Denied(_)
            | ServerError::Forbidden(_)
            | ServerError::Invalid(_)
            | ServerError::TooLarge(_)
            | ServerError::Unsupported(_)
            | ServerError::Failed(_)
            | ServerError::Answer(_) => wait,
        }
    }

    /// No wait is longer than this.
    pub(super) fn longest(&self) -> Duration {
        MAX_WAIT.max(self.interval).mul_f64(1.0 + SPREAD).max(MAX_RETRY_AFTER)
    }

    /// When to ask if somebody would like it sooner than `next`. A server that fails is not asked
    /// more often for that.
    pub(super) fn soonest(&self, next: SystemTime, now: SystemTime) -> SystemTime {
        if self.wait > self.interval {
            return next;
        }
        // The last one was about an interval before the next.
        let last = next.checked_sub(self.interval).unwrap_or(now);
        now.max(last + LEAST_GAP)
    }
}

fn spread(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 + SPREAD * (2.0 * random.clamp(0.0, 1.0) - 1.0))
}

#[cfg(test)]
mod tests {
    use steeple::clock::from_unix_seconds as at;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn away() -> ServerError {
        ServerError::Unavailable(String::new())
    }

    #[test]
    fn waits_grow_while_the_server_fails_and_begin_anew_when_it_answers() {
        let mut pace = Pace::new(INTERVAL);
        let waits: Vec<_> =
            (0..4).map(|_| pace.after_failure(&away(), true, 0.5).as_millis()).collect();
        assert_eq!(waits, [5_000, 7_500, 11_250, 16_875]);
        for _ in 0..20 {
            pace.after_failure(&away(), true, 0.5);
        }
        assert_eq!(pace.after_failure(&away(), true, 0.5), Duration::from_secs(240));
        assert_eq!(pace.after_success(0.5), INTERVAL);
        assert_eq!(pace.after_failure(&away(), true, 0.5), INTERVAL);
    }

    #[test]
    fn the_longest_wait_is_eight_minutes() {
        let mut pace = Pace::new(Duration::from_secs(60));
        let longest = (0..20).map(|_| pace.after_failure(&away(), true, 0.5)).max();
        assert_eq!(longest, Some(MAX_WAIT));
        let mut slow = Pace::new(Duration::from_secs(3_600));
        slow.after_failure(&away(), true, 0.5);
        assert_eq!(slow.after_failure(&away(), true, 0.5), Duration::from_secs(3_600));
    }

    #[test]
    fn an_agent_with_nothing_to_serve_does_not_wait_longer() {
        let mut pace = Pace::new(INTERVAL);
        assert!((0..9).all(|_| pace.after_failure(&away(), false, 0.5) == INTERVAL));
    }

    #[test]
    fn a_busy_server_is_left_alone_and_all_waits_are_spread() {
        let mut pace = Pace::new(INTERVAL);
        let busy = ServerError::Busy { retry_after: Some(Duration::from_secs(60)) };
        assert_eq!(pace.after_failure(&busy, true, 0.5), Duration::from_secs(60));
        assert_eq!(pace.after_success(0.0), Duration::from_millis(4_500));
        assert_eq!(pace.after_success(1.0), Duration::from_millis(5_500));
    }

    #[test]
    fn a_wish_is_granted_but_not_more_than_once_a_second() {
        let mut pace = Pace::new(INTERVAL);
        assert_eq!(pace.soonest(at(105), at(103)), at(103));
        assert_eq!(pace.soonest(at(105), at(100)), at(101));
        pace.after_failure(&away(), true, 0.5);
        assert_eq!(pace.soonest(at(105), at(103)), at(105));
    }
}
