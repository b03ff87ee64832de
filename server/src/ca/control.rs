//! How an administrator moves from one authority to the next: prepare, activate, taint, revoke.
//!
//! Whoever holds the handle asks; the task that keeps the authorities answers, one request after
//! the other, so that none of them meets an authority in the middle of a step of rotation.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::bundle::{Bundle, JwtAuthority};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::authorities::AuthorityId;
use super::journal::{Journal, Record};
use super::rotation::{Health, RotationError, rules};
use super::slots::{Kind, Status};
use crate::audit::event::Caller;

/// How many requests may wait. More wait before they are taken.
const QUEUE: usize = 16;

/// Asks the task that keeps the authorities. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct AuthorityControl {
    requests: mpsc::Sender<Request>,
    known: Known,
}

/// What is known of the authorities without asking.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The kinds of authorities that there are.
    pub(super) kinds: Vec<Kind>,
    /// The authorities.
    pub(super) journal: watch::Receiver<Arc<Journal>>,
    /// Whether they are rotated.
    pub(super) health: watch::Receiver<Health>,
    /// What became of the keys that are to be known above; `None` if nothing is above.
    pub(super) above: watch::Receiver<Above>,
}

/// What became of the keys of this server at what stands above it, if something does.
pub(super) type Above = Option<BTreeMap<AuthorityId, Publication>>;

/// What became of a key at what stands above.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Publication {
    /// It is not known there.
    Missing,
    /// It was published there at this time.
    At(Instant),
    /// What stands above takes no keys.
    NotTaken,
}

/// The authorities of a kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// The one that signs.
    pub active: Standing,
    /// The one that is published and does not sign yet.
    pub prepared: Option<Standing>,
    /// The one that signed before, as long as it is vouched for.
    pub old: Option<Standing>,
}

/// An authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its name.
    pub id: AuthorityId,
    /// Until when it is valid, in seconds since 1970; of another server's it may not be known.
    pub expires_at: Option<i64>,
    /// The subject key identifier of the upstream authority that vouches for it, if one does.
    pub upstream_authority_id: Option<AuthorityId>,
}

/// What is asked of an authority that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// That it signs from now on.
    Activate,
    /// That it is no longer relied on, so that all it signed is replaced.
    Taint,
    /// That it is no longer vouched for.
    Revoke,
}

/// Why nothing was changed.
#[derive(Clone, Debug, Error)]
pub enum ControlError {
    /// The server makes none of that kind.
    #[error("this server makes no {0}")]
    NotMade(Kind),
    /// No authority signs yet.
    #[error("server is initializing")]
    Initializing,
    /// No authority is named.
    #[error("no authority ID provided")]
    NoId,
    /// There is no authority of that name that this can be asked of.
    #[error("there is no authority of that ID that could be used")]
    Unknown,
    /// It is the one that signs.
    #[error("it is the active authority")]
    Active,
    /// It is to sign next.
    #[error("it is the prepared authority")]
    Prepared,
    /// It has signed before, and its key is gone.
    #[error("it is an old authority")]
    Old,
    /// It has expired, is tainted or has lost its key, so that it cannot sign.
    #[error("the prepared authority can no longer sign; prepare another one")]
    Unusable,
    /// It can be revoked only after it was tainted.
    #[error("it is not tainted")]
    Untainted,
    /// An upstream authority vouches for it, and is what would have to be named.
    #[error("an upstream authority vouches for it")]
    HasUpstream,
    /// There is no upstream authority.
    #[error("upstream authority is not configured")]
    NoUpstream,
    /// It was revoked here, and is not vouched for again.
    #[error("it was revoked")]
    Revoked,
    /// Another one has its name.
    #[error("another key has that ID")]
    Taken,
    /// There are too many in the bundle.
    #[error("the bundle has as many JWT authorities as it may; try again when some have expired")]
    TooMany,
    /// It was allowed, and failed.
    #[error("the step failed")]
    Failed(#[source] Arc<RotationError>),
    /// Nobody keeps the authorities any more.
    #[error("the server is stopping")]
    Stopping,
}

/// What is asked, by whom, and where the answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) caller: Caller,
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<Standing, ControlError>>,
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// An authority that can sign next.
    Prepare(Kind),
    /// A change of the one of that name.
    Change(Change, Kind, String),
    /// A change of the upstream authority with that subject key identifier, which becomes the name
    /// of what is answered.
    ChangeUpstream(Change, String),
    /// That the key of a server below this one is vouched for.
    Publish(JwtAuthority),
    /// That such a key is no longer vouched for, as it was revoked above.
    Leave(JwtAuthority),
}

