//! What is known of the authorities, and each step that changes it: made, remembered, then used.

use std::collections::{BTreeSet, HashMap};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::backoff::random_fraction;
use steeple::bundle::Bundle;
use steeple::clock::from_unix_seconds;
use steeple::jwt::make::JwtSigner;
use steeple::keys::{KeyId, Signer};
use steeple::x509::Chain;
use steeple::x509::make::Issuer;
use tokio::time::Instant;
use tracing::field::display;
use tracing::{info, warn};

use super::branch::Branch;
use super::kept::belongs;
use super::making::{self, Made, Place, key_id};
use super::retry::Retry;
use super::vouched::{self, FOREIGN_GRACE, Vouched};
use super::{Config, Deps, RotationError};
use crate::audit::Correlation;
use crate::audit::event::{AuthorityStep, Caller, Event};
use crate::ca::authorities::{Authorities, AuthorityId, JwtAuthority, Tail, X509Authority};
use crate::ca::journal::{Journal, Record};
use crate::ca::prune::{Candidate, Useless};
use crate::ca::slots::{Kind, Occupant, Slot, Slots, Status};
use crate::ca::{BundleChange, Ledger};

/// The authorities of this server.
#[derive(Debug)]
pub(super) struct Keeper<L> {
    config: Config,
    deps: Deps<L>,
    journal: Journal,
    /// The keys of those slots whose record they belong to.
    signers: HashMap<(Kind, Slot), Arc<dyn Signer>>,
    /// The keys that no longer sign and are still in the key store.
    replaced: Vec<KeyId>,
    /// What was signed by authorities that were made in the life of this process. Of others it is
    /// not known, so that they count until they expire.
    tails: HashMap<(Kind, AuthorityId), Tail>,
    useless: Useless,
    retries: HashMap<Kind, Retry>,
    /// What stands above this server.
    pub(super) branch: Option<Branch>,
}

impl<L: Ledger> Keeper<L> {
    /// Takes up what is remembered.
    pub(super) async fn load(config: Config, deps: Deps<L>) -> Result<Self, RotationError> {
        let journal = match deps.ledger.journal().await? {
            Some(stored) => Journal::decode(&stored)?,
            None => Journal::default(),
        };
        let (mut signers, mut replaced) = (HashMap::new(), Vec::new());
        for record in journal.records() {
            let Some(slot) = record.slot else { continue };
            let key = key_id(record.kind, slot);
            if record.status == Status::Old || config.algorithm(record.kind).is_none() {
                replaced.push(key);
                continue;
            }
            match deps.keys.load(&key).await? {
                Some(signer) if belongs(record, &*signer) => {
                    signers.insert((record.kind, slot), signer);
                }
                Some(_) | None => warn!(
                    kind = %record.kind,
                    authority_id = %record.authority_id,
                    "the key of an authority is gone; another one takes its place"
                ),
            }
        }
        let (tails, useless) = (HashMap::new(), Useless::default());
        let branch = deps.upstream.clone().map(Branch::new);
        let retries = HashMap::new();
        Ok(Self { config, deps, journal, signers, replaced, tails, useless, retries, branch })
    }

    /// Makes an authority because it is time to, unless that failed a moment ago.
    pub(super) async fn prepare_in_turn(
        &mut self,
        kind: Kind,
        slot: Slot,
    ) -> Result<(), RotationError> {
        if !self.retries.entry(kind).or_default().is_due(Instant::now()) {
            return Err(RotationError::Waiting(kind));
        }
        let prepared = self.prepare(&Caller::Server, kind, slot).await;
        if prepared.is_ok() {
            self.retries.remove(&kind);
        } else {
            let retry = self.retries.entry(kind).or_default();
            retry.failed(Instant::now(), random_fraction());
        }
        prepared
    }

    /// Lets what failed be tried again at once.
    pub(super) fn hasten(&mut self) {
        self.retries.values_mut().for_each(Retry::hasten);
    }

    /// Makes an authority and publishes it.
    pub(super) async fn prepare(
        &mut self,
        by: &Caller,
        kind: Kind,
        slot: Slot,
    ) -> Result<(), RotationError> {
        let algorithm = self.config.algorithm(kind).ok_or(RotationError::NotMade(kind))?;
        let correlation = self.correlation();
        let step = AuthorityStep::Prepare;
        let (slot_of, authority_id) = (Some(slot), None);
        let intent =
            Event::AuthorityIntent { correlation, step, kind, slot: slot_of, authority_id };
        self.record(by, intent).await?;
        // Whoever is stopped before there is a record knows the key for one of its own.
        if !self.journal.is_unrecorded(kind, slot) {
            self.save(self.journal.with_unrecorded(kind, slot), Vec::new()).await?;
        }
        // Whatever had this slot loses its key now, be it remembered or not.
        self.signers.remove(&(kind, slot));
        let key = key_id(kind, slot);
        self.replaced.retain(|replaced| *replaced != key);
        let signer = self.deps.keys.generate(&key, algorithm).await?;
        let place = Place { slot, now: self.seconds() };
        let mut made = match kind {
            Kind::X509Ca => {
                let upstream = self.branch.as_ref().map(|branch| &*branch.upstream);
                making::ca(&self.config, place, &signer, upstream).await?
            }
            Kind::JwtKey => making::key(&self.config, place, &*signer)?,
        };
        self.admit(&mut made)?;
        let Made { record, changes } = made;
        let (authority_id, not_after) = (record.authority_id.clone(), record.not_after);
        let upstream_authority_id = record.upstream_authority_id.clone();
        self.save(self.journal.with_prepared(record.clone()), changes).await?;
        self.signers.insert((kind, slot), signer);
        self.tails.insert((kind, authority_id.clone()), Tail::new());
        log("prepared", slot, &record);
        let event = Event::AuthorityPrepared {
            correlation,
            kind,
            slot,
            authority_id,
            not_after,
            upstream_authority_id,
        };
        self.tell(by, event).await;
        Ok(())
    }

