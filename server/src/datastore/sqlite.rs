//! The embedded database: one file, one server.
//!
//! The log is written ahead (WAL) and synced with every commit (`synchronous=FULL`): what was
//! acknowledged survives a loss of power, for one wait for the disk a commit. With the cheaper
//! `NORMAL`, a join token that was used up could come back.

use std::collections::VecDeque;
use std::fs::{OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite};
use steeple::locked::LockedFile;

use super::document::{Row, RowError};
use super::{Change, Commit, Datastore, DatastoreError, Revision, Stored};

mod failure;
mod schema;
mod statements;

/// How many commits the log of changes holds at most.
const LOG_LENGTH: usize = 1_000;

/// How many bytes the log of changes holds at most, save that the last commit is always there.
const LOG_SIZE: usize = 8 << 20;

/// How long to wait for somebody who holds the database, such as a backup.
const PATIENCE: Duration = Duration::from_secs(5);

/// How large the write-ahead log stays once it was copied into the database.
const WAL_SIZE: &str = "16777216";

/// A database in a file.
#[derive(Debug)]
pub struct SqliteDatastore {
    path: PathBuf,
    pool: SqlitePool,
    /// The commits in the log, oldest first, and their sizes.
    log: Mutex<VecDeque<(Revision, usize)>>,
    /// Holds the lock that keeps other servers out, until the process ends however it ends.
    _lock: LockedFile,
}

impl SqliteDatastore {
    /// Opens the database at `path`, or makes one, and brings it to the present schema.
    pub async fn open(path: &Path) -> Result<Self, DatastoreError> {
        Self::open_with(path, &[]).await
    }

    async fn open_with(
        path: &Path,
        pragmas: &[(&'static str, &'static str)],
    ) -> Result<Self, DatastoreError> {
        let lock = lock(path)?;
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(PATIENCE)
            .pragma("journal_size_limit", WAL_SIZE)
            .row_buffer_size(512)
            .disable_statement_logging();
        for (name, value) in pragmas {
            options = options.pragma(*name, *value);
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        let log = Mutex::default();
        let store = Self { path: path.to_owned(), pool, log, _lock: lock };
        store.with("opening", async |connection| schema::prepare(path, connection).await).await?;
        store.with("opening", async |connection| store.read_log(connection).await).await?;
        Ok(store)
    }

    /// Uses the connection. One that failed is not used again, as what it has half done is unknown.
    async fn with<T>(
        &self,
        doing: &'static str,
        act: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, Failure>,
    ) -> Result<T, DatastoreError> {
        let acquired = self.pool.acquire().await;
        let mut connection: PoolConnection<Sqlite> =
            acquired.map_err(|error| failure::classify(&self.path, doing, error))?;
        match act(&mut connection).await {
            Ok(done) => Ok(done),
            Err(Failure::Store(error)) => Err(error),
            Err(Failure::Corrupt(what)) => {
                Err(DatastoreError::Corrupt { path: self.path.clone(), what })
            }
            Err(Failure::Sql(error)) => {
                connection.close_on_drop();
                Err(failure::classify(&self.path, doing, error))
            }
        }
    }

    async fn write(
        &self,
        connection: &mut SqliteConnection,
        base: Revision,
        changes: &[Change],
    ) -> Result<Revision, Failure> {
        let rows = changes.iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
        let log = statements::log_of(&rows);
        let revision = base.next();
        let pruned = self.pruned(log.len());

        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        if !statements::advance(&mut transaction, base).await? {
            let at = statements::revision(&mut transaction).await?;
            transaction.rollback().await?;
            return Err(Failure::Store(DatastoreError::Conflict { at }));
        }
        statements::write(&mut transaction, rows).await?;
        let size = log.len();
        statements::write_log(&mut transaction, revision, log, pruned).await?;
        transaction.commit().await?;
        self.with_log(|commits| {
            commits.retain(|(known, _)| pruned.is_none_or(|pruned| *known > pruned));
            commits.push_back((revision, size));
        });
        Ok(revision)
    }

    /// The last commit that leaves the log when one of `size` enters it.
    fn pruned(&self, size: usize) -> Option<Revision> {
        self.with_log(|commits| {
            let mut length = commits.len() + 1;
            let mut total = size + commits.iter().map(|(_, size)| size).sum::<usize>();
            let mut pruned = None;
            for (revision, size) in commits.iter() {
                if length <= LOG_LENGTH && total <= LOG_SIZE {
                    break;
                }
                length -= 1;
                total -= size;
                pruned = Some(*revision);
            }
            pruned
        })
    }

    async fn read_log(&self, connection: &mut SqliteConnection) -> Result<(), Failure> {
        let known = statements::log_sizes(connection).await?;
        self.with_log(|commits| *commits = known.into());
        Ok(())
    }

    fn with_log<T>(&self, act: impl FnOnce(&mut VecDeque<(Revision, usize)>) -> T) -> T {
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Datastore for SqliteDatastore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, DatastoreError>> {
        Box::pin(self.with("reading", async |connection| {
            let mut transaction = connection.begin().await?;
            let stored = statements::load(&mut transaction).await?;
            transaction.rollback().await?;
            Ok(stored)
        }))
    }

    fn commit<'a>(
        &'a self,
        base: Revision,
        changes: &'a [Change],
    ) -> BoxFuture<'a, Result<Revision, DatastoreError>> {
        Box::pin(
            self.with("writing", async move |connection| {
                self.write(connection, base, changes).await
            }),
        )
    }

    fn changes_since(
        &self,
        revision: Revision,
    ) -> BoxFuture<'_, Result<Vec<Commit>, DatastoreError>> {
        Box::pin(self.with("reading changes", async move |connection| {
            let mut transaction = connection.begin().await?;
            let at = statements::revision(&mut transaction).await?;
            let commits = statements::commits_after(&mut transaction, revision).await?;
            transaction.rollback().await?;
            let oldest = commits.first().map_or(at, |first| Revision(first.revision.0 - 1));
            if revision < oldest {
                return Err(Failure::Store(DatastoreError::Pruned { oldest }));
            }
            Ok(commits)
        }))
    }

    fn find_room(&self, bytes: u32) -> BoxFuture<'_, Result<(), DatastoreError>> {
        Box::pin(self.with("looking for room", async move |connection| {
            // What is in the write-ahead log already has to find room in the database first: else
            // the log would grow with each attempt.
            statements::checkpoint(connection).await?;
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            statements::add_ballast(&mut transaction, bytes).await?;
            statements::drop_ballast(&mut transaction).await?;
            transaction.commit().await?;
            // The next commits use the room that was found, in the log as in the database.
            Ok(statements::checkpoint(connection).await?)
        }))
    }
}

/// What can go wrong on the way to a [`DatastoreError`].
#[derive(Debug)]
enum Failure {
    Sql(sqlx::Error),
    Corrupt(String),
    Store(DatastoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Makes sure that the file is there, for its owner alone, and that no other server has it.
fn lock(path: &Path) -> Result<LockedFile, DatastoreError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        return Err(DatastoreError::NoDirectory(directory.to_owned()));
    }
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|error| failure::classify_io(path, "opening", error))
    };
    let lock = open(&beside(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DatastoreError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => {
            return Err(failure::classify_io(path, "locking", error));
        }
    }
    open(path)?;
    Ok(LockedFile::new(lock))
}

/// The path of a file that belongs to the one at `path`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
pub(crate) mod tests;
