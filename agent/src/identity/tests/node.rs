//! A node in virtual time, with a server in this process that really signs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::{Clock as _, TokioClock, from_unix_seconds, unix_seconds};
use steeple::entry::{Entry, EntryId};
use steeple::id::TrustDomain;
use steeple::jwt::make::{Claims, JwtSigner};
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::selector::{Selector, SelectorSet};
use steeple::tasks::Tasks;
use steeple::x509::Subject;
use steeple::x509::csr::Csr;
use steeple::x509::make::{CaRequest, Issuer, SvidRequest, Validity, self_signed_ca};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::attest::Attestors;
use crate::attest::instance::Instance;
use crate::identity::{
    Audiences, Capacity, Deps, Holders, IdentityError, JwtToken, PreparedBundle, Snapshot,
    X509Credential,
};
use crate::peer::Peer;
use crate::server_api::{
    BearerToken, KnownEntries, MintRefusal, Minted, MintedJwt, ServerApi, ServerError, X509Mint,
};

pub(crate) const TTL: Duration = Duration::from_secs(3_600);

/// Signs for whatever entries it knows.
#[derive(Debug)]
pub(crate) struct FakeServer {
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) issuer: Mutex<Arc<Issuer>>,
    pub(crate) jwt: JwtSigner,
    pub(crate) entries: Mutex<Vec<Arc<Entry>>>,
    pub(crate) errors: Mutex<VecDeque<ServerError>>,
    pub(crate) away: Mutex<bool>,
    pub(crate) limit: Mutex<Option<Limit>>,
    pub(crate) begun: AtomicUsize,
    pub(crate) calls: AtomicUsize,
    pub(crate) signed: AtomicUsize,
}

/// How much a server signs in a second, and at once.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) per_second: u32,
    pub(crate) burst: usize,
    /// Whether it says when to come back.
    pub(crate) says_when: bool,
    pub(crate) full_at: Instant,
}

pub(crate) struct Node {
    pub(crate) server: Arc<FakeServer>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) bundle: Arc<PreparedBundle>,
    pub(crate) holders: Holders,
    pub(crate) instance: Instance,
    pub(crate) tasks: Tasks,
}

impl FakeServer {
    fn check(&self) -> Result<(), ServerError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if *self.away.lock().unwrap() {
            return Err(ServerError::Unavailable("away".into()));
        }
        self.errors.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    /// Takes so many out of the bucket, or none.
    fn charge(&self, cost: usize) -> Result<(), ServerError> {
        self.check()?;
        let mut limit = self.limit.lock().unwrap();
        let Some(limit) = &mut *limit else { return Ok(()) };
        if cost > limit.burst {
            return Err(ServerError::TooLarge("exceeds burst size".into()));
        }
        let (now, each) = (Instant::now(), Duration::from_secs(1) / limit.per_second);
        let full_at = limit.full_at.max(now) + each * cost as u32;
        let missing = (full_at - now).saturating_sub(each * limit.burst as u32);
        if missing.is_zero() {
            limit.full_at = full_at;
            return Ok(());
        }
        Err(ServerError::Busy { retry_after: limit.says_when.then_some(missing) })
    }

    fn entry(&self, id: &EntryId) -> Option<Arc<Entry>> {
        self.entries.lock().unwrap().iter().find(|entry| entry.id == *id).cloned()
    }

    fn sign(&self, request: &X509Mint) -> Result<Minted, MintRefusal> {
        let entry = self.entry(&request.entry_id).ok_or(MintRefusal::NotAuthorized)?;
        let csr = Csr::parse_verified(&request.csr).unwrap();
        let issuer = self.issuer.lock().unwrap().clone();
        let unsigned = issuer.prepare_svid(&SvidRequest {
            spiffe_id: &entry.content.spiffe_id,
            public_key: csr.public_key(),
            dns_names: &[],
            subject: None,
            validity: Validity::new(self.clock.now(), TTL),
        });
        let svid = unsigned.unwrap().sign().unwrap();
        self.signed.fetch_add(1, Ordering::SeqCst);
        Ok(Minted {
            spiffe_id: entry.content.spiffe_id.clone(),
            chain: svid.chain().certificates().to_vec(),
        })
    }
}

#[tonic::async_trait]
impl ServerApi for FakeServer {
    async fn mint_x509(
        &self,
        requests: Vec<X509Mint>,
    ) -> Result<Vec<Result<Minted, MintRefusal>>, ServerError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.charge(requests.len())?;
        Ok(requests.iter().map(|request| self.sign(request)).collect())
    }

    async fn mint_jwt(
        &self,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<MintedJwt, ServerError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.charge(1)?;
        let number = self.signed.fetch_add(1, Ordering::SeqCst).to_string();
        let entry = self.entry(entry).ok_or(ServerError::Invalid("no entry".into()))?;
        let issued_at = unix_seconds(self.clock.now());
        let claims = Claims {
            subject: &entry.content.spiffe_id,
            audience,
            expires_at: issued_at + 300,
            issued_at,
            issuer: None,
            token_id: Some(&number),
        };
        Ok(MintedJwt {
            spiffe_id: entry.content.spiffe_id.clone(),
            token: BearerToken::new(self.jwt.make(&claims).unwrap()),
            issued_at,
            expires_at: issued_at + 300,
        })
    }

    async fn sync_entries(&self, _: &KnownEntries) -> Result<Vec<Arc<Entry>>, ServerError> {
        Err(ServerError::Unsupported("no".into()))
    }

    async fn bundle(&self) -> Result<Bundle, ServerError> {
        Err(ServerError::Unsupported("no".into()))
    }

    async fn federated_bundle(&self, _: &TrustDomain) -> Result<Option<Bundle>, ServerError> {
        Err(ServerError::Unsupported("no".into()))
    }
}

