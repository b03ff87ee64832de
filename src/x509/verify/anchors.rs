//! The authorities that a path may end in, made ready once for many checks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use crate::bundle::{Bundle, Bundles};
use crate::id::TrustDomain;
use crate::x509::Certificate;

/// The authorities of one trust domain.
///
/// Of a bundle's certificates only those become anchors that are an authority's and may sign
/// certificates: webpki would take the name and key of any. They count only while they are valid.
#[derive(Clone, Default)]
pub struct Anchors {
    limits: Vec<Limits>,
    /// In the order of `limits`.
    anchors: Vec<TrustAnchor<'static>>,
}

/// The authorities of each trust domain that is known. They are never pooled (X509-SVID 5.1).
#[derive(Clone, Debug, Default)]
pub struct AnchorSet(BTreeMap<TrustDomain, Arc<Anchors>>);

/// What a certificate says about itself that webpki does not ask an anchor.
#[derive(Clone, Copy)]
struct Limits {
    not_before: SystemTime,
    not_after: SystemTime,
    path_length: Option<u8>,
}

/// The anchors that are valid at one time.
pub(super) struct Valid<'a> {
    pub(super) anchors: Cow<'a, [TrustAnchor<'static>]>,
    limits: Cow<'a, [Limits]>,
}

impl Anchors {
    /// The anchors among these certificates.
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Self {
        let found = certificates.into_iter().filter_map(anchor);
        let (limits, anchors) = found.unzip();
        Self { limits, anchors }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(super) fn valid_at(&self, now: SystemTime) -> Valid<'_> {
        let valid = |limits: &Limits| limits.not_before <= now && now <= limits.not_after;
        if self.limits.iter().all(valid) {
            return Valid {
                anchors: Cow::Borrowed(&self.anchors),
                limits: Cow::Borrowed(&self.limits),
            };
        }
        let pairs = self.anchors.iter().cloned().zip(self.limits.iter().copied());
        let (anchors, limits): (Vec<_>, _) = pairs.filter(|(_, limits)| valid(limits)).unzip();
        Valid { anchors: Cow::Owned(anchors), limits: Cow::Owned(limits) }
    }
}

impl AnchorSet {
    /// The anchors of one trust domain alone.
    #[must_use]
    pub fn of(trust_domain: TrustDomain, anchors: Anchors) -> Self {
        Self::of_many([(trust_domain, anchors)])
    }

    /// The anchors of several trust domains.
    pub fn of_many(all: impl IntoIterator<Item = (TrustDomain, Anchors)>) -> Self {
        Self(all.into_iter().map(|(name, anchors)| (name, Arc::new(anchors))).collect())
    }

    /// The anchors of each bundle.
    #[must_use]
    pub fn from_bundles(bundles: &Bundles) -> Self {
        Self::of_many(bundles.iter().map(|(name, bundle)| (name.clone(), (&**bundle).into())))
    }

    /// The anchors of this trust domain; none if there is no bundle for it.
    #[must_use]
    pub fn find(&self, trust_domain: &TrustDomain) -> Option<&Anchors> {
        self.0.get(trust_domain).map(|anchors| &**anchors)
    }

    /// The anchors of each trust domain.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Anchors> {
        self.0.values().map(|anchors| &**anchors)
    }
}

impl Valid<'_> {
    /// How many authorities may follow below this anchor, which is one of these.
    pub(super) fn path_length(&self, anchor: &TrustAnchor<'_>) -> Option<u8> {
        let same = |other: &&TrustAnchor<'_>| {
            other.subject == anchor.subject
                && other.subject_public_key_info == anchor.subject_public_key_info
        };
        // One authority may be there in two certificates; what either allows is allowed.
        let limits = self.anchors.iter().zip(self.limits.iter());
        let lengths = limits.filter(|(other, _)| same(other)).map(|(_, limits)| limits.path_length);
        lengths.into_iter().try_fold(0, |most, next| Some(most.max(next?)))
    }
}

impl From<&Bundle> for Anchors {
    fn from(bundle: &Bundle) -> Self {
        Self::new(bundle.x509_authorities.iter().map(|authority| &authority.certificate))
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anchors({})", self.anchors.len())
    }
}

fn anchor(der: &CertificateDer<'_>) -> Option<(Limits, TrustAnchor<'static>)> {
    let certificate = Certificate::parse(der).ok()?;
    let constraints = certificate.basic_constraints()?;
    let may_sign = certificate.key_usage().is_none_or(|usage| usage.key_cert_sign());
    let understood = !certificate.has_unknown_critical_extension();
    if !constraints.ca || !may_sign || !understood || certificate.public_key().is_err() {
        return None;
    }
    let limits = Limits {
        not_before: certificate.not_before(),
        not_after: certificate.last_moment(),
        path_length: constraints.path_length,
    };
    Some((limits, anchor_from_trusted_cert(der).ok()?.to_owned()))
}
