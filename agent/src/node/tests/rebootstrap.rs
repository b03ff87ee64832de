//! What a node does when another server is in the place of its own.

use std::path::PathBuf;

use steeple::jwk::pem;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::x509::verify::{Role, verify_peer};

use super::*;

const DELAY: Rebootstrap = Rebootstrap::After(Duration::from_secs(600));

/// The server as a stranger meets it who believes this.
pub(super) fn met(server: Arc<Server>, trust: &Trust) -> Arc<dyn NodeApi> {
    let successor = server.successor.lock().unwrap().clone();
    let is_believed = match (successor, trust) {
        (Some(successor), Trust::Anchors(anchors)) => {
            let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
            let now = server.clock.now();
            let validity = Validity::new(now, Duration::from_secs(60));
            let svid = successor.sign("spiffe://td/spire/server", key.public_key(), validity);
            let chain = svid.chain().certificates();
            verify_peer(chain, Role::Server, &anchors.borrow(), now).is_ok()
        }
        (_, Trust::Anchors(_) | Trust::PinnedAuthority(_) | Trust::Unverified) => true,
    };
    if is_believed { server } else { Arc::new(NotBelieved) }
}

/// Somebody who does not prove to be the server.
#[derive(Debug)]
struct NotBelieved;

fn untrusted() -> ServerError {
    ServerError::Untrusted("no path".into())
}

#[tonic::async_trait]
impl NodeApi for NotBelieved {
    async fn attest(&self, _: Opening, _: &dyn Responder) -> Result<Attested, AttestError> {
        Err(untrusted().into())
    }

    async fn renew(&self, _: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, ServerError> {
        Err(untrusted())
    }

    async fn post_status(&self, _: &str) -> Result<(), ServerError> {
        Err(untrusted())
    }

    async fn own_bundle(&self) -> Result<Bundle, ServerError> {
        Err(untrusted())
    }
}

impl World {
    /// An agent that believes what is in a file.
    async fn agent(&self, mode: Rebootstrap) -> Running {
        self.configure(&self.server.authority);
        let mut node = self.start_with(TrustSource::File(self.bundle_file()), mode);
        node.until(Standing::Attested).await;
        self.calls();
        node
    }

    fn bundle_file(&self) -> PathBuf {
        self.directory.path().join("bundle.pem")
    }

    /// The administrator writes to that file.
    fn configure(&self, authority: &Authority) {
        let authorities = authority.bundle().x509_authorities;
        let text = pem::write(authorities.iter().map(|authority| &authority.certificate));
        std::fs::write(self.bundle_file(), text).unwrap();
    }

    /// Puts another server in the place of this one.
    fn replace(&self) -> Arc<Authority> {
        let successor = Arc::new(Authority::new(self.clock.now()));
        *self.server.successor.lock().unwrap() = Some(successor.clone());
        successor
    }

    /// When the one attestation was since the last look.
    fn attested_at(&self) -> u64 {
        let [(Call::Attest, at)] = self.calls()[..] else { panic!("not one attestation") };
        at
    }

    fn saved(&self) -> saved::Saved {
        saved::load(&self.directory.path().join("agent.json"), &"td".parse().unwrap()).unwrap()
    }
}

impl Running {
    fn bootstraps(&self) -> u32 {
        self.status.borrow().bootstraps
    }