impl AuthorityControl {
    /// A handle, and where what is asked arrives.
    pub(super) fn new(known: Known) -> (Self, mpsc::Receiver<Request>) {
        let (requests, arriving) = mpsc::channel(QUEUE);
        (Self { requests, known }, arriving)
    }

    /// The authorities as they are.
    pub fn state(&self, kind: Kind) -> Result<State, ControlError> {
        if !self.known.kinds.contains(&kind) {
            return Err(ControlError::NotMade(kind));
        }
        let journal = self.known.journal.borrow();
        let active = journal.active(kind).ok_or(ControlError::Initializing)?;
        Ok(State {
            active: active.into(),
            prepared: journal.prepared(kind).map(Standing::from),
            old: journal.old(kind).map(Standing::from),
        })
    }

    /// Whether the authorities are rotated.
    #[must_use]
    pub fn health(&self) -> Health {
        self.known.health.borrow().clone()
    }

    /// What became of a JWT key that signs or is to sign at what stands above; `None` if nothing does.
    #[must_use]
    pub fn publication(&self, id: &AuthorityId) -> Option<Publication> {
        let above = self.known.above.borrow();
        Some(above.as_ref()?.get(id).copied().unwrap_or(Publication::Missing))
    }

    /// The names of those that no longer sign and are not forgotten.
    #[must_use]
    pub fn old(&self, kind: Kind) -> Vec<AuthorityId> {
        let journal = self.known.journal.borrow();
        let of_kind = journal.records().iter().filter(|record| record.kind == kind);
        let old = of_kind.filter(|record| record.status == Status::Old);
        old.map(|record| record.authority_id.clone()).collect()
    }

    /// Prepares an authority. One that is prepared and can sign is the answer, not made anew: it
    /// may have been given out.
    pub async fn prepare(&self, caller: Caller, kind: Kind) -> Result<Standing, ControlError> {
        self.ask(caller, Order::Prepare(kind)).await
    }

    /// Changes an authority.
    pub async fn change(
        &self,
        caller: Caller,
        change: Change,
        (kind, id): (Kind, &str),
    ) -> Result<Standing, ControlError> {
        self.ask(caller, Order::Change(change, kind, id.to_owned())).await
    }

    /// Changes an upstream authority, named by its subject key identifier in hexadecimal.
    pub async fn change_upstream(
        &self,
        caller: Caller,
        change: Change,
        subject_key_id: &str,
    ) -> Result<Standing, ControlError> {
        let order = Order::ChangeUpstream(change, subject_key_id.to_ascii_lowercase());
        self.ask(caller, order).await
    }

    /// Whether the key of a server below this one would be vouched for, beside what `bundle` has.
    pub fn check_publishable(
        &self,
        bundle: &Bundle,
        key: &JwtAuthority,
    ) -> Result<(), ControlError> {
        rules::publish(&self.known.journal.borrow(), bundle, key).map(drop)
    }

    /// Vouches for the key of a server below this one.
    pub async fn publish(
        &self,
        caller: Caller,
        key: JwtAuthority,
    ) -> Result<Standing, ControlError> {
        self.ask(caller, Order::Publish(key)).await
    }

    /// No longer vouches for the key of a server below this one, as it was revoked above, nor takes
    /// it again. Whether it did so far does not matter.
    pub async fn leave(&self, caller: Caller, key: JwtAuthority) -> Result<Standing, ControlError> {
        self.ask(caller, Order::Leave(key)).await
    }

    async fn ask(&self, caller: Caller, order: Order) -> Result<Standing, ControlError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { caller, order, reply };
        let sent = self.requests.send(request).await;
        sent.map_err(|_closed| ControlError::Stopping)?;
        answer.await.unwrap_or(Err(ControlError::Stopping))
    }
}

impl From<&Record> for Standing {
    fn from(record: &Record) -> Self {
        Self {
            id: record.authority_id.clone(),
            expires_at: Some(record.not_after),
            upstream_authority_id: record.upstream_authority_id.clone(),
        }
    }
}
