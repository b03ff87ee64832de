//! Those authorities that sign now, as one immutable value that whoever signs takes a copy of.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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

/// What signs now, of each kind that the server makes one.
#[derive(Clone, Debug)]
pub struct Authorities {
    trust_domain: TrustDomain,
    x509: X509Authority,
    jwt: Option<JwtAuthority>,
    /// The CAs of this server that are vouched for and not tainted.
    relied_on: Arc<BTreeSet<AuthorityId>>,
}

/// A CA that signs.
#[derive(Clone, Debug)]
pub struct X509Authority {
    id: AuthorityId,
    issuer: Arc<Issuer>,
    pace: Pace,
    public_at: SystemTime,
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

/// What an authority has done in the life of this process.
#[derive(Clone, Debug)]
pub(super) struct Tail(Arc<Done>);

#[derive(Debug)]
struct Done {
    /// Until when something that it signed is valid.
    end: AtomicI64,
    /// Whether something that it signed had to end before it was asked to.
    cut: AtomicBool,
}

impl Authorities {
    pub(super) fn new(
        trust_domain: TrustDomain,
        x509: X509Authority,
        jwt: Option<JwtAuthority>,
        relied_on: BTreeSet<AuthorityId>,
    ) -> Self {
        Self { trust_domain, x509, jwt, relied_on: Arc::new(relied_on) }
    }

    /// The CAs of this server that are vouched for and not tainted, those that no longer sign among
    /// them.
    #[must_use]
    pub fn relied_on(&self) -> &BTreeSet<AuthorityId> {
        &self.relied_on
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

    /// The JWT key; none where the server makes no tokens.
    #[must_use]
    pub fn jwt(&self) -> Option<&JwtAuthority> {
        self.jwt.as_ref()
    }
}

impl X509Authority {
    pub(super) fn new(issuer: Issuer, pace: Pace, public_at: SystemTime, tail: Tail) -> Self {
        let id = issuer.authority_id().into();
        Self { id, issuer: Arc::new(issuer), pace, public_at, tail }
    }

    /// When it has been public for so long that whoever looks now and then knows it.
    #[must_use]
    pub fn public_at(&self) -> SystemTime {
        self.public_at
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

    /// Notes that what it signed ends before it was asked to, and says whether that is the first.
    pub(super) fn first_cut(&self) -> bool {
        self.tail.cut()
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

    /// Notes that what it signed ends before it was asked to, and says whether that is the first.
    pub(super) fn first_cut(&self) -> bool {
        self.tail.cut()
    }
}

impl Tail {
    /// Nothing was signed yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(Done { end: AtomicI64::new(i64::MIN), cut: AtomicBool::new(false) }))
    }

    /// The end of all that was signed, in seconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.0.end.load(Ordering::Acquire)
    }

    fn extend(&self, not_after: SystemTime) {
        self.0.end.fetch_max(unix_seconds(not_after), Ordering::AcqRel);
    }

    /// Notes that a life was cut, and says whether that is the first one.
    fn cut(&self) -> bool {
        !self.0.cut.swap(true, Ordering::AcqRel)
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
