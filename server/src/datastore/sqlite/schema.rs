//! Brings a database to the present schema, or says why it must not be touched.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, SqlSafeStr as _};

use super::Failure;
use crate::datastore::DatastoreError;

/// What the header of a database of ours says: "Stpl".
const APPLICATION: i64 = 1_400_139_884;

/// The steps from nothing to the present schema. One that was released is never changed.
const STEPS: &[(i64, &str, &str)] = &[
    (1, "initial", include_str!("0001_initial.sql")),
    (2, "relationships", include_str!("0002_relationships.sql")),
    (3, "facts", include_str!("0003_facts.sql")),
];

/// Checks whose database it is and of which version, that it can be written, and makes the steps
/// that it lacks.
pub(super) async fn prepare(path: &Path, connection: &mut SqliteConnection) -> Result<(), Failure> {
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await?;
    if application != APPLICATION && tables > 0 && !is_half_made(connection).await? {
        return Err(Failure::Store(DatastoreError::Foreign(path.to_owned())));
    }
    let known = STEPS.iter().map(|(version, _, _)| *version).max().unwrap_or(0);
    if application == APPLICATION {
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut *connection)
            .await?;
        if let Some(found) = found.filter(|found| *found > known) {
            let path = path.to_owned();
            return Err(Failure::Store(DatastoreError::Newer { path, found, known }));
        }
    }
    // A database that cannot be written is reported now and not with the first write.
    connection.begin_with("BEGIN IMMEDIATE").await?.rollback().await?;
    migrate(path, connection).await
}

/// Whether somebody was stopped before the first step: all that there is, is the list of steps.
async fn is_half_made(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let others: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_master WHERE tbl_name <> '_sqlx_migrations'",
    )
    .fetch_one(connection)
    .await?;
    Ok(others == 0)
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Failure> {
    let steps = STEPS.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, (*name).into(), kind, (*sql).into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(steps.collect());
    let corrupt =
        |what: String| Failure::Store(DatastoreError::Corrupt { path: path.to_owned(), what });
    match migrator.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(Failure::Sql(error))
        }
        Err(error) => Err(corrupt(error.to_string())),
    }
}
