//! What a node keeps on disk to be the same agent after a restart: its key, its SVID, and what it
//! trusts, in one file, so that they belong together whenever the power fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use steeple::atomic_file::{self, Access};
use steeple::bundle::{Bundle, X509Authority};
use steeple::id::TrustDomain;
use steeple::jwk::pem;
use steeple::keys::PrivateKey;
use steeple::tasks;
use steeple::x509::{Chain, X509Svid};
use thiserror::Error;
use zeroize::Zeroizing;

use super::attestor::Mark;

const VERSION: u32 = 1;

/// Larger than any file that is written, so that no copy of a key is left behind while it grows.
const ROOM: usize = 256 * 1024;

/// What is kept.
#[derive(Debug, Default)]
pub struct Saved {
    /// The authorities of the server's trust domain, as the server last said. None before a first
    /// contact.
    pub trust: Vec<X509Authority>,
    /// The last evidence that was used and works once only.
    pub spent: Option<Mark>,
    /// What makes this node an agent.
    pub identity: Option<Identity>,
}

/// What makes this node an agent.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The agent's key.
    pub key: Arc<PrivateKey>,
    /// Its SVID.
    pub svid: X509Svid,
    /// Whether the method that made it an agent works again.
    pub reattestable: bool,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum SavedError {
    /// It cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what an agent wrote.
    #[error("{} is damaged ({what}); remove it, and the node is attested anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is that of an agent elsewhere.
    #[error("{} belongs to an agent of {theirs}; give this one a data directory of its own", path.display())]
    OtherTrustDomain {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: TrustDomain,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    trust_domain: TrustDomain,
    trust: Option<String>,
    spent_evidence_sha256: Option<String>,
    svid: Option<Svid>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Svid {
    key: Secret,
    chain: String,
    reattestable: bool,
}

/// Base64 has nothing that JSON escapes, so it is read and written without further copies.
struct Secret(Zeroizing<String>);

/// What the file at `path` says; nothing if there is none.
pub fn load(path: &Path, own: &TrustDomain) -> Result<Saved, SavedError> {
    let text = match std::fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(source) => return Err(SavedError::Io { path: path.to_owned(), source }),
    };
    let damaged = |what: String| SavedError::Damaged { path: path.to_owned(), what };
    let file: File = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(damaged(format!("version {} where {VERSION} was expected", file.version)));
    }
    if file.trust_domain != *own {
        let theirs = file.trust_domain;
        return Err(SavedError::OtherTrustDomain { path: path.to_owned(), theirs });
    }
    let trust = match &file.trust {
        Some(text) => pem::parse(text.as_bytes()).map_err(|error| damaged(error.to_string()))?,
        None => Vec::new(),
    };
    let identity = file.svid.as_ref().map(identity).transpose().map_err(damaged)?;
    Ok(Saved { trust, spent: file.spent_evidence_sha256.map(Mark::from_stored), identity })
}

/// Makes the file at `path` say this, durably.
pub fn store(path: &Path, own: &TrustDomain, saved: &Saved) -> Result<(), SavedError> {
    let failed = |source| SavedError::Io { path: path.to_owned(), source };
    let file = File {
        version: VERSION,
        trust_domain: own.clone(),
        trust: (!saved.trust.is_empty())
            .then(|| pem::write(saved.trust.iter().map(|authority| &authority.certificate))),
        spent_evidence_sha256: saved.spent.as_ref().map(|mark| mark.as_str().to_owned()),
        svid: saved.identity.as_ref().map(svid).transpose().map_err(failed)?,
    };
    let mut text = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer_pretty(&mut *text, &file).map_err(|error| failed(error.into()))?;
    tasks::aside(|| atomic_file::write(path, &text, Access::Private)).map_err(failed)
}

impl Saved {
    /// What is trusted, as a bundle without anything else in it; `None` if nothing is.
    #[must_use]
    pub fn bundle(&self, own: &TrustDomain) -> Option<Bundle> {
        (!self.trust.is_empty())
            .then(|| Bundle { x509_authorities: self.trust.clone(), ..Bundle::empty(own.clone()) })
    }
}

fn identity(svid: &Svid) -> Result<Identity, String> {
    let pkcs8 = STANDARD.decode(&*svid.key.0).map(Zeroizing::new);
    let pkcs8 = pkcs8.map_err(|_not_base64| "svid.key is not base64".to_owned())?;
    let key = PrivateKey::from_pkcs8(&pkcs8).map_err(|error| format!("svid.key: {error}"))?;
    let chain = Chain::from_pem(svid.chain.as_bytes());
    let chain = chain.and_then(X509Svid::new).map_err(|error| format!("svid.chain: {error}"))?;
    Ok(Identity { key: Arc::new(key), svid: chain, reattestable: svid.reattestable })
}

fn svid(identity: &Identity) -> io::Result<Svid> {
    let pkcs8 = identity.key.pkcs8().map_err(io::Error::other)?;
    Ok(Svid {
        key: Secret(Zeroizing::new(STANDARD.encode(pkcs8.expose()))),
        chain: identity.svid.chain().to_pem(),
        reattestable: identity.reattestable,
    })
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use steeple::clock::from_unix_seconds;
    use steeple::keys::Signer as _;

    use super::*;
    use crate::node::testing::Authority;

    fn own() -> TrustDomain {
        TrustDomain::parse("td").unwrap()
    }

    fn saved() -> Saved {
        let authority = Authority::new(from_unix_seconds(1_000));
        Saved {
            trust: authority.bundle().x509_authorities,
            spent: Some(Mark::of(b"token")),
            identity: Some(authority.identity("spiffe://td/spire/agent/x", 60)),
        }
    }

    #[test]
    fn an_agent_is_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        let before = saved();
        store(&path, &own(), &before).unwrap();
        let after = load(&path, &own()).unwrap();
        assert_eq!(after.trust, before.trust);
        assert_eq!(after.spent, before.spent);
        let (before, after) = (before.identity.unwrap(), after.identity.unwrap());
        assert_eq!(after.svid, before.svid);
        assert_eq!(after.key.public_key().spki_der(), before.key.public_key().spki_der());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_known_before_the_first_start() {
        let directory = tempfile::tempdir().unwrap();
        let saved = load(&directory.path().join("agent.json"), &own()).unwrap();
        assert!(saved.identity.is_none() && saved.bundle(&own()).is_none());
    }

    #[track_caller]
    fn check(change: impl Fn(&str) -> String, expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        store(&path, &own(), &saved()).unwrap();
        let text = change(&std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, text).unwrap();
        let error = load(&path, &own()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_no_agent_wrote_is_refused_with_what_would_do() {
        check(|text| text[..text.len() / 2].to_owned(), "is damaged");
        check(|text| text.replace("\"version\": 1", "\"version\": 2"), "remove it");
        check(|text| text.replace("\"td\"", "\"other\""), "a data directory of its own");
        check(|text| text.replace("CERTIFICATE", "PRIVATE"), "is damaged");
        check(|text| text.replace("\"key\": \"", "\"key\": \"AAAA"), "svid.key");
    }
}
