//! Opens the key store that the configuration names.

use std::sync::Arc;

use anyhow::Context as _;
use steeple::keys::pkcs11::{Pin, Pkcs11KeyStore};
use steeple::keys::{DirectoryKeyStore, KeyStore, MemoryKeyStore};

use crate::config::{KeyStoreConfig, PinSource, Pkcs11Config};

/// Opens it, in a thread that may wait for a token.
pub(super) async fn open(config: &KeyStoreConfig) -> anyhow::Result<Arc<dyn KeyStore>> {
    match config {
        KeyStoreConfig::Directory(path) => Ok(Arc::new(DirectoryKeyStore::open(path)?)),
        KeyStoreConfig::Memory => Ok(Arc::new(MemoryKeyStore::default())),
        KeyStoreConfig::Pkcs11(config) => {
            let config = config.clone();
            let opened = tokio::task::spawn_blocking(move || pkcs11(&config));
            Ok(Arc::new(opened.await.context("opening the key store")??))
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
