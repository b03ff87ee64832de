//! What the audit log tells: who did what, for whom, with which result and why.
//!
//! No event has a place for a private key, a token or a join token; hashes stand for them.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};
use steeple::entry::EntryId;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::{Selector, SelectorSet};
use steeple::telemetry::Level;
use steeple::x509::Serial;

use super::Correlation;
use crate::ca::authorities::AuthorityId;
use crate::ca::slots::{Kind, Slot};

mod facts;

pub use self::facts::{BundleFacts, EntryFacts, RelationshipFacts};

/// On whose behalf something happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum Caller {
    /// This server itself.
    Server,
    /// A process of this machine, through the admin socket.
    Local {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its process ID, where the kernel told it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
    /// Somebody with an administrator's SVID.
    Admin {
        /// Who.
        id: SpiffeId,
        /// From where.
        address: SocketAddr,
    },
    /// An agent.
    Agent {
        /// Which one.
        id: SpiffeId,
        /// From where.
        address: SocketAddr,
    },
    /// A downstream server.
    Downstream {
        /// Which one.
        id: SpiffeId,
        /// From where.
        address: SocketAddr,
    },
    /// Somebody with an SVID that stands for nothing more.
    Other {
        /// Who.
        id: SpiffeId,
        /// From where.
        address: SocketAddr,
    },
    /// Somebody without an SVID.
    Anonymous {
        /// From where.
        address: SocketAddr,
    },
    /// Somebody with a certificate that names nobody, which no authority should have signed.
    Unnamed {
        /// From where.
        address: SocketAddr,
        /// The certificate's serial number.
        serial: String,
        /// The ID of the authority that signed it, where the certificate says it.
        #[serde(skip_serializing_if = "Option::is_none")]
        authority_key_id: Option<String>,
    },
}

/// What an X.509-SVID is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A workload, by an entry.
    Workload,
    /// An agent.
    Agent,
    /// This server.
    Server,
    /// Whoever an administrator hands it to.
    Minted,
    /// The authority of a server below this one.
    DownstreamCa,
}

/// A step in the life of an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityStep {
    /// It is made and published.
    Prepare,
    /// It begins to sign.
    Activate,
    /// It is no longer relied on.
    Taint,
    /// It is no longer vouched for.
    Revoke,
}

/// Something that happened. Times are seconds since 1970, serial numbers hexadecimal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names of fields are those of the log, and speak for themselves"
)]
pub enum Event {
    /// The server begins to answer.
    ServerStarted { version: &'static str, trust_domain: TrustDomain },
    /// The server no longer answers.
    ServerStopped,
    /// The log ended within an event that nobody was told was recorded; it was cut back.
    AuditRepaired { bytes_cut: u64 },
    /// The log could not be written for a while, in which nothing was signed.
    AuditRecovered { events_refused: u64 },

    /// An X.509-SVID is about to be signed.
    X509Intent {
        correlation: Correlation,
        profile: Profile,
        spiffe_id: SpiffeId,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        serial: Hex<Serial>,
        not_after: i64,
        authority_id: AuthorityId,
    },
    /// It was.
    X509Issued {
        correlation: Correlation,
        spiffe_id: SpiffeId,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        serial: Hex<Serial>,
        not_after: i64,
        /// Whether it lives shorter than was asked for, since its issuer does.
        capped: bool,
    },
    /// It was not, or was not even to be.
    X509Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        correlation: Option<Correlation>,
        #[serde(skip_serializing_if = "Option::is_none")]
        spiffe_id: Option<SpiffeId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        why: String,
    },
    /// A JWT-SVID is about to be signed.
    JwtIntent {
        correlation: Correlation,
        spiffe_id: SpiffeId,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        audience: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        jti: Option<String>,
        expires_at: i64,
        key_id: AuthorityId,
    },
    /// It was.
    JwtIssued {
        correlation: Correlation,
        spiffe_id: SpiffeId,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        jti: Option<String>,
        /// Tells which token it was to somebody who has the token.
        token_sha256: Hex<[u8; 32]>,
        expires_at: i64,
        capped: bool,
    },
    /// It was not, or was not even to be.
    JwtRefused {
        #[serde(skip_serializing_if = "Option::is_none")]
        correlation: Option<Correlation>,
        #[serde(skip_serializing_if = "Option::is_none")]
        spiffe_id: Option<SpiffeId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<EntryId>,
        why: String,
    },

