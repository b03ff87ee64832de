//! What is special about the embedded database: its file, and everything that can be wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use steeple::entry::Entry;
use tempfile::TempDir;

use super::*;
use crate::datastore::Fact;
use crate::datastore::suite::{self, Fixture, plain_entry};

struct Sqlite {
    directory: TempDir,
}

impl Sqlite {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("datastore.sqlite3")
    }
}

impl Fixture for Sqlite {
    type Store = SqliteDatastore;

    async fn open(&self) -> SqliteDatastore {
        SqliteDatastore::open(&self.path()).await.unwrap()
    }

    async fn reopen(&self, store: SqliteDatastore) -> SqliteDatastore {
        store.pool.close().await;
        drop(store);
        self.open().await
    }
}

suite::tests!(Sqlite::new());

/// A store with one entry, closed.
async fn stored(fixture: &Sqlite) -> PathBuf {
    let store = fixture.open().await;
    store.commit(Revision(0), &put(0..1)).await.unwrap();
    store.pool.close().await;
    fixture.path()
}

fn put(numbers: std::ops::Range<u32>) -> Vec<Change> {
    numbers.map(|n| Change::PutEntry(plain_entry(n, 0))).collect()
}

fn entries(numbers: std::ops::Range<u32>) -> Vec<Arc<Entry>> {
    numbers.map(|n| plain_entry(n, 0)).collect()
}

async fn refusal(path: &Path) -> DatastoreError {
    match SqliteDatastore::open(path).await {
        Ok(store) => store.load().await.unwrap_err(),
        Err(error) => error,
    }
}

