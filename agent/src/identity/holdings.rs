//! What one instance holds at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use steeple::entry::{Entry, EntryId};
use thiserror::Error;

use super::{PreparedBundle, X509Credential};

/// The credentials of one instance, as one immutable value.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    pub(super) x509: BTreeMap<EntryId, Arc<X509Credential>>,
    pub(super) jwt: BTreeMap<TokenKey, JwtToken>,
}

/// How many credentials of each kind there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// X.509-SVIDs.
    pub x509: usize,
    /// JWT-SVIDs.
    pub jwt: usize,
}

/// What a token is for: an entry and its audiences.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct TokenKey {
    pub(super) entry: EntryId,
    pub(super) audience: Audiences,
}

/// A set of audiences: sorted, each once.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Audiences(Arc<[String]>);

/// A JWT-SVID that was minted for an instance.
#[derive(Clone)]
pub struct JwtToken {
    /// The compact token.
    pub token: Arc<str>,
    /// When it was issued, in seconds since 1970.
    pub issued_at: i64,
    /// When it expires.
    pub expires_at: SystemTime,
    pub(super) renew_at: SystemTime,
    pub(super) revision: i64,
    pub(super) key_id: Arc<str>,
}

/// Why something was not minted. The text is fit for whoever asked.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum MintFailure {
    /// The server cannot be reached, or is not able to sign at the moment.
    #[error("the server cannot sign at the moment: {0}")]
    Unavailable(String),
    /// The server does not let this node have it, which a synchronisation will show.
    #[error("the server refused to sign: {0}")]
    Refused(String),
    /// What came back is not what was asked for.
    #[error("what the server signed is not what was asked for")]
    Wrong,
    /// A key could not be made.
    #[error("no key could be made")]
    Key,
}

impl Holdings {
    /// The credential for `entry` that may be served `now`: of the same identity and not expired,
    /// if perhaps of an older revision of the entry.
    #[must_use]
    pub fn x509(&self, entry: &Entry, now: SystemTime) -> Option<&Arc<X509Credential>> {
        self.x509.get(&entry.id).filter(|credential| credential.serves(entry, now))
    }

    /// How much of it has not expired.
    pub(super) fn count(&self, now: SystemTime) -> Held {
        Held {
            x509: self.x509.values().filter(|credential| now < credential.not_after()).count(),
            jwt: self.jwt.values().filter(|token| now < token.expires_at).count(),
        }
    }

    /// The token for `entry` and exactly this audience that is to be served `now`: of this
    /// revision of the entry, by a key that `own` vouches for, and with at least half of its life
    /// left.
    pub(super) fn fresh_token(
        &self,
        entry: &Entry,
        key: &TokenKey,
        own: &PreparedBundle,
        now: SystemTime,
    ) -> Option<&JwtToken> {
        self.jwt.get(key).filter(|token| token.serves(entry, own) && now < token.renew_at)
    }
}

impl TokenKey {
    pub(super) fn new(entry: EntryId, audience: Audiences) -> Self {
        Self { entry, audience }
    }
}

impl Audiences {
    /// These, in any order.
    #[must_use]
    pub fn new(mut audience: Vec<String>) -> Self {
        audience.sort_unstable();
        audience.dedup();
        Self(audience.into())
    }
}

impl std::ops::Deref for Audiences {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl JwtToken {
    /// Whether it is what `entry` gives at its present revision, and the bundle of the own trust
    /// domain vouches for the key that signed it.
    #[must_use]
    pub fn serves(&self, entry: &Entry, own: &PreparedBundle) -> bool {
        let keys = own.jwt_authorities();
        self.revision == entry.revision && keys.has(&self.key_id) && !keys.is_tainted(&self.key_id)
    }
}

impl fmt::Debug for JwtToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
