//! Keys in a PKCS #11 token: made there, used there, and never read.
//!
//! A key is a pair of objects with one label, `PREFIX/KEY-ID`, and one `CKA_ID`, which counts the
//! pairs of that label. The highest is the key; those below it have been replaced, and one that
//! lacks its other half is what a generation that was cut off left behind. So a key is replaced by
//! making the next one, and what is old goes once nobody here holds it any more. One that is removed
//! while it is held loses its public half, so that it is no key to anybody else, and goes later.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thiserror::Error;
use tracing::warn;

use self::objects::{Number, Pair};
use self::signer::TokenSigner;
use self::token::Token;
use super::{KeyAlgorithm, KeyId, KeyStore, KeyStoreError, PublicKeyError, Scheme, Signer};

mod objects;
mod pin;
mod signer;
mod token;

pub use self::pin::{Pin, PinError};
pub use self::token::TokenName;

/// A key store in a PKCS #11 token.
///
/// The token may be away for a while: what needs it fails in the meantime, and works again when it
/// is back. All that waits for it does so in threads for work that blocks.
#[derive(Clone, Debug)]
pub struct Pkcs11KeyStore(Arc<Vault>);

/// Where a token is, and which of its keys are meant.
#[derive(Debug)]
pub struct Pkcs11Config {
    /// The library that talks to the token.
    pub module: PathBuf,
    /// Which of the module's tokens.
    pub token: TokenName,
    /// What the token wants to know before it lets its keys be used.
    pub pin: Pin,
    /// What sets the keys of this store apart from those of others in the token.
    pub prefix: KeyPrefix,
}

/// What the labels of a store's keys begin with: 1 to 255 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPrefix(String);

/// A prefix is empty, too long, or has another character than `[A-Za-z0-9._-]`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a prefix is 1 to 255 characters of [A-Za-z0-9._-]")]
pub struct KeyPrefixError;

