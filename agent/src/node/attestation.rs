//! One attestation or renewal from key to checked SVID. Nothing is kept here.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use steeple::bundle::Bundle;
use steeple::id::SpiffeId;
use steeple::keys::{KeyAlgorithm, PrivateKey, PrivateKeyError, SignError};
use steeple::tls::{Material, MaterialError};
use steeple::x509::csr::{self, Wish};
use steeple::x509::verify::{AnchorSet, Anchors, PeerError, Role, verify_peer};
use steeple::x509::{Chain, ChainError, Name, Subject, X509Svid};
use thiserror::Error;

use super::attestor::{EvidenceError, Mark};
use super::plan::{self, Verdict};
use super::saved::{Identity, Saved};
use super::trust::{self, TrustError};
use super::{Config, Deps};
use crate::server_api::ServerError;
use crate::server_api::node_api::{AttestError, Opening};

/// What an attestation works with.
#[derive(Debug)]
pub struct Attestation<'a> {
    /// Collaborators.
    pub deps: &'a Deps,
    /// Numbers and names.
    pub config: &'a Config,
}

/// Why there is no new SVID.
#[derive(Debug, Error)]
pub enum AttestFailure {
    /// The server is not believed, or cannot be reached.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is nothing to present.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// What there is to present works once, and it was used.
    #[error("the join token was used before")]
    Spent,
    /// No key could be made.
    #[error("no key could be made")]
    Key(#[from] PrivateKeyError),
    /// The key did not sign.
    #[error("no certificate request could be made")]
    Sign(#[from] SignError),
    /// The server refused, or cannot be reached.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// The server sent something that is no SVID.
    #[error("the server sent no SVID")]
    Chain(#[from] ChainError),
    /// The server sent an SVID for another key.
    #[error("the server sent an SVID that cannot be used")]
    Material(#[from] MaterialError),
    /// The server sent an SVID that it would not accept itself.
    #[error("the server sent an SVID that is not valid here and now")]
    Peer(#[from] PeerError),
    /// The server sent the SVID of somebody else.
    #[error("the server sent an SVID of {0}")]
    OtherId(SpiffeId),
}

impl Attestation<'_> {
    /// Attests the node. What comes back is what it is from now on, and the server's bundle.
    pub async fn attest(&self, saved: &Saved) -> Result<(Saved, Bundle), AttestFailure> {
        let Deps { contact, attestor, clock } = self.deps;
        let own = &self.config.trust_domain;
        let session = attestor.begin().await?;
        if session.once.is_some() && session.once == saved.spent {
            return Err(AttestFailure::Spent);
        }
        let reason = (saved.bundle(own), &self.config.trust);
        let bundle = trust::establish(&**contact, clock, own, reason).await?;
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256)?);
        let opening =
            Opening { method: attestor.method(), evidence: session.evidence, csr: request(&key)? };
        let server = contact.stranger(trust::anchored(&bundle.x509_authorities, own));
        let attested = server.attest(opening, &*session.responder).await?;
        let svid = self.check(attested.chain, &key, &bundle)?;
        let is_ours = svid.spiffe_id().trust_domain() == own && !svid.spiffe_id().is_server();
        if !is_ours || *svid.spiffe_id() != attested.spiffe_id {
            return Err(AttestFailure::OtherId(svid.spiffe_id().clone()));
        }
        let identity = Identity { key, svid, reattestable: attested.reattestable };
        let saved = Saved {
            trust: bundle.x509_authorities.clone(),
            spent: session.once.or_else(|| saved.spent.clone()),
            identity: Some(identity),
        };
        Ok((saved, bundle))
    }

    /// A new key and SVID in the place of `identity`.
    pub async fn renew(
        &self,
        identity: &Identity,
        saved: &Saved,
    ) -> Result<Identity, AttestFailure> {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256)?);
        let answer = self.deps.contact.agent().renew(request(&key)?).await;
        let chain = answer.map_err(AttestError::Server)?;
        let bundle = saved.bundle(&self.config.trust_domain);
        let bundle = bundle.unwrap_or_else(|| Bundle::empty(self.config.trust_domain.clone()));
        let svid = self.check(chain, &key, &bundle)?;
        if svid.spiffe_id() != identity.svid.spiffe_id() {
            return Err(AttestFailure::OtherId(svid.spiffe_id().clone()));
        }
        Ok(Identity { key, svid, reattestable: identity.reattestable })
    }

    /// What tells the evidence of now from any other, if it can be used once only.
    pub async fn mark(&self) -> Option<Mark> {
        self.deps.attestor.begin().await.ok()?.once
    }

    /// Whether there is something to present that was not used before.
    pub async fn has_new_evidence(&self, saved: &Saved) -> bool {
        match self.deps.attestor.begin().await {
            Ok(session) => session.once.is_none() || session.once != saved.spent,
            Err(_nothing) => false,
        }
    }

    /// The SVID that a chain is, if it is for this key and would be accepted by the server.
    fn check(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &Arc<PrivateKey>,
        bundle: &Bundle,
    ) -> Result<X509Svid, AttestFailure> {
        let chain = Chain::new(chain)?;
        Material::new(&chain, key.clone())?;
        let anchors = AnchorSet::of(bundle.trust_domain.clone(), Anchors::from(bundle));
        verify_peer(chain.certificates(), Role::Client, &anchors, self.deps.clock.now())?;
        Ok(X509Svid::new(chain)?)
    }
}

impl AttestFailure {
    /// Whether it is the server that is not believed, and not this node.
    #[must_use]
    pub fn is_distrust(&self) -> bool {
        match self {
            Self::Trust(TrustError::Server(error)) | Self::Attest(AttestError::Server(error)) => {
                matches!(error, ServerError::Untrusted(_))
            }
            Self::Trust(_) => true,
            Self::Evidence(_)
            | Self::Spent
            | Self::Key(_)
            | Self::Sign(_)
            | Self::Attest(AttestError::Challenge(_))
            | Self::Chain(_)
            | Self::Material(_)
            | Self::Peer(_)
            | Self::OtherId(_) => false,
        }
    }

    /// What it means.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Attest(error) => plan::verdict(error),
            Self::Trust(TrustError::Server(error)) => server_verdict(error),
            Self::Trust(
                TrustError::Read { .. }
                | TrustError::Malformed { .. }
                | TrustError::Fingerprint { .. },
            )
            | Self::Evidence(_)
            | Self::Spent => Verdict::Refused,
            // A web server that cannot be read now may well be read later.
            Self::Trust(TrustError::Fetch { .. })
            | Self::Key(_)
            | Self::Sign(_)
            | Self::Chain(_)
            | Self::Material(_)
            | Self::Peer(_)
            | Self::OtherId(_) => Verdict::Retry(None),
        }
    }
}

/// A server that does not tell its bundle may do so later.
fn server_verdict(error: &ServerError) -> Verdict {
    match plan::verdict(&AttestError::Server(error.clone())) {
        Verdict::Retry(after) => Verdict::Retry(after),
        Verdict::Refused | Verdict::Banned => Verdict::Retry(None),
    }
}

/// A request for a certificate for this key. What it says is for the server to decide.
fn request(key: &PrivateKey) -> Result<Vec<u8>, SignError> {
    let subject = Name::from(&Subject::default());
    csr::make(key, &Wish { subject: &subject, spiffe_id: None, dns_names: &[] })
}