/// Changes a closed database behind the server's back.
async fn tamper(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Makes a closed database one of the version before there were facts.
pub(crate) async fn forget_facts(path: &Path) {
    let facts = "DROP VIEW show_facts; DROP TABLE facts;
        DELETE FROM _sqlx_migrations WHERE version = 3; DELETE FROM commits";
    tamper(path, facts).await;
}

#[tokio::test]
async fn every_commit_waits_for_the_disk() {
    let fixture = Sqlite::new();
    let store = fixture.open().await;
    let mut connection = store.pool.acquire().await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.unwrap();
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    let mode = fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_operator_sees_columns() {
    let fixture = Sqlite::new();
    let path = stored(&fixture).await;
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let row: (String, String, String, i64, String) =
        sqlx::query_as("SELECT id, spiffe_id, selectors, revision, created_at FROM show_entries")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let expected = (
        "entry-000000".into(),
        "spiffe://td/workload/0".into(),
        r#"["unix:gid:7","unix:uid:0"]"#.into(),
        0,
        "2023-11-14 22:13:20".into(),
    );
    assert_eq!(row, expected);
    for view in
        ["show_nodes", "show_bundles", "show_relationships", "show_join_tokens", "show_facts"]
    {
        let sql = AssertSqlSafe(format!("SELECT * FROM {view}"));
        assert!(sqlx::query(sql).fetch_all(&mut connection).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn one_server_has_it() {
    let fixture = Sqlite::new();
    let store = fixture.open().await;
    assert!(matches!(refusal(&fixture.path()).await, DatastoreError::Locked(_)));
    drop(store);
    fixture.open().await;
}

#[tokio::test]
async fn another_program_that_writes_is_told_apart() {
    let fixture = Sqlite::new();
    let store =
        SqliteDatastore::open_with(&fixture.path(), &[("busy_timeout", "20")]).await.unwrap();
    let mut other = SqliteConnectOptions::new().filename(fixture.path()).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = store.commit(Revision(0), &put(0..1)).await;
    assert!(matches!(refused, Err(DatastoreError::Locked(_))), "{refused:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    store.commit(Revision(0), &put(0..1)).await.unwrap();
    assert_eq!(store.load().await.unwrap().entries, entries(0..1));
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let fixture = Sqlite::new();
    let path = fixture.directory.path().join("missing/datastore.sqlite3");
    let refused = refusal(&path).await;
    let DatastoreError::NoDirectory(named) = &refused else { panic!("{refused:?}") };
    assert_eq!(named, path.parent().unwrap());
}

#[tokio::test]
async fn another_programs_file_is_left_alone() {
    let fixture = Sqlite::new();
    let text = "This is no database, but it is longer than the header of one. ".repeat(100);
    fs::write(fixture.path(), &text).unwrap();
    assert!(matches!(refusal(&fixture.path()).await, DatastoreError::Foreign(_)));
    assert_eq!(fs::read_to_string(fixture.path()).unwrap(), text);

    let fixture = Sqlite::new();
    fs::write(fixture.path(), "").unwrap();
    tamper(&fixture.path(), "CREATE TABLE theirs (x)").await;
    assert!(matches!(refusal(&fixture.path()).await, DatastoreError::Foreign(_)));

    let fixture = Sqlite::new();
    fs::create_dir(fixture.path()).unwrap();
    assert!(matches!(refusal(&fixture.path()).await, DatastoreError::Foreign(_)));
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let fixture = Sqlite::new();
    let path = stored(&fixture).await;
    tamper(&path, "INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)").await;
    let refused = refusal(&path).await;
    assert!(matches!(refused, DatastoreError::Newer { found: 99, known: 3, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_database_of_the_version_before_is_brought_up_with_all_that_is_in_it() {
    let fixture = Sqlite::new();
    let path = stored(&fixture).await;
    forget_facts(&path).await;
    let store = fixture.open().await;
    let mut expected =
        Stored { revision: Revision(1), entries: entries(0..1), ..Stored::default() };
    assert_eq!(store.load().await.unwrap(), expected);
    let fact = Fact::TrustDomain("td".parse().unwrap());
    store.commit(Revision(1), &[Change::PutFact(fact.clone())]).await.unwrap();
    expected.facts.put(fact);
    expected.revision = Revision(2);
    assert_eq!(fixture.reopen(store).await.load().await.unwrap(), expected);
}

#[tokio::test]
async fn a_start_that_was_cut_off_is_made_up_for() {
    let fixture = Sqlite::new();
    fs::write(fixture.path(), "").unwrap();
    tamper(
        &fixture.path(),
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
         checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
    )
    .await;
    let store = fixture.open().await;
    store.commit(Revision(0), &put(0..1)).await.unwrap();
}

#[tokio::test]
async fn damage_is_found() {
    // A page of the file is overwritten.
    let fixture = Sqlite::new();
    let store = fixture.open().await;
    store.commit(Revision(0), &put(0..5_000)).await.unwrap();
    store.pool.close().await;
    drop(store);
    let mut bytes = fs::read(fixture.path()).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 40 * 4_096].fill(0xa5);
    fs::write(fixture.path(), &bytes).unwrap();
    let refused = refusal(&fixture.path()).await;
    assert!(matches!(refused, DatastoreError::Corrupt { .. }), "{refused:?}");

    // The end of the file is missing.
    bytes.truncate(middle);
    fs::write(fixture.path(), &bytes).unwrap();
    let refused = refusal(&fixture.path()).await;
    assert!(matches!(refused, DatastoreError::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_document_that_makes_no_sense_is_damage() {
    for sql in [
        "UPDATE entries SET document = '{'",
        "UPDATE entries SET document = json_set(document, '$.later', 1)",
        "UPDATE entries SET document = json_set(document, '$.spiffe_id', 'spiffe://TD/x')",
        "UPDATE entries SET document = json_remove(document, '$.selectors')",
        "UPDATE entries SET key = 'a b'",
        "INSERT INTO facts VALUES ('later', '{\"value\":\"td\"}')",
        "INSERT INTO facts VALUES ('trust_domain', '{\"value\":\"TD\"}')",
        "INSERT INTO facts VALUES ('key_owner', '{\"value\":\"00\"}')",
        "UPDATE _sqlx_migrations SET checksum = x'00'",
        "UPDATE _sqlx_migrations SET success = 0",
    ] {
        let fixture = Sqlite::new();
        let path = stored(&fixture).await;
        tamper(&path, sql).await;
        let refused = refusal(&path).await;
        assert!(matches!(refused, DatastoreError::Corrupt { .. }), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn a_commit_that_does_not_fit_leaves_nothing_behind() {
    let fixture = Sqlite::new();
    let pragmas = [("max_page_count", "150")];
    let store = SqliteDatastore::open_with(&fixture.path(), &pragmas).await.unwrap();
    store.commit(Revision(0), &put(0..10)).await.unwrap();
    for _ in 0..3 {
        let refused = store.commit(Revision(1), &put(10..5_000)).await;
        assert!(matches!(refused, Err(DatastoreError::Full(_))), "{refused:?}");
        assert_eq!(store.load().await.unwrap().entries, entries(0..10));
        assert_eq!(store.changes_since(Revision(0)).await.unwrap().len(), 1);
    }
    assert_eq!(store.commit(Revision(1), &put(10..20)).await.unwrap(), Revision(2));
    store.pool.close().await;
    drop(store);
    assert_eq!(fixture.open().await.load().await.unwrap().entries, entries(0..20));
}

#[tokio::test]
async fn room_is_found_out_by_writing_and_none_of_it_stays_taken() {
    /// All that has a page in the file, the log of changes too.
    async fn taken(store: &SqliteDatastore) -> (i64, i64, i64, i64) {
        let mut connection = store.pool.acquire().await.unwrap();
        let sql = "SELECT page_count - freelist_count, (SELECT count(*) FROM sqlite_master), \
                   (SELECT count(*) FROM commits), (SELECT sum(length(changes)) FROM commits) \
                   FROM pragma_page_count, pragma_freelist_count";
        sqlx::query_as(sql).fetch_one(&mut *connection).await.unwrap()
    }

    let fixture = Sqlite::new();
    let store = fixture.open().await;
    let files = || {
        ["", "-wal"].map(|name| fs::metadata(beside(&fixture.path(), name)).map_or(0, |f| f.len()))
    };
    store.commit(Revision(0), &put(0..1)).await.unwrap();
    store.find_room(1).await.unwrap();
    let (before, small) = (taken(&store).await, files());
    let [file, wal] = small;
    const ROOM: u32 = 256 << 10;
    store.find_room(ROOM).await.unwrap();
    let large = files();
    let room = u64::from(ROOM);
    assert!(large[0] >= file + room && large[1] >= room, "{small:?} {large:?} {wal}");
    for _ in 0..20 {
        store.find_room(ROOM).await.unwrap();
    }
    assert_eq!((taken(&store).await, files()), (before, large));
    assert_eq!(store.changes_since(Revision(0)).await.unwrap().len(), 1);
    // What was found is for what comes next.
    assert_eq!(store.commit(Revision(1), &put(1..20)).await.unwrap(), Revision(2));
    assert_eq!(files(), large);
}

#[tokio::test]
async fn room_that_is_not_there_is_not_found() {
    let fixture = Sqlite::new();
    stored(&fixture).await;
    let pages = fs::metadata(fixture.path()).unwrap().len() / 4_096 + 8;
    let most: &'static str = pages.to_string().leak();
    let pragmas = [("max_page_count", most)];
    let store = SqliteDatastore::open_with(&fixture.path(), &pragmas).await.unwrap();
    for _ in 0..3 {
        let refused = store.find_room(64 << 10).await;
        assert!(matches!(refused, Err(DatastoreError::Full(_))), "{refused:?}");
        store.find_room(8 << 10).await.unwrap();
    }
    assert_eq!(store.commit(Revision(1), &put(1..2)).await.unwrap(), Revision(2));
    assert_eq!(store.load().await.unwrap().entries, entries(0..2));
}

#[tokio::test]
async fn a_database_that_cannot_be_written_says_so() {
    let fixture = Sqlite::new();
    let path = stored(&fixture).await;
    let refused = match SqliteDatastore::open_with(&path, &[("query_only", "1")]).await {
        Ok(store) => store.commit(Revision(1), &put(1..2)).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(refused, DatastoreError::ReadOnly(_)), "{refused:?}");
}

#[tokio::test]
async fn a_large_log_is_pruned_by_its_size() {
    let fixture = Sqlite::new();
    let store = fixture.open().await;
    for base in 0..3 {
        let journal = vec![base; 4 << 20].into();
        store.commit(Revision(base.into()), &[Change::PutJournal(journal)]).await.unwrap();
    }
    let pruned = store.changes_since(Revision(0)).await;
    assert!(matches!(pruned, Err(DatastoreError::Pruned { oldest: Revision(2) })), "{pruned:?}");
    assert_eq!(store.changes_since(Revision(2)).await.unwrap().len(), 1);
}
