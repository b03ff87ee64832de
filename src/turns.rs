//! Lets no user take more than a share of what all users need: each has so many turns at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many users are remembered before those who wait for nothing are forgotten.
const MAX_IDLE: usize = 64;

/// The turns of all users. Clones are the same turns.
#[derive(Clone, Debug)]
pub struct Turns {
    each: usize,
    users: Arc<Mutex<HashMap<u32, Arc<Semaphore>>>>,
}

/// One turn of one user, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// As many turns at a time for each user.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each, users: Arc::default() }
    }

    /// Waits for one of this user's turns.
    pub async fn take(&self, user: u32) -> Turn {
        Turn { _permit: self.of(user).acquire_owned().await.ok() }
    }

    fn of(&self, user: u32) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MAX_IDLE && !users.contains_key(&user) {
            // A turn that is taken or waited for holds a share.
            users.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        Arc::clone(users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn now(turns: &Turns, user: u32) -> Option<Turn> {
        tokio::time::timeout(Duration::ZERO, turns.take(user)).await.ok()
    }

    #[tokio::test]
    async fn each_user_has_turns_of_its_own() {
        let turns = Turns::new(2);
        let held = (now(&turns, 1).await.unwrap(), now(&turns, 1).await.unwrap());
        assert!(now(&turns, 1).await.is_none());
        assert!(now(&turns, 2).await.is_some());
        drop(held);
        assert!(now(&turns, 1).await.is_some());
    }

    #[tokio::test]
    async fn a_user_who_holds_a_turn_is_not_forgotten_and_others_are() {
        let turns = Turns::new(1);
        let _held = now(&turns, 0).await.unwrap();
        for user in 1..1_000 {
            now(&turns, user).await.unwrap();
        }
        assert!(now(&turns, 0).await.is_none());
        assert!(turns.users.lock().unwrap().len() <= MAX_IDLE);
    }
}
