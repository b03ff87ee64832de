//! How fast and how small the server's memory and its database are. Not run with the other tests:
//! `cargo test --release -p steeple-server --test store_speed -- --nocapture`.

#![expect(clippy::print_stdout, reason = "a measurement is there to be read")]
#![expect(clippy::unwrap_used, reason = "what cannot be measured ends the measurement")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use steeple::clock::from_unix_seconds;
use steeple::entry::EntryContent;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::tasks::Tasks;
use steeple_server::datastore::Node;
use steeple_server::datastore::sqlite::SqliteDatastore;
use steeple_server::registry::Registry;

const BATCH: usize = 500;

/// Tells a process which database to open.
const DATABASE: &str = "STORE_SPEED_DATABASE";

fn td() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&td(), path).unwrap()
}

/// What a cluster registers: an entry for each service account, below an alias of the cluster.
fn content(n: usize, parent: &str) -> EntryContent {
    let selectors = [format!("k8s:ns:team-{}", n % 50), format!("k8s:sa:service-account-{n}")];
    EntryContent {
        spiffe_id: id(&format!("/ns/team-{}/sa/service-account-{n}", n % 50)),
        parent_id: id(parent),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        x509_svid_ttl: Some(Duration::from_secs(3_600)),
        jwt_svid_ttl: None,
        federates_with: BTreeSet::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: None,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

async fn open(path: &Path) -> Registry {
    let datastore = SqliteDatastore::open(path).await.unwrap();
    Registry::open(td(), Arc::new(datastore), &Tasks::new()).await.unwrap()
}

async fn fill(registry: &Registry, count: usize) -> Duration {
    let parent = |n: usize| format!("/spire/agent/x509pop/{}", n % 100);
    let contents: Vec<_> = (0..count).map(|n| (None, content(n, &parent(n)))).collect();
    let started = Instant::now();
    for batch in contents.chunks(BATCH) {
        let results = registry.create_entries(batch.to_vec(), from_unix_seconds(1)).await;
        assert!(results.iter().all(Result::is_ok));
    }
    started.elapsed()
}

/// The same rows through the same library, without anything of ours.
async fn fill_raw(from: &Path, to: &Path) -> Duration {
    let mut source = SqliteConnectOptions::new().filename(from).connect().await.unwrap();
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT key, document FROM entries ORDER BY rowid")
            .fetch_all(&mut source)
            .await
            .unwrap();
    let mut target = SqliteConnectOptions::new()
        .filename(to)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE entries (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL)")
        .execute(&mut target)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO entries (key, document) VALUES (?, ?){}",
        ", (?, ?)".repeat(BATCH - 1)
    );
    let started = Instant::now();
    for batch in rows.chunks(BATCH) {
        let mut transaction = target.begin().await.unwrap();
        let mut query = sqlx::query(AssertSqlSafe(sql.as_str()));
        for (key, document) in batch {
            query = query.bind(key.as_str()).bind(document.as_str());
        }
        query.execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
    started.elapsed()
}

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
async fn writing() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, raw) = (directory.path().join("ours"), directory.path().join("raw"));
    let count = 20_000;
    let registry = open(&ours).await;
    let took = fill(&registry, count).await;
    drop(registry);
    let baseline = fill_raw(&ours, &raw).await;
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!(
        "create {count} entries, {BATCH} a call: {:.0}/s; raw SQLite {:.0}/s; ratio {:.2}",
        rate(took),
        rate(baseline),
        took.as_secs_f64() / baseline.as_secs_f64()
    );
}

/// Starts this program anew with one test and the database that it is to open, as what a process
/// did before counts otherwise.
fn in_a_new_process(test: &str, path: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "--quiet", test])
        .env(DATABASE, path)
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn starting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    fill(&open(&path).await, 20_000).await;
    released(&path).await;
    in_a_new_process("a_start", &path);
}

