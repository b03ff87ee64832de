//! What is stored that only the server knows of: attested nodes and join tokens.

use std::fmt;

use aws_lc_rs::digest;
use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;

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
