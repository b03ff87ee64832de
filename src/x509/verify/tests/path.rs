//! What leads from the leaf to an anchor.

use super::*;

/// AMB-02: what an authority is called does not matter.
#[test]
fn the_uri_of_an_authority_is_not_looked_at() {
    let world = World::new();
    world.check_middle(&world.middle().with_names(&[(URI, b"spiffe://a.org/")]), Ok(()));
    world.check_middle(&world.middle().replacing(SUBJECT_ALTERNATIVE_NAME, None), Ok(()));
    world.check_root(&world.root_certificate().with_names(&[(URI, b"spiffe://b.org/x")]), Ok(()));
}

/// H132, X509-19 and PIT-26.
#[test]
fn every_certificate_is_valid_now() {
    let world = World::new();
    let (early, late) = (now() - 9 * SECOND, now() + 9 * SECOND);
    let (expired, future) = (Err(PeerError::Expired), Err(PeerError::NotValidYet));
    let none = Err(PeerError::NoAuthority);
    world.check(&world.leaf().valid(early, now()), Ok(())); // the last second counts
    world.check(&world.leaf().valid(now(), late), Ok(()));
    world.check(&world.leaf().valid(early, now() - SECOND), expired);
    world.check(&world.leaf().valid(now() + SECOND, late), future);
    world.check_middle(&world.middle().valid(early, now()), Ok(()));
    world.check_middle(&world.middle().valid(early, now() - SECOND), expired);
    world.check_middle(&world.middle().valid(now() + SECOND, late), future);
    world.check_root(&world.root_certificate().valid(early, now()), Ok(()));
    world.check_root(&world.root_certificate().valid(early, now() - SECOND), none);
    world.check_root(&world.root_certificate().valid(now() + SECOND, late), none);
    world.check(&world.leaf().valid(late, early), Err(PeerError::NoPathToAuthority));
}

/// H133, PIT-25, X509-12 and X509-19.
#[test]
fn every_issuer_may_sign_certificates() {
    let world = World::new();
    let refused = Err(PeerError::NotAnIssuer);
    let check = |kind, extension, expected| {
        world.check_middle(&world.middle().replacing(kind, extension), expected);
    };
    check(BASIC_CONSTRAINTS, None, refused);
    check(BASIC_CONSTRAINTS, Some(critical(BASIC_CONSTRAINTS, sequence(&[]))), refused);
    check(KEY_USAGE, None, refused);
    check(KEY_USAGE, Some(usage(0x82)), refused);
    check(KEY_USAGE, Some(usage(0x84)), Ok(()));
    check(KEY_USAGE, Some(usage(0x04)), Ok(()));
}

/// H133, X509-12. The limit of a root counts as well, which webpki leaves out.
#[test]
fn no_more_authorities_follow_than_are_allowed() {
    let world = World::new();
    let low = Holder::new("low");
    let limited = |length: u8| {
        let value = sequence(&[TRUE, &value(2, &[length])]);
        Some(critical(BASIC_CONSTRAINTS, value))
    };
    let leaf = Forge::leaf(ID, &low, &world.subject).sign(&low);
    let low_certificate = Forge::authority(&world.middle, &low).sign(&world.middle);
    let check = |middle: &Forge, root: &Forge, expected| {
        let chain = [leaf.clone(), low_certificate.clone(), middle.sign(&world.root)];
        let anchors = world.anchors_with(root);
        assert_eq!(verify(&chain, Role::Client, &anchors, now()), expected);
    };
    let (middle, root) = (world.middle(), world.root_certificate());
    let refused = Err(PeerError::NotAnIssuer);
    check(&middle, &root, Ok(()));
    check(&middle.replacing(BASIC_CONSTRAINTS, limited(1)), &root, Ok(()));
    check(&middle.replacing(BASIC_CONSTRAINTS, limited(0)), &root, refused);
    check(&middle, &root.replacing(BASIC_CONSTRAINTS, limited(2)), Ok(()));
    check(&middle, &root.replacing(BASIC_CONSTRAINTS, limited(1)), refused);
    check(&middle, &root.replacing(BASIC_CONSTRAINTS, limited(0)), refused);
}

