//! An agent's Workload API on a socket, and what its tests say to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::{Clock as _, from_unix_seconds, unix_seconds};
use steeple::entry::Entry;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::jwt::make::{Claims, JwtSigner};
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::selector::Selector;
use steeple::x509::Subject;
use steeple::x509::make::{CaRequest, Validity, self_signed_ca};
use steeple_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_client::DelegatedIdentityClient;
use steeple_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use steeple_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use steeple_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::transport::{Channel, Uri};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Span;

use crate::app;
use crate::attest::instance::Residence;
use crate::attest::interest::Interest;
use crate::attest::{AttestError, Attestors, Findings, Grounds, WorkloadAttestor, docker};
use crate::complaints::Complaints;
use crate::endpoint::{Config, Endpoint};
use crate::identity::tests::entry;
use crate::identity::tests::node::Node;
use crate::identity::{PreparedBundle, Snapshot};
use crate::peer::Peer;
use crate::workload::{DelegatedIdentityApi, Deps, Verifiers, WorkloadApi};

/// How long an attestor may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// What an attestor does when it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    Finds(&'static [&'static str]),
    /// The same; and knows that it finds nothing else later, but for the container.
    FindsForGood(&'static [&'static str]),
    /// The same as `Finds`, and that the process is a container.
    FindsContainer(&'static [&'static str]),
    Fails,
    Hangs,
    Panics,
}

#[derive(Debug)]
pub(super) struct Fake {
    name: &'static str,
    mood: Mutex<Mood>,
    pub(super) asked: AtomicUsize,
}

impl Fake {
    fn new(name: &'static str, mood: Mood) -> Arc<Self> {
        Arc::new(Self { name, mood: Mutex::new(mood), asked: AtomicUsize::new(0) })
    }

    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

#[tonic::async_trait]
impl WorkloadAttestor for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn attest(&self, peer: &Peer) -> Result<Findings, AttestError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Finds(found) => {
                Ok(Findings { selectors: selectors(found), ..Findings::default() })
            }
            Mood::FindsForGood(found) => {
                let facts = docker::Facts::NoContainer { cgroup: Vec::new() };
                let grounds = Some(Grounds::Docker(facts));
                Ok(Findings { selectors: selectors(found), grounds, ..Findings::default() })
            }
            Mood::FindsContainer(found) => {
                let residence = Some(Residence::of_init(peer.process()));
                Ok(Findings { selectors: selectors(found), residence, ..Findings::default() })
            }
            Mood::Fails => Err(AttestError::Deadline(Duration::ZERO)),
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("the test asked for it"),
        }
    }

    fn still_finds(&self, _: &Peer, _: &Grounds, interest: Interest) -> bool {
        !interest.container
    }
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// An agent of trust domain `td`, with one client, which is what the attestors find.
pub(super) struct Bench {
    pub(super) node: Node,
    pub(super) attestor: Arc<Fake>,
    pub(super) second: Arc<Fake>,
    pub(super) stop: CancellationToken,
    channel: Channel,
    admin: Channel,
    _directory: tempfile::TempDir,
}

impl Bench {
    /// With these entries. The caller has the selector `u:1`; a second attestor always fails.
    pub(super) async fn new(entries: Vec<Entry>) -> Self {
        Self::with(entries, Verifiers::Registered).await
    }

    pub(super) async fn with(entries: Vec<Entry>, verifiers: Verifiers) -> Self {
        let node = Node::new(entries).await;
        let (attestor, second) =
            (Fake::new("first", Mood::Finds(&["u:1"])), Fake::new("second", Mood::Fails));
        let attestors: Vec<(Arc<dyn WorkloadAttestor>, _)> =
            vec![(attestor.clone(), DEADLINE), (second.clone(), DEADLINE)];
        second.is(Mood::Finds(&[]));
        let stop = CancellationToken::new();
        let deps = Deps {
            attestors: Attestors::new(attestors),
            snapshot: node.snapshot.subscribe(),
            holders: node.holders.clone(),
            clock: node.clock.clone(),
            stop: stop.clone(),
            complaints: Complaints::default(),
            verifiers,
        };
        let delegates = ["spiffe://td/web".parse().unwrap()].into();
        let delegated = DelegatedIdentityApi::new(deps.clone(), delegates);
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let serve = async |config, routes| serve(&node, config, routes, stop.clone()).await;
        let workload = Routes::new(SpiffeWorkloadApiServer::new(WorkloadApi::new(deps)));
        let channel = serve(Config::new(path("agent.sock")), workload).await;
        let admin = Config::for_administrators(path("admin.sock"));
        let delegated = Routes::new(DelegatedIdentityServer::new(delegated));
        let admin = serve(admin, delegated).await;
        Self { node, attestor, second, stop, channel, admin, _directory: directory }
    }

