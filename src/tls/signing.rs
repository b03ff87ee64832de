//! What is presented in a handshake, and the signature that proves it.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::sync::watch;

use super::Material;
use crate::keys::{KeyKind, Scheme, Signer};

/// A key that signs handshakes.
#[derive(Debug)]
pub(super) struct TlsKey(Arc<dyn Signer>);

/// A server's material at the time of each handshake.
#[derive(Debug)]
pub(super) struct ServerMaterial(pub(super) watch::Receiver<Arc<Material>>);

/// A client's material at the time of each handshake.
#[derive(Debug)]
pub(super) struct ClientMaterial(pub(super) watch::Receiver<Option<Arc<Material>>>);

#[derive(Debug)]
struct Chosen {
    key: Arc<dyn Signer>,
    ours: Scheme,
    theirs: SignatureScheme,
}

impl TlsKey {
    pub(super) fn new(key: Arc<dyn Signer>) -> Self {
        Self(key)
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let known: &[(SignatureScheme, Scheme)] = match self.0.public_key().kind() {
            KeyKind::EcP256 => &[(SignatureScheme::ECDSA_NISTP256_SHA256, Scheme::Tls13)],
            KeyKind::EcP384 => &[(SignatureScheme::ECDSA_NISTP384_SHA384, Scheme::Tls13)],
            KeyKind::EcP521 => &[(SignatureScheme::ECDSA_NISTP521_SHA512, Scheme::Tls13)],
            KeyKind::Rsa { .. } => &[
                (SignatureScheme::RSA_PSS_SHA256, Scheme::Tls13),
                // What a peer that speaks no more than TLS 1.2 may know.
                (SignatureScheme::RSA_PKCS1_SHA256, Scheme::X509),
            ],
        };
        let &(theirs, ours) = known.iter().find(|(theirs, _)| offered.contains(theirs))?;
        Some(Box::new(Chosen { key: self.0.clone(), ours, theirs }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.public_key().kind() {
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => SignatureAlgorithm::ECDSA,
            KeyKind::Rsa { .. } => SignatureAlgorithm::RSA,
        }
    }
}

impl rustls::sign::Signer for Chosen {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.key.sign(self.ours, message);
        signature.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.theirs
    }
}

impl ResolvesServerCert for ServerMaterial {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().certified.clone())
    }
}

impl ResolvesClientCert for ClientMaterial {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().as_ref().map(|material| material.certified.clone())
    }

    fn has_certs(&self) -> bool {
        self.0.borrow().is_some()
    }
}
