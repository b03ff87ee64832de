//! What is known of the authorities, and each step that changes it: made, remembered, then used.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::bundle::{Bundle, JwtAuthority as VouchedJwt};
use steeple::clock::{from_unix_seconds, unix_seconds};
use steeple::jwt::make::JwtSigner;
use steeple::keys::{KeyAlgorithm, KeyId, Signer};
use steeple::x509::make::{CaRequest, Issuer, IssuerError, Validity, self_signed_ca};
use steeple::x509::{Certificate, Chain, ChainError};
use tracing::{info, warn};

use super::{Config, Deps, RotationError};
use crate::audit::event::{Caller, Event};
use crate::ca::authorities::{Authorities, AuthorityId, JwtAuthority, Tail, X509Authority};
use crate::ca::journal::{Journal, Record};
use crate::ca::prune::{Candidate, Useless};
use crate::ca::slots::{Kind, Occupant, Slot, Slots, Status};
use crate::ca::{BundleChange, Ledger};

/// How long after its end an authority that is not this server's own is still left alone.
const FOREIGN_GRACE: i64 = 24 * 60 * 60;

/// The authorities of this server.
#[derive(Debug)]
pub(super) struct Keeper<L> {
    config: Config,
    deps: Deps<L>,
    journal: Journal,
    /// The keys of those slots whose record they belong to.
    signers: HashMap<(Kind, Slot), Arc<dyn Signer>>,
    /// What was signed by authorities that were made in the life of this process. Of others it is
    /// not known, so that they count until they expire.
    tails: HashMap<AuthorityId, Tail>,
    useless: Useless,
}

impl<L: Ledger> Keeper<L> {
    /// Takes up what is remembered.
    pub(super) async fn load(config: Config, deps: Deps<L>) -> Result<Self, RotationError> {
        let journal = match deps.ledger.journal().await? {
            Some(stored) => Journal::decode(&stored)?,
            None => Journal::default(),
        };
        let mut signers = HashMap::new();
        for record in journal.records() {
            let Some(slot) = record.slot else { continue };
            match deps.keys.load(&key_id(record.kind, slot)).await? {
                Some(signer) if belongs(record, &*signer) => {
                    signers.insert((record.kind, slot), signer);
                }
                Some(_) | None if record.status == Status::Old => {}
                Some(_) | None => warn!(
                    kind = %record.kind,
                    authority_id = %record.authority_id,
                    "the key of an authority is gone; another one takes its place"
                ),
            }
        }
        let (tails, useless) = (HashMap::new(), Useless::default());
        Ok(Self { config, deps, journal, signers, tails, useless })
    }

    /// Makes an authority and publishes it.
    pub(super) async fn prepare(&mut self, kind: Kind, slot: Slot) -> Result<(), RotationError> {
        let correlation = self.deps.audit.correlation();
        self.record(Event::AuthorityIntent { correlation, kind, slot }).await?;
        // Whatever had this slot loses its key now, be it remembered or not.
        self.signers.remove(&(kind, slot));
        let signer = self.deps.keys.generate(&key_id(kind, slot), self.algorithm(kind)).await?;
        let (record, change) = match kind {
            Kind::X509Ca => self.new_ca(slot, &*signer)?,
            Kind::JwtKey => self.new_key(slot, &*signer)?,
        };
        let (authority_id, not_after) = (record.authority_id.clone(), record.not_after);
        self.save(self.journal.with_prepared(record), vec![change]).await?;
        self.signers.insert((kind, slot), signer);
        self.tails.insert(authority_id.clone(), Tail::new());
        log(kind, "prepared", slot, &authority_id, not_after);
        let event = Event::AuthorityPrepared { correlation, kind, slot, authority_id, not_after };
        self.tell(event).await;
        Ok(())
    }

