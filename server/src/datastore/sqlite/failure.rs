//! Tells what a failure of SQLite means to whoever runs the server.

use std::io;
use std::path::Path;

use crate::datastore::DatastoreError;

/// What an error of the database means.
pub(super) fn classify(path: &Path, doing: &'static str, error: sqlx::Error) -> DatastoreError {
    let path = path.to_owned();
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The low byte is the kind of error, see https://www.sqlite.org/rescode.html.
    match code.map(|code| (code & 0xff, code)) {
        Some((5 | 6, _)) => DatastoreError::Locked(path),
        Some((8 | 14 | 23 | 3, _)) => DatastoreError::ReadOnly(path),
        Some((11, _)) => DatastoreError::Corrupt { path, what: message(&error) },
        // To allocate the index of the log failed: SQLITE_IOERR_SHMSIZE.
        Some((13, _) | (10, 4874)) => DatastoreError::Full(path),
        Some((26, _)) => DatastoreError::Foreign(path),
        Some(_) | None => DatastoreError::Failed { path, doing, source: error.into() },
    }
}

/// What an error of the operating system means.
pub(super) fn classify_io(path: &Path, doing: &'static str, error: io::Error) -> DatastoreError {
    use io::ErrorKind as Kind;

    let kind = error.kind();
    let path = path.to_owned();
    if matches!(kind, Kind::PermissionDenied | Kind::ReadOnlyFilesystem) {
        DatastoreError::ReadOnly(path)
    } else if matches!(kind, Kind::StorageFull | Kind::QuotaExceeded) {
        DatastoreError::Full(path)
    } else if kind == Kind::IsADirectory {
        DatastoreError::Foreign(path)
    } else {
        DatastoreError::Failed { path, doing, source: error.into() }
    }
}

fn message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().into())
}
