//! Who may call what, over the real listeners and real TLS: every method, every class of caller,
//! and every state that a certificate may be in.

use std::fmt::Debug;
use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use steeple::bundle::{Bundle, X509Authority};
use steeple::clock::SystemClock;
use steeple::tls::{Acceptor, ClientDeps, Connector, ExpectedServer, ServerDeps, Trust};
use steeple::x509::Chain;
use steeple::x509::verify::AnchorSet;
use steeple_proto::spire::api::types::permission_denied_details::Reason;
use tokio::net::UnixStream;

use self::caller::Wire;
use super::guarded::reason;
use super::*;
use crate::api::listener::{Bounds, HANDSHAKE, Listener};
use crate::api::socket::AdminSocket;
use crate::authz::tests::EXPECTED;
use crate::registry::bundles::{BundleWrite, OwnBundleChange};

mod caller;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It came as far as its handler, which cannot read what it was sent.
    Admitted,
    /// It was refused, for an agent with the reason.
    Denied(Option<Reason>),
    /// The certificate is nobody's.
    Unauthenticated,
    /// There is no such method.
    Absent,
    /// There was no connection to make it on.
    NoConnection,
}

/// Who calls: the columns of the table, save that administrators are of two kinds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Local,
    AdminByEntry,
    ForeignAdmin,
    Agent,
    Downstream,
    Workload,
    Anonymous,
}

const PEERS: [Class; 5] =
    [Class::AdminByEntry, Class::ForeignAdmin, Class::Agent, Class::Downstream, Class::Workload];

/// What is wrong with a certificate, so that nobody connects with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    Expired,
    NotYetValid,
    UnknownAuthority,
    AuthorityOfAnotherTrustDomain,
    SelfSigned,
}

const FLAWS: [Flaw; 5] = [
    Flaw::Expired,
    Flaw::NotYetValid,
    Flaw::UnknownAuthority,
    Flaw::AuthorityOfAnotherTrustDomain,
    Flaw::SelfSigned,
];

/// The names of a certificate that make it nobody's, though an authority signed it: none, two, and
/// one that is no SPIFFE ID or that of a trust domain.
const NAMES_OF_NOBODY: [&[&str]; 6] = [
    &[],
    &["spiffe://td/spire/agent/a", "spiffe://td/second"],
    &["spiffe://td/admin", "https://td.example"],
    &["https://td/admin"],
    &["spiffe://td/a/../admin"],
    &["spiffe://td"],
];

/// Every method with the marks of its row.
fn methods() -> impl Iterator<Item = (&'static str, String)> {
    EXPECTED.iter().flat_map(|(row, service, methods)| {
        methods.iter().map(move |method| (*row, format!("/{service}/{method}")))
    })
}

/// What the table says that becomes of a call over the network or the admin socket by somebody in
/// good standing.
fn expected(row: &str, class: Class) -> Outcome {
    // Who is admitted at the admin socket alone finds nothing of it on the network.
    if row == "x....." && class != Class::Local {
        return Outcome::Absent;
    }
    let column = match class {
        Class::Local => 0,
        Class::AdminByEntry | Class::ForeignAdmin => 1,
        Class::Agent => 2,
        Class::Downstream => 3,
        Class::Workload => 4,
        Class::Anonymous => 5,
    };
    if row.as_bytes()[column] == b'x' { Outcome::Admitted } else { Outcome::Denied(None) }
}

/// The same for somebody who is let in nowhere any more, for this reason.
fn expected_of_refused(row: &str, class: Class, reason: Option<Reason>) -> Outcome {
    match row {
        "x....." => Outcome::Absent,
        "xxxxxx" => Outcome::Admitted,
        _ => Outcome::Denied(reason.filter(|_| class == Class::Agent)),
    }
}

/// The same for somebody with a certificate that is nobody's.
fn expected_of_nobody(row: &str) -> Outcome {
    if row == "x....." { Outcome::Absent } else { Outcome::Unauthenticated }
}

/// Calls every method, and compares.
async fn check(wire: &Wire, who: impl Debug, expected: impl Fn(&str) -> Outcome) {
    for (row, method) in methods() {
        let found = wire.call(&method).await;
        assert_eq!(found, expected(row), "{method} as {who:?}");
    }
}

