//! The verifier of SVIDs in the place where TLS asks for one.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use tokio::sync::watch;

use super::{ExpectedServer, Trust, provider};
use crate::x509::verify::{
    AnchorSet, Anchors, PeerError, Role, claimed_id, verify_peer, verify_unnamed,
};

/// Verifies clients that present something.
#[derive(Debug)]
pub(super) struct Clients {
    anchors: watch::Receiver<Arc<AnchorSet>>,
}

/// Verifies a server.
#[derive(Debug)]
pub(super) struct Server {
    expected: ExpectedServer,
}

impl Clients {
    pub(super) fn new(anchors: watch::Receiver<Arc<AnchorSet>>) -> Self {
        Self { anchors }
    }
}

impl Server {
    pub(super) fn new(expected: ExpectedServer) -> Self {
        Self { expected }
    }

    fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), PeerError> {
        let spiffe_id = match &self.expected.trust {
            Trust::Anchors(anchors) => {
                let anchors = anchors.borrow().clone();
                verify_peer(chain, Role::Server, &anchors, now)?.spiffe_id().clone()
            }
            Trust::PinnedAuthority(hash) => {
                let pinned = chain.iter().filter(|certificate| is_pinned(certificate, hash));
                let trust_domain = self.expected.spiffe_id.trust_domain().clone();
                let anchors = AnchorSet::of(trust_domain, Anchors::new(pinned));
                verify_peer(chain, Role::Server, &anchors, now)?.spiffe_id().clone()
            }
            Trust::Unverified => claimed_id(chain, Role::Server)?,
        };
        if spiffe_id == self.expected.spiffe_id { Ok(()) } else { Err(PeerError::AnotherId) }
    }
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (anchors, now) = (self.anchors.borrow().clone(), system_time(now));
        let chain = chain(leaf, intermediates);
        let verified = match verify_peer(&chain, Role::Client, &anchors, now) {
            Err(error) if error.is_of_name() => verify_unnamed(&chain, Role::Client, &anchors, now),
            verified => verified.map(|_peer| ()),
        };
        verified.map(|()| ClientCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(&chain(leaf, intermediates), system_time(now))
            .map(|()| ServerCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What was wrong with the peer, if that is what the error says.
pub(super) fn refusal(error: &Error) -> Option<PeerError> {
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    if matches!(error, CertificateError::Expired) {
        Some(PeerError::Expired)
    } else if matches!(error, CertificateError::NotValidYet) {
        Some(PeerError::NotValidYet)
    } else if let CertificateError::Other(OtherError(source)) = error {
        source.downcast_ref().copied()
    } else {
        None
    }
}

/// The refusal as TLS knows it, which decides the alert that the peer gets.
fn refused(error: PeerError) -> Error {
    if error == PeerError::Expired {
        CertificateError::Expired.into()
    } else if error == PeerError::NotValidYet {
        CertificateError::NotValidYet.into()
    } else {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

fn chain<'a>(
    leaf: &'a CertificateDer<'_>,
    intermediates: &'a [CertificateDer<'_>],
) -> Vec<CertificateDer<'a>> {
    let all = std::iter::once(leaf).chain(intermediates);
    all.map(|certificate| CertificateDer::from(certificate.as_ref())).collect()
}

fn is_pinned(certificate: &CertificateDer<'_>, hash: &[u8; 32]) -> bool {
    digest::digest(&digest::SHA256, certificate).as_ref() == hash
}

fn system_time(now: UnixTime) -> SystemTime {
    UNIX_EPOCH.checked_add(std::time::Duration::from_secs(now.as_secs())).unwrap_or(UNIX_EPOCH)
}
