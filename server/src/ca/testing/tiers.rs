//! Authorities above one another, made by hand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use steeple::clock::from_unix_seconds;
use steeple::id::TrustDomain;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::x509::make::{
    CaRequest, IntermediateRequest, Issuer, SvidRequest, Validity, self_signed_ca,
};
use steeple::x509::{Chain, Name, Subject};

use super::NOW;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// An authority of one tier.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) chain: Chain,
}

pub(crate) fn at(seconds: i64) -> SystemTime {
    from_unix_seconds(NOW + seconds)
}

pub(crate) fn td(name: &str) -> TrustDomain {
    name.parse().expect("a tier")
}

pub(crate) fn key() -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).expect("a tier"))
}

impl Tier {
    pub(crate) fn root() -> Self {
        let key = key();
        let request = CaRequest {
            trust_domain: &td("td"),
            subject: &Subject { common_name: Some("root".into()), ..Subject::default() },
            validity: Validity::new(at(0), 10 * HOUR),
        };
        Self { chain: self_signed_ca(&request, &*key).expect("a tier"), key }
    }

    pub(crate) fn below(&self, name: &str, ttl: Duration) -> Self {
        self.certify(key(), name, ttl)
    }

    pub(crate) fn certify(&self, key: Arc<PrivateKey>, name: &str, ttl: Duration) -> Self {
        let request = IntermediateRequest {
            trust_domain: &td(name),
            subject: &Name::from(&Subject {
                common_name: Some("below".into()),
                ..Subject::default()
            }),
            public_key: key.public_key(),
            validity: Validity::new(at(0), ttl),
        };
        Self {
            chain: self
                .issuer()
                .prepare_ca(&request)
                .expect("a tier")
                .sign_chain()
                .expect("a tier"),
            key,
        }
    }

    pub(crate) fn leaf(&self) -> Self {
        let key = key();
        let request = SvidRequest {
            spiffe_id: &"spiffe://td/web".parse().expect("a tier"),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            validity: Validity::new(at(0), HOUR),
        };
        let svid = self.issuer().prepare_svid(&request).expect("a tier").sign().expect("a tier");
        Self { chain: svid.chain().clone(), key }
    }

    pub(crate) fn issuer(&self) -> Arc<Issuer> {
        Arc::new(Issuer::new(&self.chain, self.key.clone()).expect("a tier"))
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.chain.certificates()[0].clone()
    }

    pub(crate) fn id(&self) -> String {
        self.issuer().authority_id()
    }
}