#[tokio::test]
#[ignore = "run by `starting`"]
async fn a_start() {
    let path = std::env::var_os(DATABASE).unwrap();
    let started = Instant::now();
    let datastore = SqliteDatastore::open(Path::new(&path)).await.unwrap();
    let opened = started.elapsed().as_secs_f64() * 1e3;
    let registry = Registry::open(td(), Arc::new(datastore), &Tasks::new()).await.unwrap();
    let took = started.elapsed().as_secs_f64() * 1e3;
    let count = registry.count_entries(&Default::default());
    println!("start with {count} entries: {took:.0} ms, {opened:.0} of them before reading");
}

#[tokio::test]
async fn remembering() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    fill(&open(&path).await, 100_000).await;
    released(&path).await;
    in_a_new_process("a_memory", &path);
}

#[tokio::test]
#[ignore = "run by `remembering`"]
async fn a_memory() {
    let directory = tempfile::tempdir().unwrap();
    let empty = open(&directory.path().join("empty")).await;
    let before = resident();
    let path = std::env::var_os(DATABASE).unwrap();
    let registry = open(Path::new(&path)).await;
    let grown = resident() - before;
    let count = registry.count_entries(&Default::default());
    println!("resident: {} bytes for each of {count} entries", grown / count);
    drop(empty);
}

/// Waits until nobody has the database any more.
async fn released(path: &Path) {
    while SqliteDatastore::open(path).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn answering() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(&directory.path().join("database")).await;
    let agents = 50_000;
    let node = |n: usize| Node {
        id: id(&format!("/spire/agent/k8s_psat/{n}")),
        attestation_type: "k8s_psat".into(),
        serial: Some("1".into()),
        not_after: 1,
        new_serial: None,
        selectors: ["k8s_psat:cluster:one".into(), format!("k8s_psat:node:{n}")]
            .iter()
            .map(|text: &String| text.parse().unwrap())
            .collect(),
        can_reattest: true,
        agent_version: String::new(),
    };
    let writes = (0..agents).map(|n| registry.put_node(node(n), None, from_unix_seconds(1)));
    futures_util::future::join_all(writes).await;
    let mut alias = content(0, "/spire/server");
    alias.spiffe_id = id("/cluster/one");
    alias.selectors = ["k8s_psat:cluster:one".parse().unwrap()].into_iter().collect();
    let mut entries = vec![(None, alias)];
    entries.extend((0..300).map(|n| (None, content(n, "/cluster/one"))));
    registry.create_entries(entries, from_unix_seconds(1)).await;

    let agent = |n: usize| id(&format!("/spire/agent/k8s_psat/{}", (n * 7_919) % agents));
    let ids: Vec<_> = (0..10_000).map(agent).collect();
    let time = |name: &str, count: usize, took: Duration| {
        println!("{name}: {:.2} µs", took.as_secs_f64() * 1e6 / count as f64);
    };
    let started = Instant::now();
    assert_eq!(registry.authorized(&ids[0]).entries().len(), 300);
    time("authorised entries, first time", 1, started.elapsed());
    let started = Instant::now();
    for id in &ids {
        assert_eq!(registry.authorized(id).entries().len(), 300);
    }
    time("authorised entries, nothing changed", ids.len(), started.elapsed());
    let mut took = Duration::ZERO;
    for (n, id) in ids.iter().enumerate().take(200) {
        registry.create_entries(vec![(None, content(n, "/elsewhere"))], from_unix_seconds(1)).await;
        let started = Instant::now();
        assert_eq!(registry.authorized(id).entries().len(), 300);
        took += started.elapsed();
    }
    time("authorised entries after a write elsewhere", 200, took);
    let mut took = Duration::ZERO;
    for (n, id) in ids.iter().enumerate().take(500).skip(300) {
        registry
            .create_entries(vec![(None, content(n, "/cluster/one"))], from_unix_seconds(1))
            .await;
        let started = Instant::now();
        assert_eq!(registry.authorized(id).entries().len(), n + 1);
        took += started.elapsed();
    }
    time("authorised entries after a write to them (300 to 500 entries)", 200, took);
}
