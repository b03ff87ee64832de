//! What the leaf has to be.

use super::*;

/// H120 and H121, X509-02.
#[test]
fn a_leaf_has_exactly_one_uri() {
    let world = World::new();
    let check = |names: &[(u8, &[u8])], expected| {
        world.check(&world.leaf().with_names(names), expected);
    };
    check(&[(URI, b"spiffe://a.org/x")], Ok(()));
    let two = Err(PeerError::NotOneUri);
    check(&[(URI, b"spiffe://a.org/x"), (URI, b"spiffe://a.org/y")], two);
    check(&[(URI, b"spiffe://a.org/x"), (URI, b"spiffe://a.org/x")], two);
    check(&[(URI, b"spiffe://a.org/x"), (URI, b"https://a.org")], two);
    check(&[(URI, b"https://a.org"), (URI, b"spiffe://a.org/x")], two);
    check(&[(URI, b"spiffe://a.org/x"), (DNS, b"a.org"), (URI, b"")], two);
    check(&[(DNS, b"a.org")], two);
    check(&[(DNS, b"spiffe://a.org/x")], two);
    world.check(&world.leaf().replacing(SUBJECT_ALTERNATIVE_NAME, None), two);
    let only_subject = world.leaf().replacing(SUBJECT_ALTERNATIVE_NAME, None);
    world.check(&only_subject.with(|leaf| leaf.subject = forge::named(ID)), two);
}

/// H123, H124 and every line of 6.1; X509-20.
#[test]
fn the_uri_is_a_spiffe_id_byte_for_byte() {
    let world = World::new();
    let check = |uri: &[u8], expected: Result<(), ParseError>| {
        let leaf = world.leaf().with_names(&[(URI, uri)]);
        world.check(&leaf, expected.map_err(PeerError::SpiffeId));
    };
    check(b"spiffe://a.org/x", Ok(()));
    for uri in ["https://a.org/x", "urn:a", "SPIFFE://a.org/x", "Spiffe://a.org/x"] {
        check(uri.as_bytes(), Err(ParseError::Scheme)); // H123, H004, H005
    }
    check(b"", Err(ParseError::Scheme)); // H001
    check(b"spiffe://", Err(ParseError::NoTrustDomain)); // H002
    check(b"spiffe:///x", Err(ParseError::NoTrustDomain));
    for uri in ["spiffe:/a.org/x", "spiffe:a.org/x", "//a.org/x", "a.org/x", "spiffes://a.org/x"] {
        check(uri.as_bytes(), Err(ParseError::Scheme)); // H003, H004
    }
    check(b" spiffe://a.org/x", Err(ParseError::Scheme)); // H017
    check(b"spiffe://A.org/x", Err(ParseError::UpperCase)); // H006
    for uri in
        ["spiffe://a.org:443/x", "spiffe://u@a.org/x", "spiffe://@a.org/x", "spiffe://[::1]/x"]
    {
        check(uri.as_bytes(), Err(ParseError::TrustDomain)); // H007, H008, H021
    }
    check(b"spiffe://%61.org/x", Err(ParseError::TrustDomain)); // H016
    check(b"spiffe://a .org/x", Err(ParseError::TrustDomain)); // H017
    for uri in
        ["spiffe://a.org/x?", "spiffe://a.org/x?y=1", "spiffe://a.org/x#", "spiffe://a.org#y"]
    {
        check(uri.as_bytes(), Err(ParseError::QueryOrFragment)); // H009, H010
    }
    for uri in ["spiffe://a.org/", "spiffe://a.org/x/", "spiffe://a.org//x", "spiffe://a.org/x//y"]
    {
        check(uri.as_bytes(), Err(ParseError::EmptySegment)); // H011, H012
    }
    for uri in ["spiffe://a.org/.", "spiffe://a.org/x/..", "spiffe://a.org/x/../y"] {
        check(uri.as_bytes(), Err(ParseError::DotSegment)); // H013, H014
    }
    for path in ["%61", "%2e%2e/b", "a%2Fb", "%00", "x y", "x ", "x\n", "x\r", "x\ty", "x\x7f"] {
        check(format!("spiffe://a.org/{path}").as_bytes(), Err(ParseError::Path)); // H015, H017, H018
    }
    check("spiffe://a.org/é".as_bytes(), Err(ParseError::Path)); // H019
    check(b"spiffe://a.org/x\x80", Err(ParseError::Path));
    check("spiffe://а.org/x".as_bytes(), Err(ParseError::TrustDomain)); // Cyrillic
    for character in "!$&'()*+,;=:@~[]|\\^{}\"<>`".chars() {
        let uri = format!("spiffe://a.org/x{character}y");
        check(uri.as_bytes(), Err(ParseError::Path)); // H020
    }
    check(b"spiffe://a.org/x\0.evil", Err(ParseError::Path)); // H026
    let long = |length: usize| format!("{:x<length$}", "spiffe://a.org/");
    check(long(2048).as_bytes(), Ok(())); // H024
    check(long(2049).as_bytes(), Err(ParseError::Length)); // H022
    check(long(60_000).as_bytes(), Err(ParseError::Length));
    check(format!("spiffe://{}/x", "a".repeat(256)).as_bytes(), {
        Err(ParseError::TrustDomainLength) // H023
    });
    let segments = format!("spiffe://a.org{}", "/a".repeat(1000));
    check(segments.as_bytes(), Ok(())); // H025
}