    async fn bootstrapped(&mut self) -> NodeStatus {
        let there = self.status.wait_for(|status| status.bootstraps == 1);
        let a_month = Duration::from_secs(30 * 24 * 3_600);
        tokio::time::timeout(a_month, there).await.unwrap().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_believes_no_other_server_unless_that_is_configured() {
    let world = World::new(true);
    let mut node = world.agent(Rebootstrap::Never).await;
    let successor = world.replace();
    world.configure(&successor);
    node.distrust.send_replace(true);
    node.until(Standing::Expired).await;
    seconds(24 * 3_600).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    assert_eq!(world.saved().trust, world.server.authority.bundle().x509_authorities);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_while_what_is_configured_is_believed_once_more() {
    let world = World::new(true);
    let mut node = world.agent(DELAY).await;
    let before = node.material.borrow().clone().unwrap();
    seconds(100).await;
    let successor = world.replace();
    world.configure(&successor);
    node.distrust.send_replace(true);
    // The last word of the server of before is heard too late.
    let (bundles, last) = (node.bundles.clone(), world.server.authority.bundle());
    *world.server.meanwhile.lock().unwrap() = Some(Box::new(move || {
        bundles.send_replace(said(last, 0));
    }));
    seconds(598).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    assert!(Arc::ptr_eq(node.material.borrow().as_ref().unwrap(), &before));
    let status = node.bootstrapped().await;
    assert_eq!((status.standing, status.trouble), (Standing::Attested, None));
    assert!((700..=760).contains(&world.attested_at()));
    seconds(1).await;
    let saved = world.saved();
    assert_eq!(saved.trust, successor.bundle().x509_authorities);
    assert_eq!(saved.identity.as_ref().unwrap().svid.spiffe_id().as_str(), AGENT);
    // Or later still.
    node.bundles.send_replace(said(world.server.authority.bundle(), 0));
    seconds(1).await;
    assert_eq!((world.saved().trust, world.calls()), (saved.trust, vec![]));
    let next = Authority::new(world.clock.now()).bundle();
    let both = [successor.bundle().x509_authorities, next.x509_authorities.clone()].concat();
    node.bundles.send_replace(said(Bundle { x509_authorities: both.clone(), ..next }, 1));
    seconds(1).await;
    assert_eq!(world.saved().trust, both);
    // It was greeted at its first word, and not at one of the server of before.
    let calls: Vec<_> = world.calls().into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::PostStatus]);
    seconds(900).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 1));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_do_not_all_come_at_once_and_leave_a_busy_server_alone() {
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let world = World::new(true);
        let mut node = world.agent(DELAY).await;
        let successor = world.replace();
        world.configure(&successor);
        world.fails([ServerError::Busy { retry_after: Some(Duration::from_secs(300)) }]);
        node.distrust.send_replace(true);
        node.bootstrapped().await;
        let [(Call::Attest, first), (Call::Attest, second)] = world.calls()[..] else {
            panic!("no two attestations")
        };
        assert!((600..=660).contains(&first), "{first}");
        assert!((first + 300..first + 302).contains(&second), "{first} {second}");
        firsts.insert(first);
        node.stop().await;
    }
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_believed_again_ends_the_wait() {
    let world = World::new(true);
    let mut node = world.agent(DELAY).await;
    let successor = world.replace();
    world.configure(&successor);
    for is_distrusted in [true, false, true] {
        node.distrust.send_replace(is_distrusted);
        seconds(500).await;
    }
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    node.bootstrapped().await;
    assert!((1_600..=1_660).contains(&world.attested_at()));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_before_another_server_has_proved_to_be_the_one() {
    let world = World::new(true);
    let mut node = world.agent(DELAY).await;
    let before = (node.material.borrow().clone().unwrap(), world.saved());
    let is_as_before = |node: &Running| {
        let saved = world.saved();
        let (svid, trust) = (saved.identity.unwrap().svid, saved.trust);
        assert!(Arc::ptr_eq(node.material.borrow().as_ref().unwrap(), &before.0));
        assert_eq!((&svid, &trust), (&before.1.identity.as_ref().unwrap().svid, &before.1.trust));
        assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
        node.status.borrow().trouble.clone().unwrap_or_default()
    };
    let successor = world.replace();
    node.distrust.send_replace(true);
    // The trust bundle cannot be had, then is that of before, then of somebody else.
    std::fs::remove_file(world.bundle_file()).unwrap();
    seconds(800).await;
    let trouble = is_as_before(&node);
    assert!(
        trouble.contains("rebootstrapping failed") && trouble.contains("bundle.pem"),
        "{trouble}"
    );
    world.configure(&world.server.authority);
    seconds(200).await;
    let trouble = is_as_before(&node);
    assert!(trouble.contains("rebootstrapping failed: the server is not trusted"), "{trouble}");
    world.configure(&Authority::new(world.clock.now()));
    seconds(200).await;
    is_as_before(&node);
    // The server may refuse this node.
    world.fails([ServerError::Forbidden("no".into())]);
    world.configure(&successor);
    node.bootstrapped().await;
    let calls: Vec<_> = world.calls().into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::Attest; 2]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_finds_the_agent_that_it_knew() {
    let world = World::new(true);
    let mut node = world.agent(DELAY).await;
    let successor = world.replace();
    node.distrust.send_replace(true);
    seconds(700).await;
    *world.server.successor.lock().unwrap() = None;
    world.configure(&successor);
    node.distrust.send_replace(false);
    world.calls();
    seconds(800).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    node.until(Standing::Attested).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_off_for_long_notices_by_itself() {
    let world = World::new(true);
    world.agent(DELAY).await.stop().await;
    seconds(TTL + 1).await;
    let successor = world.replace();
    world.configure(&successor);
    let mut node = world.start_with(TrustSource::File(world.bundle_file()), DELAY);
    let status = node.bootstrapped().await;
    assert_eq!(status.standing, Standing::Attested);
    assert!((TTL + 601..=TTL + 661).contains(&world.attested_at()));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_shortens_nothing() {
    let world = World::new(true);
    let mut node = world.agent(DELAY).await;
    let successor = world.replace();
    world.configure(&successor);
    seconds(1_000).await;
    node.distrust.send_replace(true);
    seconds(100).await;
    world.clock.set(from_unix_seconds(1_000_050));
    // Each call that fails says so again.
    node.distrust.send_replace(true);
    seconds(500).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    let started = tokio::time::Instant::now();
    node.bootstrapped().await;
    assert!(started.elapsed() <= Duration::from_secs(161), "{:?}", started.elapsed());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_used_is_presented_to_nobody_else() {
    let world = World::new(false);
    let mut node = world.agent(DELAY).await;
    let successor = world.replace();
    world.configure(&successor);
    node.distrust.send_replace(true);
    seconds(1_000).await;
    assert_eq!((world.calls(), node.bootstraps()), (vec![], 0));
    assert!(node.presents());
    *world.evidence.0.lock().unwrap() = Some("another token");
    node.bootstrapped().await;
    node.stop().await;
}
