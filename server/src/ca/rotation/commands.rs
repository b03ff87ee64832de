//! Does what an administrator asks of the authorities, and tells the audit log who asked.

use std::error::Error as StdError;
use std::sync::Arc;

use steeple::bundle::JwtAuthority;
use tracing::{error, info};

use super::RotationError;
use super::keeper::Keeper;
use super::rules::{self, Effect, Preparation, Withdrawal};
use crate::audit::event::{AuthorityStep, BundleFacts, Caller, Event};
use crate::ca::Ledger;
use crate::ca::control::{Change, ControlError, Order, Standing};
use crate::ca::journal::Revoked;
use crate::ca::record::chain;
use crate::ca::slots::Kind;

/// A step, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Subject<'a> {
    step: AuthorityStep,
    kind: Kind,
    id: Option<&'a str>,
}

/// Whose authority is withdrawn.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// One of this server, or a key of a server below it.
    Own(Kind),
    /// One that stands above.
    Upstream,
}

impl<L: Ledger> Keeper<L> {
    /// Does what is asked, or records why not.
    pub(super) async fn obey(
        &mut self,
        by: &Caller,
        order: Order,
    ) -> Result<Standing, ControlError> {
        let (subject, done) = match &order {
            // Who calls knows why not, and may ask for as much as the rate allows.
            Order::Publish(key) => return self.publish_for(by, key.clone()).await,
            Order::Leave(key) => return self.leave_for(by, key.clone()).await,
            Order::Prepare(kind) => {
                let subject = Subject { step: AuthorityStep::Prepare, kind: *kind, id: None };
                (subject, self.prepare_for(by, *kind).await)
            }
            Order::Change(change, kind, id) => {
                let subject = Subject { step: (*change).into(), kind: *kind, id: Some(id) };
                (subject, self.change(by, *change, (*kind, id)).await)
            }
            Order::ChangeUpstream(change, id) => {
                let (step, kind) = ((*change).into(), Kind::X509Ca);
                (Subject { step, kind, id: Some(id) }, self.change_upstream(by, *change, id).await)
            }
        };
        if let Err(error) = &done {
            self.refuse(by, subject, error).await;
        }
        done
    }

    async fn prepare_for(&mut self, by: &Caller, kind: Kind) -> Result<Standing, ControlError> {
        self.check_made(kind)?;
        let slots = self.slots(kind);
        match rules::prepare(self.journal(), (kind, &slots), self.now())? {
            Preparation::Ready => {}
            Preparation::New(slot) => self.prepare(by, kind, slot).await.map_err(failed)?,
        }
        // Whoever asks goes on once the key is known, and it is not known before it is so above. That
        // it cannot be published now is no reason not to have it, and is said where it is asked for.
        if kind == Kind::JwtKey {
            self.publish_keys().await.map_err(failed)?;
        }
        let prepared = self.journal().prepared(kind).map(Standing::from);
        prepared.ok_or(ControlError::Unknown)
    }

    async fn change(
        &mut self,
        by: &Caller,
        change: Change,
        (kind, id): (Kind, &str),
    ) -> Result<Standing, ControlError> {
        self.check_made(kind)?;
        let effect = match change {
            Change::Activate => return self.activate_for(by, kind, id).await,
            Change::Taint => rules::taint(self.journal(), &self.bundle(), (kind, id))?,
            Change::Revoke => rules::revoke(self.journal(), &self.bundle(), (kind, id))?,
        };
        self.withdraw(by, Of::Own(kind), effect).await.map_err(failed)
    }

    async fn change_upstream(
        &mut self,
        by: &Caller,
        change: Change,
        id: &str,
    ) -> Result<Standing, ControlError> {
        if self.branch.is_none() {
            return Err(ControlError::NoUpstream);
        }
        let withdrawal = match change {
            // What stands above decides itself what it signs with.
            Change::Activate => return Err(ControlError::Unknown),
            Change::Taint => Withdrawal::Taint,
            Change::Revoke => Withdrawal::Revoke,
        };
        let effect = rules::withdraw_upstream(self.journal(), &self.bundle(), (withdrawal, id))?;
        self.withdraw(by, Of::Upstream, effect).await.map_err(failed)
    }

    fn check_made(&self, kind: Kind) -> Result<(), ControlError> {
        if self.makes(kind) { Ok(()) } else { Err(ControlError::NotMade(kind)) }
    }

    async fn activate_for(
        &mut self,
        by: &Caller,
        kind: Kind,
        id: &str,
    ) -> Result<Standing, ControlError> {
        let slots = self.slots(kind);
        let slot = rules::activate(self.journal(), (kind, &slots), id, self.now())?;
        self.activate(by, (kind, slot), Vec::new()).await.map_err(failed)?;
        self.journal().active(kind).map(Standing::from).ok_or(ControlError::Unknown)
    }

