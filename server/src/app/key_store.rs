//! Opens the key store that the configuration names.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use steeple::atomic_file::{self, Access};
use steeple::keys::pkcs11::{Pin, Pkcs11KeyStore};
use steeple::keys::{KeyStore, MemoryKeyStore};

use self::directory::KeyDirectory;
use crate::ca::Ledger;
use crate::config::{DatastoreConfig, KeyStoreConfig, PinSource, Pkcs11Config};
use crate::datastore::KeyOwner;
use crate::registry::Registry;

mod directory;

/// The file with the name that sets this server's keys in a token apart from those of others.
const ID: &str = "key-store-id";

/// The key store of this server, until this is dropped.
#[derive(Debug)]
pub(super) enum Keys {
    /// In files, which may turn out to be somebody else's.
    Directory(KeyDirectory),
    /// In memory or a token, where nobody else has what is ours.
    Own(Arc<dyn KeyStore>),
}

impl Keys {
    /// Opens it, in a thread that may wait for a token.
    pub(super) async fn open(config: &KeyStoreConfig, data_dir: &Path) -> anyhow::Result<Self> {
        Ok(match config {
            KeyStoreConfig::Directory(path) => Self::Directory(KeyDirectory::take(path)?),
            KeyStoreConfig::Memory => Self::Own(Arc::new(MemoryKeyStore::default())),
            KeyStoreConfig::Pkcs11(config) => {
                let mut config = config.clone();
                // Never what another server may choose, be it one of this trust domain: a store
                // replaces and destroys what has its prefix.
                let prefix = format!("{}.{}", config.prefix.as_str(), own_id(data_dir)?);
                config.prefix = prefix.parse().context("`key_store.key_prefix`")?;
                let opened = tokio::task::spawn_blocking(move || pkcs11(&config));
                Self::Own(Arc::new(opened.await.context("opening the key store")??))
            }
        })
    }

    /// The keys, once it is certain that they belong to what is stored.
    pub(super) async fn claim(
        &self,
        registry: &Registry,
        ledger: &impl Ledger,
        datastore: &DatastoreConfig,
    ) -> anyhow::Result<Arc<dyn KeyStore>> {
        match self {
            Self::Own(keys) => Ok(Arc::clone(keys)),
            Self::Directory(directory) => {
                directory.claim(registry, ledger, datastore.to_string()).await?;
                Ok(Arc::new(directory.keys().clone()))
            }
        }
    }
}

/// Sees whether what is outside of this server would let it be opened.
pub(super) fn check(config: &KeyStoreConfig) -> anyhow::Result<()> {
    match config {
        // Made when there is none.
        KeyStoreConfig::Directory(_) | KeyStoreConfig::Memory => Ok(()),
        KeyStoreConfig::Pkcs11(config) => pkcs11(config).map(drop),
    }
}

/// This server's name in a token, made when there is none.
fn own_id(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join(ID);
    let what = || format!("the name of this server's keys: {}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim_end().parse::<KeyOwner>() {
            Ok(id) => Ok(id.to_string()),
            Err(error) => bail!(
                "{}: {error}; restore it, or delete it to begin with new authorities",
                path.display()
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = KeyOwner::random().context("no random number")?;
            atomic_file::write(&path, format!("{id}\n").as_bytes(), Access::Private)
                .with_context(what)?;
            Ok(id.to_string())
        }
        Err(error) => Err(error).with_context(what),
    }
}

fn pkcs11(config: &Pkcs11Config) -> anyhow::Result<Pkcs11KeyStore> {
    let pin = match &config.pin {
        PinSource::File(path) => {
            Pin::read(path).with_context(|| format!("`key_store.pin_file`: {}", path.display()))?
        }
        PinSource::Environment(name) => {
            let what = || format!("`key_store.pin_env`: the environment variable {name}");
            let text = std::env::var(name).with_context(what)?;
            Pin::new(&text).with_context(what)?
        }
    };
    let opened = Pkcs11KeyStore::open(steeple::keys::pkcs11::Pkcs11Config {
        module: config.module.clone(),
        token: config.token.clone(),
        pin,
        prefix: config.prefix.clone(),
    });
    opened.context("opening the token that `key_store` names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_name_of_its_own_that_stays() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = own_id(one.path()).unwrap();
        assert_eq!(id.len(), 16);
        assert_eq!(own_id(one.path()).unwrap(), id);
        assert_ne!(own_id(other.path()).unwrap(), id);
        for damaged in ["", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdef0"] {
            fs::write(one.path().join(ID), damaged).unwrap();
            let error = own_id(one.path()).unwrap_err().to_string();
            assert!(
                error.contains("key-store-id: it does not have 16 hexadecimal digits"),
                "{error}"
            );
        }
    }
}
