//! All SQL of the embedded database, save that of its schema.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::Failure;
use crate::datastore::document::reader::Reader;
use crate::datastore::document::{Row, Table};
use crate::datastore::{Change, Commit, Revision, Stored};

/// How many rows go into one statement. Few sizes, so that each stays prepared.
const CHUNKS: [usize; 4] = [256, 32, 4, 1];

/// Takes the step from `base` to the next revision, unless the store is elsewhere.
pub(super) async fn advance(
    connection: &mut SqliteConnection,
    base: Revision,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE store SET revision = revision + 1 WHERE revision = ?")
        .bind(number(base))
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The revision of the store.
pub(super) async fn revision(connection: &mut SqliteConnection) -> Result<Revision, sqlx::Error> {
    let revision: i64 =
        sqlx::query_scalar("SELECT revision FROM store").fetch_one(connection).await?;
    Ok(revision_of(revision))
}

/// Writes rows in order.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    rows: Vec<Row>,
) -> Result<(), sqlx::Error> {
    let mut rows = rows.as_slice();
    while let Some(first) = rows.first() {
        let kind = |row: &Row| (row.table, row.document.is_some());
        let run = rows.iter().take_while(|row| kind(row) == kind(first)).count();
        let size = CHUNKS.into_iter().find(|size| *size <= run).unwrap_or(1);
        let (chunk, rest) = rows.split_at(size);
        let sql = match &first.document {
            Some(_) => put_statement(first.table, size),
            None => delete_statement(first.table, size),
        };
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in chunk {
            query = query.bind(row.key.as_str());
            if let Some(document) = &row.document {
                query = query.bind(document.as_str());
            }
        }
        query.execute(&mut *connection).await?;
        rows = rest;
    }
    Ok(())
}

/// What the log of changes holds of a commit of these rows.
pub(super) fn log_of(rows: &[Row]) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}

/// Writes a commit to the log of changes, and forgets those up to `pruned`.
pub(super) async fn write_log(
    connection: &mut SqliteConnection,
    revision: Revision,
    log: String,
    pruned: Option<Revision>,
) -> Result<(), sqlx::Error> {
    if let Some(pruned) = pruned {
        sqlx::query("DELETE FROM commits WHERE revision <= ?")
            .bind(number(pruned))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("INSERT INTO commits (revision, changes) VALUES (?, ?)")
        .bind(number(revision))
        .bind(log)
        .execute(connection)
        .await?;
    Ok(())
}

/// Copies what is in the write-ahead log into the database, as far as nobody reads there.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_all(connection).await?;
    Ok(())
}

/// Writes so many bytes of noise, of which no file system makes less.
pub(super) async fn add_ballast(
    connection: &mut SqliteConnection,
    bytes: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query("CREATE TABLE ballast (bytes BLOB NOT NULL)").execute(&mut *connection).await?;
    sqlx::query("INSERT INTO ballast VALUES (randomblob(?))")
        .bind(bytes)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes them back.
pub(super) async fn drop_ballast(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DROP TABLE ballast").execute(connection).await?;
    Ok(())
}

/// The commits in the log of changes and the size of each, oldest first.
pub(super) async fn log_sizes(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Revision, usize)>, sqlx::Error> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT revision, length(changes) FROM commits ORDER BY revision")
            .fetch_all(connection)
            .await?;
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    Ok(rows.into_iter().map(|(revision, bytes)| (revision_of(revision), size(bytes))).collect())
}

/// The commits after `revision` that the log of changes holds, oldest first.
pub(super) async fn commits_after(
    connection: &mut SqliteConnection,
    revision: Revision,
) -> Result<Vec<Commit>, Failure> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT revision, changes FROM commits WHERE revision > ? ORDER BY revision",
    )
    .bind(number(revision))
    .fetch_all(connection)
    .await?;
    let mut reader = Reader::new();
    let mut commits = Vec::with_capacity(rows.len());
    for (revision, log) in rows {
        let rows: Vec<Row> = serde_json::from_str(&log)
            .map_err(|error| Failure::Corrupt(format!("commit {revision}: {error}")))?;
        let changes = rows.iter().map(|row| reader.change(row)).collect::<Result<_, _>>()?;
        commits.push(Commit { revision: revision_of(revision), changes });
    }
    Ok(commits)
}

/// Everything that is stored.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Stored, Failure> {
    let mut reader = Reader::new();
    let mut stored = Stored { revision: revision(connection).await?, ..Stored::default() };
    for table in [
        Table::Entries,
        Table::Nodes,
        Table::Bundles,
        Table::Relationships,
        Table::JoinTokens,
        Table::Journals,
        Table::Facts,
    ] {
        load_table(connection, table, &mut reader, &mut stored).await?;
    }
    stored.entries.sort_by(|a, b| a.id.cmp(&b.id));
    stored.nodes.sort_by(|a, b| a.id.cmp(&b.id));
    stored.bundles.sort_by(|a, b| a.trust_domain.cmp(&b.trust_domain));
    stored.relationships.sort_by(|a, b| a.trust_domain.cmp(&b.trust_domain));
    stored.join_tokens.sort_by_key(|token| token.hash);
    Ok(stored)
}

async fn load_table(
    connection: &mut SqliteConnection,
    table: Table,
    reader: &mut Reader,
    stored: &mut Stored,
) -> Result<(), Failure> {
    let sql = format!("SELECT key, document FROM {}", name(table));
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        match reader.put(table, row.try_get::<&str, _>(0)?, row.try_get::<&str, _>(1)?)? {
            Change::PutEntry(entry) => stored.entries.push(entry),
            Change::PutNode(node) => stored.nodes.push(node),
            Change::PutBundle(bundle) => stored.bundles.push(bundle),
            Change::PutRelationship(relationship) => stored.relationships.push(relationship),
            Change::PutJoinToken(token) => stored.join_tokens.push(token),
            Change::PutJournal(journal) => stored.journal = Some(journal),
            Change::PutFact(fact) => stored.facts.put(fact),
            Change::DeleteEntry(_)
            | Change::DeleteNode(_)
            | Change::DeleteBundle(_)
            | Change::DeleteRelationship(_)
            | Change::DeleteJoinToken(_) => {}
        }
    }
    Ok(())
}

fn put_statement(table: Table, rows: usize) -> String {
    let name = name(table);
    let mut sql = format!("INSERT INTO {name} (key, document) VALUES (?, ?)");
    sql.push_str(&", (?, ?)".repeat(rows.saturating_sub(1)));
    sql.push_str(" ON CONFLICT (key) DO UPDATE SET document = excluded.document");
    sql
}

fn delete_statement(table: Table, rows: usize) -> String {
    let name = name(table);
    format!("DELETE FROM {name} WHERE key IN (?{})", ", ?".repeat(rows.saturating_sub(1)))
}

fn name(table: Table) -> &'static str {
    match table {
        Table::Entries => "entries",
        Table::Nodes => "nodes",
        Table::Bundles => "bundles",
        Table::Relationships => "relationships",
        Table::JoinTokens => "join_tokens",
        Table::Journals => "journals",
        Table::Facts => "facts",
    }
}

fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn revision_of(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}
