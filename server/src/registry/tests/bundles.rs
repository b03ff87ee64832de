//! Bundles grow, shrink and go, and their sequence only ever grows.

use steeple::bundle::{JwtAuthority, X509Authority};

use super::*;
use crate::registry::bundles::{
    Authorities, BundleWrite, BundleWriteError, DeleteMode, OwnBundleChange,
};

fn x509(byte: u8) -> X509Authority {
    X509Authority { certificate: vec![byte; 8].into(), tainted: false }
}

fn jwt(key_id: &str) -> JwtAuthority {
    let public_key = key_id.as_bytes().to_vec();
    JwtAuthority { key_id: key_id.into(), public_key, expires_at: None, tainted: false }
}

fn append(x509: &[X509Authority], jwt: &[JwtAuthority]) -> OwnBundleChange {
    OwnBundleChange::Append { x509: x509.to_vec(), jwt: jwt.to_vec() }
}

fn authorities(x509: &[u8], jwt: &[&str]) -> Authorities {
    Authorities {
        x509: x509.iter().map(|byte| vec![*byte; 8]).collect(),
        jwt: jwt.iter().map(|key_id| (*key_id).into()).collect(),
    }
}

fn foreign(sequence: u64, byte: u8) -> Bundle {
    Bundle { sequence, x509_authorities: vec![x509(byte)], ..Bundle::empty(name("other")) }
}

#[tokio::test]
async fn the_own_bundle_changes_with_its_authorities() {
    let registry = empty().await;
    assert_eq!(*registry.own_bundle(), Bundle::empty(td()));
    let change = |change| registry.change_own_bundle(change, now());
    change(append(&[x509(1), x509(2)], &[jwt("a")])).await.unwrap();
    change(append(&[x509(2), x509(3)], &[jwt("a"), jwt("b")])).await.unwrap();
    change(OwnBundleChange::Taint(authorities(&[2], &["a"]))).await.unwrap();
    let bundle = change(OwnBundleChange::Remove(authorities(&[1, 9], &["b"]))).await.unwrap();
    let expected = Bundle {
        x509_authorities: vec![X509Authority { tainted: true, ..x509(2) }, x509(3)],
        jwt_authorities: vec![JwtAuthority { tainted: true, ..jwt("a") }],
        ..Bundle::empty(td())
    };
    assert!(bundle.same_content(&expected), "{bundle:?}");
    assert_eq!(registry.own_bundle(), bundle);
    assert_eq!(registry.bundle(&td()), Some(bundle));
}

#[tokio::test]
async fn the_sequence_grows_with_every_change_and_with_nothing_else() {
    let registry = empty().await;
    let mut last = 0;
    let mut sequence = async |change: OwnBundleChange, at: i64| {
        let written = registry.change_own_bundle(change, from_unix_seconds(at)).await.unwrap();
        let grown = written.sequence > last;
        last = written.sequence;
        (grown, written.sequence)
    };
    let first = u64::try_from(NOW).unwrap();
    assert_eq!(sequence(append(&[x509(1)], &[]), NOW).await, (true, first)); // PIT-32
    assert_eq!(sequence(append(&[x509(1)], &[]), NOW).await, (false, first)); // TDB-02
    assert_eq!(sequence(append(&[x509(2)], &[]), NOW).await, (true, first + 1));
    assert_eq!(sequence(append(&[x509(3)], &[]), 0).await, (true, first + 2), "clock set back");
    assert_eq!(sequence(append(&[x509(4)], &[]), NOW + 99).await, (true, first + 99));
}

#[tokio::test]
async fn a_database_restored_from_a_backup_does_not_repeat_a_sequence() {
    let backup = Flaky::new();
    let registry = open(&backup).await;
    let change = append(&[x509(1)], &[]);
    registry.change_own_bundle(change, now()).await.unwrap();
    let live = Flaky::new();
    let stored = backup.load().await.unwrap();
    let copy: Vec<_> = stored.bundles.into_iter().map(Change::PutBundle).collect();
    live.commit(Revision(0), &copy).await.unwrap();
    let live = open(&live).await;
    for byte in 2..9 {
        live.change_own_bundle(append(&[x509(byte)], &[]), now()).await.unwrap();
    }
    let later = from_unix_seconds(NOW + 60);
    let restored = open(&backup).await;
    let after = restored.change_own_bundle(append(&[x509(99)], &[]), later).await.unwrap();
    assert!(after.sequence > live.own_bundle().sequence); // H077
}