    /// Lets the authority in a slot sign, and changes the bundle with that. The key of the one that
    /// did goes once the new one is published.
    pub(super) async fn activate(
        &mut self,
        by: &Caller,
        (kind, slot): (Kind, Slot),
        changes: Vec<BundleChange>,
    ) -> Result<(), RotationError> {
        let Some(next) = self.journal.held(kind, slot) else {
            return Err(RotationError::NotActive(kind));
        };
        if !vouched::is_vouched(next, &self.bundle()) {
            return Err(RotationError::NotVouched(kind));
        }
        let next = next.clone();
        let (authority_id, not_after) = (next.authority_id.clone(), next.not_after);
        let correlation = self.correlation();
        let intent = Event::AuthorityIntent {
            correlation,
            step: AuthorityStep::Activate,
            kind,
            slot: Some(slot),
            authority_id: Some(authority_id.clone()),
        };
        self.record(by, intent).await?;
        self.save(self.journal.with_active(kind, slot), changes).await?;
        log("activated", slot, &next);
        let event = Event::AuthorityActivated { correlation, kind, slot, authority_id, not_after };
        self.tell(by, event).await;
        self.signers.remove(&(kind, slot.other()));
        self.replaced.push(key_id(kind, slot.other()));
        Ok(())
    }

    /// Removes the keys that no longer sign. The caller has published what does, a while ago, so
    /// that nothing that is under way needs them.
    pub(super) async fn remove_replaced(&mut self) {
        for key in std::mem::take(&mut self.replaced) {
            if let Err(error) = self.deps.keys.remove(&key).await {
                warn!(%key, error = &error as &dyn StdError, "an old key was not removed");
                self.replaced.push(key);
            }
        }
    }

    /// No longer vouches for what has been useless for long.
    pub(super) async fn prune(&mut self) -> Result<(), RotationError> {
        let bundle = self.bundle();
        let mut vouched: Vec<_> = vouched::retired(&self.journal, &self.tails).collect();
        vouched.extend(vouched::foreign(&self.journal, &bundle));
        let now = self.seconds();
        let revoked = self.journal.revoked().iter().map(|revoked| Candidate {
            kind: revoked.kind,
            id: &revoked.authority_id,
            lifetime: Duration::MAX,
            end: revoked.not_after.saturating_add(FOREIGN_GRACE),
        });
        let candidates = vouched.iter().map(|vouched| Candidate {
            kind: vouched.kind,
            id: &vouched.id,
            lifetime: vouched.lifetime,
            end: vouched.end,
        });
        let candidates = candidates.chain(revoked);
        let useless = self.useless.for_long(candidates, now, Instant::now());
        if useless.is_empty() {
            return Ok(());
        }
        vouched.retain(|vouched| useless.contains(&(vouched.kind, vouched.id.clone())));
        let changes = vouched.iter().flat_map(|vouched| vouched.removals.clone()).collect();
        self.save(self.journal.without(&useless), changes).await?;
        for Vouched { id: authority_id, kind, not_after, .. } in vouched {
            self.tails.remove(&(kind, authority_id.clone()));
            info!(%kind, %authority_id, "authority pruned");
            let event = Event::AuthorityPruned { kind, authority_id, not_after };
            self.tell(&Caller::Server, event).await;
        }
        Ok(())
    }

    /// Remembers and publishes, both or neither.
    pub(super) async fn save(
        &mut self,
        journal: Journal,
        changes: Vec<BundleChange>,
    ) -> Result<(), RotationError> {
        self.deps.ledger.save(journal.encode()?, changes).await?;
        self.journal = journal;
        Ok(())
    }

    /// Records what allows a step.
    pub(super) async fn record(&self, by: &Caller, event: Event) -> Result<(), RotationError> {
        Ok(self.deps.audit.record(by, &[event]).await?)
    }

    /// Records what has been done. The log itself says when it cannot be written.
    pub(super) async fn tell(&self, by: &Caller, event: Event) {
        if let Err(error) = self.record(by, event).await {
            warn!(error = &error as &dyn StdError, "a step of rotation is not in the audit log");
        }
    }

