//! What follows from what upstream says.

use super::*;
use crate::ca::journal::{Record, Revoked};
use crate::ca::slots::Slot;
use crate::ca::testing::NOW;
use crate::ca::testing::tiers::{Tier, td};
use crate::ca::testing::upstream::vouched_for;

const ENDS: i64 = NOW + 10 * 3_600;

fn record(kind: Kind, status: Status, id: &str, upstream: Option<&Tier>) -> Journal {
    let (slot, id) = (Slot::A, id.to_owned().into());
    let journal = Journal::default().with_prepared(Record {
        kind,
        slot: Some(slot),
        status: Status::Prepared,
        authority_id: id,
        issued_at: 0,
        not_before: 0,
        not_after: i64::MAX,
        public: Vec::new(),
        upstream_chain: Vec::new(),
        upstream_authority_id: upstream.map(|root| root.id().into()),
    });
    match status {
        Status::Prepared => journal,
        Status::Active => journal.with_active(kind, slot),
        Status::Old => {
            let next = Record {
                slot: Some(Slot::B),
                authority_id: "next".to_owned().into(),
                ..journal.records()[0].clone()
            };
            journal.with_active(kind, slot).with_prepared(next).with_active(kind, Slot::B)
        }
    }
}

fn key(id: &str, tainted: bool) -> JwtAuthority {
    JwtAuthority { key_id: id.into(), public_key: vec![1], expires_at: Some(ENDS), tainted }
}

fn vouched(roots: &[(&Tier, bool)], keys: &[(&str, bool)]) -> Vouched {
    Vouched {
        roots: roots.iter().map(|(root, tainted)| vouched_for(root, *tainted)).collect(),
        jwt_keys: keys.iter().map(|(id, tainted)| key(id, *tainted)).collect(),
    }
}

/// What happens, in a few letters: `+` new, `!` tainted, `-` revoked.
#[track_caller]
fn check(
    journal: &Journal,
    ours: &Vouched,
    (said, says): (Option<&Vouched>, &Vouched),
    expected: &[&str],
) {
    check_at(NOW, journal, ours, (said, says), expected);
}

#[track_caller]
fn check_at(
    now: i64,
    journal: &Journal,
    ours: &Vouched,
    (said, says): (Option<&Vouched>, &Vouched),
    expected: &[&str],
) {
    let mut bundle = Bundle::empty(td("td"));
    bundle.x509_authorities.clone_from(&ours.roots);
    bundle.jwt_authorities.clone_from(&ours.jwt_keys);
    let found = follow(Known { journal, bundle: &bundle, said }, says, now);
    let additions = found.additions.iter().map(|change| match change {
        BundleChange::AddX509(_) => "+root".to_owned(),
        BundleChange::AddJwt(key) => format!("+{}", key.key_id),
        BundleChange::TaintX509(_)
        | BundleChange::TaintJwt(_)
        | BundleChange::RemoveX509(_)
        | BundleChange::RemoveJwt(_) => panic!("{change:?}"),
    });
    let withdrawals = found.withdrawals.iter().map(|withdrawn| {
        let mark = if withdrawn.revoked { "-" } else { "!" };
        match withdrawn.kind {
            Kind::X509Ca => format!("{mark}root"),
            Kind::JwtKey => format!("{mark}{}", withdrawn.id),
        }
    });
    assert_eq!(additions.chain(withdrawals).collect::<Vec<_>>(), expected);
}

