//! What the server remembers: everything is loaded at start, and every write is one atomic commit
//! of a list of changes on top of a known revision.
//!
//! Nothing else in the server knows SQL, and nothing on the path of an agent's call comes here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use steeple::bundle::Bundle;
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};
use thiserror::Error;

pub use self::record::{
    Fact, Facts, JoinToken, KeyOwner, KeyOwnerError, NewSerial, Node, TokenHash,
};
use crate::federation::Relationship;

mod document;
pub mod memory;
mod record;
pub mod sqlite;

/// How often the store was written to. It grows by one with each commit.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

/// All that is stored. Lists are in the order of their IDs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stored {
    /// The revision that this is the state of.
    pub revision: Revision,
    /// Registration entries.
    pub entries: Vec<Arc<Entry>>,
    /// Attested nodes, banned ones included.
    pub nodes: Vec<Arc<Node>>,
    /// Trust bundles, the server's own included.
    pub bundles: Vec<Arc<Bundle>>,
    /// Relationships with other trust domains.
    pub relationships: Vec<Arc<Relationship>>,
    /// Join tokens that were not used yet.
    pub join_tokens: Vec<JoinToken>,
    /// The journal of the authorities, as they wrote it.
    pub journal: Option<Arc<[u8]>>,
    /// What the server has to know of itself.
    pub facts: Facts,
}

/// One change of what is stored. To put is to create or to replace; to delete what is not there
/// changes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A registration entry is now this.
    PutEntry(Arc<Entry>),
    /// A registration entry is gone.
    DeleteEntry(EntryId),
    /// An attested node is now this.
    PutNode(Arc<Node>),
    /// An attested node is gone.
    DeleteNode(SpiffeId),
    /// The bundle of a trust domain is now this.
    PutBundle(Arc<Bundle>),
    /// The bundle of a trust domain is gone.
    DeleteBundle(TrustDomain),
    /// The relationship with a trust domain is now this.
    PutRelationship(Arc<Relationship>),
    /// There is no relationship with a trust domain any more.
    DeleteRelationship(TrustDomain),
    /// A join token may be used.
    PutJoinToken(JoinToken),
    /// A join token was used or has expired.
    DeleteJoinToken(TokenHash),
    /// The journal of the authorities is now this.
    PutJournal(Arc<[u8]>),
    /// The server learned this of itself.
    PutFact(Fact),
}

/// Changes that were committed together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// The revision that they led to.
    pub revision: Revision,
    /// The changes in order.
    pub changes: Vec<Change>,
}

/// Where the server keeps what it must not forget.
///
/// An implementation may be shared by several servers. A failed call changed nothing that this or
/// any other call shows, save where the store itself cannot tell; the next `commit` then answers
/// [`DatastoreError::Conflict`].
pub trait Datastore: fmt::Debug + Send + Sync {
    /// All that is stored, and the revision it is at.
    fn load(&self) -> BoxFuture<'_, Result<Stored, DatastoreError>>;

    /// Applies all of `changes` in order, or none of them, on top of `base`. When it returns, they
    /// survive a loss of power.
    fn commit<'a>(
        &'a self,
        base: Revision,
        changes: &'a [Change],
    ) -> BoxFuture<'a, Result<Revision, DatastoreError>>;

    /// What was committed after `revision`, in order.
    fn changes_since(
        &self,
        revision: Revision,
    ) -> BoxFuture<'_, Result<Vec<Commit>, DatastoreError>>;

    /// Whether there is room for so many bytes and they can be written: does that, and takes them
    /// back. It is no commit, and nothing shows it.
    fn find_room(&self, bytes: u32) -> BoxFuture<'_, Result<(), DatastoreError>>;
}

/// Why the store cannot be used. Every text says what would help.
#[derive(Debug, Error)]
pub enum DatastoreError {
    /// Somebody else wrote since the revision that a commit was for.
    #[error("the database was changed by another server; it is at revision {}", at.0)]
    Conflict {
        /// The revision of the store.
        at: Revision,
    },
    /// The log of changes does not reach back that far.
    #[error("the log of changes starts after revision {}; everything has to be loaded", oldest.0)]
    Pruned {
        /// The oldest revision whose successors are known.
        oldest: Revision,
    },
    /// The directory of the database is missing.
    #[error("{}: there is no such directory; create it, owned by the server's user", .0.display())]
    NoDirectory(PathBuf),
    /// The server may not open or write the file.
    #[error(
        "{}: the server's user may not read and write it; correct the owner or mode of the file \
         and its directory, or mount the file system writable",
        .0.display()
    )]
    ReadOnly(PathBuf),
    /// Another process holds the database.
    #[error("{}: in use by another process; stop the other server, or give each its own", .0.display())]
    Locked(PathBuf),
    /// There is no space left.
    #[error("{}: the disk or quota is full; free some space, nothing was written", .0.display())]
    Full(PathBuf),
    /// The file is not a database, or one of another program.
    #[error("{}: is not a database of this server; name another file", .0.display())]
    Foreign(PathBuf),
    /// The database was written by a newer version of the server.
    #[error(
        "{}: has schema {found}, this version knows {known}; run the newer version, or restore \
         a backup made before the upgrade",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The last schema that this version knows.
        known: i64,
    },
    /// The database is damaged.
    #[error("{}: damaged ({what}); restore a backup", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// The database answered something else.
    #[error("{}: the database failed while {doing}", path.display())]
    Failed {
        /// The database.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DatastoreError {
    /// What is wrong, without where: for whoever asked over the API.
    #[must_use]
    pub fn in_short(&self) -> &'static str {
        match self {
            Self::Conflict { .. } | Self::Pruned { .. } => "other servers write all the time",
            Self::NoDirectory(_) => "the directory of the database is gone",
            Self::ReadOnly(_) => "the database cannot be written",
            Self::Locked(_) => "the database is in use by another process",
            Self::Full(_) => "the disk or quota of the database is full",
            Self::Foreign(_) | Self::Newer { .. } => "the database is not one of this server",
            Self::Corrupt { .. } => "the database is damaged; restore a backup",
            Self::Failed { .. } => "the database failed",
        }
    }
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
pub(crate) mod suite;
