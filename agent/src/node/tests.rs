//! Nodes and a server that follows a script, in virtual time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use steeple::clock::{self, TokioClock, from_unix_seconds};
use steeple::tasks::Tasks;
use steeple::tls::Trust;
use steeple::x509::csr::Csr;
use steeple::x509::make::Validity;
use tracing::Span;

use super::attestor::{EvidenceError, Mark, NoChallenge, Session};
use super::task::Node;
use super::testing::Authority;
use super::*;
use crate::server_api::ServerError;
use crate::server_api::node_api::{AttestError, Attested, NodeApi, Opening, Responder};

mod clocks;
mod disk;
mod rebootstrap;
mod refusals;

const AGENT: &str = "spiffe://td/spire/agent/x";
const TTL: u64 = 3_600;

/// What the server is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Call {
    Attest,
    Renew,
    PostStatus,
}

/// A server that says yes unless the script says something else.
struct Server {
    authority: Authority,
    clock: Arc<TokioClock>,
    reattestable: bool,
    /// Who is there in its place.
    successor: Mutex<Option<Arc<Authority>>>,
    /// What happens while it attests.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    script: Mutex<VecDeque<ServerError>>,
    calls: Mutex<Vec<(Call, u64)>>,
    reconnects: Mutex<u32>,
    this: std::sync::Weak<Self>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    fn call(&self, call: Call) -> Result<(), ServerError> {
        let now = clock::unix_seconds(self.clock.now());
        self.calls.lock().unwrap().push((call, u64::try_from(now).unwrap() - 1_000_000));
        self.script.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    fn sign(&self, csr: &[u8]) -> Vec<CertificateDer<'static>> {
        let csr = Csr::parse_verified(csr).unwrap();
        let validity = Validity::new(self.clock.now(), Duration::from_secs(TTL));
        let successor = self.successor.lock().unwrap().clone();
        let authority = successor.as_deref().unwrap_or(&self.authority);
        let svid = authority.sign(AGENT, csr.public_key(), validity);
        svid.chain().certificates().to_vec()
    }
}

impl Contact for Server {
    fn stranger(&self, trust: Trust) -> Arc<dyn NodeApi> {
        rebootstrap::met(self.this.upgrade().unwrap(), &trust)
    }

    fn agent(&self) -> Arc<dyn NodeApi> {
        self.this.upgrade().unwrap()
    }

    fn reconnect(&self) {
        *self.reconnects.lock().unwrap() += 1;
    }
}

#[tonic::async_trait]
impl NodeApi for Server {
    async fn attest(&self, opening: Opening, _: &dyn Responder) -> Result<Attested, AttestError> {
        self.call(Call::Attest)?;
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        Ok(Attested {
            spiffe_id: AGENT.parse().unwrap(),
            chain: self.sign(&opening.csr),
            reattestable: self.reattestable,
        })
    }

    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, ServerError> {
        self.call(Call::Renew)?;
        Ok(self.sign(&csr))
    }

    async fn post_status(&self, _: &str) -> Result<(), ServerError> {
        self.call(Call::PostStatus)
    }

    async fn own_bundle(&self) -> Result<Bundle, ServerError> {
        let successor = self.successor.lock().unwrap().clone();
        Ok(successor.as_deref().unwrap_or(&self.authority).bundle())
    }
}

/// Presents what it is told to.
#[derive(Debug, Default)]
struct Evidence(Mutex<Option<&'static str>>);

#[tonic::async_trait]
impl NodeAttestor for Evidence {
    fn method(&self) -> &'static str {
        "test"
    }

    async fn begin(&self) -> Result<Session, EvidenceError> {
        let text = *self.0.lock().unwrap();
        if text == Some("none") {
            return Err(EvidenceError::NoToken);
        }
        let once = text.map(|text| Mark::of(text.as_bytes()));
        let evidence = zeroize::Zeroizing::new(Vec::new());
        Ok(Session { evidence, once, responder: Box::new(NoChallenge) })
    }

    fn advice(&self) -> &'static str {
        "ask somebody"
    }
}

