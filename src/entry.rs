//! Registration entries: who may have which identity.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::id::{SpiffeId, TrustDomain};
use crate::selector::SelectorSet;
use crate::shown::quoted;

/// The longest hint in bytes (Workload API 5.2.1).
pub const MAX_HINT_LENGTH: usize = 1024;

/// The name of an entry: 1 to 255 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryId(Arc<str>);

/// A DNS name that may stand in a certificate: lower or upper case letters, digits and inner
/// hyphens in labels of at most 63 bytes, 253 in all, with `*.` allowed in front.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DnsName(Arc<str>);

/// A hint that tells a workload what an identity is for: at most 1024 bytes without control
/// characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hint(Arc<str>);

/// A registration entry as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its name, which never changes.
    pub id: EntryId,
    /// How often it was changed, from 0.
    pub revision: i64,
    /// When it was created, in seconds since 1970.
    pub created_at: i64,
    /// What it says.
    pub content: EntryContent,
}

/// What an entry says: all that an administrator decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntryContent {
    /// The identity that is given.
    pub spiffe_id: SpiffeId,
    /// Who may hand it out: an agent, an alias of agents, or the server (for an alias itself).
    pub parent_id: SpiffeId,
    /// What has to be known of a workload; at least one.
    pub selectors: SelectorSet,
    /// How long its X.509-SVIDs live; the server's default if `None`.
    pub x509_svid_ttl: Option<Duration>,
    /// How long its JWT-SVIDs live; the server's default if `None`.
    pub jwt_svid_ttl: Option<Duration>,
    /// The foreign trust domains whose bundles its workloads get.
    pub federates_with: BTreeSet<TrustDomain>,
    /// Whether its holder may use the server's admin API.
    pub admin: bool,
    /// Whether its holder is a downstream server.
    pub downstream: bool,
    /// When the entry is to be forgotten, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// Names for its certificates, in order; the first is the common name as well.
    pub dns_names: Vec<DnsName>,
    /// Whether its SVID is for an SVID store and not for workloads.
    pub store_svid: bool,
    /// What its holders may use to tell their identities apart.
    pub hint: Option<Hint>,
    /// SPIRE agents: do not sign before a workload asks.
    pub disable_x509_svid_prefetch: bool,
    /// Whether its JWT-SVIDs carry a `jti` and are never shared.
    pub jwt_svid_include_jti: bool,
}

/// Why content is refused. Every text says which field and what would do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EntryError {
    /// The entry ID is empty, too long or has another character.
    #[error("entry ID: 1 to 255 characters of [A-Za-z0-9._-], and not {}", quoted(.0))]
    Id(String),
    /// There is no selector.
    #[error("selectors: at least one is needed")]
    NoSelectors,
    /// The identity is in another trust domain.
    #[error("SPIFFE ID: must be in trust domain {0}")]
    ForeignSpiffeId(TrustDomain),
    /// The parent is in another trust domain.
    #[error("parent ID: must be in trust domain {0}")]
    ForeignParentId(TrustDomain),
    /// The identity has no path.
    #[error("SPIFFE ID: needs a path; the bare trust domain is nobody's identity")]
    NoPath,
    /// The parent has no path.
    #[error("parent ID: needs a path")]
    NoParentPath,
    /// The identity is one of an agent or server.
    #[error("SPIFFE ID: the path /spire is reserved for servers and agents")]
    Reserved,
    /// A lifetime is negative or longer than about 68 years.
    #[error(
        "{field}: must be 0 (the server's default) or a positive number of seconds, and not {found}"
    )]
    Ttl {
        /// The field.
        field: &'static str,
        /// What it is.
        found: i32,
    },
    /// A DNS name cannot stand in a certificate.
    #[error(
        "DNS names: {0:?} is not a DNS name; letters, digits and inner hyphens in labels of at \
         most 63 characters, without a dot at the end"
    )]
    DnsName(String),
    /// The hint is too long or has control characters.
    #[error("hint: at most 1024 bytes, without control characters, and not {}", quoted(.0))]
    Hint(String),
    /// The expiry is negative.
    #[error("expiry: must be 0 (never) or seconds since 1970, and not {0}")]
    Expiry(i64),
    /// The entry federates with its own trust domain.
    #[error("federates with: {0} is the entry's own trust domain")]
    OwnTrustDomain(TrustDomain),
    /// An entry for an SVID store has selectors of several types.
    #[error("selectors: all must be of one type for an entry that stores its SVID")]
    StoreSelectors,
}