/// H125, X509-04.
#[test]
fn a_leaf_names_somebody_in_a_trust_domain() {
    let world = World::new();
    let leaf = world.leaf().with_names(&[(URI, b"spiffe://a.org")]);
    world.check(&leaf, Err(PeerError::NoPath)); // H027
}

/// H126 and H127, X509-09 and X509-20.
#[test]
fn an_authority_is_not_a_peer() {
    let world = World::new();
    let authority = Err(PeerError::Authority);
    let ca = || Some(critical(BASIC_CONSTRAINTS, sequence(&[TRUE])));
    world.check(&world.leaf().replacing(BASIC_CONSTRAINTS, ca()), authority);
    let signing = world.leaf().replacing(BASIC_CONSTRAINTS, ca());
    world.check(&signing.replacing(KEY_USAGE, Some(usage(0x84))), authority);
    world.check(&world.leaf().replacing(KEY_USAGE, Some(usage(0x84))), authority);
    world.check(&world.leaf().replacing(KEY_USAGE, Some(usage(0x82))), authority);
    world.check(&world.leaf().replacing(BASIC_CONSTRAINTS, None), Ok(()));
    // H138: the root itself, or the authority that signs.
    let root = world.root_certificate().sign(&world.root);
    assert_eq!(verify(&[root], Role::Client, &world.anchors(), now()), authority);
    let middle = world.middle().sign(&world.root);
    assert_eq!(verify(&[middle], Role::Server, &world.anchors(), now()), authority);
}

/// H128.
#[test]
fn a_leaf_may_make_signatures_and_says_so() {
    let world = World::new();
    let check = |extension: Option<Extension>, expected| {
        world.check(&world.leaf().replacing(KEY_USAGE, extension), expected);
    };
    check(None, Err(PeerError::KeyUsage));
    check(Some(usage(0x20)), Err(PeerError::KeyUsage));
    check(Some(usage(0x08)), Err(PeerError::KeyUsage));
    check(Some(usage(0xa8)), Ok(()));
    check(Some(normal(KEY_USAGE, vec![3, 2, 7, 0x80])), Ok(()));
}

/// H129.
#[test]
fn a_leaf_is_for_the_side_on_which_it_is_used() {
    let world = World::new();
    let leaf = |purposes: Option<&[&[u8]]>| {
        let extension = purposes.map(|list| normal(EXTENDED_KEY_USAGE, sequence(list)));
        world.leaf().replacing(EXTENDED_KEY_USAGE, extension)
    };
    let any = &[6, 4, 0x55, 0x1d, 0x25, 0][..];
    world.check_as(Role::Client, &leaf(Some(&[SERVER_AUTH])), Err(PeerError::Purpose));
    world.check_as(Role::Server, &leaf(Some(&[SERVER_AUTH])), Ok(()));
    world.check_as(Role::Server, &leaf(Some(&[CLIENT_AUTH])), Err(PeerError::Purpose));
    world.check_as(Role::Client, &leaf(Some(&[CLIENT_AUTH])), Ok(()));
    world.check(&leaf(Some(&[any])), Err(PeerError::Purpose));
    world.check(&leaf(None), Ok(()));
    // An authority that is for servers only makes no clients.
    let server_only = normal(EXTENDED_KEY_USAGE, sequence(&[SERVER_AUTH]));
    world.check_middle(&world.middle().and(server_only), Err(PeerError::NoPathToAuthority));
}

/// H130 and H131, X509-03 and X509-19.
#[test]
fn what_is_not_understood_is_refused_only_if_it_is_critical() {
    let world = World::new();
    let refused = Err(PeerError::CriticalExtension);
    world.check(&world.leaf().and(unknown(TRUE)), refused);
    let chain = [world.leaf().and(unknown(TRUE)).sign(&world.root)];
    assert_eq!(claimed_id(&chain, Role::Server).map(|_| ()), refused);
    world.check(&world.leaf().and(unknown(&[])), Ok(()));
    world.check_middle(&world.middle().and(unknown(TRUE)), refused);
    world.check_middle(&world.middle().and(unknown(&[])), Ok(()));
    let names: &[(u8, &[u8])] = &[
        (DNS, b"a.org"),
        (DNS, b"*.b.org"),
        (0x87, &[127, 0, 0, 1]),
        (0x81, b"x@a.org"),
        (URI, b"spiffe://a.org/x"),
        (0x88, &[0x2a, 3, 4]),
    ];
    world.check(&world.leaf().with_names(names), Ok(()));
    let critical_names = critical(SUBJECT_ALTERNATIVE_NAME, forge::names(&names[4..5]));
    let leaf = world.leaf().replacing(SUBJECT_ALTERNATIVE_NAME, Some(critical_names));
    world.check(&leaf.with(|leaf| leaf.subject = sequence(&[])), Ok(()));
}
