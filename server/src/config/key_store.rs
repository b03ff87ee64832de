//! Where keys live: the table `[key_store]`, and what it comes to.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use steeple::config::ConfigError;
use steeple::id::TrustDomain;
use steeple::keys::pkcs11::{KeyPrefix, KeyPrefixError, TokenName};

use super::DatastoreConfig;
use super::raw::invalid;

/// The longest prefix of keys in a token, which leaves room for what the server adds to it.
const MAX_PREFIX: usize = 200;

/// Where keys live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyStoreConfig {
    /// In files of a directory.
    Directory(PathBuf),
    /// In memory, so that every start makes new authorities.
    Memory,
    /// In a PKCS #11 token.
    Pkcs11(Pkcs11Config),
}

/// A PKCS #11 token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pkcs11Config {
    /// The library that talks to it.
    pub module: PathBuf,
    /// Which of the library's tokens.
    pub token: TokenName,
    /// Where the PIN is.
    pub pin: PinSource,
    /// What the names of this server's keys begin with, before what no other server has.
    pub prefix: KeyPrefix,
}

/// Where a PIN is, which is never in the configuration itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PinSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Environment(String),
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum KeyStore {
    Directory { path: Option<PathBuf> },
    Memory {},
    Pkcs11(Pkcs11),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pkcs11 {
    module: PathBuf,
    token_label: Option<String>,
    slot: Option<u64>,
    pin_file: Option<PathBuf>,
    pin_env: Option<String>,
    key_prefix: Option<String>,
}

pub(super) fn check(
    raw: Option<KeyStore>,
    (data_dir, trust_domain): (&Path, &TrustDomain),
    datastore: &DatastoreConfig,
) -> Result<KeyStoreConfig, ConfigError> {
    let forgets = *datastore == DatastoreConfig::Memory;
    Ok(match raw {
        Some(kept @ (KeyStore::Directory { .. } | KeyStore::Pkcs11(_))) if forgets => {
            let must_be = "\"memory\", or left out, beside a datastore in memory: that forgets which \
                           keys are its own, and the next start would replace them";
            let found = match kept {
                KeyStore::Pkcs11(_) => "\"pkcs11\"",
                KeyStore::Directory { .. } | KeyStore::Memory {} => "\"directory\"",
            };
            return Err(invalid("key_store.type", found, must_be));
        }
        None if forgets => KeyStoreConfig::Memory,
        None => KeyStoreConfig::Directory(data_dir.join("keys")),
        Some(KeyStore::Directory { path }) => {
            KeyStoreConfig::Directory(data_dir.join(path.unwrap_or_else(|| "keys".into())))
        }
        Some(KeyStore::Memory {}) => KeyStoreConfig::Memory,
        Some(KeyStore::Pkcs11(raw)) => {
            KeyStoreConfig::Pkcs11(raw.check(data_dir, trust_domain.as_str())?)
        }
    })
}

impl Pkcs11 {
    fn check(self, data_dir: &Path, trust_domain: &str) -> Result<Pkcs11Config, ConfigError> {
        if !self.module.is_absolute() {
            let must_be = "the absolute path of a PKCS #11 library";
            return Err(invalid("key_store.module", self.module.display(), must_be));
        }
        let token = match (self.token_label, self.slot) {
            (Some(label), None) => TokenName::Label(label),
            (None, Some(slot)) => TokenName::Slot(slot),
            (Some(_), Some(_)) => return Err(one_of("key_store.token_label", "set beside `slot`")),
            (None, None) => return Err(one_of("key_store.token_label", "not set, nor is `slot`")),
        };
        let pin = match (self.pin_file, self.pin_env) {
            (Some(file), None) => PinSource::File(data_dir.join(file)),
            (None, Some(name)) => PinSource::Environment(name),
            (Some(_), Some(_)) => return Err(one_of("key_store.pin_file", "set beside `pin_env`")),
            (None, None) => return Err(one_of("key_store.pin_file", "not set, nor is `pin_env`")),
        };
        let prefix = self.key_prefix.as_deref().unwrap_or(trust_domain);
        let refused = |why: &str| {
            let found = format!("{prefix:?} ({why})");
            invalid("key_store.key_prefix", found, "a name such as example.org or server-1")
        };
        if prefix.len() > MAX_PREFIX {
            return Err(refused(&format!("longer than {MAX_PREFIX} bytes")));
        }
        let prefix = prefix.parse().map_err(|error: KeyPrefixError| refused(&error.to_string()))?;
        Ok(Pkcs11Config { module: self.module, token, pin, prefix })
    }
}

fn one_of(key: &'static str, found: &str) -> ConfigError {
    invalid(key, found, "one of the two, and not both")
}