/// A server at a port and a socket, whose own trust domain and the one of an administrator have
/// authorities that sign whatever is asked for.
struct World {
    server: Server,
    address: String,
    own: Authority,
    other: Authority,
    unknown: Authority,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl World {
    async fn new() -> Self {
        let server = Server::new().await;
        let [own, other, unknown] = [authority(), authority(), authority()];
        let bundle_of = |authority: &Authority| X509Authority {
            certificate: authority.der().clone(),
            tainted: false,
        };
        let registry = &server.deps.registry;
        let append = OwnBundleChange::Append { x509: vec![bundle_of(&own)], jwt: Vec::new() };
        registry.change_own_bundle(append, server.clock.now()).await.unwrap();
        let foreign = Bundle {
            x509_authorities: vec![bundle_of(&other)],
            ..Bundle::empty("other".parse().unwrap())
        };
        registry.write_bundles(vec![BundleWrite::Set(foreign)]).await.remove(0).unwrap();
        let admin = types::Entry { admin: true, ..entry("/admin", "/spire/agent/a") };
        let downstream = types::Entry { downstream: true, ..entry("/branch", "/spire/agent/a") };
        let entries = [admin, downstream, entry("/web", "/spire/agent/a")];
        let contents =
            entries.iter().map(|entry| steeple::convert::entry_from_proto(entry).unwrap());
        let created = registry.create_entries(contents.collect(), server.clock.now()).await;
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        let address = listen(&server).await;
        Self { server, address, own, other, unknown }
    }

    /// The name of somebody of this class.
    fn id(class: Class) -> &'static str {
        match class {
            Class::AdminByEntry => "spiffe://td/admin",
            Class::ForeignAdmin => "spiffe://other/admin",
            Class::Agent => "spiffe://td/spire/agent/a",
            Class::Downstream => "spiffe://td/branch",
            Class::Workload | Class::Local | Class::Anonymous => "spiffe://td/web",
        }
    }

    fn authority_of(&self, class: Class) -> &Authority {
        if class == Class::ForeignAdmin { &self.other } else { &self.own }
    }

    /// A connection with a certificate of this serial number, which has no flaw.
    fn peer(&self, class: Class, serial: u64) -> Wire {
        let mut params = leaf(&[Self::id(class)]);
        params.serial_number = Some(serial.into());
        self.with(&params, Some(self.authority_of(class)))
    }

    /// A connection with a certificate that has this flaw.
    fn flawed(&self, class: Class, flaw: Flaw) -> Wire {
        let id = Self::id(class);
        let time = |seconds| from_unix_seconds(NOW + seconds).into();
        let mut params = leaf(&[id]);
        let own = Some(self.authority_of(class));
        match flaw {
            Flaw::Expired => {
                params.not_before = time(-1_000);
                params.not_after = time(-1);
                self.with(&params, own)
            }
            Flaw::NotYetValid => {
                params.not_before = time(500);
                self.with(&params, own)
            }
            Flaw::UnknownAuthority => self.with(&params, Some(&self.unknown)),
            Flaw::AuthorityOfAnotherTrustDomain => {
                let wrong = if class == Class::ForeignAdmin { &self.own } else { &self.other };
                self.with(&params, Some(wrong))
            }
            Flaw::SelfSigned => self.with(&params, None),
        }
    }

    /// A connection with a certificate that `authority` signs, or the key that it is for.
    fn with(&self, params: &CertificateParams, authority: Option<&Authority>) -> Wire {
        let certificate = match authority {
            Some(authority) => params.signed_by(&*KEY, authority),
            None => params.self_signed(&*KEY),
        };
        let chain = Chain::new(vec![certificate.unwrap().der().clone()]).unwrap();
        let key = PrivateKey::from_pkcs8(&KEY.serialize_der()).unwrap();
        self.over_tls(Some(Arc::new(Material::new(&chain, Arc::new(key)).unwrap())))
    }

    fn over_tls(&self, material: Option<Arc<Material>>) -> Wire {
        let spiffe_id = id("spiffe://td/spire/server");
        let deps = ClientDeps {
            material: watch::channel(material).1,
            server: ExpectedServer { spiffe_id, trust: Trust::Unverified },
            clock: Arc::new(SystemClock),
        };
        let connector = Connector::new(&self.address, deps, Duration::from_secs(10)).unwrap();
        let endpoint = Endpoint::from_static("http://server");
        Wire(endpoint.connect_with_connector_lazy(connector))
    }

    fn over_the_socket(&self) -> Wire {
        let path = self.server.directory.path().join("socket");
        let connect = move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        };
        let endpoint = Endpoint::from_static("http://server");
        Wire(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }

    /// Remembers the agent with these serial numbers; without any it is banned.
    async fn remember(&self, serial: Option<&str>, new_serial: Option<&str>) {
        let registry = &self.server.deps.registry;
        let id = node("a").id;
        drop(registry.evict_node(id.clone()).await);
        let new_serial =
            new_serial.map(|serial| NewSerial { serial: serial.into(), not_after: NOW + 1_000 });
        let node = Node { serial: serial.map(Into::into), new_serial, ..node("a") };
        registry.put_node(node, None, self.server.clock.now()).await.unwrap();
    }
}