impl EntryId {
    /// Reads a name.
    pub fn new(text: &str) -> Result<Self, EntryError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(EntryError::Id(start_of(text)))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DnsName {
    /// Reads a name; letters keep their case.
    pub fn new(text: &str) -> Result<Self, EntryError> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let label_is_fine = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() <= 253 && name.split('.').all(label_is_fine) {
            Ok(Self(text.into()))
        } else {
            Err(EntryError::DnsName(text.chars().take(64).collect()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hint {
    /// Reads a hint; the empty text is none.
    pub fn new(text: &str) -> Result<Option<Self>, EntryError> {
        if text.len() > MAX_HINT_LENGTH || text.chars().any(char::is_control) {
            return Err(EntryError::Hint(start_of(text)));
        }
        Ok((!text.is_empty()).then(|| Self(text.into())))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EntryContent {
    /// Checks what concerns several fields, or the server's trust domain.
    pub fn check(&self, own: &TrustDomain) -> Result<(), EntryError> {
        if self.spiffe_id.trust_domain() != own {
            return Err(EntryError::ForeignSpiffeId(own.clone()));
        }
        if self.parent_id.trust_domain() != own {
            return Err(EntryError::ForeignParentId(own.clone()));
        }
        if self.spiffe_id.is_trust_domain() {
            return Err(EntryError::NoPath);
        }
        if self.parent_id.is_trust_domain() {
            return Err(EntryError::NoParentPath);
        }
        if self.spiffe_id.is_reserved() {
            return Err(EntryError::Reserved);
        }
        if self.selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        if self.federates_with.contains(own) {
            return Err(EntryError::OwnTrustDomain(own.clone()));
        }
        let mut kinds = self.selectors.iter().map(|selector| selector.kind());
        let first = kinds.next();
        if self.store_svid && kinds.any(|kind| Some(kind) != first) {
            return Err(EntryError::StoreSelectors);
        }
        Ok(())
    }

    /// Whether this entry gives a group of agents a common name that other entries may have as
    /// their parent.
    #[must_use]
    pub fn is_node_alias(&self) -> bool {
        self.parent_id.is_server()
    }
}

/// As much of a text as says in an error which one it is, and whether there is more.
fn start_of(text: &str) -> String {
    text.chars().take(65).collect()
}

impl FromStr for EntryId {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        Self::new(text)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> EntryContent {
        EntryContent {
            spiffe_id: "spiffe://td/web".parse().unwrap(),
            parent_id: "spiffe://td/spire/agent/x".parse().unwrap(),
            selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: None,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut EntryContent), expected: Result<(), EntryError>) {
        let mut changed = content();
        change(&mut changed);
        assert_eq!(changed.check(&TrustDomain::parse("td").unwrap()), expected);
    }

    #[test]
    fn content_is_checked_against_the_trust_domain() {
        let td = TrustDomain::parse("td").unwrap();
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        check(|_| {}, Ok(()));
        check(
            |c| c.spiffe_id = id("spiffe://other/web"),
            Err(EntryError::ForeignSpiffeId(td.clone())),
        ); // H028
        check(
            |c| c.parent_id = id("spiffe://other/x"),
            Err(EntryError::ForeignParentId(td.clone())),
        );
        check(|c| c.spiffe_id = id("spiffe://td"), Err(EntryError::NoPath)); // X509-04, H027
        check(|c| c.parent_id = id("spiffe://td"), Err(EntryError::NoParentPath));
        check(|c| c.spiffe_id = id("spiffe://td/spire/agent/x"), Err(EntryError::Reserved)); // H029
        check(|c| c.spiffe_id = id("spiffe://td/spire"), Err(EntryError::Reserved));
        check(|c| c.selectors = SelectorSet::default(), Err(EntryError::NoSelectors));
        check(
            |c| c.federates_with = BTreeSet::from([td.clone()]),
            Err(EntryError::OwnTrustDomain(td.clone())),
        ); // SID-18
        let two_kinds = |c: &mut EntryContent| {
            c.selectors =
                ["a:1", "b:1"].iter().map(|text| text.parse().unwrap()).collect::<SelectorSet>();
        };
        check(two_kinds, Ok(()));
        check(
            |c| {
                two_kinds(c);
                c.store_svid = true;
            },
            Err(EntryError::StoreSelectors),
        );
    }

    #[test]
    fn a_dns_name_can_stand_in_a_certificate() {
        for name in ["a", "a.b", "*.a.b", "A-1.example.org", &"a".repeat(63)] {
            assert!(DnsName::new(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*",
            "a.*",
            "*a.b",
            "-a",
            "a-",
            "a b",
            "a\n",
            "a\0",
            "é",
            "a_b",
            "spiffe://a/b",
            &long,
        ] {
            assert!(DnsName::new(name).is_err(), "{name:?}"); // no spaces, URIs or control characters in a certificate
        }
    }

    #[test]
    fn a_hint_is_short_and_printable() {
        assert_eq!(Hint::new(""), Ok(None));
        assert_eq!(Hint::new("internal").unwrap().unwrap().as_str(), "internal");
        assert!(Hint::new(&"h".repeat(1024)).is_ok()); // WAPI-28
        let refusal = |text: &str| Hint::new(text).unwrap_err().to_string();
        let words = "hint: at most 1024 bytes, without control characters, and not";
        let long = "h".repeat(1025); // H072
        assert_eq!(refusal(&long), format!("{words} \"{}\"…", "h".repeat(64)));
        assert_eq!(refusal("a\nb"), format!(r#"{words} "a\nb""#)); // H072
    }

    #[test]
    fn an_entry_id_is_plain() {
        for id in ["a", "0b6a1e2c-9d53-4b0e-8f8e-0a3f5a1d2c3b", "A.b_c", &"i".repeat(255)] {
            assert!(EntryId::new(id).is_ok(), "{id}");
        }
        for id in ["", "a b", "a/b", "é", &"i".repeat(256)] {
            let error = EntryId::new(id).unwrap_err();
            let shown = &id[..id.len().min(3)];
            assert!(matches!(error, EntryError::Id(_)), "{error}");
            assert!(error.to_string().contains(&format!("and not \"{shown}")), "{error}");
        }
    }
}
