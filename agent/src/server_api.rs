//! What the agent asks of a server, in the agent's own words.
//!
//! Protobuf, connections and deadlines are the business of the parts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use steeple::bundle::Bundle;
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::census::Use;

mod attest;
pub mod dial;
mod entries;
pub mod grpc;
pub mod kept;
pub mod link;
pub mod node_api;
mod status;
pub mod tls;

/// The longest answer in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How long a server may ask to be left alone.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The entries that are known already, by their names.
pub type KnownEntries = BTreeMap<EntryId, Arc<Entry>>;

/// What a server does for an agent that it has attested.
///
/// Every call ends within a deadline of its own. An error says nothing about whether the server
/// did it.
#[tonic::async_trait]
pub trait ServerApi: fmt::Debug + Send + Sync {
    /// Signs X.509-SVIDs. One result for each request, in order. What comes back is what the
    /// server sent: whether it fits key, entry and bundle is for the caller to check.
    async fn mint_x509(
        &self,
        requests: Vec<X509Mint>,
    ) -> Result<Vec<Result<Minted, MintRefusal>>, ServerError>;

    /// Signs a JWT-SVID.
    async fn mint_jwt(
        &self,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<MintedJwt, ServerError>;

    /// All entries that this agent may hand out now, in the order of their names. One that did not
    /// change is the very `Arc` of `known`.
    async fn sync_entries(&self, known: &KnownEntries) -> Result<Vec<Arc<Entry>>, ServerError>;

    /// The bundle of the own trust domain.
    async fn bundle(&self) -> Result<Bundle, ServerError>;

    /// The bundle of a foreign trust domain, or `None` if the server has none.
    async fn federated_bundle(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Bundle>, ServerError>;

    /// Says by which authorities what this node holds was signed. Returns after how long the server
    /// wants to be told again. Servers other than ours do not have this.
    async fn report_use(&self, _: &Use) -> Result<Duration, ServerError> {
        Err(ServerError::Unsupported("ReportUse".into()))
    }
}

/// A request for an X.509-SVID.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Mint {
    /// The entry that it is for.
    pub entry_id: EntryId,
    /// A certificate request in DER, signed with the key of the SVID.
    pub csr: Vec<u8>,
}

/// An X.509-SVID as the server sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Minted {
    /// Whom the server says it names.
    pub spiffe_id: SpiffeId,
    /// The leaf and its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
}

/// A JWT-SVID as the server sent it.
#[derive(Debug)]
pub struct MintedJwt {
    /// Whom the server says it names.
    pub spiffe_id: SpiffeId,
    /// The token.
    pub token: BearerToken,
    /// When it was issued, in seconds since 1970.
    pub issued_at: i64,
    /// Until when it is valid, in seconds since 1970.
    pub expires_at: i64,
}

/// A token that is worth an identity to whoever reads it.
pub struct BearerToken(Zeroizing<String>);

/// Why the server signed one of several X.509-SVIDs not.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum MintRefusal {
    /// There is no such entry, or it is not for this agent. The next sync will say so too.
    #[error("the entry is not there or not for this agent")]
    NotAuthorized,
    /// The request will not do.
    #[error("the request was refused: {0}")]
    Invalid(String),
    /// The server failed, and may do better another time.
    #[error("the server failed: {0}")]
    Failed(String),
}

/// Why a call to the server failed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ServerError {
    /// The server cannot be reached, or is going away.
    #[error("the server is unavailable: {0}")]
    Unavailable(String),
    /// Whoever answered did not prove to be the server.
    #[error("the server is not trusted: {0}")]
    Untrusted(String),
    /// There was no answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// The server has too much to do.
    #[error("the server is busy")]
    Busy {
        /// When it wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The call asks for more than the server ever does in one.
    #[error("the server does not do as much in one call: {0}")]
    TooLarge(String),
    /// The server does not take this node for an agent any more.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// This agent may not do that.
    #[error("the server refused it: {0}")]
    Forbidden(String),
    /// The request cannot be granted, now or later.
    #[error("the server refused the request: {0}")]
    Invalid(String),
    /// The server does not know the call, or has it switched off.
    #[error("the server does not serve this call: {0}")]
    Unsupported(String),
    /// The server failed, and may do better another time.
    #[error("the server failed: {0}")]
    Failed(String),
    /// The answer makes no sense.
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
}

/// Why the server does not take this node for an agent any more.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum Denial {
    /// The agent's SVID has expired.
    #[error("the agent's SVID has expired")]
    Expired,
    /// The server has no record of the agent: it was evicted, or never attested there.
    #[error("the server does not know this agent")]
    NotAttested,
    /// The agent's SVID was replaced by a newer one.
    #[error("the agent's SVID was replaced by a newer one")]
    NotActive,
    /// An administrator banned the agent.
    #[error("the agent is banned")]
    Banned,
    /// The agent has to be attested again.
    #[error("the agent has to be attested again")]
    MustReattest,
}

impl BearerToken {
    /// Takes charge of a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(redacted)")
    }
}

#[cfg(test)]
mod tests;
