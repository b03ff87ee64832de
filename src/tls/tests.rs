//! Handshakes over a pipe, in virtual time.

use std::time::{Duration, SystemTime};

use rustls::ProtocolVersion;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::clock::{TokioClock, from_unix_seconds};
use crate::id::TrustDomain;
use crate::keys::{KeyAlgorithm, PrivateKey};
use crate::x509::Subject;
use crate::x509::make::{CaRequest, Issuer, SvidRequest, Validity, self_signed_ca};
use crate::x509::verify::Anchors;

mod foreign;

const HOUR: Duration = Duration::from_secs(3600);
const SERVER: &str = "spiffe://example.org/spire/server";
const AGENT: &str = "spiffe://example.org/spire/agent/a";

/// An authority whose SVIDs are valid from now on.
struct Authority {
    trust_domain: TrustDomain,
    root: Chain,
    issuer: Arc<Issuer>,
    clock: Arc<TokioClock>,
}

/// Both ends, and the handles by which their material changes.
struct World {
    authority: Authority,
    server: watch::Sender<Arc<Material>>,
    server_anchors: watch::Sender<Arc<AnchorSet>>,
    client: watch::Sender<Option<Arc<Material>>>,
    client_anchors: watch::Sender<Arc<AnchorSet>>,
}

/// How a handshake ended, on both sides.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    /// Whom the server saw, if it accepted.
    server: Result<Option<String>, Option<PeerError>>,
    /// Whether the client could use the connection.
    client: Result<(), Option<PeerError>>,
}

impl Authority {
    fn new(trust_domain: &str, clock: &Arc<TokioClock>) -> Self {
        let trust_domain: TrustDomain = trust_domain.parse().unwrap();
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let validity = Validity::new(clock.now(), 24 * HOUR);
        let request =
            CaRequest { trust_domain: &trust_domain, subject: &Subject::default(), validity };
        let root = self_signed_ca(&request, &*key).unwrap();
        let issuer = Arc::new(Issuer::new(&root, key).unwrap());
        Self { trust_domain, root, issuer, clock: clock.clone() }
    }

    fn anchors(&self) -> Arc<AnchorSet> {
        let anchors = Anchors::new(self.root.certificates());
        Arc::new(AnchorSet::of(self.trust_domain.clone(), anchors))
    }

    fn material(&self, id: &str, algorithm: KeyAlgorithm, ttl: Duration) -> Arc<Material> {
        let key = Arc::new(PrivateKey::generate(algorithm).unwrap());
        let request = SvidRequest {
            spiffe_id: &id.parse().unwrap(),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            validity: Validity::new(self.clock.now(), ttl),
        };
        let svid = self.issuer.prepare_svid(&request).unwrap().sign().unwrap();
        Arc::new(Material::new(svid.chain(), key).unwrap())
    }
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(TokioClock::new(from_unix_seconds(1_800_000_000)));
        let authority = Authority::new("example.org", &clock);
        let material = |id| authority.material(id, KeyAlgorithm::EcP256, HOUR);
        Self {
            server: watch::Sender::new(material(SERVER)),
            client: watch::Sender::new(Some(material(AGENT))),
            server_anchors: watch::Sender::new(authority.anchors()),
            client_anchors: watch::Sender::new(authority.anchors()),
            authority,
        }
    }

    fn acceptor(&self) -> Acceptor {
        let deps = ServerDeps {
            material: self.server.subscribe(),
            anchors: self.server_anchors.subscribe(),
            clock: self.authority.clock.clone(),
        };
        Acceptor::new(deps, Duration::from_secs(10)).unwrap()
    }

    fn client_deps(&self, trust: Trust) -> ClientDeps {
        ClientDeps {
            material: self.client.subscribe(),
            server: ExpectedServer { spiffe_id: SERVER.parse().unwrap(), trust },
            clock: self.authority.clock.clone(),
        }
    }

    fn connector(&self, trust: Trust) -> Connector {
        let deps = self.client_deps(trust);
        Connector::new("localhost:8081", deps, Duration::from_secs(10)).unwrap()
    }

    fn verified(&self) -> Trust {
        Trust::Anchors(self.client_anchors.subscribe())
    }

    async fn shake(&self) -> Outcome {
        shake(&self.acceptor(), &self.connector(self.verified())).await
    }
}

