//! Nothing is acknowledged that was not written, and nothing is shown before.

use futures_util::future::join_all;
use steeple::entry::DnsName;

use super::*;
use crate::registry::writer::{PROBE, WriteError};

#[tokio::test]
async fn a_failed_commit_is_told_to_everybody_and_changes_nothing() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    datastore.fail(Fault::Refuse);
    let contents =
        vec![(None, content("/a", "/p", &["a:1"])), (None, content("/b", "/p", &["a:1"]))];
    for result in registry.create_entries(contents, now()).await {
        let error = result.unwrap_err();
        let EntryWriteError::NotWritten(WriteError::Datastore(error)) = &error else {
            panic!("{error:?}")
        };
        assert!(matches!(**error, DatastoreError::Full(_)), "{error:?}");
        let told = WriteError::Datastore(error.clone()).to_string();
        assert_eq!(told, "nothing was written: the disk or quota of the database is full");
    }
    assert_eq!(registry.count_entries(&EntryFilter::default()), 0);
    assert_eq!(registry.revision(), Revision(0));
    create(&registry, "e", content("/a", "/p", &["a:1"])).await.unwrap();
    assert_eq!(registry.revision(), Revision(1));
}

#[tokio::test(start_paused = true)]
async fn whether_the_datastore_writes_is_known_from_the_last_write_and_found_out_again() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    assert!(registry.write_trouble().is_none());
    let refuse = async || {
        datastore.fail(Fault::Refuse);
        create(&registry, "r", content("/refused", "/p", &["a:1"])).await.unwrap_err();
    };
    refuse().await;
    assert!(registry.write_trouble().is_some());
    create(&registry, "e", content("/a", "/p", &["a:1"])).await.unwrap();
    assert!(registry.write_trouble().is_none(), "it has just written");

    // A decision against all changes says nothing of the datastore.
    refuse().await;
    create(&registry, "f", content("/a", "/p", &["a:1"])).await.unwrap_err();
    assert!(registry.write_trouble().is_some());
    datastore.fail(Fault::Refuse);
    tokio::time::sleep(PROBE + PROBE / 2).await;
    assert!(registry.write_trouble().is_some(), "it was tried once, and refused again");
    tokio::time::sleep(PROBE).await;
    assert!(registry.write_trouble().is_none(), "nobody had anything to write");
    assert_eq!(registry.revision(), datastore.load().await.unwrap().revision);
    create(&registry, "g", content("/b", "/p", &["a:1"])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_datastore_that_has_room_for_next_to_nothing_is_not_written_again() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let mut many = content("/a", "/p", &["a:1"]);
    many.dns_names = (0..100).map(|n| DnsName::new(&format!("n{n}.td")).unwrap()).collect();
    datastore.room.store(1_000, Ordering::SeqCst);
    create(&registry, "e", many.clone()).await.unwrap_err();
    tokio::time::sleep(PROBE * 10).await;
    assert!(registry.write_trouble().is_some());
    datastore.room.store(usize::MAX, Ordering::SeqCst);
    tokio::time::sleep(PROBE * 2).await;
    assert!(registry.write_trouble().is_none());
    assert_eq!(datastore.load().await.unwrap(), Stored::default());
    create(&registry, "e", many).await.unwrap();
}

#[tokio::test]
async fn what_was_written_after_all_is_found_out() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    datastore.fail(Fault::WriteAndDeny);
    let denied = create(&registry, "e", content("/a", "/p", &["a:1"])).await;
    assert!(matches!(denied, Err(EntryWriteError::NotWritten(_))), "{denied:?}");
    assert_eq!(registry.entry(&entry_id("e")), None);
    let similar = create(&registry, "f", content("/a", "/p", &["a:1"])).await;
    assert!(matches!(similar, Err(EntryWriteError::Similar(_))), "{similar:?}");
    create(&registry, "g", content("/b", "/p", &["a:1"])).await.unwrap();
    assert!(registry.entry(&entry_id("e")).is_some());
    let memory = registry.list_entries(&EntryFilter::default(), &PageRequest::default());
    assert_eq!(memory.unwrap().items, datastore.load().await.unwrap().entries);
}

