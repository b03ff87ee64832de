//! Keeps an authority of each kind signing: does what the plan says, remembers it, publishes it.
//!
//! A step that fails is tried again at the next look, and what signs goes on signing.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::clock::{Clock, unix_seconds};
use steeple::id::TrustDomain;
use steeple::jwt::make::NoKeyId;
use steeple::keys::{KeyAlgorithm, KeyStore, KeyStoreError};
use steeple::x509::make::{IssuerError, MakeError};
use steeple::x509::{ChainError, Subject};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use self::branch::Branch;
use self::keeper::Keeper;
use super::authorities::{Authorities, AuthorityId};
use super::control::{Above, AuthorityControl, Known, Request};
use super::journal::{Journal, JournalError};
use super::record::chain;
use super::slots::{Kind, Step, plan, wait};
use super::upstream::{UnusableCa, UpstreamAuthority, UpstreamError};
use super::{Ledger, LedgerError};
use crate::audit::event::Caller;
use crate::audit::{Audit, AuditError};

mod blame;
mod branch;
mod commands;
mod following;
mod keeper;
pub mod kept;
mod making;
mod retiring;
mod retry;
pub(super) mod rules;
mod vouched;

/// How authorities are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose authorities they are.
    pub trust_domain: TrustDomain,
    /// How long each lives.
    pub lifetime: Duration,
    /// What keys CAs have.
    pub ca_key: KeyAlgorithm,
    /// What keys sign tokens; none where no tokens are made.
    pub jwt_key: Option<KeyAlgorithm>,
    /// What CAs are called. A serial number that tells them apart is added.
    pub ca_subject: Subject,
}

/// What rotation works with.
#[derive(Debug)]
pub struct Deps<L> {
    /// What remembers the authorities and vouches for them.
    pub ledger: L,
    /// Where the private keys are.
    pub keys: Arc<dyn KeyStore>,
    /// What signs the CAs, if they do not sign themselves.
    pub upstream: Option<Arc<dyn UpstreamAuthority>>,
    /// What is told of each step.
    pub audit: Arc<Audit>,
    /// When it is.
    pub clock: Arc<dyn Clock>,
}

/// The authorities, and what keeps them fresh.
#[derive(Debug)]
pub struct Rotation<L> {
    keeper: Keeper<L>,
    authorities: watch::Sender<Arc<Authorities>>,
    journal: watch::Sender<Arc<Journal>>,
    health: watch::Sender<Health>,
    above: watch::Sender<Above>,
    control: AuthorityControl,
    requests: mpsc::Receiver<Request>,
}

/// Whether the last look at the authorities came to a good end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// It did.
    Rotating,
    /// It did not. What is active still signs, until it expires.
    Failing {
        /// Since when.
        since: SystemTime,
        /// What the last look failed of.
        why: String,
    },
}

