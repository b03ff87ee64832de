//! How certificates are written, and with what they are signed.

use super::*;
use crate::keys::PublicKeyError;

/// H122.
#[test]
fn an_extension_appears_once() {
    let world = World::new();
    let twice = Err(PeerError::Certificate(CertificateError::DuplicateExtension));
    let other_names = names(&[(URI, b"spiffe://a.org/y")]);
    world.check(&world.leaf().and(normal(SUBJECT_ALTERNATIVE_NAME, other_names)), twice);
    world.check(&world.leaf().and(usage(0x80)), twice);
    world.check(&world.leaf().and(unknown(&[])), Ok(()));
    world.check(&world.leaf().and(unknown(&[])).and(unknown(&[])), twice);
}

/// H141.
#[test]
fn weak_cryptography_is_refused() {
    let world = World::new();
    let no_path = Err(PeerError::NoPathToAuthority);
    let algorithm = |oid: &[u8]| {
        let algorithm = sequence(&[&value(6, oid)]);
        world.leaf().with(|leaf| leaf.algorithm = algorithm)
    };
    world.check(&algorithm(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]), Ok(()));
    world.check(&algorithm(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]), no_path); // ECDSA with SHA-1
    let sha1_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
    world.check(&algorithm(&sha1_rsa), no_path);
    let md5_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
    world.check(&algorithm(&md5_rsa), no_path);

    let leaf = |spki: Vec<u8>| world.leaf().with(|leaf| leaf.spki = spki);
    let weak = PublicKeyError::Weak;
    world.check(&leaf(rsa(256, &[1, 0, 1])), Ok(()));
    world.check(&leaf(rsa(128, &[1, 0, 1])), Err(weak.into()));
    world.check(&leaf(rsa(256, &[1])), Err(weak.into()));
    let unsupported = PublicKeyError::Unsupported;
    world.check(&leaf(ec(&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1])), Err(unsupported.into()));
    world.check(&leaf(ec(&[0x30, 3, 2, 1, 1])), Err(unsupported.into())); // spelled out
    // The same for authorities: no anchor, or no path.
    let root = world.root_certificate().with(|root| root.spki = rsa(128, &[1, 0, 1]));
    world.check_root(&root, Err(PeerError::NoAuthority));
    let middle = world.middle().with(|middle| middle.spki = rsa(128, &[1, 0, 1]));
    world.check_middle(&middle, no_path);
}

/// H142. Everything is signed as it stands, so that nothing but the encoding is wrong.
#[test]
fn anything_but_der_is_refused() {
    let world = World::new();
    let malformed = Err(PeerError::Certificate(CertificateError::Malformed));
    let serial = Err(PeerError::Certificate(CertificateError::Serial));
    let version = Err(PeerError::Certificate(CertificateError::Version));
    let change = |change: &dyn Fn(&mut Forge), expected| {
        world.check(&world.leaf().with(|leaf| change(leaf)), expected);
    };
    change(&|leaf| leaf.serial = value(2, &[0x7f; 20]), Ok(()));
    change(&|leaf| leaf.serial = value(2, &[0x80]), serial); // negative
    change(&|leaf| leaf.serial = value(2, &[0]), serial);
    change(&|leaf| leaf.serial = value(2, &[0, 1]), serial); // padded
    change(&|leaf| leaf.serial = value(2, &[0x11; 200]), serial);
    change(&|leaf| leaf.serial = value(2, &[0x7f; 21]), serial);
    change(&|leaf| leaf.version = Vec::new(), version); // version 1
    change(&|leaf| leaf.version = value(0xa0, &value(2, &[1])), version);
    change(&|leaf| leaf.version = value(0xa0, &value(2, &[3])), version);
    change(&|leaf| leaf.tail = vec![5, 0], malformed);
    let unique_id = |leaf: &mut Forge, tag, content: &[u8]| leaf.spki.extend(value(tag, content));
    for tag in [0x81, 0x82] {
        change(&|leaf| unique_id(leaf, tag, &[0, 1]), Err(PeerError::NoPathToAuthority));
        change(&|leaf| unique_id(leaf, tag, &[]), malformed);
        change(&|leaf| unique_id(leaf, tag, &[8, 1]), malformed);
    }
    change(&|leaf| leaf.extensions.clear(), Err(PeerError::KeyUsage));
    let times = |not_before: &[u8], not_after: &[u8]| sequence(&[not_before, not_after]);
    let (good, end) = (value(0x17, b"260101000000Z"), value(0x17, b"290101000000Z"));
    change(&|leaf| leaf.validity = times(&good, &end), Ok(()));
    for bad in [&b"261301000000Z"[..], b"2601010000Z", b"260101000000+0000", b"260230000000Z"] {
        change(&|leaf| leaf.validity = times(&value(0x17, bad), &end), malformed);
    }
    change(&|leaf| leaf.validity = times(&value(0x18, b"20260101000000Z"), &end), malformed);
    change(&|leaf| leaf.validity = sequence(&[&good, &end, &end]), malformed);
    change(&|leaf| leaf.subject = value(0x31, &[]), malformed);
    change(&|leaf| leaf.spki = value(3, &[0]), malformed);
    change(&|leaf| leaf.spki = sequence(&[&value(3, &[0])]), malformed); // no algorithm

    let swap = |kind, value: &[u8], expected| {
        let leaf = world.leaf().replacing(kind, Some(critical(kind, value.to_vec())));
        world.check(&leaf, expected);
    };
    swap(KEY_USAGE, &[3, 2, 7, 0x80], Ok(()));
    swap(KEY_USAGE, &[3, 2, 0, 0x80], malformed); // bits that are zero at its end
    swap(KEY_USAGE, &[3, 1, 0], malformed);
    swap(KEY_USAGE, &[3, 2, 7, 0x80, 0], malformed);
    swap(KEY_USAGE, &[4, 1, 0x80], malformed);
    swap(KEY_USAGE, &[3, 4, 7, 0x80, 0, 0x80], malformed);
    swap(KEY_USAGE, &[], malformed);
    swap(BASIC_CONSTRAINTS, &[0x30, 0], Ok(()));
    swap(BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 0], malformed); // the default spelled out
    swap(BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 1], malformed);
    swap(BASIC_CONSTRAINTS, &[0x30, 0, 0], malformed);
    swap(BASIC_CONSTRAINTS, &[], malformed);
    swap(EXTENDED_KEY_USAGE, &[0x30, 0], malformed);
    swap(SUBJECT_ALTERNATIVE_NAME, &[0x30, 0], malformed);
    let constructed_uri = names(&[(URI, ID.as_bytes()), (0xa6, &value(0x16, b"spiffe://a.org/y"))]);
    swap(SUBJECT_ALTERNATIVE_NAME, &constructed_uri, malformed);
    world.check(&world.leaf().and(unknown(&[1, 1, 0])), malformed);
}

