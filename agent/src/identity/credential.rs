//! An X.509-SVID with its key, checked before any workload sees it.

use std::time::SystemTime;

use steeple::entry::Entry;
use steeple::keys::{Pkcs8, PrivateKey, PrivateKeyError, Signer as _};
use steeple::x509::verify::{PeerError, Role, verify_peer};
use steeple::x509::{Certificate, CertificateError, Chain, ChainError, X509Svid};
use thiserror::Error;

use super::PreparedBundle;
use crate::server_api::Minted;

/// An X.509-SVID of one instance. It cannot be copied, and its key is wiped with it.
#[derive(Debug)]
pub struct X509Credential {
    svid: X509Svid,
    chain: Vec<u8>,
    key: Pkcs8,
    /// The IDs of the authorities that it depends on, that of the leaf's issuer first.
    issuers: Vec<String>,
    revision: i64,
    renew_at: SystemTime,
}

/// Why what a server signed is not what was asked for.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Chain(#[from] ChainError),
    /// The leaf cannot be read.
    #[error("the leaf cannot be read")]
    Leaf(#[from] CertificateError),
    /// It names somebody else than the entry.
    #[error("it names another identity than the entry")]
    OtherIdentity,
    /// It is for another key.
    #[error("it is for another key")]
    OtherKey,
    /// The bundle of this node does not vouch for it, perhaps not yet.
    #[error("the bundle does not vouch for it")]
    NotVouchedFor(#[from] PeerError),
    /// The key cannot be written for the workload.
    #[error("the key cannot be written")]
    Key(#[from] PrivateKeyError),
}

impl X509Credential {
    /// Checks what the server signed for `entry` and `key` against both and against the bundle.
    ///
    /// `random` is drawn uniformly from `0.0..1.0`, once for the life of the credential, so that
    /// renewals spread.
    pub fn check(
        entry: &Entry,
        key: &PrivateKey,
        minted: Minted,
        bundle: &PreparedBundle,
        (now, random): (SystemTime, f64),
    ) -> Result<Self, CredentialError> {
        let chain = Chain::new(minted.chain)?;
        let leaf = Certificate::parse(chain.leaf())?;
        if leaf.spki_der() != key.public_key().spki_der() {
            return Err(CredentialError::OtherKey);
        }
        verify_peer(chain.certificates(), Role::Client, bundle.anchors(), now)?;
        let svid = X509Svid::new(chain)?;
        if *svid.spiffe_id() != entry.content.spiffe_id {
            return Err(CredentialError::OtherIdentity);
        }
        Ok(Self {
            chain: svid.chain().concatenated(),
            key: key.pkcs8()?,
            issuers: svid.issuer_key_ids(),
            revision: entry.revision,
            renew_at: renew_at(now, svid.not_after(), random),
            svid,
        })
    }

    /// The SVID.
    #[must_use]
    pub fn svid(&self) -> &X509Svid {
        &self.svid
    }

    /// The leaf and its intermediates back to back in DER.
    #[must_use]
    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &Pkcs8 {
        &self.key
    }

    /// Until when it may be served.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.svid.not_after()
    }

    pub(super) fn renew_at(&self) -> SystemTime {
        self.renew_at
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether it is the identity that `entry` gives, and has not expired.
    pub(super) fn serves(&self, entry: &Entry, now: SystemTime) -> bool {
        *self.svid.spiffe_id() == entry.content.spiffe_id && now < self.svid.not_after()
    }

    /// Whether an authority that it depends on is no longer to be relied on.
    pub(super) fn is_tainted(&self, bundle: &PreparedBundle) -> bool {
        self.issuers.iter().any(|id| bundle.x509_authorities().is_tainted(id))
    }

    /// Whether the bundle still vouches for it: what depends on a revoked authority does it no
    /// longer.
    #[must_use]
    pub fn is_vouched_for(&self, bundle: &PreparedBundle, now: SystemTime) -> bool {
        // An ID that is there spares the checks of all signatures each time that anything changes.
        let has_root = self.issuers.last().is_some_and(|id| bundle.x509_authorities().has(id));
        let chain = self.svid.chain().certificates();
        has_root || verify_peer(chain, Role::Client, bundle.anchors(), now).is_ok()
    }

    /// The IDs of the authorities that it depends on, that of the leaf's issuer first.
    #[must_use]
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }
}

/// When what is valid from `now` to `not_after` is renewed: when between 40 and 50 % of that has
/// passed, so that at least half is left to whoever is served just before.
pub(super) fn renew_at(now: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let life = not_after.duration_since(now).unwrap_or_default();
    now + life.mul_f64(0.5 - 0.1 * random.clamp(0.0, 1.0))
}
