//! `x509pop`: the node shows a certificate of an existing PKI and proves that it has the key.
//!
//! Both sides give a nonce, so that neither can be made to sign or accept what was recorded.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use steeple::x509::{Certificate, Chain};
use zeroize::Zeroizing;

use super::attestor::{EvidenceError, NodeAttestor, Session};
use crate::server_api::node_api::{ChallengeError, Responder};

const NONCE_LENGTH: usize = 32;

/// The files of a node's certificate.
#[derive(Clone, Debug)]
pub struct X509Pop {
    /// The key in PEM.
    pub private_key: PathBuf,
    /// The certificate in PEM, and what leads from it to a CA that the server knows.
    pub certificate: PathBuf,
    /// More of the same, if it is in a file of its own.
    pub intermediates: Option<PathBuf>,
}

/// A node's key, and how it signs.
enum Key {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair, &'static digest::Algorithm),
}

#[derive(Serialize)]
struct Payload {
    certificates: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Challenge {
    rsa_signature: Option<Nonce>,
    ecdsa_signature: Option<Nonce>,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Serialize)]
struct Answer {
    rsa_signature: Option<RsaAnswer>,
    ecdsa_signature: Option<EcAnswer>,
}

#[derive(Serialize)]
struct RsaAnswer {
    nonce: String,
    signature: String,
}

#[derive(Serialize)]
struct EcAnswer {
    nonce: String,
    r: String,
    s: String,
}

#[tonic::async_trait]
impl NodeAttestor for X509Pop {
    fn method(&self) -> &'static str {
        "x509pop"
    }

    async fn begin(&self) -> Result<Session, EvidenceError> {
        let key = Key::read(&self.private_key).await?;
        let mut certificates = chain(&self.certificate).await?;
        self.check_pair(&key, &certificates)?;
        if let Some(path) = &self.intermediates {
            certificates.extend(chain(path).await?);
        }
        let payload = Payload { certificates };
        let evidence = serde_json::to_vec(&payload).map_err(|_impossible| {
            EvidenceError::Malformed { path: self.certificate.clone(), must_be: "a certificate" }
        })?;
        Ok(Session { evidence: Zeroizing::new(evidence), once: None, responder: Box::new(key) })
    }

    fn advice(&self) -> &'static str {
        "look at the server's log for why it refuses this node's certificate; an agent that was \
         banned may come back after `steeple-server agent evict`"
    }
}

impl X509Pop {
    fn check_pair(&self, key: &Key, certificates: &[String]) -> Result<(), EvidenceError> {
        let leaf = certificates.first().and_then(|base64| STANDARD.decode(base64).ok());
        let leaf = leaf.unwrap_or_default();
        let certificate =
            Certificate::parse(&leaf).map_err(|_unreadable| EvidenceError::Malformed {
                path: self.certificate.clone(),
                must_be: "a certificate that can be read",
            })?;
        // The public key stands at the end of a SubjectPublicKeyInfo.
        if certificate.spki_der().ends_with(key.public()) {
            return Ok(());
        }
        Err(EvidenceError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.private_key.clone(),
        })
    }
}

#[tonic::async_trait]
impl Responder for Key {
    async fn respond(&self, challenge: &[u8]) -> Result<Vec<u8>, ChallengeError> {
        let mut nonce = [0; NONCE_LENGTH];
        rand::fill(&mut nonce).map_err(|_unspecified| ChallengeError::Sign)?;
        self.answer(challenge, &nonce)
    }
}

impl Key {
    async fn read(path: &Path) -> Result<Self, EvidenceError> {
        let pem = Zeroizing::new(read(path).await?);
        Self::from_pem(&pem).ok_or_else(|| EvidenceError::Malformed {
            path: path.to_owned(),
            must_be: "an unencrypted RSA or EC (P-256, P-384, P-521) key in PEM",
        })
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let curves: [(&'static EcdsaSigningAlgorithm, _); 3] = [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, &SHA256),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, &SHA384),
            (&ECDSA_P521_SHA512_FIXED_SIGNING, &SHA512),
        ];
        let bytes = der.secret_der();
        let rsa = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
        if let Ok(pair) = rsa {
            return Some(Self::Rsa(Box::new(pair)));
        }
        curves.into_iter().find_map(|(curve, hash)| {
            let pair = EcdsaKeyPair::from_private_key_der(curve, bytes).ok()?;
            Some(Self::Ec(pair, hash))
        })
    }

    fn public(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ec(pair, _) => pair.public_key().as_ref(),
        }
    }

    fn answer(&self, challenge: &[u8], ours: &[u8; 32]) -> Result<Vec<u8>, ChallengeError> {
        let challenge: Challenge = serde_json::from_slice(challenge)
            .map_err(|error| ChallengeError::Malformed(error.to_string()))?;
        let theirs = match self {
            Self::Rsa(_) => challenge.rsa_signature,
            Self::Ec(..) => challenge.ecdsa_signature,
        };
        let theirs = theirs.and_then(|nonce| STANDARD.decode(nonce.nonce).ok());
        let theirs = theirs.filter(|nonce| nonce.len() == NONCE_LENGTH).ok_or_else(|| {
            ChallengeError::Malformed("no nonce of 32 bytes for this kind of key".into())
        })?;
        let message = [&*theirs, ours].concat();
        let nonce = STANDARD.encode(ours);
        let answer = match self {
            Self::Rsa(pair) => Answer {
                rsa_signature: Some(RsaAnswer { nonce, signature: sign_rsa(pair, &message)? }),
                ecdsa_signature: None,
            },
            Self::Ec(pair, hash) => {
                let (r, s) = sign_ec(pair, hash, &message)?;
                Answer { rsa_signature: None, ecdsa_signature: Some(EcAnswer { nonce, r, s }) }
            }
        };
        serde_json::to_vec(&answer).map_err(|error| ChallengeError::Malformed(error.to_string()))
    }
}

fn sign_rsa(pair: &RsaKeyPair, message: &[u8]) -> Result<String, ChallengeError> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
        .map_err(|_unspecified| ChallengeError::Sign)?;
    Ok(STANDARD.encode(signature))
}

/// The method signs the SHA-256 hash with every curve. ECDSA takes as many leading bits of a hash
/// as the curve's order has, so with a larger curve that is the number which the hash is; written
/// as long as the hash that the library expects there, it is the same number.
fn sign_ec(
    pair: &EcdsaKeyPair,
    expected: &'static digest::Algorithm,
    message: &[u8],
) -> Result<(String, String), ChallengeError> {
    let hash = digest::digest(&SHA256, message);
    let mut padded = vec![0; expected.output_len().saturating_sub(hash.as_ref().len())];
    padded.extend_from_slice(hash.as_ref());
    let signature = digest::Digest::import_less_safe(&padded, expected)
        .and_then(|digest| pair.sign_digest(&digest))
        .map_err(|_unspecified| ChallengeError::Sign)?;
    let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
    Ok((unsigned(r), unsigned(s)))
}

/// A number without the zeros in front of it.
fn unsigned(number: &[u8]) -> String {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    STANDARD.encode(number.get(start..).unwrap_or_default())
}

/// The certificates of a PEM file, each as base64 of its DER.
async fn chain(path: &Path) -> Result<Vec<String>, EvidenceError> {
    let chain =
        Chain::from_pem(&read(path).await?).map_err(|_malformed| EvidenceError::Malformed {
            path: path.to_owned(),
            must_be: "one or more certificates in PEM",
        })?;
    Ok(chain.certificates().iter().map(|certificate| STANDARD.encode(certificate)).collect())
}

async fn read(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| EvidenceError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
