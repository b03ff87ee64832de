//! The directory with the keys of the authorities: one server at a time has it, and it belongs to
//! what that server has stored. A key that is gone is an authority that nobody can bring back.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use steeple::atomic_file::{self, Access};
use steeple::keys::{DirectoryKeyStore, KeyId};
use thiserror::Error;
use tracing::info;

use crate::app::lock::{Lock, LockError};
use crate::ca::Ledger;
use crate::ca::journal::Journal;
use crate::ca::rotation::kept::{Kept, kept, with_unrecorded};
use crate::datastore::{Fact, KeyOwner, KeyOwnerError};
use crate::registry::Registry;

/// The file that whoever has the directory holds a lock on.
const LOCK: &str = "keys.lock";

/// The file that says what the keys belong to.
const OWNER: &str = "owner";

/// A directory that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(in crate::app) struct KeyDirectory {
    path: PathBuf,
    keys: DirectoryKeyStore,
    _lock: Lock,
}

/// Why a directory is not ours.
#[derive(Debug, Error)]
pub(super) enum DirectoryError {
    /// Another server has it.
    #[error(
        "the key directory {} is in use by another server ({holder}); stop that one, or set \
         another `path` in [key_store]",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// It cannot be used.
    #[error("the key directory {} cannot be used; make it the server user's own", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be told what it belongs to.
    #[error(
        "{} does not say what the keys beside it belong to; restore it, or delete it if they are \
         those of this server",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyOwnerError,
    },
    /// It belongs to something else.
    #[error(
        "the keys in {} belong to another database ({found}) than {datastore} ({own}), and would be \
         lost to it; set another `path` in [key_store], or restore the database that they belong to",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What it belongs to.
        found: KeyOwner,
        /// What is stored, and where.
        datastore: String,
        /// What keys of it belong to.
        own: KeyOwner,
    },
    /// It has keys that nothing stored tells of.
    #[error(
        "{} has keys that {datastore} does not know ({}), and new ones would take their place; \
         restore the database that they belong to, set another `path` in [key_store], or move these \
         keys away: what they signed for is then made anew, and agents that do not know it have to \
         be given the new bundle",
        path.display(), names(keys)
    )]
    Unknown {
        /// The directory.
        path: PathBuf,
        /// The keys.
        keys: Vec<KeyId>,
        /// What is stored, and where.
        datastore: String,
    },
}

/// What is to be done about the owner.
#[derive(Debug, Eq, PartialEq)]
enum Claim {
    /// Nothing.
    Held,
    /// It becomes this one, or a new one.
    Take(Option<KeyOwner>),
}

/// Why the keys are not ours.
#[derive(Debug, Eq, PartialEq)]
enum Refusal {
    Foreign { found: KeyOwner, own: KeyOwner },
    Unknown,
}

