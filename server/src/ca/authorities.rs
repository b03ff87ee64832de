//! Those authorities that sign now, as one immutable value that whoever signs takes a copy of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize, Serializer};
use steeple::clock::unix_seconds;
use steeple::id::TrustDomain;
use steeple::jwt::make::JwtSigner;
use steeple::keys::Pace;
use steeple::x509::make::Issuer;

/// The name of an authority: the subject key identifier of a CA in lower-case hexadecimal, or the
/// `kid` of a JWT key.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(from = "String")]
pub struct AuthorityId(Arc<str>);

/// What signs now, of each kind one.
#[derive(Clone, Debug)]
pub struct Authorities {
    trust_domain: TrustDomain,
    x509: X509Authority,
    jwt: JwtAuthority,
}

/// A CA that signs.
#[derive(Clone, Debug)]
pub struct X509Authority {
    id: AuthorityId,
    issuer: Arc<Issuer>,
    pace: Pace,
    tail: Tail,
}

/// A key that signs tokens.
#[derive(Clone, Debug)]
pub struct JwtAuthority {
    id: AuthorityId,
    signer: JwtSigner,
    pace: Pace,
    not_after: SystemTime,
    tail: Tail,
}

/// Until when something that an authority signed in the life of this process is valid.
#[derive(Clone, Debug)]
pub(super) struct Tail(Arc<AtomicI64>);

impl Authorities {
    pub(super) fn new(trust_domain: TrustDomain, x509: X509Authority, jwt: JwtAuthority) -> Self {
        Self { trust_domain, x509, jwt }
    }

    /// The trust domain that they are authorities of.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The CA.
    #[must_use]
    pub fn x509(&self) -> &X509Authority {
        &self.x509
    }

    /// The JWT key.
    #[must_use]
    pub fn jwt(&self) -> &JwtAuthority {
        &self.jwt
    }
}

impl X509Authority {
    pub(super) fn new(issuer: Issuer, pace: Pace, tail: Tail) -> Self {
        Self { id: issuer.authority_id().into(), issuer: Arc::new(issuer), pace, tail }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &AuthorityId {
        &self.id
    }

    /// Until when it is valid, and with it all it signs.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.issuer.not_after()
    }

    pub(super) fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn will_sign_until(&self, not_after: SystemTime) {
        self.tail.extend(not_after);
    }
}

impl JwtAuthority {
    pub(super) fn new(signer: JwtSigner, not_after: SystemTime, tail: Tail) -> Self {
        let pace = signer.signer().pace();
        Self { id: signer.key_id().to_owned().into(), signer, pace, not_after, tail }
    }

    /// Its name, the `kid` of its tokens.
    #[must_use]
    pub fn id(&self) -> &AuthorityId {
        &self.id
    }

    /// Until when it is valid, and with it all it signs.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn signer(&self) -> &JwtSigner {
        &self.signer
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn will_sign_until(&self, not_after: SystemTime) {
        self.tail.extend(not_after);
    }
}

impl Tail {
    /// Nothing was signed yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }

    /// The end of all that was signed, in seconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    fn extend(&self, not_after: SystemTime) {
        self.0.fetch_max(unix_seconds(not_after), Ordering::AcqRel);
    }
}

impl AuthorityId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for AuthorityId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for AuthorityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
