//! What holds the credentials of one instance, as everybody else sees it: ask it, and read it.

use std::sync::Arc;
use std::time::SystemTime;

use steeple::entry::Entry;
use steeple::selector::SelectorSet;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::holdings::{Audiences, TokenKey};
use super::{Holdings, JwtToken, MintFailure, PreparedBundle, X509Credential};

/// Holds the credentials of one attested process or container. Clones are the same holder.
///
/// It lives as long as the instance. Everything it holds is wiped when that ends.
#[derive(Clone, Debug)]
pub struct Holder {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) holdings: watch::Receiver<Arc<Holdings>>,
}

/// What a holder is asked for.
pub(super) enum Ask {
    /// Hold X.509-SVIDs for these entries, for who has these selectors.
    X509 {
        entries: Vec<Arc<Entry>>,
        selectors: SelectorSet,
        reply: oneshot::Sender<Result<(), MintFailure>>,
    },
    /// Hold a JWT-SVID.
    Jwt { key: TokenKey, reply: oneshot::Sender<Result<JwtToken, MintFailure>> },
}

/// Why a holder has nothing to give.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IdentityError {
    /// The instance has ended.
    #[error("the workload has ended")]
    Ended,
    /// So many processes of this user, or of all, hold SVIDs that there is no room for another.
    #[error("too many processes hold SVIDs at the moment")]
    TooMany,
    /// Something could not be minted.
    #[error(transparent)]
    Mint(#[from] MintFailure),
}

impl Holder {
    /// The X.509-SVIDs for `entries`, in their order. Mints what is missing, and renews it for as
    /// long as the entries are for who has these selectors.
    pub async fn x509(
        &self,
        entries: &[Arc<Entry>],
        selectors: &SelectorSet,
        now: SystemTime,
    ) -> Result<Vec<Arc<X509Credential>>, IdentityError> {
        if let Some(held) = self.held(entries, now) {
            return Ok(held);
        }
        let (reply, answer) = oneshot::channel();
        let ask = Ask::X509 { entries: entries.to_vec(), selectors: selectors.clone(), reply };
        self.asks.send(ask).await.or(Err(IdentityError::Ended))?;
        answer.await.or(Err(IdentityError::Ended))??;
        self.held(entries, now).ok_or(IdentityError::Ended)
    }

    /// The JWT-SVID for `entry` and exactly this audience, with at least half of its life left
    /// where the server can be reached. Mints it if it is missing, or if `own`, the bundle of the
    /// own trust domain, no longer relies on the key of the one that is held: its owner may not
    /// have heard of that yet.
    pub async fn jwt(
        &self,
        entry: &Arc<Entry>,
        audience: &Audiences,
        own: &PreparedBundle,
        now: SystemTime,
    ) -> Result<JwtToken, IdentityError> {
        if let Some(token) = self.held_jwt(entry, audience, own, now) {
            return Ok(token);
        }
        let key = TokenKey::new(entry.id.clone(), audience.clone());
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Jwt { key, reply }).await.or(Err(IdentityError::Ended))?;
        Ok(answer.await.or(Err(IdentityError::Ended))??)
    }

    /// The same, if it is held: minting nothing.
    #[must_use]
    pub fn held_jwt(
        &self,
        entry: &Entry,
        audience: &Audiences,
        own: &PreparedBundle,
        now: SystemTime,
    ) -> Option<JwtToken> {
        if entry.content.jwt_svid_include_jti {
            return None;
        }
        let key = TokenKey::new(entry.id.clone(), audience.clone());
        self.holdings.borrow().fresh_token(entry, &key, own, now).cloned()
    }

    /// Changes with everything that is held. It closes when the instance ends.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Holdings>> {
        self.holdings.clone()
    }

    /// Whether the instance has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.asks.is_closed()
    }

    /// What is held for each of `entries`, minting nothing.
    #[must_use]
    pub fn held_x509(
        &self,
        entries: &[Arc<Entry>],
        now: SystemTime,
    ) -> Vec<Option<Arc<X509Credential>>> {
        let holdings = self.holdings.borrow();
        entries.iter().map(|entry| holdings.x509(entry, now).cloned()).collect()
    }

    fn held(&self, entries: &[Arc<Entry>], now: SystemTime) -> Option<Vec<Arc<X509Credential>>> {
        self.held_x509(entries, now).into_iter().collect()
    }
}
