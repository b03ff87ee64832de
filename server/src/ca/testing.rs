//! Authorities for tests: in memory, in virtual time, with an audit log that can be read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steeple::bundle::{Bundle, X509Authority};
use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::id::TrustDomain;
use steeple::keys::{KeyAlgorithm, KeyStore, MemoryKeyStore};
use steeple::x509::Subject;

pub(crate) mod tiers;
pub(crate) mod upstream;

use super::rotation::{Config, Deps, Rotation, RotationError};
use super::upstream::UpstreamAuthority;
use super::{BundleChange, Ca, Ledger, LedgerError};
use crate::audit::{self, Audit, Durability};

/// When tests begin: 2026-01-02T03:04:05Z.
pub(crate) const NOW: i64 = 1_767_323_045;

/// A ledger in memory. Clones are one ledger.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLedger(Arc<Mutex<Entries>>);

#[derive(Debug)]
struct Entries {
    journal: Option<Vec<u8>>,
    bundle: Arc<Bundle>,
    saves_left: Option<u32>,
    keeping: bool,
}

/// What a test needs.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) ledger: MemoryLedger,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) upstream: Option<Arc<dyn UpstreamAuthority>>,
    directory: Arc<tempfile::TempDir>,
}

impl MemoryLedger {
    fn with<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Lets every save fail, or no longer.
    pub(crate) fn fail(&self, failing: bool) {
        self.with(|entries| entries.saves_left = failing.then_some(0));
    }

    /// Lets every save fail after so many.
    pub(crate) fn fail_after(&self, saves: u32) {
        self.with(|entries| entries.saves_left = Some(saves));
    }

    /// Lets every save fail that takes a key out of the bundle, or no longer.
    pub(crate) fn keep_keys(&self, keeping: bool) {
        self.with(|entries| entries.keeping = keeping);
    }

    /// The journal that was saved last.
    pub(crate) fn stored(&self) -> Option<Vec<u8>> {
        self.with(|entries| entries.journal.clone())
    }

    /// Changes the bundle as an administrator would.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Bundle)) {
        self.with(|entries| change(Arc::make_mut(&mut entries.bundle)));
    }
}

impl Ledger for MemoryLedger {
    async fn journal(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.stored())
    }

    fn own_bundle(&self) -> Arc<Bundle> {
        self.with(|entries| entries.bundle.clone())
    }

    async fn save(&self, journal: Vec<u8>, changes: Vec<BundleChange>) -> Result<(), LedgerError> {
        self.with(|entries| {
            let mut removals = changes.iter().filter(|c| matches!(c, BundleChange::RemoveJwt(_)));
            if entries.saves_left == Some(0) || entries.keeping && removals.next().is_some() {
                return Err(LedgerError("the disk is full".into()));
            }
            entries.saves_left = entries.saves_left.map(|left| left - 1);
            let bundle = Arc::make_mut(&mut entries.bundle);
            for change in changes {
                match change {
                    BundleChange::AddX509(certificate)
                        if bundle.x509_authorities.iter().any(|a| a.certificate == certificate) => {
                    }
                    BundleChange::AddJwt(key)
                        if bundle.jwt_authorities.iter().any(|k| k.key_id == key.key_id) => {}
                    BundleChange::AddX509(certificate) => {
                        bundle.x509_authorities.push(X509Authority { certificate, tainted: false });
                    }
                    BundleChange::AddJwt(key) => bundle.jwt_authorities.push(key),
                    BundleChange::TaintX509(certificate) => {
                        let authorities = bundle.x509_authorities.iter_mut();
                        let named = authorities.filter(|ca| ca.certificate == certificate);
                        named.for_each(|ca| ca.tainted = true);
                    }
                    BundleChange::TaintJwt(id) => {
                        let authorities = bundle.jwt_authorities.iter_mut();
                        let named = authorities.filter(|key| key.key_id == id);
                        named.for_each(|key| key.tainted = true);
                    }
                    BundleChange::RemoveX509(certificate) => {
                        bundle.x509_authorities.retain(|ca| ca.certificate != certificate);
                    }
                    BundleChange::RemoveJwt(id) => {
                        bundle.jwt_authorities.retain(|key| key.key_id != id);
                    }
                }
            }
            entries.journal = Some(journal);
            Ok(())
        })
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let clock = Arc::new(TokioClock::new(from_unix_seconds(NOW)));
        let path = directory.path().join("audit");
        let config = audit::Config { path, durability: Durability::Background };
        let audit = Audit::open(config, clock.clone()).expect("an audit log");
        let bundle = Arc::new(Bundle::empty(trust_domain()));
        let entries = Entries { journal: None, bundle, saves_left: None, keeping: false };
        Self {
            ledger: MemoryLedger(Arc::new(Mutex::new(entries))),
            keys: Arc::new(MemoryKeyStore::default()),
            audit: Arc::new(audit),
            clock,
            upstream: None,
            directory,
        }
    }

    /// Starts with authorities of that life.
    pub(crate) async fn start(
        &self,
        lifetime: Duration,
    ) -> Result<Rotation<MemoryLedger>, RotationError> {
        self.start_with(config(lifetime)).await
    }

    pub(crate) async fn start_with(
        &self,
        config: Config,
    ) -> Result<Rotation<MemoryLedger>, RotationError> {
        let deps = Deps {
            ledger: self.ledger.clone(),
            keys: self.keys.clone(),
            upstream: self.upstream.clone(),
            audit: self.audit.clone(),
            clock: self.clock.clone(),
        };
        Rotation::start(config, deps).await
    }

    /// What signs with the authorities of that rotation.
    pub(crate) fn ca(&self, rotation: &Rotation<MemoryLedger>) -> Ca {
        Ca::new(rotation.authorities(), self.audit.clone(), self.clock.clone())
    }

    /// Where the audit log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    /// The events of the audit log.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.log()).expect("the audit log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// `example.org`.
pub(crate) fn trust_domain() -> TrustDomain {
    "example.org".parse().expect("a trust domain")
}

/// Authorities of the default kind.
pub(crate) fn config(lifetime: Duration) -> Config {
    Config {
        trust_domain: trust_domain(),
        lifetime,
        ca_key: KeyAlgorithm::EcP256,
        jwt_key: Some(KeyAlgorithm::EcP256),
        ca_subject: Subject { organization: vec!["Test".into()], ..Subject::default() },
    }
}