    /// The API for delegates; `web` is one.
    pub(super) fn delegated(&self) -> DelegatedIdentityClient<Channel> {
        DelegatedIdentityClient::new(self.admin.clone())
    }

    pub(super) fn api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// What the server says from now on: these entries, and these foreign bundles.
    pub(super) fn publish(&self, entries: Vec<Entry>, foreign: Vec<Bundle>) {
        let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        *self.node.server.entries.lock().unwrap() = entries.clone();
        let prepared = |bundle| Arc::new(PreparedBundle::new(Arc::new(bundle)));
        let bundles = foreign.into_iter().map(prepared).chain([self.node.bundle.clone()]);
        self.node.snapshot.send_replace(Some(Arc::new(Snapshot::new(own(), entries, bundles))));
    }

    /// The same entries, with this bundle of the own trust domain.
    pub(super) fn publish_own(&self, bundle: Bundle) {
        self.node.publish(self.node.entries(), &Arc::new(PreparedBundle::new(Arc::new(bundle))));
    }

    /// Returns when the server was asked to sign once more, and has not answered yet.
    pub(super) async fn a_mint_begins(&self) {
        let server = &self.node.server;
        let before = server.begun.load(Ordering::SeqCst);
        while server.begun.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }

    /// A valid token of this trust domain, for `db`.
    pub(super) fn token(&self) -> String {
        let now = unix_seconds(self.node.clock.now());
        token(&self.node.server.jwt, "spiffe://td/someone", now)
    }

    pub(super) fn now(&self) -> i64 {
        unix_seconds(self.node.clock.now())
    }
}

/// Serves these on a socket; gives a channel to it.
async fn serve(node: &Node, config: Config, routes: Routes, stop: CancellationToken) -> Channel {
    let path = config.path.clone();
    let endpoint = Endpoint::bind(config).await.unwrap();
    let serve = endpoint.serve(routes, app::pin, stop);
    node.tasks.spawn(Span::none(), |_| serve);
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector_lazy(tower::service_fn(connect))
}

/// A foreign trust domain with an authority of each kind.
pub(super) struct Foreign {
    pub(super) bundle: Bundle,
    pub(super) key: Arc<PrivateKey>,
    pub(super) signer: JwtSigner,
}

/// The authorities of `name`; its JWT key has the ID `k2`.
pub(super) fn foreign(name: &str) -> Foreign {
    let trust_domain: TrustDomain = name.parse().unwrap();
    let [ca_key, key] =
        [(); 2].map(|()| Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()));
    let ca = CaRequest {
        trust_domain: &trust_domain,
        subject: &Subject::default(),
        validity: Validity::new(from_unix_seconds(1_800_000_000), Duration::from_secs(86_400)),
    };
    let certificate = self_signed_ca(&ca, &*ca_key).unwrap().certificates()[0].clone();
    let jwt_authority = JwtAuthority {
        key_id: "k2".into(),
        public_key: key.public_key().spki_der().to_vec(),
        expires_at: None,
        tainted: false,
    };
    let bundle = Bundle {
        x509_authorities: vec![X509Authority { certificate, tainted: false }],
        jwt_authorities: vec![jwt_authority],
        ..Bundle::empty(trust_domain)
    };
    Foreign { bundle, signer: JwtSigner::new("k2", key.clone()).unwrap(), key }
}

/// A token for `db` that is valid for five minutes.
pub(super) fn token(signer: &JwtSigner, subject: &str, now: i64) -> String {
    let claims = Claims {
        subject: &subject.parse::<SpiffeId>().unwrap(),
        audience: &["db".to_owned()],
        expires_at: now + 300,
        issued_at: now,
        issuer: None,
        token_id: None,
    };
    signer.make(&claims).unwrap()
}

pub(super) fn own() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

/// The entry of the caller.
pub(super) fn web() -> Entry {
    entry("web", 1, &["u:1"])
}

/// Another entry of the caller, younger than `web`.
pub(super) fn younger(name: &str) -> Entry {
    entry(name, 2, &["u:1"])
}

/// `entry`, which federates with these.
pub(super) fn federating(mut entry: Entry, names: &[&str]) -> Entry {
    entry.content.federates_with = names.iter().map(|name| name.parse().unwrap()).collect();
    entry
}

/// A request with the header that every call has.
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// The first message of a stream, or why there is none.
pub(super) async fn first<T>(answer: Result<Response<Streaming<T>>, Status>) -> Result<T, Status> {
    Ok(answer?.into_inner().message().await?.expect("a stream does not end with OK"))
}

pub(super) fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}
