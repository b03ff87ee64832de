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
    /// Whether an authority is tainted, by its ID.
    authorities: BTreeMap<String, bool>,
    /// Until when authorities are valid, by their key ID.
    ends: BTreeMap<String, i64>,
}

impl PreparedBundle {
    /// Prepares `bundle`.
    #[must_use]
    pub fn new(bundle: Arc<Bundle>) -> Self {
        let anchors = AnchorSet::of(bundle.trust_domain.clone(), Anchors::from(&*bundle));
        let x509 = bundle.x509_authorities.iter().filter_map(|authority| {
            let certificate = Certificate::parse(&authority.certificate).ok()?;
            Some((certificate.subject_key_id_hex()?, authority.tainted))
        });
        let jwt = bundle.jwt_authorities.iter().map(|key| (key.key_id.clone(), key.tainted));
        let mut authorities = BTreeMap::new();
        for (id, tainted) in x509.chain(jwt) {
            *authorities.entry(id).or_default() |= tainted;
        }
        let x509_ends = bundle.x509_authorities.iter().filter_map(|authority| {
            let certificate = Certificate::parse(&authority.certificate).ok()?;
            Some((certificate.subject_key_id_hex()?, unix_seconds(certificate.not_after())))
        });
        let jwt_ends = bundle
            .jwt_authorities
            .iter()
            .filter_map(|authority| Some((authority.key_id.clone(), authority.expires_at?)));
        Self {
            ends: x509_ends.chain(jwt_ends).collect(),
            x509_der: bundle.x509_der(),
            jwks: jwk::write::jwt_keys(&bundle),
            jwt_keys: Arc::new(JwtKeys::new(&bundle.jwt_authorities)),
            anchors,
            authorities,
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

    /// Until when the authority with this key ID is valid, in seconds since 1970, if that is known.
    #[must_use]
    pub fn end_of(&self, key_id: &str) -> Option<i64> {
        self.ends.get(key_id).copied()
    }

    /// Whether the authority with this key ID (the subject key ID of a CA in lower hex, or the
    /// `kid` of a JWT key) is no longer to be relied on.
    #[must_use]
    pub fn is_tainted(&self, key_id: &str) -> bool {
        self.authorities.get(key_id) == Some(&true)
    }

    /// Whether the bundle has an authority with this key ID, tainted or not.
    #[must_use]
    pub fn has_authority(&self, key_id: &str) -> bool {
        self.authorities.contains_key(key_id)
    }

    /// The IDs of those that are tainted here and were not in `former`: of CAs, and of JWT keys.
    #[must_use]
    pub fn newly_tainted(&self, former: Option<&Self>) -> (Vec<&str>, Vec<&str>) {
        let jwt = |id: &str| self.bundle.jwt_authorities.iter().any(|key| key.key_id == id);
        let tainted = self.authorities.iter().filter(|(_, tainted)| **tainted);
        let new = tainted.map(|(id, _)| id.as_str());
        let new = new.filter(|id| !former.is_some_and(|former| former.is_tainted(id)));
        let (of_jwt, of_x509) = new.partition(|id| jwt(id));
        (of_x509, of_jwt)
    }
}
