//! Who has a place, and who has to go when somebody comes and there is none left.
//!
//! A place is kept as long as nobody needs it: clients keep a channel for hours between calls. When
//! one is needed, a connection without an open request is closed, and whose it was connects again
//! when it next wants something. No hold on a place have requests that have not arrived, as anybody
//! can begin one, and probes of the agent's health, as anybody may make them. What has arrived is
//! refused at once or is of a process with an identity, of which no container has many: see
//! [`super::limits::Limit::namespace`].

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tracing::warn;

use super::budget::{Budget, Origin, Reserve, Seat, Standing};
use super::limits::{Exhausted, LEAVING};

/// The places of an endpoint.
#[derive(Debug)]
pub(super) struct Seats {
    budget: Arc<Budget>,
    /// Some may be free again.
    taken: Vec<Weak<Seat>>,
    /// How long that may get before those are thrown out.
    enough: usize,
    /// Whose place was given to others last.
    leaving: VecDeque<Weak<Seat>>,
}

impl Seats {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, taken: Vec::new(), enough: 16, leaving: VecDeque::new() }
    }

    /// A place for a client from there.
    ///
    /// # Errors
    /// The limit that was reached, by connections on which requests are open.
    pub(super) fn take(&mut self, origin: Origin) -> Result<Arc<Seat>, Exhausted> {
        let mut reserve = Reserve::Kept;
        let seat = loop {
            let limit = match self.budget.seat(origin, reserve) {
                Ok(seat) => break seat,
                Err(limit) => limit,
            };
            match (self.leaver(origin, limit), self.budget.reserve(origin)) {
                (Some(leaver), _) => self.see_off(&leaver),
                (None, Reserve::Open) if reserve == Reserve::Kept => {}
                (None, Reserve::Open | Reserve::Kept) => {
                    self.budget.complain(origin, limit);
                    return Err(limit);
                }
            }
            // That one has left is enough, however many are there beyond the limit.
            reserve = self.budget.reserve(origin);
        };
        self.remember(&seat);
        Ok(seat)
    }

    /// Tells all to end.
    pub(super) fn dismiss_all(&self) {
        self.taken.iter().filter_map(Weak::upgrade).for_each(|seat| seat.dismiss());
    }

    fn remember(&mut self, seat: &Arc<Seat>) {
        if self.taken.len() >= self.enough {
            self.taken.retain(|seat| seat.strong_count() > 0);
            self.enough = 2 * self.taken.len() + 16;
        }
        self.taken.push(Arc::downgrade(seat));
    }

    /// Whose place a client from there may have, beyond that limit.
    fn leaver(&self, origin: Origin, limit: Exhausted) -> Option<Arc<Seat>> {
        let seats = self.taken.iter().filter_map(Weak::upgrade);
        let seats: Vec<_> = seats.filter(|seat| seat.origin().shares(&origin, limit)).collect();
        let leaver = leaver(seats.iter().map(|seat| seat.standing()))?;
        seats.into_iter().nth(leaver)
    }

    /// Tells a connection to end, and one that was told so long ago to end at once.
    fn see_off(&mut self, seat: &Arc<Seat>) {
        let (Origin { pid, user: uid, .. }, Standing { party, .. }) =
            (seat.origin(), seat.standing());
        if let Some(left_out) = self.budget.admit_complaint(seat.origin()) {
            warn!(pid, uid, connections = party, left_out, "idle connection closed to make room");
        }
        seat.dismiss();
        self.leaving.push_back(Arc::downgrade(seat));
        if self.leaving.len() > LEAVING
            && let Some(first) = self.leaving.pop_front().and_then(|seat| seat.upgrade())
        {
            first.dismiss();
        }
    }
}

/// Which of these connections has to go: of those without an open request, one of the container or
/// user that has most; there, one of the process that has most; and of those the longest idle.
fn leaver(standings: impl Iterator<Item = Standing>) -> Option<usize> {
    let idle = standings.enumerate().filter_map(|(number, standing)| {
        let Standing { party, process, idle_since } = standing;
        Some((number, (party, process, Reverse(idle_since?))))
    });
    idle.max_by_key(|(_, rank)| *rank).map(|(number, _)| number)
}

#[cfg(test)]
mod tests;
