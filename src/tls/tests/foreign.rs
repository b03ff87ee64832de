//! Peers that are not made with this crate.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::HandshakeKind;
use rustls::server::ServerSessionMemoryCache;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Foreign {
    root: CertifiedIssuer<'static, KeyPair>,
    now: SystemTime,
}

impl Foreign {
    fn new(now: SystemTime) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = now.into();
        params.not_after = (now + HOUR).into();
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { root, now }
    }

    fn anchors(&self) -> Arc<AnchorSet> {
        let anchors = Anchors::new([self.root.der()]);
        Arc::new(AnchorSet::of("example.org".parse().unwrap(), anchors))
    }

    fn material(&self, id: &str, purposes: &[ExtendedKeyUsagePurpose]) -> Arc<Material> {
        self.with_names(&[id], purposes)
    }

    fn with_names(&self, ids: &[&str], purposes: &[ExtendedKeyUsagePurpose]) -> Arc<Material> {
        let mut params = CertificateParams::default();
        let uri = |id: &&str| SanType::URI((*id).try_into().unwrap());
        params.subject_alt_names = ids.iter().map(uri).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        params.not_before = self.now.into();
        params.not_after = (self.now + HOUR).into();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.root).unwrap();
        let key = PrivateKey::from_pkcs8(&key.serialize_der()).unwrap();
        let chain = Chain::new(vec![leaf.der().clone()]).unwrap();
        Arc::new(Material::new(&chain, Arc::new(key)).unwrap())
    }
}

/// H129.
#[tokio::test(start_paused = true)]
async fn a_certificate_for_one_side_is_refused_on_the_other() {
    let world = World::new();
    let foreign = Foreign::new(world.authority.clock.now());
    world.server_anchors.send_replace(foreign.anchors());
    world.client_anchors.send_replace(foreign.anchors());
    let [server, client] =
        [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    world.server.send_replace(foreign.material(SERVER, std::slice::from_ref(&server)));
    world.client.send_replace(Some(foreign.material(AGENT, std::slice::from_ref(&client))));
    assert_eq!(world.shake().await, accepted(Some(AGENT)));

    world.client.send_replace(Some(foreign.material(AGENT, &[server])));
    assert_eq!(world.shake().await, server_refused(PeerError::Purpose));
    world.server.send_replace(foreign.material(SERVER, &[client]));
    assert_eq!(world.shake().await, client_refused(PeerError::Purpose));
}

/// H120, H121, H123, H125: nobody, and told so; on the other side there is no connection.
#[tokio::test(start_paused = true)]
async fn who_names_nobody_is_known_as_nobody() {
    let world = World::new();
    let foreign = Foreign::new(world.authority.clock.now());
    world.server_anchors.send_replace(foreign.anchors());
    world.client_anchors.send_replace(foreign.anchors());
    world.server.send_replace(foreign.material(SERVER, &[]));
    let names: [&[&str]; 4] =
        [&[], &[AGENT, "https://example.org"], &["https://example.org/a"], &["spiffe://a"]];
    for names in names {
        world.client.send_replace(Some(foreign.with_names(names, &[])));
        let outcome = world.shake().await;
        let seen = outcome.server.unwrap().unwrap();
        assert!(seen.starts_with("nobody: "), "{names:?}: {seen}");
        assert_eq!(outcome.client, Ok(()), "{names:?}");
    }
    // What is bad in something else as well makes no connection.
    let server_only = foreign.with_names(&[], &[ExtendedKeyUsagePurpose::ServerAuth]);
    world.client.send_replace(Some(server_only));
    assert_eq!(world.shake().await, server_refused(PeerError::Purpose));
    let stranger = Foreign::new(world.authority.clock.now()).with_names(&[], &[]);
    world.client.send_replace(Some(stranger));
    assert_eq!(world.shake().await, server_refused(PeerError::NoPathToAuthority));

    let world = World::new();
    world.client_anchors.send_replace(foreign.anchors());
    world.server.send_replace(foreign.with_names(&[SERVER, AGENT], &[]));
    assert_eq!(world.shake().await, client_refused(PeerError::NotOneUri));
}

/// H145: not even a server that hands out tickets makes a client resume.
#[tokio::test(start_paused = true)]
async fn a_client_verifies_a_server_anew_that_would_resume() {
    let world = World::new();
    let connector = world.connector(world.verified());
    let deps = ServerDeps {
        material: world.server.subscribe(),
        anchors: world.server_anchors.subscribe(),
        clock: world.authority.clock.clone(),
    };
    let mut config = Arc::into_inner(server_config(deps).unwrap()).unwrap();
    config.session_storage = ServerSessionMemoryCache::new(32);
    config.send_tls13_tickets = 2;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let (server, client) = tokio::join!(acceptor.accept(far), connector.handshake(near));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        assert_eq!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        server.write_all(b"!").await.unwrap();
        client.stream.read_u8().await.unwrap();
        assert_eq!(client.stream.get_ref().1.tls13_tickets_received(), 2);
    }
}

/// What the server says to a ClientHello of version `[3, minor]` that offers this cipher suite
/// alone: the alert, or nothing if it goes on.
async fn hello(world: &World, minor: u8, suite: [u8; 2]) -> Option<u8> {
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23].as_slice(), // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],                  // ec_point_formats: uncompressed
        &[0, 13, 0, 4, 0, 2, 4, 3],            // signature_algorithms: ecdsa_secp256r1_sha256
    ]
    .concat();
    let prefixed = |kind: &[u8], content: &[u8]| {
        [kind, &[u8::try_from(content.len()).unwrap()], content].concat()
    };
    let body = [&[3, minor][..], &[7; 32], &[0, 0, 2], &suite, &[1, 0]].concat();
    let body = [body, prefixed(&[0], &extensions)].concat();
    let record = prefixed(&[22, 3, 1, 0], &prefixed(&[1, 0, 0], &body));
    let (mut near, far) = duplex(64 * 1024);
    let acceptor = world.acceptor();
    let client = async {
        near.write_all(&record).await.unwrap();
        let mut answer = [0; 7];
        near.read_exact(&mut answer).await.unwrap();
        drop(near);
        answer
    };
    let (accepted, answer) = tokio::join!(acceptor.accept(far), client);
    assert!(accepted.is_err());
    match answer[0] {
        21 => Some(answer[6]),
        kind => (kind != 22).then_some(0),
    }
}

/// H145: neither old versions nor weak cipher suites.
#[tokio::test(start_paused = true)]
async fn only_tls_1_2_and_later_with_authenticated_encryption_is_spoken() {
    let world = World::new();
    let [good, protocol_version, handshake_failure] = [None, Some(70), Some(40)];
    let ecdsa_gcm = [0xc0, 0x2b];
    assert_eq!(hello(&world, 3, ecdsa_gcm).await, good);
    for minor in [0, 1, 2] {
        assert_eq!(hello(&world, minor, ecdsa_gcm).await, protocol_version, "3.{minor}");
    }
    // With CBC, with 3DES, without encryption, without authentication, and without forward secrecy.
    for suite in [[0xc0, 0x09], [0xc0, 0x08], [0xc0, 0x06], [0xc0, 0x18], [0, 0x9c], [0, 0x3]] {
        assert_eq!(hello(&world, 3, suite).await, handshake_failure, "{suite:x?}");
    }
}