    /// Lets the authority in a slot sign, and forgets the key of the one that did.
    pub(super) async fn activate(&mut self, kind: Kind, slot: Slot) -> Result<(), RotationError> {
        self.save(self.journal.with_active(kind, slot), Vec::new()).await?;
        let Some(active) = self.journal.held(kind, slot) else {
            return Err(RotationError::NotActive(kind));
        };
        let (authority_id, not_after) = (active.authority_id.clone(), active.not_after);
        log(kind, "activated", slot, &authority_id, not_after);
        self.tell(Event::AuthorityActivated { kind, slot, authority_id, not_after }).await;
        self.signers.remove(&(kind, slot.other()));
        let old = key_id(kind, slot.other());
        if let Err(error) = self.deps.keys.remove(&old).await {
            warn!(key = %old, error = &error as &dyn StdError, "an old key was not removed");
        }
        Ok(())
    }

    /// No longer vouches for what has been useless for long.
    pub(super) async fn prune(&mut self) -> Result<(), RotationError> {
        let bundle = self.deps.ledger.own_bundle();
        let mut vouched: Vec<_> = self.retired().collect();
        vouched.extend(self.foreign(&bundle));
        let now = self.seconds();
        let candidates = vouched.iter().map(|vouched| Candidate {
            id: &vouched.id,
            lifetime: vouched.lifetime,
            end: vouched.end,
        });
        let useless = self.useless.for_long(candidates, now, tokio::time::Instant::now());
        if useless.is_empty() {
            return Ok(());
        }
        vouched.retain(|vouched| useless.contains(&vouched.id));
        let changes = vouched.iter().map(|vouched| vouched.removal.clone()).collect();
        self.save(self.journal.without(&useless), changes).await?;
        for Vouched { id: authority_id, kind, not_after, .. } in vouched {
            self.tails.remove(&authority_id);
            info!(%kind, %authority_id, "authority pruned");
            self.tell(Event::AuthorityPruned { kind, authority_id, not_after }).await;
        }
        Ok(())
    }

    async fn save(
        &mut self,
        journal: Journal,
        changes: Vec<BundleChange>,
    ) -> Result<(), RotationError> {
        self.deps.ledger.save(journal.encode()?, changes).await?;
        self.journal = journal;
        Ok(())
    }

    /// Records what allows a step.
    async fn record(&self, event: Event) -> Result<(), RotationError> {
        Ok(self.deps.audit.record(&Caller::Server, &[event]).await?)
    }

    /// Records what has been done. The log itself says when it cannot be written.
    async fn tell(&self, event: Event) {
        if let Err(error) = self.record(event).await {
            warn!(error = &error as &dyn StdError, "a step of rotation is not in the audit log");
        }
    }

    /// The time now.
    pub(super) fn now(&self) -> SystemTime {
        self.deps.clock.now()
    }

    /// What the plan is made from.
    pub(super) fn slots(&self, kind: Kind) -> Slots {
        let bundle = self.deps.ledger.own_bundle();
        let occupant = |slot| {
            let record = self.journal.held(kind, slot)?;
            Some(Occupant {
                status: record.status,
                issued_at: record.issued_at,
                not_before: record.not_before,
                not_after: record.not_after,
                intact: self.signers.contains_key(&(kind, slot)) && is_vouched(record, &bundle),
            })
        };
        Slots { a: occupant(Slot::A), b: occupant(Slot::B) }
    }

    /// What signs, by what is remembered.
    pub(super) fn authorities(&self) -> Result<Authorities, RotationError> {
        let (ca, signer) = self.active(Kind::X509Ca)?;
        let chain = Chain::new(vec![ca.public.clone().into()])?;
        let pace = signer.pace();
        let issuer = Issuer::new(&chain, signer)?;
        let x509 = X509Authority::new(issuer, pace, self.tail(ca));
        let (key, signer) = self.active(Kind::JwtKey)?;
        let signer = JwtSigner::new(key.authority_id.as_str(), signer)?;
        let not_after = from_unix_seconds(key.not_after);
        let jwt = JwtAuthority::new(signer, not_after, self.tail(key));
        Ok(Authorities::new(self.config.trust_domain.clone(), x509, jwt))
    }

