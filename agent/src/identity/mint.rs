//! Mints one credential and checks it; holds nothing.

use std::sync::Arc;
use std::time::Duration;

use steeple::backoff::random_fraction;
use steeple::clock::from_unix_seconds;
use steeple::entry::Entry;
use steeple::jwt::verify::{Expected, JwtError, verify};
use steeple::keys::PrivateKey;
use steeple::turns::Turns;
use tokio::time::timeout;
use tracing::error;

use super::credential::renew_at;
use super::deps::Deps;
use super::minter::Minter;
use super::{CredentialError, JwtToken, MintFailure, PreparedBundle, Snapshot, X509Credential};
use crate::server_api::{Minted, MintedJwt};

/// How long to wait for the bundle that vouches for what was just signed.
const BUNDLE_PATIENCE: Duration = Duration::from_secs(10);

/// Mints for one instance. Clones do the same.
#[derive(Clone, Debug)]
pub(super) struct Mint {
    deps: Deps,
    minter: Minter,
    /// The turns of the instance's user; a container is not of one user.
    turns: Option<(Turns, u32)>,
}

impl Mint {
    pub(super) fn new(deps: Deps, minter: Minter, turns: Option<(Turns, u32)>) -> Self {
        Self { deps, minter, turns }
    }

    /// A new key and the SVID that the server signed for it, checked against both, the entry and
    /// the bundle of this node.
    pub(super) async fn x509(&self, entry: &Entry) -> Result<X509Credential, MintFailure> {
        let (key, minted) = self.minter.x509(entry).await?;
        let check = |bundle: &PreparedBundle| self.check_x509(entry, &key, minted.clone(), bundle);
        self.with_bundle(check).await
    }

    /// The token that the server signed, checked like one that somebody presents.
    pub(super) async fn jwt(
        &self,
        entry: &Entry,
        audience: &[String],
    ) -> Result<JwtToken, MintFailure> {
        let turn = match &self.turns {
            Some((turns, user)) => Some(turns.take(*user).await),
            None => None,
        };
        let minted = self.minter.jwt(&entry.id, audience).await?;
        drop(turn);
        let minted = Arc::new(minted);
        self.with_bundle(|bundle| self.check_jwt(entry, audience, &minted, bundle)).await
    }

    /// Checks with the bundle of now, and if that does not vouch for the authority yet, with the
    /// next: the server may have begun to use a new authority since the last synchronisation.
    async fn with_bundle<T>(
        &self,
        check: impl Fn(&PreparedBundle) -> Result<T, Verdict>,
    ) -> Result<T, MintFailure> {
        let mut snapshots = self.deps.snapshot.clone();
        let checked = timeout(BUNDLE_PATIENCE, async {
            loop {
                let snapshot = snapshots.borrow_and_update().clone();
                match snapshot.as_deref().and_then(Snapshot::own_bundle).map(|own| check(own)) {
                    Some(Ok(checked)) => return Ok(checked),
                    Some(Err(Verdict::Wrong)) => return Err(MintFailure::Wrong),
                    Some(Err(Verdict::NotYet)) | None => self.deps.refresh.notify_one(),
                }
                if snapshots.changed().await.is_err() {
                    return Err(MintFailure::Wrong);
                }
            }
        });
        checked.await.unwrap_or_else(|_| {
            error!("the server signs with an authority that is not in its own bundle");
            Err(MintFailure::Wrong)
        })
    }

    fn check_x509(
        &self,
        entry: &Entry,
        key: &PrivateKey,
        minted: Minted,
        bundle: &PreparedBundle,
    ) -> Result<X509Credential, Verdict> {
        let moment = (self.deps.clock.now(), random_fraction());
        let checked = X509Credential::check(entry, key, minted, bundle, moment);
        if let Ok(credential) = &checked {
            self.minter.cuts().look_at_x509(credential.svid(), bundle);
        }
        checked.map_err(|error| match error {
            CredentialError::NotVouchedFor(_) => Verdict::NotYet,
            CredentialError::Chain(_)
            | CredentialError::Leaf(_)
            | CredentialError::OtherIdentity
            | CredentialError::OtherKey
            | CredentialError::Key(_) => {
                error!(entry_id = %entry.id, %error, "the server signed something else");
                Verdict::Wrong
            }
        })
    }

    fn check_jwt(
        &self,
        entry: &Entry,
        audience: &[String],
        minted: &MintedJwt,
        bundle: &PreparedBundle,
    ) -> Result<JwtToken, Verdict> {
        let now = self.deps.clock.now();
        let token = minted.token.expose();
        let wanted = audience.first().map(String::as_str).unwrap_or_default();
        let expected = Expected { audience: wanted, own: bundle.trust_domain() };
        let keys = |name: &_| (name == bundle.trust_domain()).then(|| bundle.jwt_keys().clone());
        let svid = match verify(token, &expected, keys, now) {
            Ok(svid) => svid,
            Err(JwtError::UnknownKey { .. } | JwtError::NoKeys(_)) => {
                return Err(Verdict::NotYet);
            }
            Err(error) => {
                error!(entry_id = %entry.id, %error, "the server signed an invalid token");
                return Err(Verdict::Wrong);
            }
        };
        let mut found = svid.audience().to_vec();
        found.sort_unstable();
        if *svid.id() != entry.content.spiffe_id || found != audience {
            error!(entry_id = %entry.id, "the server signed a token for others");
            return Err(Verdict::Wrong);
        }
        let (expires_at, key_id) = (from_unix_seconds(svid.expires_at()), key_id(token));
        self.minter.cuts().look_at_jwt((svid.id(), &key_id), expires_at, bundle);
        Ok(JwtToken {
            token: token.into(),
            issued_at: minted.issued_at,
            expires_at,
            renew_at: renew_at(now, expires_at, random_fraction()),
            revision: entry.revision,
            key_id,
        })
    }
}

/// The `kid` of a token that was verified.
fn key_id(token: &str) -> Arc<str> {
    steeple::jwt::parse::parse(token).ok().and_then(|token| token.key_id).unwrap_or_default().into()
}

/// What a check says of what the server signed.
enum Verdict {
    /// The bundle does not vouch for the authority, yet.
    NotYet,
    /// It is not what was asked for, and never will be.
    Wrong,
}