/// One key for all certificates: it is not what is looked at here.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = from_unix_seconds(NOW - 10_000).into();
    params.not_after = from_unix_seconds(NOW + 10_000).into();
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of 1000 seconds with these names.
fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = |name: &&str| SanType::URI((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = from_unix_seconds(NOW).into();
    params.not_after = from_unix_seconds(NOW + 1_000).into();
    params
}

/// Listens on a port and at the socket, and says at which port.
async fn listen(server: &Server) -> String {
    let anchors = Arc::new(AnchorSet::from_bundles(&server.deps.registry.bundles()));
    let deps = ServerDeps {
        material: server.deps.own_svid.clone(),
        anchors: watch::channel(anchors).1,
        clock: server.clock.clone(),
    };
    let acceptor = Acceptor::new(deps, HANDSHAKE).unwrap();
    let (address, shared) = ("127.0.0.1:0".parse().unwrap(), server.shared.clone());
    let public = routes(&server.deps, Reach::Everywhere);
    let bounds = Bounds::within(4_096);
    let listener = Listener::bind(address, acceptor, public, shared, bounds).await.unwrap();
    let address = listener.address().unwrap().to_string();
    let path = server.directory.path().join("socket");
    let private = routes(&server.deps, Reach::AdminSocket);
    let socket = AdminSocket::bind(&path, private, server.shared.clone()).unwrap();
    let tasks = server.tasks.clone();
    server.tasks.spawn(tracing::Span::none(), |stop| listener.run(tasks, stop));
    let tasks = server.tasks.clone();
    server.tasks.spawn(tracing::Span::none(), |stop| socket.run(tasks, stop));
    address
}

#[tokio::test]
async fn a_caller_in_good_standing_may_call_what_the_table_says() {
    let world = World::new().await;
    world.remember(Some("7"), None).await;
    check(&world.over_the_socket(), Class::Local, |row| expected(row, Class::Local)).await;
    check(&world.over_tls(None), Class::Anonymous, |row| expected(row, Class::Anonymous)).await;
    for class in PEERS {
        check(&world.peer(class, 7), class, |row| expected(row, class)).await;
    }
}

#[tokio::test]
async fn a_caller_whose_certificate_expired_since_it_connected_may_call_what_anybody_may() {
    let world = World::new().await;
    world.remember(Some("7"), None).await;
    for class in PEERS {
        let wire = world.peer(class, 7);
        assert_eq!(wire.call(caller::OPEN_TO_ALL).await, Outcome::Admitted);
        world.server.clock.set(from_unix_seconds(NOW + 1_001));
        let expired = Some(Reason::AgentExpired);
        check(&wire, class, |row| expected_of_refused(row, class, expired)).await;
        world.server.clock.set(from_unix_seconds(NOW));
    }
}

#[tokio::test]
async fn an_agent_that_is_refused_learns_why_with_every_call() {
    let world = World::new().await;
    let refused = async |serial, reason| {
        let wire = world.peer(Class::Agent, serial);
        check(&wire, Class::Agent, |row| expected_of_refused(row, Class::Agent, Some(reason)))
            .await;
    };
    refused(7, Reason::AgentNotAttested).await;
    world.remember(None, None).await;
    refused(7, Reason::AgentBanned).await;
    world.remember(Some("8"), Some("9")).await;
    refused(7, Reason::AgentNotActive).await;

    // The older certificate dies with the first use of the newer.
    let (old, new) = (world.peer(Class::Agent, 8), world.peer(Class::Agent, 9));
    check(&old, Class::Agent, |row| expected(row, Class::Agent)).await;
    check(&new, Class::Agent, |row| expected(row, Class::Agent)).await;
    refused(8, Reason::AgentNotActive).await;
}

#[tokio::test]
async fn with_a_certificate_that_has_a_flaw_there_is_no_connection() {
    let world = World::new().await;
    world.remember(Some("7"), None).await;
    for class in PEERS {
        for flaw in FLAWS {
            let wire = world.flawed(class, flaw);
            for (_, method) in methods() {
                let found = wire.call(&method).await;
                assert_eq!(found, Outcome::NoConnection, "{method} as {class:?}, {flaw:?}");
            }
        }
    }
    // Somebody of a trust domain that administrators come from, and none of them.
    let stranger = world.with(&leaf(&["spiffe://other/web"]), Some(&world.other));
    assert_eq!(stranger.call(caller::OPEN_TO_ALL).await, Outcome::NoConnection);
}

#[tokio::test]
async fn with_a_certificate_that_is_nobodys_every_call_is_unauthenticated() {
    let world = World::new().await;
    for names in NAMES_OF_NOBODY {
        let of_own = world.with(&leaf(names), Some(&world.own));
        check(&of_own, names, expected_of_nobody).await;
        let of_other = world.with(&leaf(names), Some(&world.other));
        check(&of_other, names, expected_of_nobody).await;
        for signer in [Some(&world.unknown), None] {
            let stranger = world.with(&leaf(names), signer);
            assert_eq!(stranger.call(caller::OPEN_TO_ALL).await, Outcome::NoConnection);
        }
        let mut expired = leaf(names);
        expired.not_before = from_unix_seconds(NOW - 1_000).into();
        expired.not_after = from_unix_seconds(NOW - 1).into();
        let expired = world.with(&expired, Some(&world.own));
        assert_eq!(expired.call(caller::OPEN_TO_ALL).await, Outcome::NoConnection);
    }
}
