//! Makes certificates: the profiles of an authority and of an SVID, and nothing else.
//!
//! A certificate is prepared first, so that what will be signed can be recorded with its serial
//! number, and signed after: [`Issuer::prepare_svid`], then [`Unsigned::sign`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::{Certificate, CertificateError, Chain, ChainError, Name, Serial, Subject, X509Svid};
use crate::id::{SpiffeId, TrustDomain};
use crate::keys::{KeyKind, PublicKey, Scheme, SignError, Signer};

mod encode;

/// How far before now a certificate's validity starts at most, for peers whose clock is late.
pub const BACKDATE: Duration = Duration::from_secs(60);

/// The most DNS names in a certificate.
pub const MAX_DNS_NAMES: usize = 128;

/// An authority: its key, and what it writes into the certificates it signs.
#[derive(Debug)]
pub struct Issuer {
    key: Arc<dyn Signer>,
    name: Name,
    key_id: [u8; 20],
    not_after: SystemTime,
    /// What follows a leaf in its chain: nothing where this authority is a root.
    intermediates: Vec<CertificateDer<'static>>,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Who gets an SVID.
#[derive(Clone, Copy, Debug)]
pub struct SvidRequest<'a> {
    /// Whom the SVID names; never a trust domain.
    pub spiffe_id: &'a SpiffeId,
    /// Whose key it is.
    pub public_key: &'a PublicKey,
    /// DNS names, the first of which becomes the common name.
    pub dns_names: &'a [String],
    /// The subject in the place of `C=US, O=SPIRE`.
    pub subject: Option<&'a Name>,
    /// When it is valid. An SVID never outlives its issuer.
    pub validity: Validity,
}

/// Which authority is made.
#[derive(Clone, Copy, Debug)]
pub struct CaRequest<'a> {
    /// For which trust domain.
    pub trust_domain: &'a TrustDomain,
    /// Its subject, to which the serial number is added.
    pub subject: &'a Subject,
    /// When it is valid.
    pub validity: Validity,
}

/// Which authority is made below another one.
#[derive(Clone, Copy, Debug)]
pub struct IntermediateRequest<'a> {
    /// For which trust domain.
    pub trust_domain: &'a TrustDomain,
    /// Its subject.
    pub subject: &'a Name,
    /// Whose key it is.
    pub public_key: &'a PublicKey,
    /// When it is valid. An authority never outlives its issuer.
    pub validity: Validity,
}

/// A certificate that was decided on and is not signed yet. Only an issuer makes one, and it can
/// be signed once, by that issuer.
#[derive(Debug)]
pub struct Unsigned {
    issuer: Arc<Issuer>,
    signed_part: Vec<u8>,
    serial: Serial,
    validity: Validity,
}

/// Why a certificate was not made.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MakeError {
    /// The ID is that of a trust domain, which only authorities carry (X509-SVID 2).
    #[error("an SVID names somebody in a trust domain, not the trust domain")]
    NoPath,
    /// A DNS name is empty, longer than 253 bytes or not ASCII letters, digits and `.-_*`.
    #[error("not a DNS name")]
    DnsName,
    /// There are more than [`MAX_DNS_NAMES`].
    #[error("more than {MAX_DNS_NAMES} DNS names")]
    TooManyDnsNames,
    /// The issuer has expired, or the validity is empty.
    #[error("the validity ends before it starts; the issuer may have expired")]
    Expired,
    /// The source of random numbers failed.
    #[error("no random number for the serial number")]
    Random,
    /// The key could not sign.
    #[error("signing failed")]
    Sign(#[from] SignError),
    /// What was signed cannot be read again.
    #[error("the certificate that was made is not valid")]
    Unreadable(#[from] ChainError),
}

/// Why a certificate and a key are not an authority.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IssuerError {
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is not that of an authority that may sign certificates.
    #[error("the certificate may not sign certificates")]
    NotAnAuthority,
    /// The certificate is for another key.
    #[error("the certificate and the key do not belong together")]
    Key,
    /// The certificate has no subject key identifier of up to 20 bytes.
    #[error("the certificate has no subject key identifier of 20 bytes")]
    KeyId,
}