/// H134.
#[test]
fn a_leaf_issues_nothing() {
    let world = World::new();
    let thief = Holder::new("thief");
    let stolen = Forge::leaf("spiffe://a.org/admin", &world.subject, &thief);
    let chain = [stolen.sign(&world.subject), world.leaf().sign(&world.root)];
    let outcome = verify(&chain, Role::Client, &world.anchors(), now());
    assert_eq!(outcome, Err(PeerError::NotAnIssuer));
}

/// H135, H136 and H137; X509-21, X509-25, TDB-11, WAPI-15, PIT-27.
#[test]
fn only_the_authorities_of_the_peers_own_trust_domain_count() {
    let world = World::new();
    let check = |uri: &str, issuer: &Holder, expected| {
        let leaf = Forge::leaf(uri, issuer, &world.subject).sign(issuer);
        let chain = [leaf, world.middle().sign(&world.root)];
        assert_eq!(verify(&chain, Role::Client, &world.anchors(), now()), expected, "{uri}");
    };
    let no_path = Err(PeerError::NoPathToAuthority);
    check("spiffe://a.org/x", &world.root, Ok(()));
    check("spiffe://b.org/x", &world.other, Ok(()));
    check("spiffe://b.org/x", &world.root, no_path); // H136
    check("spiffe://a.org/x", &world.other, no_path);
    check("spiffe://a.org/x", &world.middle, Ok(()));
    check("spiffe://b.org/x", &world.middle, no_path); // H135
    check("spiffe://c.org/x", &world.root, Err(PeerError::UnknownTrustDomain)); // H137
    check("spiffe://empty.org/x", &world.root, Err(PeerError::NoAuthority));
}

/// H139.
#[test]
fn the_name_of_an_authority_is_not_its_key() {
    let world = World::new();
    let copy = Holder { key: world.subject.key.clone(), name: world.root.name.clone() };
    let leaf = Forge::leaf(ID, &copy, &world.subject).sign(&copy);
    let no_path = Err(PeerError::NoPathToAuthority);
    assert_eq!(verify(std::slice::from_ref(&leaf), Role::Client, &world.anchors(), now()), no_path);
    // A whole false chain with the name and key identifier of the real root.
    let mut false_root = world.root_certificate();
    false_root.spki = copy.key.public_key().spki_der().to_vec();
    let chain = [leaf, false_root.sign(&copy)];
    assert_eq!(verify(&chain, Role::Client, &world.anchors(), now()), no_path);
    let own = Forge::leaf(ID, &world.subject, &world.subject).sign(&world.subject);
    assert_eq!(verify(&[own], Role::Client, &world.anchors(), now()), no_path);
    // One bit of a signature.
    let mut flipped = world.leaf().sign(&world.root).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let flipped = [CertificateDer::from(flipped)];
    assert_eq!(verify(&flipped, Role::Client, &world.anchors(), now()), no_path);
}

/// H140.
#[test]
fn chains_of_every_shape_are_judged_with_bounded_work() {
    let world = World::new();
    let anchors = world.anchors();
    let check = |chain: &[CertificateDer<'_>], expected| {
        assert_eq!(verify(chain, Role::Client, &anchors, now()), expected);
    };
    let (leaf, middle) = (world.low_leaf().sign(&world.middle), world.middle().sign(&world.root));
    let root = world.root_certificate().sign(&world.root);
    check(&[], Err(PeerError::NoCertificate));
    check(&[leaf.clone(), middle.clone()], Ok(()));
    check(&[leaf.clone(), middle.clone(), root.clone()], Ok(()));
    check(&[leaf.clone(), root.clone(), middle.clone()], Ok(()));
    check(std::slice::from_ref(&leaf), Err(PeerError::NoPathToAuthority));
    check(&[middle.clone(), leaf.clone()], Err(PeerError::Authority));
    let junk = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
    check(&[leaf.clone(), junk.clone(), middle.clone()], Ok(()));
    check(&[junk, leaf.clone()], Err(PeerError::Certificate(CertificateError::Malformed)));
    let padded = |length: usize| {
        let mut chain = vec![leaf.clone(), middle.clone()];
        chain.resize(length, root.clone());
        chain
    };
    check(&padded(16), Ok(()));
    check(&padded(17), Err(PeerError::ChainTooLong));
    check(&padded(1000), Err(PeerError::ChainTooLong));

    // Authorities that signed each other and lead nowhere: many paths, all of them false.
    let ring: Vec<_> = (0..4).map(|number| Holder::new(&format!("ring {number}"))).collect();
    let mut chain = vec![Forge::leaf(ID, &ring[0], &world.subject).sign(&ring[0])];
    for issuer in &ring {
        let others = ring.iter().filter(|subject| subject.name != issuer.name);
        chain.extend(others.map(|subject| Forge::authority(issuer, subject).sign(issuer)));
    }
    check(&chain, Err(PeerError::NoPathToAuthority));
}