#[test]
fn roots_come_and_go_as_upstream_says() {
    let (old, new) = (Tier::root(), Tier::root());
    let none = Journal::default();
    let (both, one) =
        (vouched(&[(&old, false), (&new, false)], &[]), vouched(&[(&old, false)], &[]));
    check(&none, &one, (None, &both), &["+root"]);
    check(&none, &both, (None, &both), &[]);
    check(&none, &both, (Some(&both), &one), &["-root"]);
    // What never was upstream is an administrator's.
    check(&none, &both, (None, &one), &[]);
    let tainted = vouched(&[(&old, true), (&new, false)], &[]);
    check(&none, &both, (None, &tainted), &["!root"]);
    check(&none, &tainted, (None, &tainted), &[]);
    check(&none, &vouched(&[], &[]), (None, &vouched(&[(&old, true)], &[])), &["+root", "!root"]);
    // Nothing that is tainted here is as good as before because upstream says so.
    check(&none, &tainted, (None, &both), &[]);
    // After a restart it is known from its taint or from the CAs that it vouched for.
    check(&none, &tainted, (None, &vouched(&[(&new, false)], &[])), &["-root"]);
    let dependent = record(Kind::X509Ca, Status::Old, "ca", Some(&old));
    check(&dependent, &both, (None, &vouched(&[(&new, false)], &[])), &["-root"]);
    // Revoked here while upstream has it still.
    check(&none, &one, (Some(&both), &both), &[]);
    // A root of this server itself, from before there was something above, stays.
    let own = record(Kind::X509Ca, Status::Old, &old.id(), None);
    check(&own, &tainted, (None, &vouched(&[(&new, false)], &[])), &[]);
    // What has expired is of no use any more.
    check_at(ENDS + 1, &none, &one, (None, &both), &[]);
}

#[test]
fn jwt_keys_come_and_go_as_upstream_says() {
    let none = Journal::default();
    let (both, one) = (vouched(&[], &[("a", false), ("b", false)]), vouched(&[], &[("a", false)]));
    check(&none, &one, (None, &both), &["+b"]);
    check(&none, &both, (Some(&both), &one), &["-b"]);
    check(&none, &both, (None, &one), &[]);
    // Revoked here while upstream has it still.
    check(&none, &one, (Some(&both), &both), &[]);
    let tainted = vouched(&[], &[("a", false), ("b", true)]);
    check(&none, &both, (Some(&both), &tainted), &["!b"]);
    check(&none, &one, (None, &tainted), &["+b", "!b"]);
    check(&none, &one, (Some(&both), &tainted), &[]);
    check(&none, &tainted, (Some(&both), &both), &[]);
    // A key that signs here is published again; one that did is gone when upstream wants so.
    let signs = record(Kind::JwtKey, Status::Active, "b", None);
    check(&signs, &both, (Some(&both), &one), &[]);
    let signed = record(Kind::JwtKey, Status::Old, "b", None);
    check(&signed, &both, (Some(&both), &one), &["-b"]);
    check_at(ENDS, &none, &one, (None, &both), &[]);
}

#[test]
fn what_was_revoked_here_stays_away_whatever_this_process_has_heard() {
    let (old, new) = (Tier::root(), Tier::root());
    let revoked = |kind, id: String| {
        Journal::default().with_revoked(Revoked { kind, authority_id: id.into(), not_after: ENDS })
    };
    let root = revoked(Kind::X509Ca, old.id());
    let (both, one) =
        (vouched(&[(&old, false), (&new, false)], &[]), vouched(&[(&new, false)], &[]));
    check(&root, &one, (None, &both), &[]);
    check(&root, &one, (Some(&one), &both), &[]);
    check(&root, &one, (None, &vouched(&[(&old, true), (&new, false)], &[])), &[]);
    // Put back by hand, it is as any other.
    check(&root, &both, (Some(&both), &one), &["-root"]);
    // The other one is not meant.
    check(&root, &vouched(&[], &[]), (None, &both), &["+root"]);
    let key = revoked(Kind::JwtKey, "a".into());
    let (both, one) = (vouched(&[], &[("a", false), ("b", false)]), vouched(&[], &[("b", false)]));
    check(&key, &one, (None, &both), &[]);
    check(&key, &vouched(&[], &[]), (None, &both), &["+b"]);
    // A CA of that name is none of its business.
    check(&revoked(Kind::X509Ca, "a".into()), &one, (None, &both), &["+a"]);
}

#[test]
fn what_is_no_ca_is_not_followed() {
    let leaf = Tier::root().leaf();
    check(&Journal::default(), &vouched(&[], &[]), (None, &vouched(&[(&leaf, false)], &[])), &[]);
}
