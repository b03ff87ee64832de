//! Counts what each authority has signed that has not expired, since the start of this process.
//!
//! What expires at about the same time is one number, so that what is kept is bounded however much
//! is signed: an authority of a year has some thousand numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::authorities::AuthorityId;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What was signed, by authority.
#[derive(Debug)]
pub struct Tally {
    since: i64,
    /// How much expires until which time, in seconds since 1970.
    signed: Mutex<HashMap<AuthorityId, BTreeMap<i64, u64>>>,
}

/// What an authority signed that has not expired.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Live {
    /// How much.
    pub count: u64,
    /// When about the last of it expires, in seconds since 1970.
    pub last: Option<i64>,
}

impl Tally {
    /// Counts from `now` on, in seconds since 1970.
    pub(super) fn new(now: i64) -> Self {
        Self { since: now, signed: Mutex::default() }
    }

    /// Counts one more.
    pub(super) fn add(&self, id: &AuthorityId, not_after: i64, now: i64) {
        let mut signed = self.lock();
        if !signed.contains_key(id) {
            signed.insert(id.clone(), BTreeMap::new());
            // A new authority is rare enough to look at the others.
            signed.retain(|other, ends| other == id || ends.keys().any(|end| *end > now));
        }
        let Some(ends) = signed.get_mut(id) else { return };
        *ends.entry(rounded_up(not_after, now)).or_default() += 1;
        while let Some(first) = ends.first_entry().filter(|first| *first.key() <= now) {
            first.remove();
        }
    }

    /// What an authority signed that has not expired.
    #[must_use]
    pub fn live(&self, id: &AuthorityId, now: i64) -> Live {
        let signed = self.lock();
        let Some(ends) = signed.get(id) else { return Live::default() };
        let live = ends.range(now + 1..);
        Live { count: live.clone().map(|(_, count)| count).sum(), last: live.last().map(|l| *l.0) }
    }

    /// Since when it counts, in seconds since 1970.
    #[must_use]
    pub fn since(&self) -> i64 {
        self.since
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AuthorityId, BTreeMap<i64, u64>>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An end, later by less than a minute, or by more where it is far away.
fn rounded_up(end: i64, now: i64) -> i64 {
    let ahead = end.saturating_sub(now);
    let step = if ahead <= DAY {
        MINUTE
    } else if ahead <= 30 * DAY {
        HOUR
    } else {
        DAY
    };
    end.saturating_add(step - 1).div_euclid(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_020;

    fn id(name: &str) -> AuthorityId {
        name.to_owned().into()
    }

    #[test]
    fn what_has_expired_is_not_counted() {
        let tally = Tally::new(NOW);
        let check = |now, count, last| {
            assert_eq!(tally.live(&id("a"), now), Live { count, last }, "{now}");
        };
        check(NOW, 0, None);
        for end in [NOW + 30, NOW + 60, NOW + 61, NOW + 120] {
            tally.add(&id("a"), end, NOW);
        }
        tally.add(&id("b"), NOW + 3_600, NOW);
        check(NOW, 4, Some(NOW + 120));
        check(NOW + 59, 4, Some(NOW + 120));
        check(NOW + 60, 2, Some(NOW + 120));
        check(NOW + 120, 0, None);
        assert_eq!(tally.live(&id("b"), NOW).count, 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let tally = Tally::new(NOW);
        for second in 0..100_000 {
            tally.add(&id("a"), NOW + second + 3_600, NOW + second);
            tally.add(&id("b"), NOW + 86_400 + second * 1_000, NOW);
        }
        let signed = tally.lock();
        assert!(signed[&id("a")].len() <= 62, "{}", signed[&id("a")].len());
        assert!(signed[&id("b")].len() <= 2_000, "{}", signed[&id("b")].len());
    }

    #[test]
    fn an_authority_of_which_nothing_is_left_is_forgotten() {
        let tally = Tally::new(NOW);
        tally.add(&id("a"), NOW + 60, NOW);
        tally.add(&id("b"), NOW + 600, NOW + 61);
        assert_eq!(tally.lock().keys().collect::<Vec<_>>(), [&id("b")]);
    }
}