/// Why a step was not taken.
#[derive(Debug, Error)]
pub enum RotationError {
    /// What was to be remembered could not be, or what was remembered not be read.
    #[error("the authorities could not be stored or read")]
    Ledger(#[from] LedgerError),
    /// What was remembered cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The step could not be recorded.
    #[error("the step could not be recorded")]
    Audit(#[from] AuditError),
    /// No certificate could be made.
    #[error("no CA certificate could be made")]
    Certificate(#[from] MakeError),
    /// A certificate cannot be read.
    #[error("the CA certificate cannot be read")]
    Chain(#[from] ChainError),
    /// A certificate and its key do not make an authority.
    #[error("the CA cannot sign")]
    Issuer(#[from] IssuerError),
    /// A JWT key has no name.
    #[error("the JWT key cannot sign")]
    NoKeyId(#[from] NoKeyId),
    /// What stands above this server did not sign.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// What it signed will not do.
    #[error("the CA certificate from upstream cannot be used")]
    UnusableCa(#[from] UnusableCa),
    /// What it signed depends on what it does not rely on itself.
    #[error("the upstream authority still signs with what it has tainted")]
    UpstreamTainted,
    /// What it signed depends on what was revoked here.
    #[error(
        "the upstream authority signs below the root {0}, which was revoked here; let it sign below \
         another one, or append that root to the bundle to rely on it again"
    )]
    UpstreamRevoked(AuthorityId),
    /// What signs depends on what upstream has tainted or revoked, and nothing else could be made.
    #[error(
        "the CA that signs here depends on {roots}, which is no longer relied on upstream; it is \
         relied on here until there is another CA, for which the upstream authority has to sign \
         below another root"
    )]
    StillBelow {
        /// The subject key identifiers of the roots.
        roots: String,
        /// Why there is no other CA.
        source: Box<Self>,
    },
    /// There is no random number to name a key by.
    #[error("no random number")]
    Random,
    /// What vouches for an authority is not in the bundle, or is tainted.
    #[error("nothing vouches for the {0} that is to sign")]
    NotVouched(Kind),
    /// The last try failed, and it is too early for another one.
    #[error("the next {0} could not be made; it is tried again soon")]
    Waiting(Kind),
    /// There is to be none of that kind.
    #[error("this server makes no {0}")]
    NotMade(Kind),
    /// After all steps there was nothing that can sign.
    #[error("there is no active {0}")]
    NotActive(Kind),
}

impl Config {
    /// What keys authorities of that kind have; none where none are made.
    fn algorithm(&self, kind: Kind) -> Option<KeyAlgorithm> {
        match kind {
            Kind::X509Ca => Some(self.ca_key),
            Kind::JwtKey => self.jwt_key,
        }
    }

    /// The kinds of authorities that are made.
    fn kinds(&self) -> Vec<Kind> {
        let all = [Kind::X509Ca, Kind::JwtKey].into_iter();
        all.filter(|kind| self.algorithm(*kind).is_some()).collect()
    }
}

impl<L: Ledger> Rotation<L> {
    /// Takes up the authorities that are remembered, and makes those that are missing. That what
    /// stands above is away does not matter as long as there is something that can sign.
    pub async fn start(config: Config, deps: Deps<L>) -> Result<Self, RotationError> {
        let kinds = config.kinds();
        let mut keeper = Keeper::load(config, deps).await?;
        let looked = match keeper.look().await {
            Err(error) if !(error.is_of_upstream() && keeper.can_sign()) => return Err(error),
            looked => looked,
        };
        let authorities = keeper.authorities()?;
        let journal = watch::Sender::new(Arc::new(keeper.journal().clone()));
        let health = watch::Sender::new(Health::Rotating);
        let above = watch::Sender::new(keeper.above());
        let known = Known {
            kinds,
            journal: journal.subscribe(),
            health: health.subscribe(),
            above: above.subscribe(),
        };
        let (control, requests) = AuthorityControl::new(known);
        let rotation = Self {
            keeper,
            authorities: watch::Sender::new(Arc::new(authorities)),
            journal,
            health,
            above,
            control,
            requests,
        };
        rotation.report(looked);
        Ok(rotation)
    }

    /// What an administrator's requests go through.
    #[must_use]
    pub fn control(&self) -> AuthorityControl {
        self.control.clone()
    }

    /// What signs now.
    #[must_use]
    pub fn authorities(&self) -> watch::Receiver<Arc<Authorities>> {
        self.authorities.subscribe()
    }

    /// Whether the authorities are rotated, and each change of that.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Looks after the authorities, and does what is asked, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.keeper.wait()) => self.look().await,
                Some(request) = self.requests.recv() => self.answer(request).await,
                () = Branch::changed(self.keeper.branch.as_mut()) => {
                    self.keeper.hasten();
                    self.look().await;
                }
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        let Request { caller, order, reply } = request;
        let done = self.keeper.obey(&caller, order).await;
        if let Err(error) = self.publish() {
            self.report(Err(error));
        }
        // Whoever does not wait any more finds what was done in the state and in the audit log.
        drop(reply.send(done));
    }

    async fn look(&mut self) {
        // Not those which the last look replaced if it could not publish others.
        if self.keeper.signs_with(&self.authorities.borrow()) {
            self.keeper.remove_replaced().await;
        }
        let looked = self.keeper.look().await;
        let result = match self.publish() {
            Ok(()) => looked,
            Err(error) => Err(error),
        };
        self.report(result);
    }

    fn publish(&self) -> Result<(), RotationError> {
        let publish_journal = |known: &mut Arc<Journal>| {
            let changed = **known != *self.keeper.journal();
            if changed {
                *known = Arc::new(self.keeper.journal().clone());
            }
            changed
        };
        self.journal.send_if_modified(publish_journal);
        self.above.send_replace(self.keeper.above());
        if self.keeper.signs_with(&self.authorities.borrow()) {
            return Ok(());
        }
        self.authorities.send_replace(Arc::new(self.keeper.authorities()?));
        Ok(())
    }

    /// Tells of failures, each once, and of their end.
    fn report(&self, result: Result<(), RotationError>) {
        let was_failing = match &*self.health.borrow() {
            Health::Rotating => None,
            Health::Failing { since, why } => Some((*since, why.clone())),
        };
        match (result, was_failing) {
            (Ok(()), None) | (Err(RotationError::Waiting(_)), Some(_)) => {}
            (Ok(()), Some(_)) => {
                info!("rotation of authorities works again");
                self.health.send_replace(Health::Rotating);
            }
            (Err(error), was_failing) => {
                let why = chain(&error);
                if was_failing.as_ref().is_none_or(|(_, known)| *known != why) {
                    error!(error = &error as &dyn StdError, "rotation of authorities failed");
                }
                let since = was_failing.map_or_else(|| self.keeper.now(), |(since, _)| since);
                self.health.send_replace(Health::Failing { since, why });
            }
        }
    }
}

impl<L: Ledger> Keeper<L> {
    /// Takes all steps that are due. A failure with one kind does not hold up the other.
    async fn look(&mut self) -> Result<(), RotationError> {
        let followed = self.follow().await;
        let x509 = self.look_at(Kind::X509Ca).await;
        let jwt = self.look_at(Kind::JwtKey).await;
        let published = self.publish_keys().await;
        // Whatever failed, what is remembered must not grow without end.
        let pruned = self.prune().await;
        followed.and(x509).and(jwt).and(published).and(pruned)
    }

    async fn look_at(&mut self, kind: Kind) -> Result<(), RotationError> {
        if !self.makes(kind) {
            return self.retire(kind).await;
        }
        for step in plan(&self.slots(kind), self.now()) {
            match step {
                Step::Prepare(slot) => self.prepare_in_turn(kind, slot).await?,
                Step::Activate(slot) => {
                    self.activate(&Caller::Server, (kind, slot), Vec::new()).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether there is something of each kind that is made which can sign now.
    fn can_sign(&self) -> bool {
        self.kinds().into_iter().all(|kind| self.slots(kind).active(self.now()).is_some())
    }

    fn wait(&self) -> Duration {
        let now = self.now();
        wait(&self.slots(Kind::X509Ca), now).min(wait(&self.slots(Kind::JwtKey), now))
    }

    fn seconds(&self) -> i64 {
        unix_seconds(self.now())
    }
}

impl RotationError {
    /// Whether it is what stands above this server that failed.
    fn is_of_upstream(&self) -> bool {
        match self {
            Self::Upstream(_)
            | Self::UnusableCa(_)
            | Self::UpstreamTainted
            | Self::UpstreamRevoked(_) => true,
            Self::StillBelow { source, .. } => source.is_of_upstream(),
            Self::Ledger(_)
            | Self::Journal(_)
            | Self::Keys(_)
            | Self::Audit(_)
            | Self::Certificate(_)
            | Self::Chain(_)
            | Self::Issuer(_)
            | Self::NoKeyId(_)
            | Self::Random
            | Self::NotVouched(_)
            | Self::Waiting(_)
            | Self::NotMade(_)
            | Self::NotActive(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
