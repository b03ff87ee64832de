//! What may stand above this server: an authority that signs its CA certificates and knows the
//! roots that all tiers have in common.
//!
//! How one is reached is the business of `upstream`; here is what the authorities need of it, and
//! the check of what it signed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use steeple::bundle::{JwtAuthority, X509Authority};
use steeple::id::TrustDomain;
use steeple::keys::PublicKey;
use steeple::x509::{Certificate, CertificateError, Chain, ChainError};
use thiserror::Error;
use tokio::sync::watch;

/// An authority above this server.
///
/// Every call ends within a deadline of its own, and an error says nothing about whether upstream
/// did it: to ask again is always right.
pub trait UpstreamAuthority: fmt::Debug + Send + Sync + 'static {
    /// Has a CA certificate made. What comes back is what upstream sent: [`MintedCa::check`] says
    /// whether it will do.
    fn mint_ca(&self, request: CaRequest) -> BoxFuture<'_, Result<MintedCa, UpstreamError>>;

    /// Makes a key that signs tokens here known in all tiers.
    fn publish_jwt_key(&self, key: JwtAuthority)
    -> BoxFuture<'_, Result<Published, UpstreamError>>;

    /// What upstream vouches for, and each change of that. `None` until it is known, and for ever
    /// where upstream never says: then the roots that came with a CA stay until somebody revokes
    /// them here.
    fn vouched(&self) -> watch::Receiver<Option<Arc<Vouched>>>;
}

/// A wish for a CA certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaRequest {
    /// A certificate request in DER, signed with the key of the CA, with its subject and the ID of
    /// the trust domain.
    pub csr: Vec<u8>,
    /// How long it is to live. Upstream decides.
    pub ttl: Duration,
}

/// A CA certificate as upstream made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MintedCa {
    /// The certificate of the CA, and those that lead from it to a root, without that.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots of all tiers.
    pub roots: Vec<X509Authority>,
}

/// What became of a key that signs tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// It is known upstream, among these, which are all that are.
    Keys(Vec<JwtAuthority>),
    /// Upstream has no place for such keys, so that this server alone vouches for it.
    NotTaken,
    /// Somebody has revoked it upstream, where it is not taken again.
    Revoked,
}

/// What upstream vouches for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Vouched {
    /// The roots of all tiers. One that is missing was revoked.
    pub roots: Vec<X509Authority>,
    /// The keys of all tiers that sign tokens.
    pub jwt_keys: Vec<JwtAuthority>,
}

/// Why upstream did not do what it was asked.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// It cannot be reached or has too much to do; another time it may.
    #[error("the upstream authority is not available")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// It does not want to: somebody has to change something there or in the configuration.
    #[error("the upstream authority refused")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
    /// What it said makes no sense.
    #[error("the answer of the upstream authority cannot be used")]
    Answer(#[source] Box<dyn StdError + Send + Sync>),
}

/// What a CA certificate from upstream has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The trust domain that it is an authority of.
    pub trust_domain: &'a TrustDomain,
    /// Whose key it is.
    pub public_key: &'a PublicKey,
    /// When it is.
    pub now: SystemTime,
}