    /// Whether there are to be authorities of that kind.
    pub(super) fn makes(&self, kind: Kind) -> bool {
        self.config.algorithm(kind).is_some()
    }

    /// Whether the authority of that name was made in the life of this process.
    pub(super) fn is_made_here(&self, kind: Kind, id: &AuthorityId) -> bool {
        self.tails.contains_key(&(kind, id.clone()))
    }

    /// The kinds of authorities that there are to be.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.config.kinds()
    }

    /// What is remembered.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What vouches for the authorities.
    pub(super) fn bundle(&self) -> Arc<Bundle> {
        self.deps.ledger.own_bundle()
    }

    /// A name for what happens next in the audit log.
    pub(super) fn correlation(&self) -> Correlation {
        self.deps.audit.correlation()
    }

    /// The time now.
    pub(super) fn now(&self) -> SystemTime {
        self.deps.clock.now()
    }

    /// What the plan is made from.
    pub(super) fn slots(&self, kind: Kind) -> Slots {
        let bundle = self.bundle();
        let occupant = |slot| {
            let record = self.journal.held(kind, slot)?;
            Some(Occupant {
                status: record.status,
                issued_at: record.issued_at,
                not_before: record.not_before,
                not_after: record.not_after,
                intact: self.signers.contains_key(&(kind, slot))
                    && vouched::is_vouched(record, &bundle),
            })
        };
        Slots { a: occupant(Slot::A), b: occupant(Slot::B) }
    }

    /// What signs, by what is remembered.
    pub(super) fn authorities(&self) -> Result<Authorities, RotationError> {
        let (ca, signer) = self.active(Kind::X509Ca)?;
        let below = std::iter::once(&ca.public);
        let certificates = below.chain(&ca.upstream_chain).map(|der| der.clone().into());
        let chain = Chain::new(certificates.collect())?;
        let pace = signer.pace();
        let issuer = Issuer::new(&chain, signer)?;
        let public_at = ca.slot.and_then(|slot| self.slots(Kind::X509Ca).of(slot));
        let public_at = from_unix_seconds(public_at.map_or(i64::MIN, Occupant::public_at));
        let x509 = X509Authority::new(issuer, pace, public_at, self.tail(ca));
        let jwt = match self.config.jwt_key {
            Some(_) => Some(self.jwt_authority()?),
            None => None,
        };
        let relied_on = self.relied_on();
        Ok(Authorities::new(self.config.trust_domain.clone(), x509, jwt, relied_on))
    }

    fn jwt_authority(&self) -> Result<JwtAuthority, RotationError> {
        let (key, signer) = self.active(Kind::JwtKey)?;
        let signer = JwtSigner::new(key.authority_id.as_str(), signer)?;
        Ok(JwtAuthority::new(signer, from_unix_seconds(key.not_after), self.tail(key)))
    }

    /// Whether it is those that sign.
    pub(super) fn signs_with(&self, authorities: &Authorities) -> bool {
        let is_active = |kind, id: Option<&AuthorityId>| {
            self.journal.active(kind).map(|record| &record.authority_id) == id
        };
        is_active(Kind::X509Ca, Some(authorities.x509().id()))
            && is_active(Kind::JwtKey, authorities.jwt().map(JwtAuthority::id))
            && *authorities.relied_on() == self.relied_on()
    }

    /// The CAs that are vouched for and not tainted.
    fn relied_on(&self) -> BTreeSet<AuthorityId> {
        let bundle = self.bundle();
        let of_kind = self.journal.records().iter().filter(|r| r.kind == Kind::X509Ca);
        let relied_on = of_kind.filter(|record| vouched::is_vouched(record, &bundle));
        relied_on.map(|record| record.authority_id.clone()).collect()
    }

    fn active(&self, kind: Kind) -> Result<(&Record, Arc<dyn Signer>), RotationError> {
        let active = self.journal.active(kind);
        let signer = active.and_then(|record| self.signers.get(&(kind, record.slot?)));
        active.zip(signer.cloned()).ok_or(RotationError::NotActive(kind))
    }

    fn tail(&self, record: &Record) -> Tail {
        self.tails
            .get(&(record.kind, record.authority_id.clone()))
            .cloned()
            .unwrap_or_else(Tail::new)
    }
}

/// Says what became of an authority, with the words and the fields that operators of SPIRE look for.
fn log(what: &str, slot: Slot, record: &Record) {
    let time = |seconds| humantime::format_rfc3339_seconds(from_unix_seconds(seconds));
    let (issued_at, expiration) = (time(record.issued_at), time(record.not_after));
    let local_authority_id = &record.authority_id;
    let upstream_authority_id = record.upstream_authority_id.as_ref().map(display);
    match record.kind {
        Kind::X509Ca => info!(
            %slot, %local_authority_id, %issued_at, %expiration, upstream_authority_id,
            self_signed = record.upstream_authority_id.is_none(),
            "X509 CA {what}"
        ),
        Kind::JwtKey => {
            info!(%slot, %local_authority_id, %issued_at, %expiration, "JWT key {what}");
        }
    }
}
