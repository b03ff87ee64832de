//! The limit *raw SQLite*, and what is put into the database of a server that does not run.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, QueryBuilder};

/// The rows of the entries of a server.
pub(crate) async fn entries(database: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut connection = open(database).await?;
    let rows = sqlx::query_as("SELECT key, document FROM entries").fetch_all(&mut connection).await;
    connection.close().await?;
    Ok(rows?)
}

/// How long it takes to write these rows into a new database that is as safe as a server's: so many
/// with each statement and commit.
pub(crate) async fn insert(
    database: &Path,
    rows: &[(String, String)],
    batch: usize,
) -> anyhow::Result<Duration> {
    let mut connection = open(database).await?;
    let table = "CREATE TABLE entries (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL)";
    sqlx::query(table).execute(&mut connection).await?;
    let started = Instant::now();
    for rows in rows.chunks(batch) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut insert = QueryBuilder::new("INSERT INTO entries (key, document) ");
        insert.push_values(rows, |mut row, (key, document)| {
            row.push_bind(key).push_bind(document);
        });
        insert.build().execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    let took = started.elapsed();
    connection.close().await?;
    Ok(took)
}

/// Gives the agent of this ID a selector, and so many others like it.
pub(crate) async fn crowd(
    database: &Path,
    agent: &str,
    selector: &str,
    others: u32,
) -> anyhow::Result<()> {
    let mut connection = open(database).await?;
    let set = "UPDATE nodes SET document = json_set(document, '$.selectors', json_array(?)) \
               WHERE key = ?";
    sqlx::query(set).bind(selector).bind(agent).execute(&mut connection).await?;
    let copy = "WITH RECURSIVE other(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM other WHERE n < ?) \
                INSERT INTO nodes (key, document) \
                SELECT ? || '-' || n, (SELECT document FROM nodes WHERE key = ?) FROM other";
    if others > 0 {
        let copy = sqlx::query(copy).bind(others).bind(agent).bind(agent);
        copy.execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn open(database: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    Ok(SqliteConnection::connect_with(&options).await?)
}
