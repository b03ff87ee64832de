//! Decides who a peer is from the chain that it presents (X509-SVID 5).
//!
//! webpki builds and checks the path. What it leaves out is checked here: that anchors are
//! authorities and valid, what keys may be used for, and that the leaf is an SVID.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, KeyUsage as Purpose, VerifiedPath};

use super::{Certificate, CertificateError, MAX_CHAIN_LENGTH, Serial, hex};
use crate::id::{ParseError, SpiffeId};
use crate::keys::PublicKeyError;

mod anchors;

use self::anchors::Valid;
pub use self::anchors::{AnchorSet, Anchors};

const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// With what certificates may be signed; nothing with SHA-1 or a short key.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// How many authorities between leaf and anchor a path may have, as in webpki. Certificates beyond
/// them, of a chain that is in order, belong to no path; of one that is not, they would make the
/// search take very long.
const LONGEST_PATH: usize = 6;

/// On which side of a connection the peer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The peer opened the connection.
    Client,
    /// The peer accepted it.
    Server,
}

/// Somebody who presented a valid SVID of a trusted domain. Only verification makes one.
#[derive(Clone, Debug)]
pub struct VerifiedPeer {
    spiffe_id: SpiffeId,
    serial: Serial,
    not_before: SystemTime,
    not_after: SystemTime,
    authority_key_id: Option<String>,
    leaf: CertificateDer<'static>,
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PeerError {
    /// The peer presented no certificate.
    #[error("no certificate")]
    NoCertificate,
    /// The peer presented more than [`MAX_CHAIN_LENGTH`] certificates.
    #[error("more than {MAX_CHAIN_LENGTH} certificates")]
    ChainTooLong,
    /// The leaf cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The leaf does not name exactly one URI (X509-SVID 2).
    #[error("the certificate does not have exactly one URI name")]
    NotOneUri,
    /// The leaf's URI is no SPIFFE ID.
    #[error("the URI name is not a SPIFFE ID")]
    SpiffeId(#[from] ParseError),
    /// The leaf names a trust domain and nobody in it (X509-SVID 2).
    #[error("the SPIFFE ID is that of a trust domain")]
    NoPath,
    /// The certificate is that of an authority, which is no peer (X509-SVID 5.2).
    #[error("the certificate is that of an authority")]
    Authority,
    /// The leaf may not make signatures, or does not say so (X509-SVID 4.3).
    #[error("the certificate's key may not be used for signatures")]
    KeyUsage,
    /// The leaf is not for this side of a connection (X509-SVID 4.4).
    #[error("the certificate is not for this side of a connection")]
    Purpose,
    /// A critical extension is not understood.
    #[error("the certificate has a critical extension that is not understood")]
    CriticalExtension,
    /// The key of the leaf or of an issuer is not one that is trusted.
    #[error("a key in the chain is not trusted")]
    Key(#[from] PublicKeyError),
    /// There is no bundle for the peer's trust domain.
    #[error("no bundle for the trust domain of the peer")]
    UnknownTrustDomain,
    /// No authority in the bundle of the peer's trust domain is valid.
    #[error("no valid authority in the bundle of the peer's trust domain")]
    NoAuthority,
    /// The leaf or an issuer is not valid yet.
    #[error("a certificate in the chain is not valid yet")]
    NotValidYet,
    /// The leaf or an issuer has expired.
    #[error("a certificate in the chain has expired")]
    Expired,
    /// The peer is somebody else than expected.
    #[error("the peer has another SPIFFE ID than the one that was expected")]
    AnotherId,
    /// Who signed something in the chain may not sign certificates, or not that many in a row.
    #[error("an issuer in the chain may not sign certificates")]
    NotAnIssuer,
    /// No path of good certificates leads from the leaf to an authority.
    #[error("no valid path from the certificate to an authority of its trust domain")]
    NoPathToAuthority,
}

/// Verifies the chain that a peer presented, its leaf first, at the time `now`.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    role: Role,
    anchors: &AnchorSet,
    now: SystemTime,
) -> Result<VerifiedPeer, PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    if chain.len() > MAX_CHAIN_LENGTH {
        return Err(PeerError::ChainTooLong);
    }
    let certificate = Certificate::parse(leaf)?;
    let spiffe_id = check_leaf(&certificate, role)?;
    let anchors = anchors.find(spiffe_id.trust_domain()).ok_or(PeerError::UnknownTrustDomain)?;
    let anchors = anchors.valid_at(now);
    if anchors.anchors.is_empty() {
        return Err(PeerError::NoAuthority);
    }
    check_path(leaf, intermediates, &anchors, Moment { role, now })?;
    Ok(VerifiedPeer::new(&certificate, spiffe_id, leaf))
}

/// Verifies the chain of a peer that [`verify_peer`] refused for [whom its leaf names]: good in all
/// else, and signed by an authority of any trust domain. That makes it nobody's SVID, and its holder
/// somebody who can be told so.
///
/// [whom its leaf names]: PeerError::is_of_name
pub fn verify_unnamed(
    chain: &[CertificateDer<'_>],
    role: Role,
    anchors: &AnchorSet,
    now: SystemTime,
) -> Result<(), PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    let mut refusal = PeerError::NoPathToAuthority;
    for anchors in anchors.iter() {
        match check_path(leaf, intermediates, &anchors.valid_at(now), Moment { role, now }) {
            Ok(()) => return Ok(()),
            // Where no authority has anything to do with it, another may have more to say.
            Err(error) if refusal == PeerError::NoPathToAuthority => refusal = error,
            Err(_) => {}
        }
    }
    Err(refusal)
}

/// Reads the SPIFFE ID that a chain claims and checks the leaf itself, and nothing behind it: for
/// a first contact with a server whose authorities are not known yet.
pub fn claimed_id(chain: &[CertificateDer<'_>], role: Role) -> Result<SpiffeId, PeerError> {
    let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
    check_leaf(&Certificate::parse(leaf)?, role)
}

impl PeerError {
    /// Whether the leaf was refused for whom it names, after everything else in it was found good.
    #[must_use]
    pub fn is_of_name(self) -> bool {
        match self {
            Self::NotOneUri | Self::SpiffeId(_) | Self::NoPath => true,
            Self::NoCertificate
            | Self::ChainTooLong
            | Self::Certificate(_)
            | Self::Authority
            | Self::KeyUsage
            | Self::Purpose
            | Self::CriticalExtension
            | Self::Key(_)
            | Self::UnknownTrustDomain
            | Self::NoAuthority
            | Self::NotValidYet
            | Self::Expired
            | Self::AnotherId
            | Self::NotAnIssuer
            | Self::NoPathToAuthority => false,
        }
    }
}

impl VerifiedPeer {
    /// The peer of a handshake that called [`verify_peer`] with this chain and succeeded; or what it
    /// said of the name, where [`verify_unnamed`] succeeded.
    pub(crate) fn of_handshake(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
        let certificate = Certificate::parse(leaf)?;
        let spiffe_id = named(&certificate)?;
        Ok(Self::new(&certificate, spiffe_id, leaf))
    }

    /// Who the peer is.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The serial number of the peer's certificate.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// From when on the peer's certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the peer's certificate is valid. A connection may outlive it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The ID of the authority that signed the peer's certificate, where the certificate says it.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&str> {
        self.authority_key_id.as_deref()
    }

    /// The peer's certificate.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    fn new(certificate: &Certificate<'_>, spiffe_id: SpiffeId, leaf: &CertificateDer<'_>) -> Self {
        Self {
            spiffe_id,
            serial: certificate.serial(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            authority_key_id: certificate.authority_key_id().map(hex),
            leaf: leaf.clone().into_owned(),
        }
    }
}

#[derive(Clone, Copy)]
struct Moment {
    role: Role,
    now: SystemTime,
}

/// X509-SVID 2 to 4: what the leaf has to be, whoever signed it.
fn check_leaf(leaf: &Certificate<'_>, role: Role) -> Result<SpiffeId, PeerError> {
    if leaf.has_unknown_critical_extension() {
        return Err(PeerError::CriticalExtension);
    }
    if leaf.is_ca() {
        return Err(PeerError::Authority);
    }
    // Issuers have to set the extension (X509-SVID 4.3).
    let usage = leaf.key_usage().ok_or(PeerError::KeyUsage)?;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(PeerError::Authority);
    }
    if !usage.digital_signature() {
        return Err(PeerError::KeyUsage);
    }
    let purpose = match role {
        Role::Client => CLIENT_AUTH,
        Role::Server => SERVER_AUTH,
    };
    if leaf.extended_key_usage().is_some_and(|purposes| !purposes.contains(&purpose)) {
        return Err(PeerError::Purpose);
    }
    leaf.public_key()?;
    // Last, as is_of_name says.
    named(leaf)
}

