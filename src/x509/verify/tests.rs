//! The hostile X.509 peers, H120 to H143, and the rules X509-… that they break. Each row is a good
//! chain that was changed in one thing.

use super::*;
use crate::id::TrustDomain;
use crate::keys::Signer as _;

mod encoding;
mod forge;
mod leaf;
mod path;

use self::forge::{
    BASIC_CONSTRAINTS, CLIENT_AUTH, DNS, EXTENDED_KEY_USAGE, Extension, Forge, Holder, KEY_USAGE,
    NAME_CONSTRAINTS, SERVER_AUTH, SUBJECT_ALTERNATIVE_NAME, TRUE, URI, critical, names, normal,
    now, sequence, unknown, usage, value,
};

const ID: &str = "spiffe://a.org/x";
const SECOND: Duration = Duration::from_secs(1);

/// Two roots, an authority below the first, and somebody who is neither.
struct World {
    root: Holder,
    other: Holder,
    middle: Holder,
    subject: Holder,
}

impl World {
    fn new() -> Self {
        let [root, other, middle, subject] = ["root", "other", "middle", "x"].map(Holder::new);
        Self { root, other, middle, subject }
    }

    /// A good leaf of the first root.
    fn leaf(&self) -> Forge {
        Forge::leaf(ID, &self.root, &self.subject)
    }

    fn root_certificate(&self) -> Forge {
        Forge::authority(&self.root, &self.root)
    }

    /// A good authority below the first root.
    fn middle(&self) -> Forge {
        Forge::authority(&self.root, &self.middle)
    }

    /// A good leaf of the authority below the first root.
    fn low_leaf(&self) -> Forge {
        Forge::leaf(ID, &self.middle, &self.subject)
    }

    /// `a.org` has the first root, `b.org` the second, and `empty.org` none.
    fn anchors(&self) -> AnchorSet {
        self.anchors_with(&self.root_certificate())
    }

    fn anchors_with(&self, root: &Forge) -> AnchorSet {
        let other = Forge::authority(&self.other, &self.other).sign(&self.other);
        AnchorSet::of_many([
            (domain("a.org"), Anchors::new(&[root.sign(&self.root)])),
            (domain("b.org"), Anchors::new(&[other])),
            (domain("empty.org"), Anchors::default()),
        ])
    }

    #[track_caller]
    fn check_as(&self, role: Role, leaf: &Forge, expected: Result<(), PeerError>) {
        let chain = [leaf.sign(&self.root)];
        assert_eq!(verify(&chain, role, &self.anchors(), now()), expected);
    }

    /// A leaf that the root signed.
    #[track_caller]
    fn check(&self, leaf: &Forge, expected: Result<(), PeerError>) {
        self.check_as(Role::Client, leaf, expected);
        self.check_as(Role::Server, leaf, expected);
    }

    /// An authority between the root and a good leaf.
    #[track_caller]
    fn check_middle(&self, middle: &Forge, expected: Result<(), PeerError>) {
        let chain = [self.low_leaf().sign(&self.middle), middle.sign(&self.root)];
        assert_eq!(verify(&chain, Role::Client, &self.anchors(), now()), expected);
    }

    /// A root over a good leaf.
    #[track_caller]
    fn check_root(&self, root: &Forge, expected: Result<(), PeerError>) {
        let chain = [self.leaf().sign(&self.root)];
        assert_eq!(verify(&chain, Role::Client, &self.anchors_with(root), now()), expected);
    }
}

fn verify(
    chain: &[CertificateDer<'_>],
    role: Role,
    anchors: &AnchorSet,
    now: SystemTime,
) -> Result<(), PeerError> {
    let peer = verify_peer(chain, role, anchors, now)?;
    assert_eq!(peer.leaf(), &chain[0]);
    Ok(())
}

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

/// The positive control of all others.
#[test]
fn a_good_peer_is_known_by_its_certificate() {
    let world = World::new();
    world.check(&world.leaf(), Ok(()));
    world.check_middle(&world.middle(), Ok(()));
    world.check_root(&world.root_certificate(), Ok(()));
    let chain = [world.leaf().sign(&world.root)];
    let peer = verify_peer(&chain, Role::Client, &world.anchors(), now()).unwrap();
    assert_eq!(peer.spiffe_id().as_str(), ID);
    assert_eq!(peer.serial().to_hex(), "1122");
    assert_eq!(peer.not_before(), now() - 3600 * SECOND);
    assert_eq!(peer.not_after(), now() + 3600 * SECOND);
    assert_eq!(claimed_id(&chain, Role::Server).unwrap(), *peer.spiffe_id());
    let again = VerifiedPeer::of_handshake(&chain).unwrap();
    assert_eq!((again.spiffe_id(), again.serial()), (peer.spiffe_id(), peer.serial()));
}