/// A CA certificate from upstream that will do. Only [`MintedCa::check`] makes one.
#[derive(Clone, Debug)]
pub struct UpstreamCa {
    chain: Chain,
    roots: Vec<X509Authority>,
    root: CertificateDer<'static>,
    root_id: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a CA certificate from upstream will not do.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum UnusableCa {
    /// The chain is empty, or longer than clients take with a leaf before it.
    #[error("the chain of the CA cannot be used")]
    Chain(#[from] ChainError),
    /// A certificate cannot be read.
    #[error("a certificate in the chain of the CA cannot be read")]
    Certificate(#[from] CertificateError),
    /// It is for another key than the one that was to be signed.
    #[error("the certificate is for another key")]
    Key,
    /// It does not name the trust domain of this server and nothing else (X509-SVID 3.2).
    #[error("the certificate does not name this trust domain, and it alone")]
    TrustDomain,
    /// A certificate in the chain may not sign certificates, or not so many in a row.
    #[error("a certificate in the chain may not sign those below it")]
    NotAnAuthority,
    /// A certificate in the chain is not valid now.
    #[error("a certificate in the chain is not valid now")]
    NotValid,
    /// The chain does not hold together, or does not end in one of the roots.
    #[error("the chain does not lead to a root that upstream vouches for")]
    NoRoot,
    /// A root is not the certificate of a CA.
    #[error("a root is not the certificate of a CA")]
    RootNotCa,
    /// The root cannot be named, and so not be tainted or revoked.
    #[error("the root has no subject key identifier")]
    NoRootId,
}

impl MintedCa {
    /// Checks that this is the CA certificate that was asked for, that its chain holds together,
    /// and that it ends in one of the roots. A root at the end of the chain is left out.
    pub fn check(self, expected: &Expected<'_>) -> Result<UpstreamCa, UnusableCa> {
        let mut certificates = self.chain;
        while certificates.len() > 1
            && certificates.last().is_some_and(|last| is_root(last, &self.roots))
        {
            certificates.pop();
        }
        // With a leaf before it.
        if certificates.len() >= steeple::x509::MAX_CHAIN_LENGTH {
            return Err(ChainError::TooLong.into());
        }
        let chain = Chain::new(certificates)?;
        let read = chain.certificates().iter().map(|der| Certificate::parse(der));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let Some((ca, above)) = read.split_first() else { return Err(ChainError::Empty.into()) };
        check_ca(ca, expected)?;
        let root = follow(ca, above, &self.roots, expected.now)?;
        let ends = read.iter().map(Certificate::not_after).chain([root.not_after]);
        let not_after = ends.fold(ca.not_after(), SystemTime::min);
        let not_before = ca.not_before();
        let (root, root_id) = (root.certificate, root.id);
        Ok(UpstreamCa { chain, roots: self.roots, root, root_id, not_before, not_after })
    }
}

impl UpstreamCa {
    /// The certificate of the CA, and those that lead from it to a root, without that.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The roots of all tiers, among them the one that the chain ends in.
    #[must_use]
    pub fn roots(&self) -> &[X509Authority] {
        &self.roots
    }

    /// The root that the chain ends in.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The subject key identifier of the root that the chain ends in, in lower-case hexadecimal,
    /// which is what it is tainted and revoked by.
    #[must_use]
    pub fn root_id(&self) -> &str {
        &self.root_id
    }

    /// From when on the CA is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when it and all above it are valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// Checks that a root can vouch for others, and be named when it is to be tainted or revoked.
pub fn check_root(root: &X509Authority) -> Result<(), UnusableCa> {
    let certificate = Certificate::parse(&root.certificate)?;
    if !certificate.is_ca() {
        return Err(UnusableCa::RootNotCa);
    }
    certificate.subject_key_id().map(drop).ok_or(UnusableCa::NoRootId)
}

/// Checks that an authority is a root, or leads to one through those that follow it, and that all of
/// them are valid and may sign a CA below.
pub fn leads_to_root(
    chain: &[CertificateDer<'_>],
    roots: &[X509Authority],
    now: SystemTime,
) -> Result<(), UnusableCa> {
    let read = chain.iter().map(|der| Certificate::parse(der));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    let Some((ca, above)) = read.split_first() else { return Err(ChainError::Empty.into()) };
    check_authority(ca, 1, now)?;
    if above.is_empty() && chain.iter().all(|der| is_root(der, roots)) {
        return Ok(());
    }
    follow(ca, above, roots, now).map(drop)
}

/// The end of a chain.
struct Root {
    certificate: CertificateDer<'static>,
    id: String,
    not_after: SystemTime,
}

fn is_root(certificate: &CertificateDer<'_>, roots: &[X509Authority]) -> bool {
    roots.iter().any(|root| root.certificate == *certificate)
}

fn check_ca(ca: &Certificate<'_>, expected: &Expected<'_>) -> Result<(), UnusableCa> {
    if ca.spki_der() != expected.public_key.spki_der() {
        return Err(UnusableCa::Key);
    }
    if ca.uris() != [expected.trust_domain.id().as_str().as_bytes()] {
        return Err(UnusableCa::TrustDomain);
    }
    check_intermediate(ca, 0, expected.now)
}

/// Follows the signatures from the CA through those above it to a root.
fn follow(
    ca: &Certificate<'_>,
    above: &[Certificate<'_>],
    roots: &[X509Authority],
    now: SystemTime,
) -> Result<Root, UnusableCa> {
    let mut last = ca;
    for (below, issuer) in above.iter().enumerate() {
        check_intermediate(issuer, below + 1, now)?;
        if !is_issued_by(last, issuer) {
            return Err(UnusableCa::NoRoot);
        }
        last = issuer;
    }
    let read = roots
        .iter()
        .filter_map(|root| Some((&root.certificate, Certificate::parse(&root.certificate).ok()?)));
    let mut fits = read.filter(|(_, root)| {
        check_authority(root, above.len() + 1, now).is_ok() && is_issued_by(last, root)
    });
    let (certificate, root) = fits.next().ok_or(UnusableCa::NoRoot)?;
    let certificate = certificate.clone();
    let id = root.subject_key_id_hex().ok_or(UnusableCa::NoRootId)?;
    Ok(Root { certificate, id, not_after: root.not_after() })
}

/// RFC 5280 6.1.4, for an authority with so many others between it and the leaf. Verifiers want to
/// read what its key is for, save for that of a root.
fn check_intermediate(
    authority: &Certificate<'_>,
    below: usize,
    now: SystemTime,
) -> Result<(), UnusableCa> {
    authority.key_usage().ok_or(UnusableCa::NotAnAuthority)?;
    check_authority(authority, below, now)
}

fn check_authority(
    authority: &Certificate<'_>,
    below: usize,
    now: SystemTime,
) -> Result<(), UnusableCa> {
    let limit = authority.basic_constraints().and_then(|constraints| constraints.path_length);
    let may_sign = authority.is_ca()
        && authority.key_usage().is_none_or(|usage| usage.key_cert_sign())
        && !authority.has_unknown_critical_extension()
        && limit.is_none_or(|most| below <= usize::from(most));
    if !may_sign {
        return Err(UnusableCa::NotAnAuthority);
    }
    if now < authority.not_before() || authority.not_after() < now {
        return Err(UnusableCa::NotValid);
    }
    Ok(())
}

fn is_issued_by(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject()
        && issuer.public_key().is_ok_and(|key| certificate.is_signed_by(&key))
}

#[cfg(test)]
mod tests;
