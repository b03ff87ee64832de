//! A bundle in the forms in which it is served and used, made once for each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::bundle::Bundle;
use steeple::clock::unix_seconds;
use steeple::id::TrustDomain;
use steeple::jwk;
use steeple::jwt::keys::JwtKeys;
use steeple::x509::Certificate;
use steeple::x509::verify::{AnchorSet, Anchors};

/// A bundle, its documents, and its keys ready to verify with.
#[derive(Debug)]
pub struct PreparedBundle {
    bundle: Arc<Bundle>,
    x509_der: Vec<u8>,
    jwks: Vec<u8>,
    jwt_keys: Arc<JwtKeys>,
    anchors: AnchorSet,
    x509_authorities: Authorities,
    jwt_authorities: Authorities,
}

/// The authorities of one kind, by their key ID. The ID of a CA says nothing about a JWT key that
/// has the same, nor the other way round: whoever names a key chooses its ID.
#[derive(Debug)]
pub struct Authorities(BTreeMap<String, Authority>);

#[derive(Debug, Default)]
struct Authority {
    tainted: bool,
    /// Until when it is valid, in seconds since 1970, if that is known.
    end: Option<i64>,
}

impl PreparedBundle {
    /// Prepares `bundle`.
    #[must_use]
    pub fn new(bundle: Arc<Bundle>) -> Self {
        let anchors = AnchorSet::of(bundle.trust_domain.clone(), Anchors::from(&*bundle));
        let x509 = bundle.x509_authorities.iter().filter_map(|authority| {
            let certificate = Certificate::parse(&authority.certificate).ok()?;
            let end = Some(unix_seconds(certificate.not_after()));
            Some((certificate.subject_key_id_hex()?, Authority { tainted: authority.tainted, end }))
        });
        let jwt = bundle.jwt_authorities.iter().map(|key| {
            (key.key_id.clone(), Authority { tainted: key.tainted, end: key.expires_at })
        });
        Self {
            x509_authorities: x509.collect(),
            jwt_authorities: jwt.collect(),
            x509_der: bundle.x509_der(),
            jwks: jwk::write::jwt_keys(&bundle),
            jwt_keys: Arc::new(JwtKeys::new(&bundle.jwt_authorities)),
            anchors,
            bundle,
        }
    }

    /// Whom it vouches for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.bundle.trust_domain
    }

    /// The bundle itself.
    #[must_use]
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The CA certificates back to back in DER; empty if there is none.
    #[must_use]
    pub fn x509_der(&self) -> &[u8] {
        &self.x509_der
    }

    /// The JWT keys as a JWK set in JSON.
    #[must_use]
    pub fn jwks(&self) -> &[u8] {
        &self.jwks
    }

    /// The keys to verify JWT-SVIDs of this trust domain with.
    #[must_use]
    pub fn jwt_keys(&self) -> &Arc<JwtKeys> {
        &self.jwt_keys
    }

    /// What X.509-SVIDs of this trust domain, and of no other, are verified with.
    #[must_use]
    pub fn anchors(&self) -> &AnchorSet {
        &self.anchors
    }

    /// The CAs, by their subject key ID in lower hex.
    #[must_use]
    pub fn x509_authorities(&self) -> &Authorities {
        &self.x509_authorities
    }

    /// The JWT keys, by their `kid`.
    #[must_use]
    pub fn jwt_authorities(&self) -> &Authorities {
        &self.jwt_authorities
    }
}

impl Authorities {
    /// Until when the authority with this key ID is valid, in seconds since 1970, if that is known.
    #[must_use]
    pub fn end_of(&self, key_id: &str) -> Option<i64> {
        self.0.get(key_id)?.end
    }

    /// Whether the authority with this key ID is no longer to be relied on.
    #[must_use]
    pub fn is_tainted(&self, key_id: &str) -> bool {
        self.0.get(key_id).is_some_and(|authority| authority.tainted)
    }

    /// Whether there is an authority with this key ID, tainted or not.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.0.contains_key(key_id)
    }

    /// The IDs of those that are tainted here and were not in `former`.
    #[must_use]
    pub fn newly_tainted(&self, former: Option<&Self>) -> Vec<&str> {
        let tainted = self.0.iter().filter(|(_, authority)| authority.tainted);
        let ids = tainted.map(|(id, _)| id.as_str());
        ids.filter(|id| !former.is_some_and(|former| former.is_tainted(id))).collect()
    }
}

impl FromIterator<(String, Authority)> for Authorities {
    /// Of several with one ID, one that is tainted taints all, and the last that has an end says it.
    fn from_iter<T: IntoIterator<Item = (String, Authority)>>(authorities: T) -> Self {
        let mut all: BTreeMap<_, Authority> = BTreeMap::new();
        for (id, Authority { tainted, end }) in authorities {
            let known = all.entry(id).or_default();
            known.tainted |= tainted;
            known.end = end.or(known.end);
        }
        Self(all)
    }
}
