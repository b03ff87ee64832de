//! Decides which refusals are logged: a process that asks again and again must not fill the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many refusals of one user are logged in a spell.
const MAX_LOGGED: u32 = 10;

/// How long a spell is.
const SPELL: Duration = Duration::from_secs(10);

/// How many users are told apart. All others are one.
const MAX_USERS: usize = 1_024;

/// What was logged of each user, or of whom else a `K` stands for. Clones are the same.
#[derive(Clone, Debug)]
pub struct Complaints<K = u32>(Arc<Mutex<HashMap<Option<K>, Spell>>>);

#[derive(Debug)]
struct Spell {
    began: Instant,
    logged: u32,
    left_out: u64,
}

impl<K> Default for Complaints<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Copy + Eq + Hash> Complaints<K> {
    /// Whether a refusal of this user is to be logged `now`, and how many were left out since the
    /// last one that was.
    pub(crate) fn admit(&self, user: K, now: Instant) -> Option<u64> {
        let mut spells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |spell: &Spell| now.saturating_duration_since(spell.began) >= SPELL;
        if spells.len() >= MAX_USERS && !spells.contains_key(&Some(user)) {
            spells.retain(|_, spell| !is_over(spell));
        }
        let is_known = spells.len() < MAX_USERS || spells.contains_key(&Some(user));
        let fresh = || Spell { began: now, logged: 0, left_out: 0 };
        let spell = spells.entry(is_known.then_some(user)).or_insert_with(fresh);
        if is_over(spell) {
            (spell.began, spell.logged) = (now, 0);
        }
        if spell.logged >= MAX_LOGGED {
            spell.left_out += 1;
            return None;
        }
        spell.logged += 1;
        Some(std::mem::take(&mut spell.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_asks_again_and_again_is_logged_now_and_then() {
        let (complaints, now) = (Complaints::<u32>::default(), Instant::now());
        let logged = |user, now| (0..100).filter_map(|_| complaints.admit(user, now)).collect();
        let first: Vec<_> = logged(1, now);
        assert_eq!(first, [0; 10]);
        assert_eq!(complaints.admit(2, now), Some(0), "another user is logged still");
        let second: Vec<_> = logged(1, now + SPELL);
        assert_eq!(second, [[90].as_slice(), &[0; 9]].concat());
    }

    #[test]
    fn a_crowd_of_users_takes_a_bounded_room() {
        let (complaints, now) = (Complaints::<u32>::default(), Instant::now());
        for user in 0..5_000 {
            complaints.admit(user, now);
        }
        assert!(complaints.0.lock().unwrap().len() <= MAX_USERS + 1);
        assert_eq!(complaints.admit(7, now), Some(0), "who is known is told apart");
    }
}