/// H142.
#[test]
fn a_certificate_has_one_encoding_of_its_length_and_nothing_behind_it() {
    let world = World::new();
    let malformed = Err(PeerError::Certificate(CertificateError::Malformed));
    let certificate = world.leaf().sign(&world.root).to_vec();
    let raw = |bytes: Vec<u8>, expected| {
        let chain = [CertificateDer::from(bytes)];
        assert_eq!(verify(&chain, Role::Client, &world.anchors(), now()), expected);
    };
    let content = certificate[4..].to_vec();
    raw([&certificate[..4], &content].concat(), Ok(()));
    raw([&certificate[..], &[0]].concat(), malformed);
    raw(certificate[..certificate.len() - 1].to_vec(), malformed);
    raw([&[0x30, 0x80], &content[..], &[0, 0]].concat(), malformed); // indefinite length
    let length = &certificate[2..4];
    raw([&[0x30, 0x83, 0], length, &content].concat(), malformed); // longer than need be
    raw(Vec::new(), malformed);
    raw(b"-----BEGIN CERTIFICATE-----".to_vec(), malformed);
}

/// SID-16.
#[test]
fn no_certificate_survives_a_change_of_any_byte() {
    let world = World::new();
    let good = world.leaf().sign(&world.root).to_vec();
    let anchors = world.anchors();
    for at in 0..good.len() {
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= change;
            let outcome = verify(&[changed.into()], Role::Client, &anchors, now());
            assert!(outcome.is_err(), "byte {at} changed by {change:#x}");
        }
        let cut = [CertificateDer::from(good[..at].to_vec())];
        assert!(verify(&cut, Role::Client, &anchors, now()).is_err(), "cut at byte {at}");
    }
}

/// The signed and the unsigned name of the algorithm are the same (RFC 5280 4.1.1.2).
#[test]
fn the_algorithm_is_the_one_that_was_signed() {
    let world = World::new();
    let sha384 = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    let signed = world.leaf().with(|leaf| leaf.algorithm = sequence(&[sha384]));
    let mut bytes = signed.sign(&world.root).to_vec();
    let at = bytes.windows(10).rposition(|window| window == sha384).unwrap();
    bytes[at + 9] = 2;
    let outcome = verify(&[bytes.into()], Role::Client, &world.anchors(), now());
    assert_eq!(outcome, Err(PeerError::Certificate(CertificateError::Algorithm)));
}

fn rsa(bytes: usize, exponent: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0xff; bytes];
    modulus.insert(0, 0);
    let key = sequence(&[&value(2, &modulus), &value(2, exponent)]);
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    sequence(&[&algorithm, &value(3, &[&[0], &key[..]].concat())])
}

fn ec(parameters: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], parameters]);
    let point = [&[0, 4][..], &[0x11; 64]].concat();
    sequence(&[&algorithm, &value(3, &point)])
}
