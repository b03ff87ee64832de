//! SPIFFE IDs and trust domain names, read byte by byte.
//!
//! No URL library is involved: every one of them normalises (`/a/../b` becomes `/b`), and an
//! identity that was normalised is an identity nobody registered (SPIFFE-ID 2).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

const SCHEME: &str = "spiffe://";

/// The longest SPIFFE ID in bytes, scheme included (SPIFFE-ID 2.3).
pub const MAX_ID_LENGTH: usize = 2048;

/// The longest trust domain name in bytes (SPIFFE-ID 2.3).
pub const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

/// A trust domain name such as `example.org`: 1 to 255 bytes of `[a-z0-9._-]` (SPIFFE-ID 2.1).
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID: a trust domain and a path, which may be empty (SPIFFE-ID 2).
///
/// Two IDs are equal if they are equal byte for byte.
#[derive(Clone)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    text: Arc<str>,
}

/// Why a text is not a SPIFFE ID or trust domain name.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseError {
    /// The text does not start with `spiffe://`.
    #[error("a SPIFFE ID starts with `spiffe://`, in lower case")]
    Scheme,
    /// There is nothing where the trust domain should be.
    #[error("the trust domain is missing")]
    NoTrustDomain,
    /// The trust domain has a character outside `[a-z0-9._-]`, a port or user information.
    #[error("the trust domain has a character outside [a-z0-9._-]")]
    TrustDomain,
    /// The trust domain would be valid in lower case.
    #[error("the trust domain has upper-case letters; write it in lower case")]
    UpperCase,
    /// The trust domain is longer than 255 bytes.
    #[error("the trust domain is longer than 255 bytes")]
    TrustDomainLength,
    /// A path segment is empty, or the path ends in a slash.
    #[error("the path has an empty segment or ends in a slash")]
    EmptySegment,
    /// A path segment is `.` or `..`.
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// The path has a character outside `[A-Za-z0-9._-]`.
    #[error("the path has a character outside [A-Za-z0-9._-]; nothing is percent-encoded")]
    Path,
    /// The ID has a query or a fragment.
    #[error("a SPIFFE ID has no query and no fragment")]
    QueryOrFragment,
    /// The ID is longer than 2048 bytes.
    #[error("the SPIFFE ID is longer than 2048 bytes")]
    Length,
}

impl TrustDomain {
    /// Reads a bare name; `spiffe://` in front of it is an error.
    pub fn parse(name: &str) -> Result<Self, ParseError> {
        check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// The name without a scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself: `spiffe://NAME`, no path.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), text: format!("{SCHEME}{}", self.0).into() }
    }

    /// The ID of this trust domain's server, `/spire/server`, which the wire between agent and
    /// server checks.
    #[must_use]
    pub fn server_id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.clone(),
            text: format!("{SCHEME}{}/spire/server", self.0).into(),
        }
    }
}

impl SpiffeId {
    /// The ID with this path in this trust domain; `path` is empty or starts with a slash.
    pub fn new(trust_domain: &TrustDomain, path: &str) -> Result<Self, ParseError> {
        check_path(path)?;
        let text = format!("{SCHEME}{trust_domain}{path}");
        if text.len() > MAX_ID_LENGTH {
            return Err(ParseError::Length);
        }
        Ok(Self { trust_domain: trust_domain.clone(), text: text.into() })
    }

    /// Reads an ID from raw bytes, such as those of a certificate's URI name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.parse(),
            // Only a path or a trust domain can hold such bytes, and neither may.
            Err(_) if bytes.starts_with(SCHEME.as_bytes()) => Err(ParseError::Path),
            Err(_) => Err(ParseError::Scheme),
        }
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The same ID. If `name` is its trust domain, both hold the name's text in common.
    #[must_use]
    pub fn sharing(mut self, name: &TrustDomain) -> Self {
        if self.trust_domain == *name {
            self.trust_domain = name.clone();
        }
        self
    }

    /// The path with its leading slash, or the empty string.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.trust_domain.0.len()..).unwrap_or_default()
    }

    /// The whole ID, `spiffe://…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is the ID of a trust domain, not of somebody in it.
    #[must_use]
    pub fn is_trust_domain(&self) -> bool {
        self.path().is_empty()
    }

    /// Whether the path lies in `/spire`, which belongs to servers and agents.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.path() == "/spire" || self.path().starts_with("/spire/")
    }

    /// Whether this is the ID of an agent: below `/spire/agent/`.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        self.path().starts_with("/spire/agent/")
    }

    /// Whether this is the ID of the trust domain's server.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.path() == "/spire/server"
    }
}

impl FromStr for SpiffeId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let rest = text.strip_prefix(SCHEME).ok_or(ParseError::Scheme)?;
        if text.len() > MAX_ID_LENGTH {
            return Err(ParseError::Length);
        }
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if rest.contains(['?', '#']) {
            return Err(ParseError::QueryOrFragment);
        }
        check_trust_domain(name)?;
        check_path(path)?;
        Ok(Self { trust_domain: TrustDomain(name.into()), text: text.into() })
    }
}

impl FromStr for TrustDomain {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::parse(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for SpiffeId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn check_trust_domain(name: &str) -> Result<(), ParseError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty() {
        return Err(ParseError::NoTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_LENGTH {
        return Err(ParseError::TrustDomainLength);
    }
    if name.bytes().all(allowed) {
        return Ok(());
    }
    if name.bytes().all(|byte| allowed(byte.to_ascii_lowercase())) {
        return Err(ParseError::UpperCase);
    }
    Err(ParseError::TrustDomain)
}

fn check_path(path: &str) -> Result<(), ParseError> {
    if path.is_empty() {
        return Ok(());
    }
    let segments = path.strip_prefix('/').ok_or(ParseError::Path)?;
    for segment in segments.split('/') {
        match segment {
            "" => return Err(ParseError::EmptySegment),
            "." | ".." => return Err(ParseError::DotSegment),
            _ => {}
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !segment.bytes().all(allowed) {
            return Err(ParseError::Path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
