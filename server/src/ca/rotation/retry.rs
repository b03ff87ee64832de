//! Decides when an authority that could not be made is tried again; performs no I/O.

use std::time::Duration;

use steeple::backoff::Backoff;
use tokio::time::Instant;

/// The longest first wait. Each one after it may be twice as long.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// What became of the last tries.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    due: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST, LONGEST), due: None }
    }
}

impl Retry {
    /// Remembers that a try failed.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        self.due = Some(now + self.backoff.wait(random));
    }

    /// Lets the next try be made at once: something may have changed.
    pub(super) fn hasten(&mut self) {
        self.due = None;
    }

    /// Whether another try may be made.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rare_and_a_change_makes_the_next_one_come_at_once() {
        let (start, mut retry) = (Instant::now(), Retry::default());
        assert!(retry.is_due(start));
        for seconds in [5, 10, 20, 40, 60, 60] {
            retry.failed(start, 1.0);
            assert!(!retry.is_due(start + Duration::from_secs(seconds - 1)), "{seconds}");
            assert!(retry.is_due(start + Duration::from_secs(seconds)), "{seconds}");
        }
        retry.hasten();
        assert!(retry.is_due(start));
    }
}
