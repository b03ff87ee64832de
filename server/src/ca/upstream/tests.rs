//! Which CA certificates from upstream will do.

use steeple::keys::Signer as _;

use super::*;
use crate::ca::testing::tiers::{HOUR, Tier, at, td};

fn authority(tier: &Tier) -> X509Authority {
    X509Authority { certificate: tier.der(), tainted: false }
}

/// What is made of `chain` for the key of `ca`, and how long the chain is then.
#[track_caller]
fn check(
    ca: &Tier,
    chain: &[&Tier],
    roots: &[&Tier],
    expected: Result<(usize, &Tier), UnusableCa>,
) {
    check_at(0, ca, (chain, roots), expected);
}

#[track_caller]
fn check_at(
    seconds: i64,
    ca: &Tier,
    (chain, roots): (&[&Tier], &[&Tier]),
    expected: Result<(usize, &Tier), UnusableCa>,
) {
    let minted = MintedCa {
        chain: chain.iter().map(|tier| tier.der()).collect(),
        roots: roots.iter().map(|tier| authority(tier)).collect(),
    };
    let trust_domain = &td("td");
    let wanted = Expected { trust_domain, public_key: ca.key.public_key(), now: at(seconds) };
    let found = minted.check(&wanted);
    let found = found
        .map(|ca| (ca.chain().certificates().len(), ca.root_id().to_owned(), ca.roots().len()));
    assert_eq!(found, expected.map(|(length, root)| (length, root.id(), roots.len())));
}

#[test]
fn a_ca_leads_to_a_root_through_all_that_are_between() {
    let (root, other) = (Tier::root(), Tier::root());
    let middle = root.below("td", 5 * HOUR);
    let (direct, deep) = (root.below("td", HOUR), middle.below("td", HOUR));
    check(&direct, &[&direct], &[&root], Ok((1, &root)));
    check(&direct, &[&direct], &[&other, &root], Ok((1, &root)));
    check(&deep, &[&deep, &middle], &[&root], Ok((2, &root)));
    // A root in the chain is not served.
    check(&deep, &[&deep, &middle, &root], &[&root], Ok((2, &root)));
    // A gap, another order, something that does not belong there, another root, none.
    check(&deep, &[&deep], &[&root], Err(UnusableCa::NoRoot));
    check(&deep, &[&deep, &root], &[&other], Err(UnusableCa::NoRoot));
    check(&deep, &[&deep, &direct, &middle], &[&root], Err(UnusableCa::NoRoot));
    check(&deep, &[&deep, &middle], &[&other], Err(UnusableCa::NoRoot));
    check(&deep, &[&deep, &middle], &[], Err(UnusableCa::NoRoot));
}

#[test]
fn a_ca_is_the_one_that_was_asked_for() {
    let root = Tier::root();
    let (ca, other) = (root.below("td", HOUR), root.below("td", HOUR));
    let foreign = root.below("example.org", HOUR);
    check(&ca, &[&other], &[&root], Err(UnusableCa::Key));
    check(&foreign, &[&foreign], &[&root], Err(UnusableCa::TrustDomain));
    let leaf = root.leaf();
    check(&leaf, &[&leaf], &[&root], Err(UnusableCa::TrustDomain));
    check(&ca, &[], &[&root], Err(ChainError::Empty.into()));
    let many = [&ca; steeple::x509::MAX_CHAIN_LENGTH];
    check(&ca, &many, &[&root], Err(ChainError::TooLong.into()));
    // An SVID signs nothing, whatever it is called.
    check(&ca, &[&ca, &leaf], &[&root], Err(UnusableCa::NotAnAuthority));
}

#[test]
fn a_ca_is_valid_now_and_so_is_all_above_it() {
    let root = Tier::root();
    let middle = root.below("td", 2 * HOUR);
    let ca = middle.below("td", 9 * HOUR);
    let at_time = |seconds, expected| {
        check_at(seconds, &ca, (&[&ca, &middle], &[&root]), expected);
    };
    at_time(7_199, Ok((2, &root)));
    at_time(7_201, Err(UnusableCa::NotValid));
    at_time(-3_600, Err(UnusableCa::NotValid));
}

/// Upstream may sign for longer than what it shows of itself lives.
#[test]
fn a_ca_lives_no_longer_than_what_is_above_it() {
    let root = Tier::root();
    let shown = root.below("td", 2 * HOUR);
    let signing = root.certify(shown.key.clone(), "td", 9 * HOUR);
    let ca = signing.below("td", 8 * HOUR);
    let minted = MintedCa { chain: vec![ca.der(), shown.der()], roots: vec![authority(&root)] };
    let trust_domain = &td("td");
    let wanted = Expected { trust_domain, public_key: ca.key.public_key(), now: at(0) };
    assert_eq!(minted.check(&wanted).unwrap().not_after(), at(7_200));
}
