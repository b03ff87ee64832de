//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is watched for one thing.
pub type Watched = AsyncFd<Arc<OwnedFd>>;

/// Watches a descriptor, which must not block. To be called within a runtime.
///
/// # Errors
/// The system refuses to watch it.
#[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor it did not make")]
pub fn watch(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<Watched> {
    // SAFETY: the `AsyncFd` holds a share of the `OwnedFd`, which closes only when the last share
    // is dropped and gives the same number until then; nothing puts another file in its place.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
