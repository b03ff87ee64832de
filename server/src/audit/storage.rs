//! The file below the log: whole lines are appended, and what is torn is cut back.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use steeple::locked::LockedFile;
use thiserror::Error;

use super::line;

/// Where lines go. Only one process writes.
pub(super) trait Storage: fmt::Debug + Send + Sync {
    /// Appends bytes with one `write(2)`, and says how many.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;

    /// How long the content is.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the content to this length.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// Makes what was appended durable.
    fn sync(&self) -> io::Result<()>;

    /// Which file this is, if it is one.
    fn identity(&self) -> Option<Identity>;
}

/// Device and inode of a file.
pub(super) type Identity = (u64, u64);

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened or read.
    #[error("the audit log {path} cannot be opened")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("the audit log {0} is written by another process")]
    InUse(PathBuf),
    /// The file is something else, which must not be cut or appended to.
    #[error("{0} is not an audit log; name another file, or move this one away")]
    NotALog(PathBuf),
}

/// Opens the log at `path` for this process alone, and cuts off an event that was being written
/// when the last process or the machine ended. Says how many bytes that were.
pub(super) fn open(path: &Path) -> Result<(LockedFile, u64), OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    // An existing file keeps its mode: whoever lets a log shipper read it had a reason.
    let mut file =
        options.read(true).append(true).create(true).mode(0o600).open(path).map_err(io_error)?;
    if !file.metadata().map_err(io_error)?.is_file() {
        return Err(OpenError::NotALog(path.to_owned()));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => return Err(io_error(source)),
    }
    if !is_log(&mut file).map_err(io_error)? {
        return Err(OpenError::NotALog(path.to_owned()));
    }
    let cut = cut_torn_tail(&mut file).map_err(io_error)?;
    Ok((LockedFile::new(file), cut))
}

/// Opens the log at `path` unless that is the file which is open already.
pub(super) fn reopen(
    path: &Path,
    current: Option<Identity>,
) -> Result<Option<(LockedFile, u64)>, OpenError> {
    let found = std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    if found.is_some() && found == current { Ok(None) } else { open(path).map(Some) }
}

/// Appends all of `bytes` or, if the storage allows, nothing. After an error `torn` says how many
/// bytes still have to be cut off the end; the next call begins with that.
pub(super) fn append_whole(
    storage: &dyn Storage,
    bytes: &[u8],
    torn: &mut usize,
) -> io::Result<()> {
    cut_back(storage, torn)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let error = match storage.append(rest) {
            Ok(0) => io::Error::from(ErrorKind::WriteZero),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        *torn = bytes.len() - rest.len();
        cut_back(storage, torn)?;
        return Err(error);
    }
    Ok(())
}

fn cut_back(storage: &dyn Storage, torn: &mut usize) -> io::Result<()> {
    if *torn == 0 {
        return Ok(());
    }
    let bytes = u64::try_from(*torn).unwrap_or(u64::MAX);
    storage.cut(storage.length()?.saturating_sub(bytes))?;
    *torn = 0;
    Ok(())
}

/// Whether the file begins as a log does, as far as it goes: with a line, or with what a loss of power
/// leaves of the first one, be it zeros.
fn is_log(file: &mut File) -> io::Result<bool> {
    let mut beginning = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    let length = u64::try_from(line::BEGINNING.len()).unwrap_or(0);
    (&*file).take(length).read_to_end(&mut beginning)?;
    let written = beginning.iter().take_while(|byte| **byte != 0).count();
    let fits = |(found, expected): (&u8, &u8)| match expected {
        b'?' => found.is_ascii_hexdigit(),
        _ => found == expected,
    };
    let begins = beginning.iter().zip(line::BEGINNING).take(written).all(fits);
    Ok(begins && (written == beginning.len() || is_zero_from(file, written)?))
}

fn is_zero_from(file: &mut File, start: usize) -> io::Result<bool> {
    file.seek(SeekFrom::Start(u64::try_from(start).unwrap_or(0)))?;
    let mut block = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut block)?;
        let read = block.get(..count).unwrap_or_default();
        if count == 0 || read.iter().any(|byte| *byte != 0) {
            return Ok(count == 0);
        }
    }
}

/// Cuts the file behind its last line break. What a loss of power leaves behind it, be it half an
/// event or a block of zeros, nobody was told was recorded for good.
fn cut_torn_tail(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(64 * 1024);
        let room = usize::try_from(end - start).unwrap_or(0);
        let block = block.get_mut(..room).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(position) = block.iter().rposition(|byte| *byte == b'\n') {
            end = start + u64::try_from(position + 1).unwrap_or(0);
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(length - end)
}

impl Storage for LockedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&**self).write(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn identity(&self) -> Option<Identity> {
        self.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
}