    /// Whether it is those that sign.
    pub(super) fn signs_with(&self, authorities: &Authorities) -> bool {
        let is_active = |kind, id: &AuthorityId| {
            self.journal.active(kind).is_some_and(|record| record.authority_id == *id)
        };
        is_active(Kind::X509Ca, authorities.x509().id())
            && is_active(Kind::JwtKey, authorities.jwt().id())
    }

    fn active(&self, kind: Kind) -> Result<(&Record, Arc<dyn Signer>), RotationError> {
        let active = self.journal.active(kind);
        let signer = active.and_then(|record| self.signers.get(&(kind, record.slot?)));
        active.zip(signer.cloned()).ok_or(RotationError::NotActive(kind))
    }

    fn tail(&self, record: &Record) -> Tail {
        self.tails.get(&record.authority_id).cloned().unwrap_or_else(Tail::new)
    }

    fn algorithm(&self, kind: Kind) -> KeyAlgorithm {
        match kind {
            Kind::X509Ca => self.config.ca_key,
            Kind::JwtKey => self.config.jwt_key,
        }
    }

    fn new_ca(
        &self,
        slot: Slot,
        signer: &dyn Signer,
    ) -> Result<(Record, BundleChange), RotationError> {
        let now = from_unix_seconds(self.seconds());
        let request = CaRequest {
            trust_domain: &self.config.trust_domain,
            subject: &self.config.ca_subject,
            validity: Validity::new(now, self.config.lifetime),
        };
        let chain = self_signed_ca(&request, signer)?;
        let authority_id = Certificate::parse(chain.leaf()).map_err(ChainError::from)?;
        let authority_id = authority_id.subject_key_id_hex().ok_or(IssuerError::KeyId)?;
        let record = Record {
            kind: Kind::X509Ca,
            slot: Some(slot),
            status: Status::Prepared,
            authority_id: authority_id.into(),
            issued_at: unix_seconds(now),
            not_before: unix_seconds(request.validity.not_before()),
            not_after: unix_seconds(request.validity.not_after()),
            public: chain.leaf().to_vec(),
        };
        let change = BundleChange::AddX509(record.public.clone().into());
        Ok((record, change))
    }

    fn new_key(
        &self,
        slot: Slot,
        signer: &dyn Signer,
    ) -> Result<(Record, BundleChange), RotationError> {
        let now = self.seconds();
        let lifetime = i64::try_from(self.config.lifetime.as_secs()).unwrap_or(i64::MAX);
        let key_id = random_name()?;
        let record = Record {
            kind: Kind::JwtKey,
            slot: Some(slot),
            status: Status::Prepared,
            authority_id: key_id.clone().into(),
            issued_at: now,
            not_before: i64::MIN,
            not_after: now.saturating_add(lifetime),
            public: signer.public_key().spki_der().to_vec(),
        };
        let change = BundleChange::AddJwt(VouchedJwt {
            key_id,
            public_key: record.public.clone(),
            expires_at: Some(record.not_after),
            tainted: false,
        });
        Ok((record, change))
    }

    /// Those of this server that no longer sign.
    fn retired(&self) -> impl Iterator<Item = Vouched> {
        let retired = self.journal.records().iter().filter(|r| r.status == Status::Old);
        retired.map(|record| {
            let lifetime = record.not_after.abs_diff(record.issued_at);
            let signed = self.tails.get(&record.authority_id).map(Tail::end);
            Vouched {
                id: record.authority_id.clone(),
                kind: record.kind,
                lifetime: Duration::from_secs(lifetime),
                not_after: record.not_after,
                end: signed.unwrap_or(record.not_after).min(record.not_after),
                removal: match record.kind {
                    Kind::X509Ca => BundleChange::RemoveX509(record.public.clone().into()),
                    Kind::JwtKey => BundleChange::RemoveJwt(record.authority_id.to_string()),
                },
            }
        })
    }

