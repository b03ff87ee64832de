//! Trust bundles: the keys that vouch for a trust domain (SPIFFE Trust Domain and Bundle 3).
//!
//! How a bundle is written as a document is the business of `jwk`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::id::TrustDomain;

/// All that vouches for one trust domain.
///
/// A bundle without any authority is valid and means that nothing of the domain is
/// (Trust Domain and Bundle 4.1.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Whom it vouches for.
    pub trust_domain: TrustDomain,
    /// CA certificates, oldest first, each once.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys that sign JWT-SVIDs, oldest first, each key ID once.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// How often a consumer should look for a newer one.
    pub refresh_hint: Option<Duration>,
    /// Grows with every change of the content.
    pub sequence: u64,
}

/// A CA certificate of a bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Authority {
    /// The certificate in DER.
    pub certificate: CertificateDer<'static>,
    /// Whether its key is no longer to be relied on, so that all it signed is replaced.
    pub tainted: bool,
}

/// A key of a bundle that signs JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtAuthority {
    /// The `kid` of its tokens, never empty.
    pub key_id: String,
    /// The public key as a DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// When nothing it signed is valid any more, in seconds since 1970, where that is known.
    pub expires_at: Option<i64>,
    /// Whether it is no longer to be relied on.
    pub tainted: bool,
}

/// The bundles of several trust domains. They are never pooled: every use selects one by name
/// (Trust Domain and Bundle 6.2).
pub type Bundles = BTreeMap<TrustDomain, Arc<Bundle>>;

impl Bundle {
    /// A bundle with nothing in it.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            refresh_hint: None,
            sequence: 0,
        }
    }

    /// The CA certificates back to back in DER, as the Workload API sends them.
    #[must_use]
    pub fn x509_der(&self) -> Vec<u8> {
        let certificates = self.x509_authorities.iter().map(|authority| &*authority.certificate);
        certificates.collect::<Vec<_>>().concat()
    }

    /// Whether both vouch for the same with the same authorities, whatever their sequence.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain
            && self.x509_authorities == other.x509_authorities
            && self.jwt_authorities == other.jwt_authorities
            && self.refresh_hint == other.refresh_hint
    }
}