impl Node {
    /// A node of trust domain `td` with these entries, and an instance on it: this process.
    pub(crate) async fn new(entries: Vec<Entry>) -> Self {
        let clock = Arc::new(TokioClock::new(from_unix_seconds(1_800_000_000)));
        let own = TrustDomain::parse("td").unwrap();
        let ca_key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let ca = CaRequest {
            trust_domain: &own,
            subject: &Subject::default(),
            validity: Validity::new(clock.now(), TTL * 1_000),
        };
        let chain = self_signed_ca(&ca, &*ca_key).unwrap();
        let jwt_key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let bundle = Bundle {
            x509_authorities: vec![X509Authority {
                certificate: chain.certificates()[0].clone(),
                tainted: false,
            }],
            jwt_authorities: vec![JwtAuthority {
                key_id: "k1".into(),
                public_key: jwt_key.public_key().spki_der().to_vec(),
                expires_at: None,
                tainted: false,
            }],
            ..Bundle::empty(own.clone())
        };
        let bundle = Arc::new(PreparedBundle::new(Arc::new(bundle)));
        let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let server = Arc::new(FakeServer {
            clock: clock.clone(),
            issuer: Mutex::new(Arc::new(Issuer::new(&chain, ca_key).unwrap())),
            jwt: JwtSigner::new("k1", jwt_key).unwrap(),
            entries: Mutex::new(entries.clone()),
            errors: Mutex::default(),
            away: Mutex::new(false),
            limit: Mutex::new(None),
            begun: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            signed: AtomicUsize::new(0),
        });
        let first = Snapshot::new(own, entries, [bundle.clone()]);
        let (snapshot, seen) = watch::channel(Some(Arc::new(first)));
        let tasks = Tasks::new();
        let deps = Deps {
            server: server.clone(),
            snapshot: seen,
            refresh: Arc::new(Notify::new()),
            clock: clock.clone(),
            tasks: tasks.clone(),
            key_algorithm: KeyAlgorithm::EcP256,
        };
        let holders = Holders::new(deps, Capacity { all: 8, user: 2 });
        let (socket, _other) = tokio::net::UnixStream::pair().unwrap();
        let attested = Attestors::new(Vec::new()).attest(&Peer::of(&socket).unwrap()).await;
        let instance = attested.unwrap().instance().clone();
        Self { server, clock, snapshot, bundle, holders, instance, tasks }
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.snapshot.borrow().as_ref().unwrap().entries().to_vec()
    }

    /// The bundle that this node knows.
    pub(crate) fn own(&self) -> Arc<PreparedBundle> {
        self.snapshot.borrow().as_ref().unwrap().own_bundle().unwrap().clone()
    }

    pub(crate) fn publish(&self, entries: Vec<Arc<Entry>>, bundle: &Arc<PreparedBundle>) {
        *self.server.entries.lock().unwrap() = entries.clone();
        let own = TrustDomain::parse("td").unwrap();
        self.snapshot.send_replace(Some(Arc::new(Snapshot::new(own, entries, [bundle.clone()]))));
    }

    /// This node learns of these entries and of this bundle, while the server signs as before.
    pub(crate) fn learns(&self, entries: Vec<Entry>, bundle: Bundle) {
        let own = TrustDomain::parse("td").unwrap();
        let entries = entries.into_iter().map(Arc::new).collect();
        let bundle = Arc::new(PreparedBundle::new(Arc::new(bundle)));
        self.snapshot.send_replace(Some(Arc::new(Snapshot::new(own, entries, [bundle]))));
    }

    pub(crate) async fn x509(&self) -> Result<Vec<Arc<X509Credential>>, IdentityError> {
        let holder = self.holders.of(&self.instance)?;
        holder.x509(&self.entries(), &selectors(&["u:1"]), self.clock.now()).await
    }

    pub(crate) async fn jwt(&self, audience: &[&str]) -> Result<JwtToken, IdentityError> {
        let audience = Audiences::new(audience.iter().map(ToString::to_string).collect());
        let entry = self.entries().remove(0);
        let own = self.own();
        self.holders.of(&self.instance)?.jwt(&entry, &audience, &own, self.clock.now()).await
    }

    pub(crate) fn signed(&self) -> usize {
        self.server.signed.load(Ordering::SeqCst)
    }

    /// The serial of the SVID that is held without asking anybody.
    pub(crate) fn held(&self) -> Option<String> {
        let holder = self.holders.of(&self.instance).unwrap();
        let held = holder.held_x509(&self.entries(), self.clock.now()).into_iter().flatten().next();
        held.map(|credential| credential.svid().serial().to_hex())
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

pub(crate) fn selectors(texts: &[&str]) -> SelectorSet {
    texts.iter().map(|text| text.parse::<Selector>().unwrap()).collect()
}