    /// Those in the bundle that this server does not know as its own.
    fn foreign(&self, bundle: &Bundle) -> Vec<Vouched> {
        let is_own = |id: &AuthorityId| {
            self.journal.records().iter().any(|record| record.authority_id == *id)
        };
        let vouched = |id: AuthorityId, kind, not_after: i64, removal| Vouched {
            id,
            kind,
            lifetime: Duration::MAX,
            not_after,
            end: not_after.saturating_add(FOREIGN_GRACE),
            removal,
        };
        let x509 = bundle.x509_authorities.iter().filter_map(|authority| {
            let certificate = Certificate::parse(&authority.certificate).ok()?;
            let id = certificate.subject_key_id_hex()?.into();
            let removal = BundleChange::RemoveX509(authority.certificate.clone());
            Some(vouched(id, Kind::X509Ca, unix_seconds(certificate.not_after()), removal))
        });
        let jwt = bundle.jwt_authorities.iter().filter_map(|key| {
            let removal = BundleChange::RemoveJwt(key.key_id.clone());
            Some(vouched(key.key_id.clone().into(), Kind::JwtKey, key.expires_at?, removal))
        });
        x509.chain(jwt).filter(|vouched| !is_own(&vouched.id)).collect()
    }
}

/// An authority that the bundle has and that does not sign here.
#[derive(Debug)]
struct Vouched {
    id: AuthorityId,
    kind: Kind,
    lifetime: Duration,
    not_after: i64,
    end: i64,
    removal: BundleChange,
}

/// The key in the key store that a slot's authority signs with.
#[expect(clippy::expect_used, reason = "four names, each of which a test reads")]
fn key_id(kind: Kind, slot: Slot) -> KeyId {
    let name = match kind {
        Kind::X509Ca => format!("x509-CA-{slot}"),
        Kind::JwtKey => format!("JWT-Signer-{slot}"),
    };
    name.parse().expect("letters, digits and hyphens")
}

/// 32 random letters and digits.
fn random_name() -> Result<String, RotationError> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut name = String::with_capacity(32);
    while name.len() < 32 {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| RotationError::Random)?;
        // Numbers beyond the alphabet are dropped, so that each letter is as likely as any other.
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        name.extend(letters.take(32 - name.len()).map(|letter| char::from(*letter)));
    }
    Ok(name)
}

fn log(kind: Kind, what: &str, slot: Slot, authority_id: &AuthorityId, expires_at: i64) {
    // The words that operators of SPIRE look for.
    let subject = match kind {
        Kind::X509Ca => "X509 CA",
        Kind::JwtKey => "JWT key",
    };
    let expires_at = humantime::format_rfc3339_seconds(from_unix_seconds(expires_at));
    info!(%slot, %authority_id, %expires_at, "{subject} {what}");
}

/// Whether the key is the one that the record is about.
fn belongs(record: &Record, signer: &dyn Signer) -> bool {
    let spki = signer.public_key().spki_der();
    match record.kind {
        Kind::X509Ca => Certificate::parse(&record.public).is_ok_and(|ca| ca.spki_der() == spki),
        Kind::JwtKey => record.public == spki,
    }
}

/// Whether the bundle has the authority, and nobody has marked it as no longer to be relied on.
fn is_vouched(record: &Record, bundle: &Bundle) -> bool {
    match record.kind {
        Kind::X509Ca => bundle
            .x509_authorities
            .iter()
            .any(|vouched| *vouched.certificate == *record.public && !vouched.tainted),
        Kind::JwtKey => bundle.jwt_authorities.iter().any(|vouched| {
            vouched.key_id == record.authority_id.as_str()
                && vouched.public_key == record.public
                && !vouched.tainted
        }),
    }
}