impl Validity {
    /// From now for `ttl`, started somewhat earlier: by a minute, and less for short lives, since
    /// whoever renews at half of the life must not find that it has already passed.
    #[must_use]
    pub fn new(now: SystemTime, ttl: Duration) -> Self {
        let backdate = BACKDATE.min(ttl / 6);
        Self {
            not_before: now.checked_sub(backdate).unwrap_or(now),
            not_after: now.checked_add(ttl).unwrap_or(now),
        }
    }

    /// From when on.
    #[must_use]
    pub fn not_before(self) -> SystemTime {
        self.not_before
    }

    /// Until when.
    #[must_use]
    pub fn not_after(self) -> SystemTime {
        self.not_after
    }

    /// The part of it that ends with `limit` at the latest.
    fn until(self, limit: SystemTime) -> Result<Self, MakeError> {
        let not_after = self.not_after.min(limit);
        if self.not_before < not_after {
            Ok(Self { not_before: self.not_before, not_after })
        } else {
            Err(MakeError::Expired)
        }
    }
}

/// Makes the certificate of a new authority, signed with its own key.
pub fn self_signed_ca(request: &CaRequest<'_>, key: &dyn Signer) -> Result<Chain, MakeError> {
    let validity = request.validity.until(request.validity.not_after)?;
    let serial = random_serial()?;
    let name = Name::from(request.subject).with_serial_number(&serial.to_string());
    let profile = encode::Profile {
        serial,
        signer: key.public_key().kind(),
        issuer: &name,
        issuer_key_id: None,
        validity,
        subject: &name,
        public_key: key.public_key(),
    };
    let signed_part = encode::ca(&profile, request.trust_domain);
    sign(key, &signed_part, Vec::new())
}

impl Issuer {
    /// The authority of this certificate and key. `chain` starts with the authority's own
    /// certificate, followed by those that lead to a root, if it is not one itself.
    pub fn new(chain: &Chain, key: Arc<dyn Signer>) -> Result<Self, IssuerError> {
        let certificate = Certificate::parse(chain.leaf())?;
        let may_sign = certificate.key_usage().is_some_and(|usage| usage.key_cert_sign());
        if !certificate.is_ca() || !may_sign {
            return Err(IssuerError::NotAnAuthority);
        }
        if certificate.spki_der() != key.public_key().spki_der() {
            return Err(IssuerError::Key);
        }
        let key_id = certificate.subject_key_id().and_then(|id| id.try_into().ok());
        let name = Name::from_der(certificate.subject());
        // One whose name is that of its issuer need not be a root.
        let root = certificate.is_self_signed();
        Ok(Self {
            key,
            name: name.map_err(CertificateError::from)?,
            key_id: key_id.ok_or(IssuerError::KeyId)?,
            not_after: ends(chain)?,
            intermediates: if root { Vec::new() } else { chain.certificates().to_vec() },
        })
    }

    /// Until when the authority is valid, and so whatever it signs.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What it writes as the issuer.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What follows a leaf in its chain: this authority and those above it, without the root; or
    /// nothing, where this authority is the root.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// The authority's ID: its subject key identifier in lower-case hexadecimal.
    #[must_use]
    pub fn authority_id(&self) -> String {
        super::hex(&self.key_id)
    }

