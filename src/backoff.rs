//! Decides how long to wait before the next try; performs no I/O.

use std::time::Duration;

/// Exponential backoff with full jitter on its upper half.
///
/// The n-th wait lies between one half and the whole of `min(cap, initial · factorⁿ)`.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `initial`, doubles with every try, stays at `cap`.
    #[must_use]
    pub fn new(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, next: initial }
    }

    /// The wait before the next try. `random` is drawn uniformly from `0.0..1.0`.
    pub fn wait(&mut self, random: f64) -> Duration {
        let whole = self.next.min(self.cap);
        self.next = whole.saturating_mul(2);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

/// A number drawn uniformly from `0.0..1.0`, for jitter.
#[must_use]
pub fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without randomness there is no jitter, which harms nobody.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<_> = (0..4).map(|_| backoff.wait(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5]);
        assert_eq!(backoff.wait(0.0), Duration::from_millis(2_500));
        backoff.reset();
        assert_eq!(backoff.wait(1.0), Duration::from_secs(1));
    }

    #[test]
    fn a_fraction_is_below_one() {
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random_fraction())));
    }
}
