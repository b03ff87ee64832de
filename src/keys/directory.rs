//! Keys in a directory: one PKCS #8 file each, 0600 in a directory of 0700.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyAlgorithm, KeyId, KeyStore, KeyStoreError, PrivateKey, PrivateKeyError, Signer};
use crate::atomic_file::{self, Access};

const EXTENSION: &str = "key";

/// More than any key takes.
const MAX_FILE_LENGTH: u64 = 64 * 1024;

/// A key store in a directory of the file system.
#[derive(Clone, Debug)]
pub struct DirectoryKeyStore {
    directory: Arc<Path>,
}

impl DirectoryKeyStore {
    /// Opens the store and makes its directory if there is none. A directory or key that others
    /// may read is refused: the keys in it may be known to them.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, KeyStoreError> {
        let directory = directory.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| failed(&directory, "made", error))?;
        let metadata = fs::metadata(&directory);
        let metadata = metadata.map_err(|error| failed(&directory, "looked at", error))?;
        check_access(&directory, &metadata.permissions(), 0o700)?;
        Ok(Self { directory: directory.into() })
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.directory.join(format!("{id}.{EXTENSION}"))
    }

    fn write(&self, id: &KeyId, algorithm: KeyAlgorithm) -> Result<PrivateKey, KeyStoreError> {
        let key = PrivateKey::generate(algorithm).map_err(KeyStoreError::Generate)?;
        let pkcs8 = key.pkcs8().map_err(KeyStoreError::Generate)?;
        let path = self.path(id);
        let written = atomic_file::write(&path, pkcs8.expose(), Access::Private);
        written.map_err(|error| failed(&path, "written", error))?;
        Ok(key)
    }

    fn read(&self, id: &KeyId) -> Result<Option<PrivateKey>, KeyStoreError> {
        let path = self.path(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "read", error)),
        };
        let unread = |error| failed(&path, "read", error);
        let metadata = file.metadata().map_err(unread)?;
        check_access(&path, &metadata.permissions(), 0o600)?;
        let unusable =
            |source| KeyStoreError::Unusable { id: id.clone(), path: shown(&path), source };
        if metadata.len() > MAX_FILE_LENGTH {
            return Err(unusable(PrivateKeyError::Malformed));
        }
        // Room for all, so that the buffer does not grow and leave a copy behind.
        let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(room));
        file.take(MAX_FILE_LENGTH).read_to_end(&mut pkcs8).map_err(unread)?;
        PrivateKey::from_pkcs8(&pkcs8).map(Some).map_err(unusable)
    }

    fn names(&self) -> io::Result<Vec<KeyId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = PathBuf::from(entry?.file_name());
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                ids.extend(stem.and_then(|stem| stem.parse::<KeyId>().ok()));
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn delete(&self, id: &KeyId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Ok(()) => File::open(&self.directory)?.sync_all(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, KeyStoreError> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || act(&store)).await.map_err(io::Error::from)?
    }
}

#[tonic::async_trait]
impl KeyStore for DirectoryKeyStore {
    async fn generate(
        &self,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyStoreError> {
        let id = id.clone();
        let key = self.blocking(move |store| store.write(&id, algorithm)).await?;
        Ok(Arc::new(key))
    }

    async fn load(&self, id: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        let id = id.clone();
        let key = self.blocking(move |store| store.read(&id)).await?;
        Ok(key.map(|key| Arc::new(key) as Arc<dyn Signer>))
    }

    async fn list(&self) -> Result<Vec<KeyId>, KeyStoreError> {
        let listed =
            |store: &Self| store.names().map_err(|error| failed(&store.directory, "listed", error));
        self.blocking(listed).await
    }

    async fn remove(&self, id: &KeyId) -> Result<(), KeyStoreError> {
        let id = id.clone();
        let delete = move |store: &Self| {
            store.delete(&id).map_err(|error| failed(&store.path(&id), "removed", error))
        };
        self.blocking(delete).await
    }
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> KeyStoreError {
    KeyStoreError::File { path: shown(path), action, source }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn check_access(
    path: &Path,
    permissions: &Permissions,
    expected: u32,
) -> Result<(), KeyStoreError> {
    let mode = permissions.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyStoreError::Exposed { path: shown(path), mode, expected })
}