/// Why a token did not do what it was asked.
#[derive(Debug, Error)]
pub enum Pkcs11Error {
    /// There is no such library, or it is of another kind.
    #[error("the PKCS #11 module {} cannot be loaded: {why}", module.display())]
    Module {
        /// Its file.
        module: PathBuf,
        /// What the loader says.
        why: String,
    },
    /// The module has no such token.
    #[error("there is no token {wanted}; the module has {found}")]
    NoToken {
        /// The one that was named.
        wanted: TokenName,
        /// Those that are there.
        found: String,
    },
    /// A label is that of several tokens.
    #[error("{0} names several tokens; name one of them by its slot")]
    Ambiguous(TokenName),
    /// The PIN is wrong. It is not tried again, since a token counts how often that happens.
    #[error("the token refuses the PIN")]
    Pin,
    /// The PIN was wrong too often, here or elsewhere.
    #[error("the token is locked, as its PIN was wrong too often")]
    Locked,
    /// The PIN was wrong elsewhere, and trying another one here could lock the token.
    #[error("one more wrong PIN locks the token; log in with another program first")]
    LastTry,
    /// The token was not there when it was last looked for.
    #[error("the token is out of reach")]
    Away,
    /// All sessions are waiting for the token.
    #[error("the token is busy")]
    Busy,
    /// The key was removed.
    #[error("the key is no longer in the token")]
    Gone,
    /// The public half of a key is not one that is trusted here.
    #[error("the token's public key cannot be used")]
    PublicKey(#[from] PublicKeyError),
    /// A key could leave the token.
    #[error("the token made a key that may leave it")]
    Extractable,
    /// A key does not sign as its public half expects.
    #[error("a signature by the token does not verify")]
    Unproven,
    /// There is no random number to name a key by.
    #[error("no random number")]
    Random,
    /// The module or the token failed.
    #[error("the token failed")]
    Failed(#[source] cryptoki::error::Error),
}

/// What there is of one store.
#[derive(Debug)]
struct Vault {
    token: Arc<Token>,
    prefix: KeyPrefix,
    /// The signers that somebody may hold, the keys of which are no leftovers.
    held: Mutex<HashMap<Number, Weak<TokenSigner>>>,
}

impl Pkcs11KeyStore {
    /// Loads the module and logs in. Blocks for as long as the token takes.
    pub fn open(config: Pkcs11Config) -> Result<Self, Pkcs11Error> {
        let token = Arc::new(Token::open(&config.module, config.token, config.pin)?);
        Ok(Self(Arc::new(Vault { token, prefix: config.prefix, held: Mutex::default() })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Vault) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let vault = Arc::clone(&self.0);
        let acted = tokio::task::spawn_blocking(move || act(&vault)).await;
        Ok(acted.map_err(io::Error::from)??)
    }
}

#[tonic::async_trait]
impl KeyStore for Pkcs11KeyStore {
    async fn generate(
        &self,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyStoreError> {
        let id = id.clone();
        Ok(self.blocking(move |vault| vault.generate(&id, algorithm)).await?)
    }

    async fn load(&self, id: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        let id = id.clone();
        let signer = self.blocking(move |vault| vault.load(&id)).await?;
        Ok(signer.map(|signer| signer as Arc<dyn Signer>))
    }

    async fn list(&self) -> Result<Vec<KeyId>, KeyStoreError> {
        self.blocking(Vault::list).await
    }

    async fn remove(&self, id: &KeyId) -> Result<(), KeyStoreError> {
        let id = id.clone();
        self.blocking(move |vault| vault.remove(&id)).await
    }
}

impl Vault {
    fn generate(
        &self,
        id: &KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<TokenSigner>, Pkcs11Error> {
        let label = self.prefix.label(id);
        self.token.with(|open| {
            let last = objects::pairs(open, Some(&label))?.into_iter().map(|pair| pair.number);
            let next = Number::after(last.max())?;
            objects::generate(open, &label, next, algorithm)
        })?;
        self.load(id)?.ok_or(Pkcs11Error::Gone)
    }

    fn load(&self, id: &KeyId) -> Result<Option<Arc<TokenSigner>>, Pkcs11Error> {
        let label = self.prefix.label(id);
        let pairs = self.token.with(|open| objects::pairs(open, Some(&label)))?;
        let newest = newest(&pairs);
        let signer = newest.map(|pair| self.signer(pair)).transpose()?;
        if pairs.len() > 1
            && let Err(error) = self.sweep(&label)
        {
            // They go next time.
            let error = &error as &dyn std::error::Error;
            warn!(key = %id, error, "keys that were replaced are still in the token");
        }
        Ok(signer)
    }

    fn list(&self) -> Result<Vec<KeyId>, Pkcs11Error> {
        let pairs = self.token.with(|open| objects::pairs(open, None))?;
        let whole = pairs.iter().filter(|pair| pair.is_whole());
        let mut ids: Vec<_> = whole.filter_map(|pair| self.prefix.id(&pair.label)).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    fn remove(&self, id: &KeyId) -> Result<(), Pkcs11Error> {
        let label = self.prefix.label(id);
        self.token.with(|open| {
            let held = self.in_use();
            objects::pairs(open, Some(&label))?.iter().try_for_each(|pair| {
                if held.contains(&pair.number) {
                    objects::hide(open, pair)
                } else {
                    objects::destroy(open, pair)
                }
            })
        })
    }

    /// The one signer of a key. A key that was not used here before shows that it can sign.
    fn signer(&self, pair: &Pair) -> Result<Arc<TokenSigner>, Pkcs11Error> {
        let known = self.held().get(&pair.number).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok(known);
        }
        let public = self.token.with(|open| {
            objects::check_stays(open, pair)?;
            objects::public_key(open, pair)
        })?;
        let signer = TokenSigner::new(Arc::clone(&self.token), pair, public);
        let signature = signer.try_sign(Scheme::X509, PROOF)?;
        if !signer.public_key().verifies(Scheme::X509, PROOF, &signature) {
            return Err(Pkcs11Error::Unproven);
        }
        let signer = Arc::new(signer);
        self.held().insert(pair.number, Arc::downgrade(&signer));
        Ok(signer)
    }

    /// Removes what is below the newest pair and in nobody's hands.
    fn sweep(&self, label: &str) -> Result<(), Pkcs11Error> {
        self.token.with(|open| {
            // Found anew, since numbers of objects end with what they were found in.
            let pairs = objects::pairs(open, Some(label))?;
            let newest = newest(&pairs).map(|pair| pair.number);
            let held = self.in_use();
            let is_left = |pair: &&Pair| Some(pair.number) < newest && !held.contains(&pair.number);
            pairs.iter().filter(is_left).try_for_each(|pair| objects::destroy(open, pair))
        })
    }

    /// The pairs whose signers somebody holds.
    fn in_use(&self) -> Vec<Number> {
        let mut held = self.held();
        held.retain(|_, signer| signer.strong_count() > 0);
        held.keys().copied().collect()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<Number, Weak<TokenSigner>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pair that is the key.
fn newest(pairs: &[Pair]) -> Option<&Pair> {
    pairs.iter().filter(|pair| pair.is_whole()).max_by_key(|pair| pair.number)
}

/// What a key signs to show that it can.
const PROOF: &[u8] = b"steeple: this key signs as its public half expects";

impl KeyPrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn label(&self, id: &KeyId) -> String {
        format!("{}/{id}", self.0)
    }

    /// The key of a label, if it is one of this prefix.
    fn id(&self, label: &str) -> Option<KeyId> {
        label.strip_prefix(&self.0)?.strip_prefix('/')?.parse().ok()
    }
}

impl FromStr for KeyPrefix {
    type Err = KeyPrefixError;

    fn from_str(text: &str) -> Result<Self, KeyPrefixError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
            return Err(KeyPrefixError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<cryptoki::error::Error> for Pkcs11Error {
    fn from(error: cryptoki::error::Error) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests;
