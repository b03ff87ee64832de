//! Decides when an authority is prepared, activated and replaced; performs no I/O.
//!
//! The schedule is SPIRE's: the next authority is prepared, and with that published, when half of
//! the active one's life is left, and takes over when a sixth is. A verifier has known an authority
//! for a third of a lifetime when it first meets something signed by it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use steeple::clock::unix_seconds;

/// How often the schedule is looked at when nothing is due before.
pub const TICK: Duration = Duration::from_secs(10);

/// How far an authority may have been made in the future before it is clear that the clock has been
/// set back. Certificates are valid for as long before they are made.
const CLOCK_TOLERANCE: i64 = 60;

/// An active authority is not replaced by one that has been public for less, or for less than a
/// sixth of its life, while it can still be used: agents that were cut off have to learn of it.
const PROPAGATION: i64 = HOUR;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// What an authority signs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A CA whose key signs X.509-SVIDs.
    X509Ca,
    /// A key that signs JWT-SVIDs.
    JwtKey,
}

/// One of the two places of a kind, each with a key of its own in the key store.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// Where in its life an authority is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Published, and not signing yet.
    Prepared,
    /// Signing.
    Active,
    /// No longer signing, published until all it signed has expired.
    Old,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupant {
    /// Where in its life it is.
    pub status: Status,
    /// When it was made, in seconds since 1970.
    pub issued_at: i64,
    /// From when on what it signs is accepted; a key without such a time has `i64::MIN`.
    pub not_before: i64,
    /// Until when what it signs is accepted.
    pub not_after: i64,
    /// Whether its key is in the key store and it is in the bundle.
    pub intact: bool,
}

/// Both slots of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Slots {
    /// What slot A holds.
    pub a: Option<Occupant>,
    /// What slot B holds.
    pub b: Option<Occupant>,
}

/// Something to be done, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make a new authority in this slot and publish it.
    Prepare(Slot),
    /// Let this slot sign, and the other one no longer.
    Activate(Slot),
}

/// What is to be done now. Nothing that is prepared and can still be used is ever overwritten.
#[must_use]
pub fn plan(slots: &Slots, now: SystemTime) -> Vec<Step> {
    let now = unix_seconds(now);
    let active = slots.usable(Status::Active, now);
    let prepared = slots.usable(Status::Prepared, now);
    match (active, prepared) {
        (None, Some((slot, _))) => vec![Step::Activate(slot)],
        (None, None) => {
            let slot = slots.vacant();
            vec![Step::Prepare(slot), Step::Activate(slot)]
        }
        (Some((slot, active)), None) if active.prepare_at() <= now || active.is_ahead(now) => {
            vec![Step::Prepare(slot.other())]
        }
        (Some((_, active)), Some((slot, prepared)))
            if (active.activate_at() <= now || active.is_ahead(now))
                && (prepared.public_at() <= now || prepared.is_ahead(now)) =>
        {
            vec![Step::Activate(slot)]
        }
        (Some(_), None | Some(_)) => Vec::new(),
    }
}

/// How long to wait until [`plan`] is asked again: until something is due, [`TICK`] at most.
#[must_use]
pub fn wait(slots: &Slots, now: SystemTime) -> Duration {
    let seconds = unix_seconds(now);
    let occupants = [slots.a, slots.b].into_iter().flatten();
    let due = occupants.flat_map(|occupant| match occupant.status {
        Status::Active => [occupant.prepare_at(), occupant.activate_at(), occupant.not_after],
        Status::Prepared => [occupant.public_at(); 3],
        Status::Old => [i64::MIN; 3],
    });
    let next = due.filter(|due| *due > seconds).map(|due| due.abs_diff(seconds)).min();
    next.map_or(TICK, |seconds| Duration::from_secs(seconds).min(TICK))
}

impl Slots {
    /// What `slot` holds.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Option<Occupant> {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// Where the authority is that signs.
    #[must_use]
    pub fn active(&self, now: SystemTime) -> Option<Slot> {
        self.usable(Status::Active, unix_seconds(now)).map(|(slot, _)| slot)
    }

    /// Where the prepared authority is that can sign.
    #[must_use]
    pub fn prepared(&self, now: SystemTime) -> Option<Slot> {
        self.usable(Status::Prepared, unix_seconds(now)).map(|(slot, _)| slot)
    }

    fn usable(&self, status: Status, now: i64) -> Option<(Slot, Occupant)> {
        let held = [Slot::A, Slot::B].into_iter().filter_map(|slot| Some((slot, self.of(slot)?)));
        held.filter(|(_, occupant)| occupant.status == status).find(|(_, o)| o.is_usable(now))
    }

    /// Where a new authority goes when none is usable: beside the one that was active last.
    fn vacant(&self) -> Slot {
        match self.a {
            Some(Occupant { status: Status::Active, .. }) => Slot::B,
            Some(_) | None => Slot::A,
        }
    }
}

impl Occupant {
    fn is_usable(&self, now: i64) -> bool {
        self.intact && self.not_before <= now && now < self.not_after
    }

    fn lifetime(&self) -> i64 {
        self.not_after.saturating_sub(self.issued_at).max(0)
    }

    fn prepare_at(&self) -> i64 {
        self.not_after.saturating_sub((self.lifetime() / 2).min(30 * DAY))
    }

    fn activate_at(&self) -> i64 {
        self.not_after.saturating_sub((self.lifetime() / 6).min(7 * DAY))
    }

    /// When it has been public for so long that whoever looks now and then knows it, in seconds since
    /// 1970.
    #[must_use]
    pub fn public_at(self) -> i64 {
        self.issued_at.saturating_add(PROPAGATION.min(self.lifetime() / 6))
    }

    /// Whether it was made in the future: the clock has been set back, and what was to last a day
    /// would last for as long as the clock had been wrong, too.
    fn is_ahead(&self, now: i64) -> bool {
        self.issued_at.saturating_sub(CLOCK_TOLERANCE) > now
    }
}

impl Slot {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X509Ca => "X.509 CA",
            Self::JwtKey => "JWT key",
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

#[cfg(test)]
mod tests;