impl KeyDirectory {
    /// Makes the directory if it is not there, and takes it.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let keys = DirectoryKeyStore::open(path)?;
        let path = path.to_owned();
        match Lock::take(&path.join(LOCK)) {
            Ok(lock) => Ok(Self { path, keys, _lock: lock }),
            Err(LockError::Held(holder)) => Err(DirectoryError::InUse { path, holder }.into()),
            Err(LockError::Io(source)) => Err(DirectoryError::Io { path, source }.into()),
        }
    }

    /// The keys.
    pub(super) fn keys(&self) -> &DirectoryKeyStore {
        &self.keys
    }

    /// Makes sure that the keys belong to what is stored, or that there are none yet.
    pub(super) async fn claim(
        &self,
        registry: &Registry,
        ledger: &impl Ledger,
        datastore: String,
    ) -> anyhow::Result<()> {
        let journal = match ledger.journal().await? {
            Some(stored) => Journal::decode(&stored)?,
            None => Journal::default(),
        };
        let kept = kept(&journal, &self.keys).await?;
        let (found, own) = (self.owner()?, registry.facts().key_owner);
        let owner = match decide(found.as_ref(), own.as_ref(), &kept) {
            Ok(Claim::Held) => return Ok(()),
            Ok(Claim::Take(owner)) => owner.or_else(KeyOwner::random),
            Err(refusal) => return Err(self.refused(refusal, kept, datastore).into()),
        };
        let owner = owner.ok_or_else(|| self.failed(io::Error::other("no random number")))?;
        if !kept.unknown.is_empty() {
            let journal = with_unrecorded(&journal, &kept.unknown);
            ledger.save(journal.encode()?, Vec::new()).await?;
        }
        registry.put_fact(Fact::KeyOwner(owner.clone())).await?;
        let text = format!("{owner}\n");
        let written = atomic_file::write(&self.path.join(OWNER), text.as_bytes(), Access::Private);
        written.map_err(|source| self.failed(source))?;
        info!(path = %self.path.display(), %owner, "key directory taken");
        Ok(())
    }

    fn owner(&self) -> Result<Option<KeyOwner>, DirectoryError> {
        let path = self.path.join(OWNER);
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(owner) => Ok(Some(owner)),
                Err(source) => Err(DirectoryError::Owner { path, source }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn refused(&self, refusal: Refusal, kept: Kept, datastore: String) -> DirectoryError {
        let path = self.path.clone();
        match refusal {
            Refusal::Foreign { found, own } => {
                DirectoryError::Foreign { path, found, datastore, own }
            }
            Refusal::Unknown => DirectoryError::Unknown { path, keys: kept.unknown, datastore },
        }
    }

    fn failed(&self, source: io::Error) -> DirectoryError {
        DirectoryError::Io { path: self.path.clone(), source }
    }
}

/// Whether the keys of a directory that names `found` as its owner belong to what is stored, which
/// names `own`. What one of them does not name yet is told by the keys.
fn decide(found: Option<&KeyOwner>, own: Option<&KeyOwner>, kept: &Kept) -> Result<Claim, Refusal> {
    // Versions that named no owner did not note that they were about to make a key, either.
    let is_of_before = found.is_none() && own.is_none() && !kept.recorded.is_empty();
    match (found, own) {
        (Some(found), Some(own)) if found != own => {
            Err(Refusal::Foreign { found: found.clone(), own: own.clone() })
        }
        _ if !kept.unknown.is_empty() && !is_of_before => Err(Refusal::Unknown),
        (Some(_), Some(_)) => Ok(Claim::Held),
        (found, own) => Ok(Claim::Take(own.or(found).cloned())),
    }
}

fn names(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_what_names_them_or_knows_them() {
        let owner = |text: &str| (!text.is_empty()).then(|| text.parse::<KeyOwner>().unwrap());
        let (a, b) = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb");
        let ids = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let (none, known, alien, both) = (
            Kept::default(),
            Kept { recorded: ids(&["k"]), unknown: ids(&[]) },
            Kept { recorded: ids(&[]), unknown: ids(&["k"]) },
            Kept { recorded: ids(&["k"]), unknown: ids(&["l"]) },
        );
        let check = |found, own, kept, expected: Result<Claim, Refusal>| {
            let decided = decide(owner(found).as_ref(), owner(own).as_ref(), kept);
            assert_eq!(decided, expected, "{found} {own} {kept:?}");
        };
        let take = |name| Ok(Claim::Take(owner(name)));
        // New, or of the version before.
        check("", "", &none, take(""));
        check("", "", &known, take(""));
        check("", "", &both, take(""));
        check("", "", &alien, Err(Refusal::Unknown));
        // Stopped between the two that name the owner, or one of them restored.
        check("", a, &none, take(a));
        check("", a, &known, take(a));
        check(a, "", &none, take(a));
        check(a, "", &known, take(a));
        for kept in [&none, &known] {
            check(a, a, kept, Ok(Claim::Held));
        }
        for kept in [&alien, &both] {
            check("", a, kept, Err(Refusal::Unknown));
            check(a, "", kept, Err(Refusal::Unknown));
            check(a, a, kept, Err(Refusal::Unknown));
        }
        for kept in [&none, &known, &alien, &both] {
            let (found, own) = (a.parse().unwrap(), b.parse().unwrap());
            check(a, b, kept, Err(Refusal::Foreign { found, own }));
        }
    }
}
