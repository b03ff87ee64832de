//! The one place that reads the time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall time. Pure code takes `now`; a loop holds a clock.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the OS")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Sleeps until the wall clock shows `deadline`, or for as long as that was away at first,
/// whichever is over sooner. Whoever wakes looks at the clock again.
///
/// A timer ignores suspend and corrections of the clock, so this sleeps in steps of at most 30 s
/// and reads the clock after each. A clock that is set back does not make the sleep longer.
pub async fn sleep_until(clock: &dyn Clock, deadline: SystemTime) {
    let started = tokio::time::Instant::now();
    let at_first = deadline.duration_since(clock.now()).unwrap_or_default();
    loop {
        let left = deadline.duration_since(clock.now()).unwrap_or_default();
        let left = left.min(at_first.saturating_sub(started.elapsed()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(30))).await;
    }
}

/// When a wait is over that was meant to end at `deadline`: now, if that is further away than any
/// wait is meant to be, as it is after the clock was set back.
#[must_use]
pub fn end_of_wait(deadline: SystemTime, longest: Duration, now: SystemTime) -> SystemTime {
    match deadline.duration_since(now) {
        Ok(left) if left > longest => now,
        Ok(_) | Err(_) => deadline,
    }
}

/// Whole seconds since 1970; 0 for any time before.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> i64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// The time so many seconds after 1970; 1970 itself for a negative number.
#[must_use]
pub fn from_unix_seconds(seconds: i64) -> SystemTime {
    let elapsed = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(elapsed).unwrap_or(UNIX_EPOCH)
}

/// A clock for tests that advances with tokio's time, so `start_paused` moves timers and the
/// expiry of certificates together. It can be set, as an administrator would set a node's clock.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
    epoch: std::sync::Mutex<SystemTime>,
}

#[cfg(feature = "testing")]
impl TokioClock {
    /// A clock that shows `epoch` now.
    #[must_use]
    pub fn new(epoch: SystemTime) -> Self {
        Self { start: tokio::time::Instant::now(), epoch: std::sync::Mutex::new(epoch) }
    }

    /// Sets the clock to show `time` now.
    pub fn set(&self, time: SystemTime) {
        let epoch = time.checked_sub(self.start.elapsed()).unwrap_or(UNIX_EPOCH);
        *self.epoch.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = epoch;
    }
}

#[cfg(feature = "testing")]
impl Clock for TokioClock {
    fn now(&self) -> SystemTime {
        let epoch = *self.epoch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        epoch + self.start.elapsed()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_notices_that_the_clock_was_set_forward() {
        let clock = std::sync::Arc::new(TokioClock::new(from_unix_seconds(1_000)));
        let setter = clock.clone();
        let started = tokio::time::Instant::now();
        let set = async move {
            tokio::time::sleep(Duration::from_secs(40)).await;
            setter.set(from_unix_seconds(90_000));
        };
        tokio::join!(sleep_until(&*clock, from_unix_seconds(80_000)), set);
        assert_eq!(started.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_makes_no_sleep_longer() {
        let clock = std::sync::Arc::new(TokioClock::new(from_unix_seconds(90_000)));
        let setter = clock.clone();
        let started = tokio::time::Instant::now();
        let set = async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            setter.set(from_unix_seconds(1_000));
        };
        tokio::join!(sleep_until(&*clock, from_unix_seconds(90_100)), set);
        assert_eq!(started.elapsed(), Duration::from_secs(100));
    }

    #[test]
    fn a_wait_that_is_longer_than_any_is_over() {
        let (at, longest) = (from_unix_seconds, Duration::from_secs(60));
        assert_eq!(end_of_wait(at(160), longest, at(100)), at(160));
        assert_eq!(end_of_wait(at(161), longest, at(100)), at(100));
        assert_eq!(end_of_wait(at(90), longest, at(100)), at(90));
    }
}
