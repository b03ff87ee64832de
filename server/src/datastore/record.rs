//! What is stored that only the server knows of: attested nodes, join tokens, and itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::SelectorSet;
use thiserror::Error;

/// An agent that proved which node it runs on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// The agent's ID.
    pub id: SpiffeId,
    /// How it proved it, such as `join_token`.
    pub attestation_type: String,
    /// The serial number of its certificate as the API shows it; `None` once it is banned.
    pub serial: Option<String>,
    /// When its certificate expires, in seconds since 1970.
    pub not_after: i64,
    /// The certificate that replaces the present one as soon as the agent uses it.
    pub new_serial: Option<NewSerial>,
    /// What is known of the node.
    pub selectors: SelectorSet,
    /// Whether it could prove it again.
    pub can_reattest: bool,
    /// The version that the agent said it has, at most 255 bytes; empty before.
    pub agent_version: String,
}

/// A certificate that an agent was given and has not used yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewSerial {
    /// Its serial number as the API shows it.
    pub serial: String,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
}

/// A token that one agent may join with, once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinToken {
    /// The hash of the token. The token itself is nowhere.
    pub hash: TokenHash,
    /// When it is no longer accepted, in seconds since 1970.
    pub expires_at: i64,
    /// A further name that the agent gets, which entries may have as their parent.
    pub agent_id: Option<SpiffeId>,
}

/// The SHA-256 of a join token.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenHash([u8; 32]);

/// What a server has to know of itself. Each is unknown until it was put.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The trust domain of all that is stored.
    pub trust_domain: Option<TrustDomain>,
    /// What the directory with the keys of the authorities names as its owner.
    pub key_owner: Option<KeyOwner>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// See [`Facts::trust_domain`].
    TrustDomain(TrustDomain),
    /// See [`Facts::key_owner`].
    KeyOwner(KeyOwner),
}

/// A name that ties keys to what is stored: 16 digits of lower-case hexadecimal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyOwner(Arc<str>);

/// The name of an owner of keys does not have 16 digits of lower-case hexadecimal.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("it does not have {} hexadecimal digits", KeyOwner::LENGTH)]
pub struct KeyOwnerError;

impl Facts {
    /// Takes over what was learned.
    pub fn put(&mut self, fact: Fact) {
        match fact {
            Fact::TrustDomain(trust_domain) => self.trust_domain = Some(trust_domain),
            Fact::KeyOwner(owner) => self.key_owner = Some(owner),
        }
    }
}

impl KeyOwner {
    const LENGTH: usize = 16;

    /// A name that nobody else has; none without randomness.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; Self::LENGTH / 2];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self(format!("{:016x}", u64::from_be_bytes(bytes)).into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyOwner {
    type Err = KeyOwnerError;

    fn from_str(text: &str) -> Result<Self, KeyOwnerError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_name = text.len() == Self::LENGTH && text.bytes().all(is_digit);
        if is_name { Ok(Self(text.into())) } else { Err(KeyOwnerError) }
    }
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Node {
    /// Whether the agent may not come back until its record is deleted.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        self.serial.is_none()
    }

    /// The last moment at which a certificate of this agent is valid, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        let new = self.new_serial.as_ref().map_or(i64::MIN, |new| new.not_after);
        self.not_after.max(new)
    }
}

impl TokenHash {
    /// The hash of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// A hash that was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}