    /// Decides what an SVID will say.
    pub fn prepare_svid(
        self: &Arc<Self>,
        request: &SvidRequest<'_>,
    ) -> Result<Unsigned, MakeError> {
        if request.spiffe_id.is_trust_domain() {
            return Err(MakeError::NoPath);
        }
        check_dns_names(request.dns_names)?;
        let named;
        let subject = match (request.subject, request.dns_names.first()) {
            (Some(subject), None) => subject,
            (None, None) => encode::default_subject(),
            (subject, Some(dns_name)) => {
                named = subject.unwrap_or(encode::default_subject()).with_common_name(dns_name);
                &named
            }
        };
        self.prepare(request.public_key, subject, request.validity, |profile| {
            encode::svid(profile, request.spiffe_id, request.dns_names)
        })
    }

    /// Decides what the certificate of an authority below this one will say.
    pub fn prepare_ca(
        self: &Arc<Self>,
        request: &IntermediateRequest<'_>,
    ) -> Result<Unsigned, MakeError> {
        self.prepare(request.public_key, request.subject, request.validity, |profile| {
            encode::ca(profile, request.trust_domain)
        })
    }

    fn prepare(
        self: &Arc<Self>,
        public_key: &PublicKey,
        subject: &Name,
        validity: Validity,
        encode: impl FnOnce(&encode::Profile<'_>) -> Vec<u8>,
    ) -> Result<Unsigned, MakeError> {
        let validity = validity.until(self.not_after)?;
        let serial = random_serial()?;
        let signed_part = encode(&encode::Profile {
            serial,
            signer: self.key.public_key().kind(),
            issuer: &self.name,
            issuer_key_id: Some(&self.key_id),
            validity,
            subject,
            public_key,
        });
        Ok(Unsigned { issuer: self.clone(), signed_part, serial, validity })
    }
}

impl Unsigned {
    /// Signs an SVID.
    pub fn sign(self) -> Result<X509Svid, MakeError> {
        Ok(X509Svid::new(self.sign_chain()?)?)
    }

    /// Signs the certificate of an SVID or of an authority.
    pub fn sign_chain(self) -> Result<Chain, MakeError> {
        sign(&*self.issuer.key, &self.signed_part, self.issuer.intermediates.clone())
    }

    /// The serial number it will have.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// When it will be valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// When the first certificate of a chain ends.
fn ends(chain: &Chain) -> Result<SystemTime, CertificateError> {
    let ends = chain.certificates().iter().map(|der| Ok(Certificate::parse(der)?.not_after()));
    ends.reduce(|a: Result<_, CertificateError>, b| Ok(a?.min(b?)))
        .unwrap_or(Err(CertificateError::Malformed))
}

/// The key usages of a leaf with a key of this kind.
fn leaf_key_usage(kind: KeyKind) -> u8 {
    match kind {
        // digitalSignature
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => 0x80,
        // and keyEncipherment, for TLS 1.2 without ephemeral keys
        KeyKind::Rsa { .. } => 0xa0,
    }
}

/// 159 random bits: 20 bytes as RFC 5280 4.1.2.2 allows, without the sign bit.
fn random_serial() -> Result<Serial, MakeError> {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| MakeError::Random)?;
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    Serial::from_be_bytes(&bytes).ok_or(MakeError::Random)
}

fn sign(
    key: &dyn Signer,
    signed_part: &[u8],
    intermediates: Vec<CertificateDer<'static>>,
) -> Result<Chain, MakeError> {
    let signature = key.sign(Scheme::X509, signed_part)?;
    let certificate = encode::assemble(signed_part, key.public_key().kind(), &signature);
    let mut certificates = Vec::with_capacity(1 + intermediates.len());
    certificates.push(CertificateDer::from(certificate));
    certificates.extend(intermediates);
    Ok(Chain::new(certificates)?)
}

fn check_dns_names(names: &[String]) -> Result<(), MakeError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
    if names.len() > MAX_DNS_NAMES {
        return Err(MakeError::TooManyDnsNames);
    }
    let good = |name: &String| (1..=253).contains(&name.len()) && name.bytes().all(allowed);
    if names.iter().all(good) { Ok(()) } else { Err(MakeError::DnsName) }
}

#[cfg(test)]
mod tests;