/// In TLS 1.3 a client learns only by reading that the server refused it.
async fn shake(acceptor: &Acceptor, connector: &Connector) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut accepted = match acceptor.accept(far).await {
            Ok(accepted) => accepted,
            Err(AcceptError::Peer(error)) => return Err(Some(error)),
            Err(AcceptError::Deadline | AcceptError::Handshake(_)) => return Err(None),
        };
        accepted.stream.write_all(b"!").await.unwrap();
        accepted.stream.flush().await.unwrap();
        Ok(match accepted.client {
            Client::Anonymous => None,
            Client::Peer(peer) => Some(peer.spiffe_id().to_string()),
            Client::Unnamed(unnamed) => Some(format!("nobody: {}", unnamed.why)),
        })
    };
    let client = async {
        let mut connected = match connector.handshake(near).await {
            Ok(connected) => connected,
            Err(ConnectorError::Peer(error)) => return Err(Some(error)),
            Err(_) => return Err(None),
        };
        connected.stream.read_u8().await.map(|_| ()).map_err(|_error| None)
    };
    let (server, client) = tokio::join!(server, client);
    Outcome { server, client }
}

fn accepted(client: Option<&str>) -> Outcome {
    Outcome { server: Ok(client.map(str::to_owned)), client: Ok(()) }
}

fn server_refused(error: PeerError) -> Outcome {
    Outcome { server: Err(Some(error)), client: Err(None) }
}

fn client_refused(error: PeerError) -> Outcome {
    Outcome { server: Err(None), client: Err(Some(error)) }
}

#[tokio::test(start_paused = true)]
async fn both_sides_know_each_other_by_spiffe_id() {
    let world = World::new();
    assert_eq!(world.shake().await, accepted(Some(AGENT)));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_key_makes_a_handshake() {
    let world = World::new();
    for algorithm in [KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        world.server.send_replace(world.authority.material(SERVER, algorithm, HOUR));
        world.client.send_replace(Some(world.authority.material(AGENT, algorithm, HOUR)));
        assert_eq!(world.shake().await, accepted(Some(AGENT)), "{algorithm}");
    }
}

/// H144: a server asks for a certificate and serves who has none.
#[tokio::test(start_paused = true)]
async fn a_client_without_a_certificate_is_anonymous() {
    let world = World::new();
    world.client.send_replace(None);
    assert_eq!(world.shake().await, accepted(None));
}

#[tokio::test(start_paused = true)]
async fn a_client_of_an_unknown_trust_domain_is_refused() {
    let world = World::new();
    let other = Authority::new("other.org", &world.authority.clock);
    let material = other.material("spiffe://other.org/a", KeyAlgorithm::EcP256, HOUR);
    world.client.send_replace(Some(material));
    assert_eq!(world.shake().await, server_refused(PeerError::UnknownTrustDomain));
}

#[tokio::test(start_paused = true)]
async fn a_client_of_an_authority_that_is_no_longer_in_the_bundle_is_refused() {
    let world = World::new();
    let acceptor = world.acceptor();
    let connector = world.connector(world.verified());
    assert_eq!(shake(&acceptor, &connector).await, accepted(Some(AGENT)));
    let successor = Authority::new("example.org", &world.authority.clock);
    world.server_anchors.send_replace(successor.anchors());
    let refused = server_refused(PeerError::NoPathToAuthority);
    assert_eq!(shake(&acceptor, &connector).await, refused);
    world.client.send_replace(Some(successor.material(AGENT, KeyAlgorithm::EcP256, HOUR)));
    assert_eq!(shake(&acceptor, &connector).await, accepted(Some(AGENT)));
}

#[tokio::test(start_paused = true)]
async fn a_server_has_to_be_the_one_that_is_expected() {
    let world = World::new();
    let impostor = "spiffe://example.org/web";
    world.server.send_replace(world.authority.material(impostor, KeyAlgorithm::EcP256, HOUR));
    assert_eq!(world.shake().await, client_refused(PeerError::AnotherId));
    let unverified = world.connector(Trust::Unverified);
    let outcome = shake(&world.acceptor(), &unverified).await;
    assert_eq!(outcome, client_refused(PeerError::AnotherId));
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_authority_is_refused_unless_nothing_is_verified() {
    let world = World::new();
    let other = Authority::new("example.org", &world.authority.clock);
    world.client.send_replace(None);
    world.server.send_replace(other.material(SERVER, KeyAlgorithm::EcP256, HOUR));
    assert_eq!(world.shake().await, client_refused(PeerError::NoPathToAuthority));
    let unverified = world.connector(Trust::Unverified);
    assert_eq!(shake(&world.acceptor(), &unverified).await, accepted(None));
}

#[tokio::test(start_paused = true)]
async fn a_pinned_authority_has_to_be_presented_and_to_have_signed() {
    let world = World::new();
    world.client.send_replace(None);
    let pin = |root: &Chain| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root.leaf());
        Trust::PinnedAuthority(hash.as_ref().try_into().unwrap())
    };
    let good = world.connector(pin(&world.authority.root));
    let acceptor = world.acceptor();
    assert_eq!(shake(&acceptor, &good).await, client_refused(PeerError::NoAuthority));

    let present = |signer: &Authority, root: &Chain| {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let request = SvidRequest {
            spiffe_id: &SERVER.parse().unwrap(),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            validity: Validity::new(signer.clock.now(), HOUR),
        };
        let svid = signer.issuer.prepare_svid(&request).unwrap().sign().unwrap();
        let both = [svid.chain().certificates(), root.certificates()].concat();
        let material = Material::new(&Chain::new(both).unwrap(), key).unwrap();
        world.server.send_replace(Arc::new(material));
    };
    present(&world.authority, &world.authority.root);
    assert_eq!(shake(&acceptor, &good).await, accepted(None));
    let other = Authority::new("example.org", &world.authority.clock);
    let bad = world.connector(pin(&other.root));
    assert_eq!(shake(&acceptor, &bad).await, client_refused(PeerError::NoAuthority));
    present(&other, &world.authority.root);
    assert_eq!(shake(&acceptor, &good).await, client_refused(PeerError::NoPathToAuthority));
}

