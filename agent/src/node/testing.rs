//! A certificate authority for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::bundle::{Bundle, X509Authority};
use steeple::id::TrustDomain;
use steeple::keys::{KeyAlgorithm, PrivateKey, PublicKey, Signer as _};
use steeple::x509::make::{CaRequest, Issuer, SvidRequest, Validity, self_signed_ca};
use steeple::x509::{Chain, Subject, X509Svid};

use super::saved::Identity;

/// An authority of the trust domain `td`.
#[derive(Debug)]
pub(crate) struct Authority {
    root: Chain,
    issuer: Arc<Issuer>,
    now: SystemTime,
}

impl Authority {
    pub(crate) fn new(now: SystemTime) -> Self {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let validity = Validity::new(now, Duration::from_secs(1_000_000));
        let trust_domain = &TrustDomain::parse("td").unwrap();
        let request = CaRequest { trust_domain, subject: &Subject::default(), validity };
        let root = self_signed_ca(&request, &*key).unwrap();
        let issuer = Arc::new(Issuer::new(&root, key).unwrap());
        Self { root, issuer, now }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        let certificate = self.root.certificates()[0].clone();
        Bundle {
            x509_authorities: vec![X509Authority { certificate, tainted: false }],
            ..Bundle::empty(TrustDomain::parse("td").unwrap())
        }
    }

    pub(crate) fn sign(&self, id: &str, key: &PublicKey, validity: Validity) -> X509Svid {
        let request = SvidRequest {
            spiffe_id: &id.parse().unwrap(),
            public_key: key,
            dns_names: &[],
            subject: None,
            validity,
        };
        self.issuer.prepare_svid(&request).unwrap().sign().unwrap()
    }

    pub(crate) fn identity(&self, id: &str, ttl: u64) -> Identity {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let validity = Validity::new(self.now, Duration::from_secs(ttl));
        let svid = self.sign(id, key.public_key(), validity);
        Identity { key, svid, reattestable: true }
    }
}