#[tokio::test]
async fn the_journal_and_the_bundle_are_written_together_or_not_at_all() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    assert_eq!(registry.journal(), None);
    datastore.fail(Fault::Refuse);
    let change = || vec![append(&[x509(1)], &[])];
    assert!(registry.save_journal(b"one".to_vec(), change(), now()).await.is_err());
    assert_eq!((registry.journal(), registry.own_bundle().sequence), (None, 0));

    let bundle = registry.save_journal(b"one".to_vec(), change(), now()).await.unwrap();
    assert_eq!(bundle.x509_authorities, [x509(1)]);
    assert_eq!(registry.revision(), Revision(1));
    registry.save_journal(b"two".to_vec(), Vec::new(), now()).await.unwrap();
    let registry = open(&datastore).await;
    assert_eq!(registry.journal().as_deref(), Some(&b"two"[..]));
    assert_eq!(registry.own_bundle(), bundle);
}

#[tokio::test]
async fn bundles_of_others_are_created_changed_and_set() {
    let registry = empty().await;
    let update = |byte| BundleWrite::Update {
        trust_domain: name("other"),
        change: Box::new(move |bundle| bundle.x509_authorities = vec![x509(byte)]),
    };
    let items = vec![
        update(1),
        BundleWrite::Create(foreign(5, 1)),
        BundleWrite::Create(foreign(6, 2)),
        update(3),
        BundleWrite::Set(Bundle::empty(td())),
        BundleWrite::Set(foreign(2, 4)),
        BundleWrite::Set(foreign(2, 4)),
        BundleWrite::Set(foreign(70, 4)),
    ];
    let results = registry.write_bundles(items).await;
    let sequence = |n: usize| results[n].as_ref().unwrap().sequence;
    assert!(matches!(results[0], Err(BundleWriteError::NotFound)));
    assert_eq!(sequence(1), 5);
    assert!(matches!(results[2], Err(BundleWriteError::Exists)));
    assert_eq!(sequence(3), 6);
    assert!(matches!(results[4], Err(BundleWriteError::Own)));
    assert_eq!((sequence(5), sequence(6), sequence(7)), (7, 7, 70), "never backwards");
    assert_eq!(*registry.bundle(&name("other")).unwrap(), foreign(70, 4));
    assert_eq!(registry.bundles().len(), 1);
}

#[tokio::test]
async fn a_bundle_in_use_is_deleted_only_as_told() {
    for (mode, expected) in [
        (DeleteMode::Restrict, Err(2)),
        (DeleteMode::Delete, Ok(vec![("c", 0, 0)])),
        (DeleteMode::Dissociate, Ok(vec![("a", 1, 0), ("b", 1, 1), ("c", 0, 0)])),
    ] {
        let datastore = Flaky::new();
        let registry = open(&datastore).await;
        let third = Bundle::empty(name("third"));
        registry.write_bundles([foreign(1, 1), third].map(BundleWrite::Set).into()).await;
        for (id, names) in [("a", &["other"][..]), ("b", &["other", "third"]), ("c", &[])] {
            let mut content = content(&format!("/{id}"), "/p", &["a:1"]);
            content.federates_with = names.iter().map(|text| name(text)).collect();
            create(&registry, id, content).await.unwrap();
        }
        let results =
            registry.delete_bundles(vec![name("other"), td(), name("nobody")], mode).await;
        assert!(matches!(results[1], Err(BundleWriteError::Own)));
        assert!(matches!(results[2], Err(BundleWriteError::NotFound)));
        assert_eq!(registry.bundle(&name("other")).is_none(), expected.is_ok());
        match (&results[0], expected) {
            (Err(BundleWriteError::InUse(found)), Err(expected)) => assert_eq!(*found, expected),
            (Ok(_), Ok(expected)) => {
                let stored = open(&datastore).await;
                let page = stored.list_entries(&EntryFilter::default(), &PageRequest::default());
                let items = page.unwrap().items;
                let left: Vec<_> = items
                    .iter()
                    .map(|e| (e.id.as_str(), e.revision, e.content.federates_with.len()))
                    .collect();
                assert_eq!(left, expected);
            }
            (found, expected) => panic!("{mode:?}: {found:?}, not {expected:?}"),
        }
    }
    let registry = empty().await;
    registry.write_bundles(vec![BundleWrite::Set(foreign(1, 1))]).await;
    let results = registry.delete_bundles(vec![name("other")], DeleteMode::Restrict).await;
    assert!(results[0].is_ok());
}