#[tokio::test(start_paused = true)]
async fn material_expires_as_the_clock_advances_and_rotates_without_a_restart() {
    let world = World::new();
    let acceptor = world.acceptor();
    let connector = world.connector(world.verified());
    assert_eq!(shake(&acceptor, &connector).await, accepted(Some(AGENT)));
    tokio::time::advance(2 * HOUR).await;
    assert_eq!(shake(&acceptor, &connector).await, client_refused(PeerError::Expired));
    let next = |id| world.authority.material(id, KeyAlgorithm::EcP256, HOUR);
    world.server.send_replace(next(SERVER));
    assert_eq!(shake(&acceptor, &connector).await, server_refused(PeerError::Expired));
    world.client.send_replace(Some(next(AGENT)));
    assert_eq!(shake(&acceptor, &connector).await, accepted(Some(AGENT)));
    let early: SystemTime = world.authority.clock.now() - HOUR;
    world.authority.clock.set(early);
    assert_eq!(shake(&acceptor, &connector).await, client_refused(PeerError::NotValidYet));
}

/// H144: the key has to be that of the certificate.
#[tokio::test(start_paused = true)]
async fn a_stolen_certificate_without_its_key_is_refused() {
    let world = World::new();
    let stolen = world.client.borrow().clone().unwrap();
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    assert_eq!(Material::new(stolen.chain(), key.clone()).err(), Some(MaterialError::Key));
    let signing = Arc::new(signing::TlsKey::new(key));
    let chain = stolen.chain().certificates().to_vec();
    let forged = Material {
        chain: stolen.chain().clone(),
        certified: Arc::new(CertifiedKey::new(chain, signing)),
    };
    world.client.send_replace(Some(Arc::new(forged)));
    assert_eq!(world.shake().await, Outcome { server: Err(None), client: Err(None) });
}

#[tokio::test(start_paused = true)]
async fn tls_1_3_with_a_post_quantum_exchange_is_preferred_and_nothing_is_resumed() {
    let world = World::new();
    let (acceptor, connector) = (world.acceptor(), world.connector(world.verified()));
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let (server, client) = tokio::join!(acceptor.accept(far), connector.handshake(near));
        let (server, mut client) = (server.unwrap(), client.unwrap());
        let tls = server.stream.get_ref().1;
        assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let group = tls.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        drop(server);
        // Where there are tickets, they come now.
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).await.err();
        assert_eq!(client.stream.get_ref().1.tls13_tickets_received(), 0);
    }
}

/// Defect 46 of SPIRE: anonymous clients are served in TLS 1.2 as well.
#[tokio::test(start_paused = true)]
async fn tls_1_2_is_accepted_with_and_without_a_certificate() {
    let world = World::new();
    for material in [Some(AGENT), None] {
        if material.is_none() {
            world.client.send_replace(None);
        }
        let mut connector = world.connector(world.verified());
        let deps = world.client_deps(world.verified());
        connector.config = client_config_of(deps, &[&rustls::version::TLS12]).unwrap();
        assert_eq!(shake(&world.acceptor(), &connector).await, accepted(material));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped() {
    let world = World::new();
    let (_silent, far) = duplex(1024);
    let outcome = world.acceptor().accept(far).await;
    assert!(matches!(outcome, Err(AcceptError::Deadline)), "{outcome:?}");
}

#[test]
fn an_address_is_a_host_and_a_port() {
    let clock = Arc::new(crate::clock::SystemClock);
    let check = |address: &str, good: bool| {
        let deps = ClientDeps {
            material: watch::Sender::new(None).subscribe(),
            server: ExpectedServer { spiffe_id: SERVER.parse().unwrap(), trust: Trust::Unverified },
            clock: clock.clone(),
        };
        let connector = Connector::new(address, deps, Duration::from_secs(1));
        assert_eq!(connector.is_ok(), good, "{address}");
    };
    check("server.example.org:8081", true);
    check("127.0.0.1:8081", true);
    check("[::1]:8081", true);
    check("server.example.org", false);
    check("server.example.org:http", false);
    check("server example:80", false);
    check(":80", false);
}
