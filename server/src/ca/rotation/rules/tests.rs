//! What may be done with an authority of which standing.

use steeple::bundle::{JwtAuthority, X509Authority};
use steeple::clock::from_unix_seconds;

use super::*;
use crate::ca::journal::Revoked;
use crate::ca::slots::Occupant;
use crate::ca::testing::trust_domain;

const NOW: i64 = 1_000;

fn record(kind: Kind, id: &str, slot: Slot) -> Record {
    Record {
        kind,
        slot: Some(slot),
        status: Status::Prepared,
        authority_id: id.to_owned().into(),
        issued_at: 0,
        not_before: 0,
        not_after: 2_000,
        public: id.as_bytes().to_vec(),
        upstream_chain: Vec::new(),
        upstream_authority_id: None,
    }
}

/// `old` signed before `active` does, and `prepared` is to sign next, if it is there.
fn journal(kind: Kind, prepared: bool) -> Journal {
    let journal = Journal::default()
        .with_prepared(record(kind, "older", Slot::B))
        .with_prepared(record(kind, "old", Slot::B))
        .with_active(kind, Slot::B)
        .with_prepared(record(kind, "active", Slot::A))
        .with_active(kind, Slot::A);
    if prepared { journal.with_prepared(record(kind, "prepared", Slot::B)) } else { journal }
}

fn bundle(ids: &[&str], tainted: &[&str]) -> Bundle {
    let is_tainted = |id: &&str| tainted.contains(id);
    let mut bundle = Bundle::empty(trust_domain());
    bundle.x509_authorities = ids
        .iter()
        .map(|id| X509Authority {
            certificate: id.as_bytes().to_vec().into(),
            tainted: is_tainted(id),
        })
        .collect();
    bundle.jwt_authorities = ids
        .iter()
        .map(|id| JwtAuthority {
            key_id: (*id).to_owned(),
            public_key: id.as_bytes().to_vec(),
            expires_at: Some(2_000),
            tainted: is_tainted(id),
        })
        .collect();
    bundle
}

fn slots(journal: &Journal, kind: Kind, intact: bool) -> Slots {
    let occupant = |slot| {
        let record = journal.held(kind, slot)?;
        let Record { status, issued_at, not_before, not_after, .. } = *record;
        Some(Occupant { status, issued_at, not_before, not_after, intact })
    };
    Slots { a: occupant(Slot::A), b: occupant(Slot::B) }
}

