//! The PIN of a token: a secret that is never printed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// More than any PIN takes.
const MAX_LENGTH: u64 = 1024;

/// What a token wants to know before it lets its keys be used.
pub struct Pin(Zeroizing<String>);

/// Why there is no PIN.
#[derive(Debug, Error)]
pub enum PinError {
    /// Its file cannot be read.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// Others than the owner could read it.
    #[error("may be read by others (mode {0:o}); set its mode to 600")]
    Exposed(u32),
    /// It is empty, longer than any PIN, or of several lines.
    #[error("is not one line of 1 to {MAX_LENGTH} bytes")]
    Malformed,
}

impl Pin {
    /// The PIN in `text`, the end of its line left out.
    pub fn new(text: &str) -> Result<Self, PinError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let fits = u64::try_from(line.len()).is_ok_and(|length| length <= MAX_LENGTH);
        if line.is_empty() || !fits || line.contains(['\n', '\r', '\0']) {
            return Err(PinError::Malformed);
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }

    /// Reads the PIN from a file that nobody but its owner may read.
    pub fn read(path: &Path) -> Result<Self, PinError> {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PinError::Exposed(mode));
        }
        // Room for all, so that the buffer does not grow and leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(2048));
        file.take(MAX_LENGTH + 3).read_to_string(&mut text)?;
        Self::new(&text)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(redacted)")
    }
}
