//! How the log is written, fails, recovers and becomes durable, on a storage that is told how.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::tasks::Tasks;
use tracing::Span;

use super::storage::Identity;
use super::*;

mod files;
mod lines;

/// 2026-01-02T03:04:05Z.
const NOW: i64 = 1_767_323_045;

/// A storage in memory that does what it is told to.
#[derive(Debug, Default)]
struct Scripted {
    content: Mutex<Vec<u8>>,
    /// What the next appends come to; when there is none left they succeed.
    appends: Mutex<VecDeque<Append>>,
    /// How many cuts fail from now on.
    failing_cuts: Mutex<usize>,
    /// Whether syncs fail.
    failing_syncs: Mutex<bool>,
    syncs: Mutex<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Append {
    Whole,
    Short(usize),
    Interrupted,
    Full,
}

impl Scripted {
    fn text(&self) -> String {
        String::from_utf8(self.content.lock().unwrap().clone()).unwrap()
    }

    fn script(&self, appends: &[Append]) {
        self.appends.lock().unwrap().extend(appends);
    }

    /// The names of the events.
    fn events(&self) -> Vec<String> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let event = |line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"].as_str().unwrap().into()
        };
        text.lines().map(event).collect()
    }
}

impl Storage for Scripted {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.appends.lock().unwrap().pop_front() {
            None | Some(Append::Whole) => bytes.len(),
            Some(Append::Short(count)) => count,
            Some(Append::Interrupted) => return Err(ErrorKind::Interrupted.into()),
            Some(Append::Full) => return Err(ErrorKind::StorageFull.into()),
        };
        self.content.lock().unwrap().extend(&bytes[..count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len().try_into().unwrap())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let mut failing = self.failing_cuts.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(ErrorKind::Other.into());
        }
        self.content.lock().unwrap().truncate(length.try_into().unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        *self.syncs.lock().unwrap() += 1;
        if *self.failing_syncs.lock().unwrap() { Err(ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn identity(&self) -> Option<Identity> {
        None
    }
}

/// A log whose disk is full after so many writes, for so many more.
pub(crate) fn full_after(writes: usize, failures: usize) -> Audit {
    let storage = Arc::new(Scripted::default());
    storage.script(&vec![Append::Whole; writes]);
    storage.script(&vec![Append::Full; failures]);
    let config = Config { path: "audit.jsonl".into(), durability: Durability::Background };
    Audit::on(storage, config, Arc::new(TokioClock::new(from_unix_seconds(NOW))))
}

fn audit(durability: Durability) -> (Arc<Audit>, Arc<Scripted>) {
    let storage = Arc::new(Scripted::default());
    let config = Config { path: "audit.jsonl".into(), durability };
    let clock = Arc::new(TokioClock::new(from_unix_seconds(NOW)));
    (Arc::new(Audit::on(storage.clone(), config, clock)), storage)
}

/// Starts the task that makes the log durable.
fn run(audit: &Arc<Audit>) -> Tasks {
    let tasks = Tasks::new();
    let audit = audit.clone();
    tasks.spawn(Span::none(), |stop| audit.run(stop));
    tasks
}

fn started() -> Event {
    Event::ServerStarted { version: "1.2.3", trust_domain: "example.org".parse().unwrap() }
}

async fn try_record(audit: &Audit, event: Event) -> Result<(), String> {
    audit.record(&Caller::Server, &[event]).await.map_err(|error| error.to_string())
}

/// Waits until a condition holds; a minute is longer than any should take.
async fn until<T>(receiver: &mut watch::Receiver<T>, condition: impl FnMut(&T) -> bool) {
    let wait = tokio::time::timeout(Duration::from_secs(60), receiver.wait_for(condition));
    drop(wait.await.expect("the condition holds within a minute").unwrap());
}

fn is_failing(audit: &Audit) -> bool {
    matches!(*audit.health().borrow(), Health::Failing { .. })
}

#[tokio::test(start_paused = true)]
async fn a_write_in_pieces_is_completed() {
    let (audit, storage) = audit(Durability::Background);
    storage.script(&[Append::Short(10), Append::Interrupted, Append::Short(1)]);
    try_record(&audit, started()).await.unwrap();
    assert_eq!(storage.events(), ["server_started"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_do_not_fit_leave_nothing_and_allow_nothing() {
    let (audit, storage) = audit(Durability::Background);
    try_record(&audit, started()).await.unwrap();
    storage.script(&[Append::Short(10), Append::Full]);
    let both = [Event::ServerStopped, Event::ServerStopped];
    assert!(audit.record(&Caller::Server, &both).await.is_err());
    assert!(is_failing(&audit));
    assert_eq!(storage.events(), ["server_started"]);

    // The numbers of what was not recorded are given to what is.
    try_record(&audit, Event::ServerStopped).await.unwrap();
    assert!(!is_failing(&audit));
    assert!(storage.text().lines().nth(1).unwrap().contains(r#""sequence":2,"#));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_cut_back_is_cut_before_anything_is_added() {
    let (audit, storage) = audit(Durability::Background);
    storage.script(&[Append::Short(10), Append::Full]);
    *storage.failing_cuts.lock().unwrap() = 2;
    assert!(try_record(&audit, started()).await.is_err());
    assert_eq!(storage.text().len(), 10);
    assert!(try_record(&audit, started()).await.is_err());
    assert_eq!(storage.text().len(), 10);
    try_record(&audit, started()).await.unwrap();
    assert_eq!(storage.events(), ["server_started"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_works_again_is_noticed_without_anybody_asking() {
    let (audit, storage) = audit(Durability::Background);
    let mut health = audit.health();
    let tasks = run(&audit);
    storage.script(&[Append::Full; 4]);
    assert!(try_record(&audit, started()).await.is_err());
    assert!(try_record(&audit, started()).await.is_err());
    assert!(is_failing(&audit));
    let failed = tokio::time::Instant::now();
    until(&mut health, |health| *health == Health::Recording).await;
    assert_eq!(failed.elapsed(), Duration::from_secs(3));
    assert_eq!(storage.events(), ["audit_recovered"]);
    assert!(storage.text().contains(r#""events_refused":2"#), "{}", storage.text());
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn in_the_background_events_are_durable_within_100_ms() {
    let (audit, storage) = audit(Durability::Background);
    let tasks = run(&audit);
    let mut progress = audit.progress.subscribe();
    let start = tokio::time::Instant::now();
    try_record(&audit, started()).await.unwrap();
    try_record(&audit, started()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    until(&mut progress, |progress| progress.durable == 2).await;
    assert!(start.elapsed() < Duration::from_millis(100));
    assert_eq!(*storage.syncs.lock().unwrap(), 1);

    // The last events of a server are made durable before it ends.
    try_record(&audit, Event::ServerStopped).await.unwrap();
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(progress.borrow().durable, 3);
}

#[tokio::test(start_paused = true)]
async fn strictly_events_are_durable_when_they_are_recorded() {
    let (audit, storage) = audit(Durability::Strict);
    // Before `run` and after it, too.
    try_record(&audit, started()).await.unwrap();
    assert_eq!(*storage.syncs.lock().unwrap(), 1);
    let tasks = run(&audit);
    try_record(&audit, started()).await.unwrap();
    assert_eq!(audit.progress.borrow().durable, 2);
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    try_record(&audit, Event::ServerStopped).await.unwrap();
    assert_eq!(audit.progress.borrow().durable, 3);
}

#[tokio::test(start_paused = true)]
async fn strict_recorders_share_a_sync() {
    let (audit, storage) = audit(Durability::Strict);
    let tasks = run(&audit);
    tokio::task::yield_now().await;
    let recorders = (0..100).map(|_| {
        let audit = audit.clone();
        tasks.spawn(Span::none(), |_stop| async move { try_record(&audit, started()).await })
    });
    for recorder in recorders.collect::<Vec<_>>() {
        recorder.await.unwrap().unwrap();
    }
    assert_eq!(storage.events().len(), 100);
    assert!(*storage.syncs.lock().unwrap() <= 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_while_it_cannot_be_made_durable() {
    for durability in [Durability::Strict, Durability::Background] {
        let (audit, storage) = audit(durability);
        let mut health = audit.health();
        let tasks = run(&audit);
        tokio::task::yield_now().await;
        *storage.failing_syncs.lock().unwrap() = true;
        let first = try_record(&audit, started()).await;
        match durability {
            Durability::Strict => assert!(first.is_err()),
            Durability::Background => assert!(first.is_ok()),
        }
        until(&mut health, |health| *health != Health::Recording).await;
        assert!(try_record(&audit, started()).await.is_err());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(is_failing(&audit));

        *storage.failing_syncs.lock().unwrap() = false;
        until(&mut health, |health| *health == Health::Recording).await;
        try_record(&audit, started()).await.unwrap();
        assert_eq!(storage.events(), ["server_started", "audit_recovered", "server_started"]);
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}