/// The name of an error, or what was decided.
fn told<T: std::fmt::Debug>(decided: Result<T, ControlError>) -> String {
    match decided {
        Ok(decided) => format!("{decided:?}"),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn what_is_prepared_is_not_made_anew_while_it_can_sign() {
    let check = |prepared, intact, now, expected: &str| {
        let journal = journal(Kind::X509Ca, prepared);
        let slots = slots(&journal, Kind::X509Ca, intact);
        let decided = prepare(&journal, (Kind::X509Ca, &slots), from_unix_seconds(now));
        assert_eq!(told(decided), expected, "{prepared} {intact} {now}");
    };
    check(false, true, NOW, "New(B)");
    check(true, true, NOW, "Ready");
    // Its key is gone or it is tainted; it has expired.
    check(true, false, NOW, "New(B)");
    check(true, true, 2_000, "New(B)");
    let nothing =
        prepare(&Journal::default(), (Kind::X509Ca, &Slots::default()), from_unix_seconds(NOW));
    assert_eq!(told(nothing), "Initializing");
}

#[test]
fn only_a_prepared_authority_that_can_sign_is_activated() {
    let check = |id, intact, now, expected: &str| {
        let journal = journal(Kind::JwtKey, true);
        let slots = slots(&journal, Kind::JwtKey, intact);
        let decided = activate(&journal, (Kind::JwtKey, &slots), id, from_unix_seconds(now));
        assert_eq!(told(decided), expected, "{id} {intact} {now}");
    };
    check("prepared", true, NOW, "B");
    check("prepared", false, NOW, "Unusable");
    check("prepared", true, 2_000, "Unusable");
    check("active", true, NOW, "Active");
    check("old", true, NOW, "Old");
    check("", true, NOW, "NoId");
    check("other", true, NOW, "Unknown");
}

#[test]
fn only_what_no_longer_signs_is_tainted_and_only_what_is_tainted_is_revoked() {
    let ids = ["older", "old", "active", "prepared", "other"];
    for kind in [Kind::X509Ca, Kind::JwtKey] {
        let check = |id, tainted: &[&str], taints: &str, revokes: &str| {
            let (journal, bundle) = (journal(kind, true), bundle(&ids, tainted));
            let changes = |effect: Effect| effect.changes.len();
            let done = told(taint(&journal, &bundle, (kind, id)).map(changes));
            assert_eq!(done, taints, "taint {kind} {id}");
            let done = told(revoke(&journal, &bundle, (kind, id)).map(changes));
            assert_eq!(done, revokes, "revoke {kind} {id}");
        };
        check("old", &[], "1", "Untainted");
        check("old", &["old"], "0", "1");
        check("older", &["older"], "0", "1");
        check("active", &["active"], "Active", "Active");
        check("prepared", &["prepared"], "Prepared", "Prepared");
        check("", &[], "NoId", "NoId");
        check("nobody", &[], "Unknown", "Unknown");
        // A key of another server's that it has tainted is gone for all.
        match kind {
            Kind::X509Ca => check("other", &["other"], "Unknown", "Unknown"),
            Kind::JwtKey => {
                check("other", &[], "1", "Untainted");
                check("other", &["other"], "0", "1");
            }
        }
    }
}

#[test]
fn what_is_no_longer_in_the_bundle_is_no_longer_there() {
    let (journal, bundle) = (journal(Kind::X509Ca, false), bundle(&["active"], &[]));
    assert_eq!(told(taint(&journal, &bundle, (Kind::X509Ca, "old"))), "Unknown");
    assert_eq!(told(revoke(&journal, &bundle, (Kind::X509Ca, "old"))), "Unknown");
}

#[test]
fn what_an_upstream_authority_vouches_for_is_not_tainted_here() {
    let upstream = Record {
        upstream_authority_id: Some("up".to_owned().into()),
        ..record(Kind::X509Ca, "below", Slot::A)
    };
    let journal = Journal::default().with_prepared(upstream).with_active(Kind::X509Ca, Slot::A);
    for decide in [taint, revoke] {
        let decided = decide(&journal, &bundle(&["up"], &[]), (Kind::X509Ca, "below"));
        assert_eq!(told(decided), "HasUpstream");
    }
}

#[test]
fn a_key_from_below_is_taken_once_and_not_after_it_was_revoked() {
    let published = |journal: &Journal, bundle: &Bundle, id: &str, byte: u8| {
        let key = JwtAuthority {
            key_id: id.into(),
            public_key: vec![byte],
            expires_at: Some(9),
            tainted: false,
        };
        told(publish(journal, bundle, &key).map(|changes| changes.len()))
    };
    let (none, mut bundle) = (Journal::default(), bundle(&[], &[]));
    assert_eq!(published(&none, &bundle, "a", 1), "1");
    let revoked = Revoked { kind: Kind::JwtKey, authority_id: "a".to_owned().into(), not_after: 9 };
    assert_eq!(published(&none.with_revoked(revoked), &bundle, "a", 1), "Revoked");
    bundle.jwt_authorities = (0..MAX_JWT_KEYS)
        .map(|number| JwtAuthority {
            key_id: number.to_string(),
            public_key: vec![1],
            expires_at: Some(9),
            tainted: false,
        })
        .collect();
    assert_eq!(published(&none, &bundle, "0", 1), "0");
    assert_eq!(published(&none, &bundle, "0", 2), "Taken");
    assert_eq!(published(&none, &bundle, "a", 1), "TooMany");
}
