//! Keys that end with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{KeyAlgorithm, KeyId, KeyStore, KeyStoreError, PrivateKey, Signer};

/// A key store in memory.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    keys: Mutex<BTreeMap<KeyId, Arc<PrivateKey>>>,
}

impl MemoryKeyStore {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<KeyId, Arc<PrivateKey>>) -> T) -> T {
        act(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tonic::async_trait]
impl KeyStore for MemoryKeyStore {
    async fn generate(
        &self,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyStoreError> {
        let key = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm)).await;
        let key = key.map_err(std::io::Error::from)?.map_err(KeyStoreError::Generate)?;
        let key = Arc::new(key);
        self.with(|keys| keys.insert(id.clone(), key.clone()));
        Ok(key)
    }

    async fn load(&self, id: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        Ok(self.with(|keys| keys.get(id).cloned()).map(|key| key as Arc<dyn Signer>))
    }

    async fn list(&self) -> Result<Vec<KeyId>, KeyStoreError> {
        Ok(self.with(|keys| keys.keys().cloned().collect()))
    }

    async fn remove(&self, id: &KeyId) -> Result<(), KeyStoreError> {
        self.with(|keys| keys.remove(id));
        Ok(())
    }
}
