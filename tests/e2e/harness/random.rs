//! Random numbers that a failure can be repeated with: `STEEPLE_TEST_SEED`.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// A sequence that its seed decides.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A new sequence, or that of the environment, whose seed is printed.
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("STEEPLE_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => RandomState::new().build_hasher().finish(),
        };
        println!("STEEPLE_TEST_SEED={seed}");
        Self(seed)
    }

    /// A sequence of its own, which this one decides.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A time below `end`.
    pub(crate) fn time(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(end.as_micros().try_into().unwrap()))
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