/// A node, its server, and all that is seen of both.
struct World {
    server: Arc<Server>,
    evidence: Arc<Evidence>,
    directory: tempfile::TempDir,
    clock: Arc<TokioClock>,
}

struct Running {
    status: watch::Receiver<NodeStatus>,
    material: watch::Receiver<Option<Arc<Material>>>,
    denials: mpsc::Sender<Denial>,
    distrust: watch::Sender<bool>,
    bundles: watch::Sender<Option<OwnBundle>>,
    ended: tokio::task::JoinHandle<Result<(), NodeError>>,
    tasks: Tasks,
}

impl World {
    fn new(reattestable: bool) -> Self {
        let clock = Arc::new(TokioClock::new(from_unix_seconds(1_000_000)));
        let server = Arc::new_cyclic(|this| Server {
            authority: Authority::new(clock.now()),
            clock: clock.clone(),
            reattestable,
            successor: Mutex::default(),
            meanwhile: Mutex::default(),
            script: Mutex::default(),
            calls: Mutex::default(),
            reconnects: Mutex::default(),
            this: this.clone(),
        });
        let evidence = Arc::new(Evidence::default());
        if !reattestable {
            *evidence.0.lock().unwrap() = Some("token");
        }
        Self { server, evidence, directory: tempfile::tempdir().unwrap(), clock }
    }

    fn fails(&self, errors: impl IntoIterator<Item = ServerError>) {
        self.server.script.lock().unwrap().extend(errors);
    }

    fn start(&self) -> Running {
        self.start_with(TrustSource::Insecure, Rebootstrap::Never)
    }

    fn start_with(&self, trust: TrustSource, rebootstrap: Rebootstrap) -> Running {
        let (denials, heard) = mpsc::channel(1);
        let (status, material) = (watch::Sender::default(), watch::Sender::default());
        let (bundle, distrust) = (watch::Sender::default(), watch::Sender::default());
        let deps = Deps {
            contact: self.server.clone(),
            attestor: self.evidence.clone(),
            clock: self.clock.clone(),
        };
        let config = Config {
            trust_domain: "td".parse().unwrap(),
            trust,
            rebootstrap,
            file: self.directory.path().join("agent.json"),
        };
        let channels = Channels {
            material: material.clone(),
            anchors: watch::Sender::default(),
            status: status.clone(),
            denials: heard,
            distrust: distrust.subscribe(),
            bundle: bundle.subscribe(),
        };
        let node = Node::load(deps, config, channels).unwrap();
        let tasks = Tasks::new();
        Running {
            status: status.subscribe(),
            material: material.subscribe(),
            denials,
            distrust,
            bundles: bundle,
            ended: tasks.spawn(Span::none(), |stop| node.run(stop)),
            tasks,
        }
    }

    fn calls(&self) -> Vec<(Call, u64)> {
        std::mem::take(&mut *self.server.calls.lock().unwrap())
    }
}

impl Running {
    async fn until(&mut self, standing: Standing) -> NodeStatus {
        let there = self.status.wait_for(|status| status.standing == standing);
        let a_month = Duration::from_secs(30 * 24 * 3_600);
        tokio::time::timeout(a_month, there).await.unwrap().unwrap().clone()
    }

    fn presents(&self) -> bool {
        self.material.borrow().is_some()
    }

