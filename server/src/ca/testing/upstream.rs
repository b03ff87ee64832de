//! An authority above, in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use steeple::bundle::{JwtAuthority, X509Authority};
use steeple::clock::Clock;
use steeple::x509::csr::Csr;
use steeple::x509::make::{IntermediateRequest, Validity};
use tokio::sync::watch;

use super::tiers::Tier;
use super::trust_domain;
use crate::ca::upstream::{
    CaRequest, MintedCa, Published, UpstreamAuthority, UpstreamError, Vouched,
};

/// An authority that does as a test says.
#[derive(Debug)]
pub(crate) struct FakeUpstream {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    vouched: watch::Sender<Option<Arc<Vouched>>>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// What signs.
    pub(crate) signer: Tier,
    /// What comes with a CA.
    pub(crate) roots: Vec<X509Authority>,
    /// The keys that were published; none where they are not taken.
    pub(crate) keys: Option<Vec<JwtAuthority>>,
    /// The keys that were revoked.
    pub(crate) revoked: Revoked,
    /// The longest life of a CA.
    pub(crate) longest: Duration,
    /// Whether it cannot be reached.
    pub(crate) away: bool,
    /// How long it takes for a key.
    pub(crate) takes: Duration,
    /// How many CAs it has signed.
    pub(crate) minted: usize,
}

/// Keys that are not taken again.
#[derive(Debug)]
pub(crate) enum Revoked {
    These(Vec<String>),
    All,
}

/// A root as a bundle has it.
pub(crate) fn vouched_for(tier: &Tier, tainted: bool) -> X509Authority {
    X509Authority { certificate: tier.der(), tainted }
}

impl FakeUpstream {
    /// Signs with `signer`, whose root is `root`.
    pub(crate) fn new(clock: Arc<dyn Clock>, signer: Tier, root: &Tier) -> Arc<Self> {
        let state = State {
            signer,
            roots: vec![vouched_for(root, false)],
            keys: None,
            revoked: Revoked::These(Vec::new()),
            longest: Duration::MAX,
            away: false,
            takes: Duration::ZERO,
            minted: 0,
        };
        Arc::new(Self { clock, state: Mutex::new(state), vouched: watch::Sender::new(None) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that were published, where they are taken.
    pub(crate) fn keys(&self) -> Vec<JwtAuthority> {
        self.state().keys.clone().unwrap_or_default()
    }

    /// Says what it vouches for.
    pub(crate) fn say(&self, roots: &[(&Tier, bool)], jwt_keys: &[JwtAuthority]) {
        let roots: Vec<_> = roots.iter().map(|(root, taint)| vouched_for(root, *taint)).collect();
        self.state().roots.clone_from(&roots);
        let vouched = Vouched { roots, jwt_keys: jwt_keys.to_vec() };
        self.vouched.send_replace(Some(Arc::new(vouched)));
    }

    fn mint(&self, request: &CaRequest) -> MintedCa {
        let mut state = self.state();
        state.minted += 1;
        let csr = Csr::parse_verified(&request.csr).expect("a request");
        assert_eq!(csr.uris(), [trust_domain().id().as_str().as_bytes()]);
        let unsigned = state.signer.issuer().prepare_ca(&IntermediateRequest {
            trust_domain: &trust_domain(),
            subject: csr.subject(),
            public_key: csr.public_key(),
            validity: Validity::new(self.clock.now(), request.ttl.min(state.longest)),
        });
        let chain = unsigned.expect("a CA").sign_chain().expect("a CA");
        MintedCa { chain: chain.certificates().to_vec(), roots: state.roots.clone() }
    }

    fn reachable(&self) -> Result<(), UpstreamError> {
        if self.state().away { Err(UpstreamError::Unavailable("away".into())) } else { Ok(()) }
    }
}

impl UpstreamAuthority for FakeUpstream {
    fn mint_ca(&self, request: CaRequest) -> BoxFuture<'_, Result<MintedCa, UpstreamError>> {
        Box::pin(async move { self.reachable().map(|()| self.mint(&request)) })
    }

    fn publish_jwt_key(
        &self,
        key: JwtAuthority,
    ) -> BoxFuture<'_, Result<Published, UpstreamError>> {
        Box::pin(async move {
            self.reachable()?;
            let takes = self.state().takes;
            tokio::time::sleep(takes).await;
            let mut state = self.state();
            let is_revoked = match &state.revoked {
                Revoked::These(ids) => ids.contains(&key.key_id),
                Revoked::All => true,
            };
            if is_revoked {
                return Ok(Published::Revoked);
            }
            let Some(keys) = &mut state.keys else { return Ok(Published::NotTaken) };
            keys.push(key);
            Ok(Published::Keys(keys.clone()))
        })
    }

    fn vouched(&self) -> watch::Receiver<Option<Arc<Vouched>>> {
        self.vouched.subscribe()
    }
}