    /// A call was refused because of who made it.
    CallRefused { method: &'static str, why: String },
    /// There were so many refusals from an address, or from all that there was no room for, that these
    /// have no events of their own.
    RefusalsLeftOut {
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        count: u64,
        from: i64,
        until: i64,
    },

    /// An agent has a new SVID; the old one lasts until the new one is used.
    AgentRenewed { correlation: Correlation, agent_id: SpiffeId, serial: Hex<Serial> },
    /// A node proved what it is and became an agent, or became it anew.
    NodeAttested {
        correlation: Correlation,
        agent_id: SpiffeId,
        attestation_type: String,
        selectors: Selectors,
        serial: Hex<Serial>,
        again: bool,
    },
    /// A node did not. It may not even have said how it wanted to.
    NodeAttestationRefused {
        #[serde(skip_serializing_if = "String::is_empty")]
        attestation_type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        agent_id: Option<SpiffeId>,
        why: String,
    },
    /// An agent is refused until an administrator evicts it.
    AgentBanned { agent_id: SpiffeId },
    /// An agent has to attest anew.
    AgentEvicted { agent_id: SpiffeId },
    /// An agent whose SVID had expired long ago was forgotten.
    AgentPurged { agent_id: SpiffeId, expired_at: i64 },

    /// An entry is new.
    EntryCreated { entry: EntryFacts },
    /// An entry says something else.
    EntryUpdated { entry: EntryFacts },
    /// An entry is gone.
    EntryDeleted { entry_id: EntryId, spiffe_id: SpiffeId, parent_id: SpiffeId },

    /// A bundle is new, or has other content.
    BundleSet { bundle: BundleFacts },
    /// A bundle is gone.
    BundleDeleted { trust_domain: TrustDomain, mode: &'static str },

    /// There is a relationship with another trust domain.
    RelationshipCreated { relationship: RelationshipFacts },
    /// A relationship says something else.
    RelationshipUpdated { relationship: RelationshipFacts },
    /// There is no relationship any more. The bundle stays.
    RelationshipDeleted { trust_domain: TrustDomain },

    /// A join token was made.
    JoinTokenCreated {
        token_sha256: Hex<[u8; 32]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        agent_id: Option<SpiffeId>,
        expires_at: i64,
    },

    /// The server logs more or less from now on.
    LogLevelSet { level: Level },

    /// A step of an authority is about to be taken; which one it is about is known when it is there.
    AuthorityIntent {
        correlation: Correlation,
        step: AuthorityStep,
        kind: Kind,
        #[serde(skip_serializing_if = "Option::is_none")]
        slot: Option<Slot>,
        #[serde(skip_serializing_if = "Option::is_none")]
        authority_id: Option<AuthorityId>,
    },
    /// It was made, and is published.
    AuthorityPrepared {
        correlation: Correlation,
        kind: Kind,
        slot: Slot,
        authority_id: AuthorityId,
        not_after: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream_authority_id: Option<AuthorityId>,
    },
    /// It signs from now on.
    AuthorityActivated {
        correlation: Correlation,
        kind: Kind,
        slot: Slot,
        authority_id: AuthorityId,
        not_after: i64,
    },
    /// It no longer signs, and none is to sign in its place, as the server is configured.
    AuthorityRetired { kind: Kind, authority_id: AuthorityId, not_after: i64 },
    /// It is no longer relied on, and all that it signed is to be replaced.
    AuthorityTainted { correlation: Correlation, kind: Kind, authority_id: AuthorityId },
    /// It is no longer vouched for, as somebody wanted.
    AuthorityRevoked { correlation: Correlation, kind: Kind, authority_id: AuthorityId },
    /// A step that somebody asked for was not taken.
    AuthorityRefused {
        #[serde(skip_serializing_if = "Option::is_none")]
        correlation: Option<Correlation>,
        step: AuthorityStep,
        kind: Kind,
        #[serde(skip_serializing_if = "Option::is_none")]
        authority_id: Option<AuthorityId>,
        why: String,
    },
    /// An authority is no longer vouched for, since nothing it signed is valid any more.
    AuthorityPruned { kind: Kind, authority_id: AuthorityId, not_after: i64 },
}

/// Selectors as a list of `type:value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selectors(pub SelectorSet);

/// Bytes that are written as lower-case hexadecimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hex<T>(pub T);

/// The SHA-256 of a text or certificate.
#[must_use]
pub fn sha256(content: &[u8]) -> Hex<[u8; 32]> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    Hex(hash)
}

impl Serialize for Selectors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Selector::as_str))
    }
}

impl Serialize for Hex<Serial> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_hex(self.0.as_be_bytes(), serializer)
    }
}

impl Serialize for Hex<[u8; 32]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_hex(&self.0, serializer)
    }
}

/// Writes at most 32 bytes, without an allocation.
fn serialize_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut digits = [0_u8; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (hex_digit(byte >> 4), hex_digit(byte & 15));
        }
    }
    let text = digits.get(..bytes.len() * 2).and_then(|digits| std::str::from_utf8(digits).ok());
    serializer.serialize_str(text.ok_or_else(|| serde::ser::Error::custom("more than 32 bytes"))?)
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        10.. => b'a' + nibble - 10,
    }
}