    async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn said(bundle: Bundle, bootstraps: u32) -> Option<OwnBundle> {
    Some(OwnBundle { bundle: Arc::new(bundle), bootstraps })
}

fn away() -> ServerError {
    ServerError::Unavailable("away".into())
}

/// An authority that is tainted, and one that was revoked while this node was not looking.
#[tokio::test(start_paused = true)]
async fn a_node_leaves_an_authority_that_is_not_to_be_relied_on_at_once() {
    for (reattestable, revoked) in [(false, false), (true, false), (false, true)] {
        let world = World::new(reattestable);
        let mut node = world.start();
        node.until(Standing::Attested).await;
        let bundle = world.server.authority.bundle();
        node.bundles.send_replace(said(bundle.clone(), 0));
        seconds(100).await;
        world.calls();
        let mut worse = bundle;
        worse.x509_authorities[0].tainted = true;
        if revoked {
            worse.x509_authorities = Authority::new(world.clock.now()).bundle().x509_authorities;
        }
        node.bundles.send_replace(said(worse, 0));
        seconds(1).await;
        let expected = if reattestable { Call::Attest } else { Call::Renew };
        assert_eq!(world.calls()[0], (expected, 100));
        // What it gets is no better, which must not become a storm.
        seconds(300).await;
        assert!(world.calls().len() < 20);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_node_is_attested_at_once_and_renews_at_half_of_life() {
    let world = World::new(false);
    let mut node = world.start();
    let status = node.until(Standing::Attested).await;
    assert_eq!(status.spiffe_id.unwrap().as_str(), AGENT);
    assert_eq!(world.calls(), [(Call::Attest, 0)]);
    seconds(TTL * 55 / 100).await;
    let [(Call::Renew, at)] = world.calls()[..] else { panic!("no renewal") };
    assert!((TTL * 44 / 100..=TTL * 55 / 100).contains(&at), "{at}");
    assert!(*world.server.reconnects.lock().unwrap() >= 2);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_can_is_attested_again_instead_of_renewed() {
    let world = World::new(true);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    seconds(TTL * 6 / 10).await;
    let calls: Vec<_> = world.calls().into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::Attest, Call::Attest]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_needs_no_server() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    node.stop().await;
    world.calls();

    let mut node = world.start();
    let status = node.until(Standing::Attested).await;
    assert_eq!(status.spiffe_id.unwrap().as_str(), AGENT);
    assert!(node.presents());
    assert_eq!(world.calls(), []);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_for_as_long_as_it_takes() {
    let world = World::new(false);
    let untrusted = || ServerError::Untrusted("who is that".into());
    world.fails((0..50).flat_map(|_| [away(), untrusted()]));
    let mut node = world.start();
    node.until(Standing::Attested).await;
    let calls = world.calls();
    assert_eq!(calls.len(), 101);
    let waits: Vec<_> = calls.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert!(waits.iter().all(|wait| *wait <= 60), "{waits:?}");
    assert!(waits[..3].iter().all(|wait| *wait <= 5), "{waits:?}");
    assert!(waits[20..].iter().all(|wait| *wait >= 30), "{waits:?}");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let world = World::new(false);
    world.fails([ServerError::Busy { retry_after: Some(Duration::from_secs(77)) }]);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    assert_eq!(world.calls(), [(Call::Attest, 0), (Call::Attest, 77)]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_until_the_svid_expires() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    world.calls();
    world.fails((0..1_000).map(|_| away()));
    let status = node.until(Standing::Expired).await;
    assert_eq!(status.not_after, None);
    assert!(!node.presents());
    let calls = world.calls();
    assert!(calls.len() > 20 && calls.iter().all(|(call, _)| *call == Call::Renew), "{calls:?}");
    let now = world.clock.now();
    let first = Validity::new(from_unix_seconds(1_000_000), Duration::from_secs(TTL)).not_after();
    let late = now.duration_since(first).unwrap();
    assert!(late > Duration::ZERO && late < Duration::from_secs(2), "{late:?}");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_svid_has_expired_while_it_was_off_is_attested() {
    let world = World::new(true);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    node.stop().await;
    seconds(TTL + 1).await;
    world.calls();
    let mut node = world.start();
    node.until(Standing::Attested).await;
    assert_eq!(world.calls(), [(Call::Attest, TTL + 1)]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_believed_is_no_matter_of_tokens() {
    let world = World::new(false);
    world.fails([ServerError::Untrusted("no path".into())]);
    let mut node = world.start();
    node.status.changed().await.unwrap();
    let trouble = node.status.borrow().trouble.clone().unwrap();
    assert!(trouble.contains("trust_bundle") && !trouble.contains("ask somebody"), "{trouble}");
    node.until(Standing::Attested).await;
    node.stop().await;
}