/// Whom the leaf names: exactly one URI of whatever scheme, which is a SPIFFE ID with a path.
fn named(leaf: &Certificate<'_>) -> Result<SpiffeId, PeerError> {
    let [uri] = leaf.uris() else {
        return Err(PeerError::NotOneUri);
    };
    let spiffe_id = SpiffeId::from_bytes(uri)?;
    if spiffe_id.is_trust_domain() { Err(PeerError::NoPath) } else { Ok(spiffe_id) }
}

fn check_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &Valid<'_>,
    moment: Moment,
) -> Result<(), PeerError> {
    let intermediates = intermediates.get(..LONGEST_PATH).unwrap_or(intermediates);
    let since_1970 = moment.now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let purpose = match moment.role {
        Role::Client => Purpose::client_auth(),
        Role::Server => Purpose::server_auth(),
    };
    // What this module found wrong with the last path that webpki was content with.
    let found = Cell::new(None);
    let check = |path: &VerifiedPath<'_>| {
        check_issuers(path, anchors).map_err(|error| {
            found.set(Some(error));
            webpki::Error::UnknownIssuer
        })
    };
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                ALGORITHMS,
                &anchors.anchors,
                intermediates,
                UnixTime::since_unix_epoch(since_1970),
                purpose,
                None,
                Some(&check),
            )
            .map(|_path| ())
        })
        .map_err(|error| found.take().unwrap_or(refusal(&error)))
}