#[tokio::test]
async fn two_servers_on_one_store_decide_on_what_the_other_wrote() {
    let datastore = Flaky::new();
    let (one, other) = (open(&datastore).await, open(&datastore).await);
    create(&one, "e", content("/a", "/p", &["a:1"])).await.unwrap();
    assert_eq!(other.entry(&entry_id("e")), None);
    let similar = create(&other, "f", content("/a", "/p", &["a:1"])).await;
    assert!(matches!(similar, Err(EntryWriteError::Similar(_))), "{similar:?}");
    create(&other, "g", content("/b", "/p", &["a:1"])).await.unwrap();
    assert_eq!(other.entry(&entry_id("e")), one.entry(&entry_id("e")));

    for n in 0..1_100 {
        // More than the log of changes holds.
        create(&one, &format!("n{n}"), content("/n", "/p", &[&format!("a:{n}")])).await.unwrap();
    }
    create(&other, "h", content("/c", "/p", &["a:1"])).await.unwrap();
    assert_eq!(other.revision(), datastore.load().await.unwrap().revision);
    assert_eq!(other.count_entries(&EntryFilter::default()), 1_103);
}

#[tokio::test]
async fn writes_that_wait_together_share_a_commit() {
    let datastore = Flaky::new();
    let registry = open(&datastore).await;
    let mut revisions = registry.subscribe();
    datastore.gate.forget_permits(Semaphore::MAX_PERMITS);
    let writes = (0..100).map(|n| {
        let registry = registry.clone();
        async move {
            create(&registry, &format!("e{n}"), content(&format!("/{n}"), "/p", &["a:1"])).await
        }
    });
    let reader = registry.clone();
    let release = async {
        // All are waiting by now, the first of them for the disk.
        tokio::task::yield_now().await;
        assert_eq!(reader.count_entries(&EntryFilter::default()), 0, "shown before it was written");
        datastore.gate.add_permits(2);
    };
    let (results, ()) = tokio::join!(join_all(writes), release);
    assert!(results.iter().all(Result::is_ok));
    assert!(registry.revision() <= Revision(2), "{:?}", registry.revision());
    assert_eq!(*revisions.borrow_and_update(), registry.revision());
    assert_eq!(datastore.load().await.unwrap().entries.len(), 100);
}

#[tokio::test]
async fn a_shutdown_finishes_what_waits_and_refuses_what_comes() {
    let tasks = Tasks::new();
    let datastore = Flaky::new();
    let registry = open_with(&datastore, &tasks).await;
    let patience = std::time::Duration::from_secs(5);
    let write = create(&registry, "e", content("/a", "/p", &["a:1"]));
    let stop = async {
        tokio::task::yield_now().await;
        tasks.shutdown(patience).await
    };
    let (written, stopped) = tokio::join!(write, stop);
    assert_eq!(stopped, Ok(()));
    assert!(written.is_ok(), "{written:?}");
    let late = create(&registry, "f", content("/b", "/p", &["a:1"])).await;
    assert!(matches!(late, Err(EntryWriteError::NotWritten(WriteError::Stopped))), "{late:?}");
    assert!(registry.entry(&entry_id("e")).is_some());
}

#[tokio::test]
async fn a_database_of_another_trust_domain_is_refused() {
    let datastore = Flaky::new();
    create(&open(&datastore).await, "e", content("/a", "/p", &["a:1"])).await.unwrap();
    let datastore: Arc<dyn Datastore> = datastore;
    let opened = Registry::open(name("other"), datastore, &Tasks::new()).await;
    assert!(matches!(opened, Err(OpenError::TrustDomain { found, .. }) if found == id("/a")));
}