/// H143, X509-13: URI constraints are refused, not ignored.
#[test]
fn an_authority_with_uri_constraints_makes_no_peers() {
    let world = World::new();
    let constraints = |side: u8, tag: u8, name: &[u8]| {
        let subtree = sequence(&[&value(tag, name)]);
        critical(NAME_CONSTRAINTS, sequence(&[&value(side, &subtree)]))
    };
    let refused = Err(PeerError::NoPathToAuthority);
    let (permitted, excluded) = (0xa0, 0xa1);
    for (side, name) in [(permitted, "b.org"), (excluded, "a.org"), (permitted, "a.org")] {
        let extension = constraints(side, URI, name.as_bytes());
        world.check_middle(&world.middle().and(extension.clone()), refused);
        world.check_root(&world.root_certificate().and(extension), refused);
    }
    // A constraint on names of another kind says nothing about this leaf.
    world.check_middle(&world.middle().and(constraints(permitted, DNS, b"b.org")), Ok(()));
}

/// PIT-26.
#[test]
fn a_bundle_makes_anchors_only_of_authorities() {
    let world = World::new();
    let none = Err(PeerError::NoAuthority);
    let root = world.root_certificate();
    world.check_root(&root.replacing(BASIC_CONSTRAINTS, None), none);
    let not_ca = critical(BASIC_CONSTRAINTS, sequence(&[]));
    world.check_root(&root.replacing(BASIC_CONSTRAINTS, Some(not_ca)), none);
    world.check_root(&root.replacing(KEY_USAGE, Some(usage(0x02))), none);
    world.check_root(&root.replacing(KEY_USAGE, Some(usage(0x04))), Ok(()));
    world.check_root(&root.replacing(KEY_USAGE, None), Ok(()));
    world.check_root(&root.and(unknown(TRUE)), none);
    let root_less = AnchorSet::of(domain("a.org"), Anchors::new(&[CertificateDer::from(vec![0])]));
    let chain = [world.leaf().sign(&world.root)];
    assert_eq!(verify(&chain, Role::Client, &root_less, now()), none);
    // A leaf in a bundle does not vouch for itself.
    let own = Forge::leaf(ID, &world.subject, &world.subject).sign(&world.subject);
    let anchors = AnchorSet::of(domain("a.org"), Anchors::new(std::slice::from_ref(&own)));
    assert_eq!(verify(&[own], Role::Client, &anchors, now()), none);
}

/// One expired authority in a bundle does not stop the other.
#[test]
fn each_anchor_counts_while_it_is_valid() {
    let world = World::new();
    let old = Forge::authority(&world.other, &world.other);
    let old = old.valid(now() - 9 * SECOND, now() - SECOND).sign(&world.other);
    let root = world.root_certificate().sign(&world.root);
    let anchors = AnchorSet::of(domain("a.org"), Anchors::new(&[old, root]));
    let by = |issuer: &Holder| [Forge::leaf(ID, issuer, &world.subject).sign(issuer)];
    assert_eq!(verify(&by(&world.root), Role::Client, &anchors, now()), Ok(()));
    let outcome = verify(&by(&world.other), Role::Client, &anchors, now());
    assert_eq!(outcome, Err(PeerError::NoPathToAuthority));
    let earlier = now() - 5 * SECOND;
    assert_eq!(verify(&by(&world.other), Role::Client, &anchors, earlier), Ok(()));
}