/// RFC 5280 6.1.4 where webpki leaves it to the caller.
fn check_issuers(path: &VerifiedPath<'_>, anchors: &Valid<'_>) -> Result<(), PeerError> {
    let mut below_anchor = 0;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let issuer = Certificate::parse(&der)?;
        let may_sign = issuer.key_usage().is_some_and(|usage| usage.key_cert_sign());
        if !issuer.is_ca() || !may_sign {
            return Err(PeerError::NotAnIssuer);
        }
        issuer.public_key()?;
        // RFC 5280 4.2.1.9: a certificate that an authority issued to itself does not count.
        below_anchor += u8::from(!issuer.is_self_issued());
    }
    if anchors.path_length(path.anchor()).is_some_and(|most| below_anchor > most) {
        return Err(PeerError::NotAnIssuer);
    }
    Ok(())
}

fn refusal(error: &webpki::Error) -> PeerError {
    if matches!(error, webpki::Error::CertExpired { .. }) {
        PeerError::Expired
    } else if matches!(error, webpki::Error::CertNotValidYet { .. }) {
        PeerError::NotValidYet
    } else if matches!(error, webpki::Error::UnsupportedCriticalExtension) {
        PeerError::CriticalExtension
    } else if matches!(
        error,
        webpki::Error::EndEntityUsedAsCa | webpki::Error::PathLenConstraintViolated
    ) {
        PeerError::NotAnIssuer
    } else {
        PeerError::NoPathToAuthority
    }
}

#[cfg(test)]
mod tests;
