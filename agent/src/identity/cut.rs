//! Tells of SVIDs that end with their authority, which is before they were asked to if anything.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use steeple::clock::{from_unix_seconds, unix_seconds};
use steeple::id::SpiffeId;
use steeple::x509::{Certificate, X509Svid};
use tracing::warn;

use super::PreparedBundle;

/// How many authorities are remembered as told of.
const MAX_TOLD: usize = 16;

/// The authorities of which it was told, each once. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts(Arc<Mutex<BTreeSet<String>>>);

impl Cuts {
    /// Looks at a certificate whose chain was verified with this bundle.
    pub(super) fn look_at_x509(&self, svid: &X509Svid, bundle: &PreparedBundle) {
        let Some(authority) = svid.authority_key_id() else { return };
        let end = match svid.chain().certificates().get(1) {
            Some(issuer) => Certificate::parse(issuer).ok().map(|issuer| issuer.not_after()),
            None => bundle.x509_authorities().end_of(authority).map(from_unix_seconds),
        };
        if end.is_some_and(|end| end <= svid.not_after()) {
            self.tell("X509-SVID", svid.spiffe_id(), authority, svid.not_after());
        }
    }

    /// Looks at a token that was verified with this bundle, and signed by the key of this ID.
    pub(super) fn look_at_jwt(
        &self,
        (spiffe_id, key_id): (&SpiffeId, &str),
        expires_at: SystemTime,
        bundle: &PreparedBundle,
    ) {
        let end = bundle.jwt_authorities().end_of(key_id);
        if end.is_some_and(|end| end <= unix_seconds(expires_at)) {
            self.tell("JWT-SVID", spiffe_id, key_id, expires_at);
        }
    }

    fn tell(&self, kind: &str, spiffe_id: &SpiffeId, authority: &str, end: SystemTime) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD {
            told.clear();
        }
        if told.insert(authority.to_owned()) {
            let expires_at = humantime::format_rfc3339_seconds(end);
            warn!(%spiffe_id, authority_id = authority, %expires_at,
                "{kind} ends with its authority, which may be before its entry says; others may \
                 follow unseen");
        }
    }

    /// The authorities that it was told of.
    #[cfg(test)]
    pub(super) fn told(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
    use steeple::id::TrustDomain;
    use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
    use steeple::x509::Subject;
    use steeple::x509::make::{CaRequest, Issuer, SvidRequest, Validity, self_signed_ca};

    use super::*;

    const END: i64 = 2_000_000_000;

    fn id() -> SpiffeId {
        "spiffe://td/web".parse().unwrap()
    }

    #[test]
    fn a_certificate_that_ends_with_its_authority_is_told_of_once() {
        let td = TrustDomain::parse("td").unwrap();
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let now = from_unix_seconds(END - 1_000);
        let validity = Validity::new(now, Duration::from_secs(1_000));
        let (subject, trust_domain) = (&Subject::default(), &td);
        let chain = self_signed_ca(&CaRequest { trust_domain, subject, validity }, &*key).unwrap();
        let certificate = chain.certificates()[0].clone();
        let mut bundle = Bundle::empty(td.clone());
        bundle.x509_authorities.push(X509Authority { certificate, tainted: false });
        let bundle = PreparedBundle::new(Arc::new(bundle));
        let issuer = Arc::new(Issuer::new(&chain, key.clone()).unwrap());
        let svid = |seconds| {
            let request = SvidRequest {
                spiffe_id: &id(),
                public_key: key.public_key(),
                dns_names: &[],
                subject: None,
                validity: Validity::new(now, Duration::from_secs(seconds)),
            };
            issuer.prepare_svid(&request).unwrap().sign().unwrap()
        };
        let cuts = Cuts::default();
        cuts.look_at_x509(&svid(999), &bundle);
        assert_eq!(cuts.told(), [""; 0]);
        cuts.look_at_x509(&svid(1_000), &bundle);
        cuts.look_at_x509(&svid(1_000), &bundle);
        assert_eq!(cuts.told(), [issuer.authority_id()]);
    }

    #[test]
    fn a_token_that_ends_with_its_key_is_told_of() {
        let mut bundle = Bundle::empty(TrustDomain::parse("td").unwrap());
        let key = |key_id: &str, expires_at| JwtAuthority {
            key_id: key_id.into(),
            public_key: Vec::new(),
            expires_at,
            tainted: false,
        };
        bundle.jwt_authorities = vec![key("a", Some(END)), key("endless", None)];
        let bundle = PreparedBundle::new(Arc::new(bundle));
        let cuts = Cuts::default();
        for (key_id, end) in [("a", END - 1), ("endless", END), ("unknown", END)] {
            cuts.look_at_jwt((&id(), key_id), from_unix_seconds(end), &bundle);
        }
        assert_eq!(cuts.told(), [""; 0]);
        cuts.look_at_jwt((&id(), "a"), from_unix_seconds(END), &bundle);
        assert_eq!(cuts.told(), ["a"]);
    }
}