    async fn publish_for(
        &mut self,
        by: &Caller,
        key: JwtAuthority,
    ) -> Result<Standing, ControlError> {
        let changes = rules::publish(self.journal(), &self.bundle(), &key)?;
        let (id, expires_at) = (key.key_id.into(), key.expires_at);
        if !changes.is_empty() {
            let saved = self.save(self.journal().clone(), changes).await;
            saved.map_err(failed)?;
            info!(key_id = %id, "JWT authority of a downstream server published");
            let bundle = BundleFacts::from(&*self.bundle());
            self.tell(by, Event::BundleSet { bundle }).await;
        }
        Ok(Standing { id, expires_at, upstream_authority_id: None })
    }

    async fn leave_for(
        &mut self,
        by: &Caller,
        key: JwtAuthority,
    ) -> Result<Standing, ControlError> {
        if let Some(effect) = rules::leave(self.journal(), &self.bundle(), &key) {
            return self.withdraw(by, Of::Own(Kind::JwtKey), effect).await.map_err(failed);
        }
        let (id, expires_at) = (key.key_id.into(), key.expires_at);
        Ok(Standing { id, expires_at, upstream_authority_id: None })
    }

    async fn withdraw(
        &mut self,
        by: &Caller,
        of: Of,
        effect: Effect,
    ) -> Result<Standing, RotationError> {
        let Effect { withdrawal, standing, changes } = effect;
        let kind = of.kind();
        let (correlation, authority_id) = (self.correlation(), standing.id.clone());
        let intent = Event::AuthorityIntent {
            correlation,
            step: withdrawal.into(),
            kind,
            slot: None,
            authority_id: Some(authority_id.clone()),
        };
        self.record(by, intent).await?;
        let journal = match withdrawal {
            Withdrawal::Taint => self.journal().clone(),
            Withdrawal::Revoke => {
                let not_after = standing.expires_at.unwrap_or(i64::MAX);
                let revoked = Revoked { kind, authority_id: authority_id.clone(), not_after };
                let journal = self.journal().with_revoked(revoked);
                match kind {
                    Kind::X509Ca => journal.without_dependents(std::slice::from_ref(&authority_id)),
                    Kind::JwtKey => journal,
                }
            }
        };
        if !changes.is_empty() {
            self.save(journal, changes).await?;
        }
        log(of, withdrawal, &standing);
        let event = match withdrawal {
            Withdrawal::Taint => Event::AuthorityTainted { correlation, kind, authority_id },
            Withdrawal::Revoke => Event::AuthorityRevoked { correlation, kind, authority_id },
        };
        self.tell(by, event).await;
        Ok(standing)
    }

    async fn refuse(&self, by: &Caller, subject: Subject<'_>, error: &ControlError) {
        if let ControlError::Failed(error) = error {
            let error: &dyn StdError = &**error;
            error!(error, step = ?subject.step, kind = %subject.kind, "a step asked for failed");
        }
        let refused = Event::AuthorityRefused {
            correlation: None,
            step: subject.step,
            kind: subject.kind,
            authority_id: subject.id.map(|id| id.to_owned().into()),
            why: chain(error),
        };
        self.tell(by, refused).await;
    }
}

fn failed(error: RotationError) -> ControlError {
    ControlError::Failed(Arc::new(error))
}

impl Of {
    fn kind(self) -> Kind {
        match self {
            Self::Own(kind) => kind,
            Self::Upstream => Kind::X509Ca,
        }
    }
}

fn log(of: Of, withdrawal: Withdrawal, standing: &Standing) {
    let what = match withdrawal {
        Withdrawal::Taint => "tainted",
        Withdrawal::Revoke => "revoked",
    };
    // The words that operators of SPIRE look for.
    match of {
        Of::Own(Kind::X509Ca) => {
            info!(local_authority_id = %standing.id, "X.509 authority {what} successfully");
        }
        Of::Own(Kind::JwtKey) => {
            info!(local_authority_id = %standing.id, "JWT authority {what} successfully");
        }
        Of::Upstream => {
            info!(subject_key_id = %standing.id, "X.509 upstream authority {what} successfully");
        }
    }
}

impl From<Withdrawal> for AuthorityStep {
    fn from(withdrawal: Withdrawal) -> Self {
        match withdrawal {
            Withdrawal::Taint => Self::Taint,
            Withdrawal::Revoke => Self::Revoke,
        }
    }
}

impl From<Change> for AuthorityStep {
    fn from(change: Change) -> Self {
        match change {
            Change::Activate => Self::Activate,
            Change::Taint => Self::Taint,
            Change::Revoke => Self::Revoke,
        }
    }
}

#[cfg(test)]
mod tests;
