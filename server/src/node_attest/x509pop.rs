//! `x509pop`: a node shows a certificate of an existing PKI and proves that it holds the key.
//!
//! Both sides give a nonce, so that neither can be made to sign or accept something that was
//! recorded earlier.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize};
use steeple::clock::Clock;
use steeple::id::TrustDomain;
use steeple::selector::{Selector, SelectorSet};

use self::authorities::Authorities;
use self::leaf::{Leaf, LeafKey};
use self::proof::{NONCE_LENGTH, Nonce};
use super::path_template::PathTemplate;
use super::{AttestError, Attested, Conversation, MAX_PAYLOAD, NodeAttestor};

pub mod authorities;
mod leaf;
mod proof;

/// The name of the method.
pub const KIND: &str = "x509pop";

/// The path of agents unless something else is configured.
pub const DEFAULT_TEMPLATE: &str = "/{{ .PluginName }}/{{ .Fingerprint }}";

/// What an agent path template may ask for.
pub const TEMPLATE_NAMES: &[&str] = &[
    "PluginName",
    "TrustDomain",
    "Fingerprint",
    "SerialNumberHex",
    "Subject.CommonName",
    "URISanSelectors.",
];

/// Which nodes are believed, and what they are called.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust domain of the agents.
    pub trust_domain: TrustDomain,
    /// The CAs whose nodes are believed.
    pub authorities: Authorities,
    /// The most certificates between a node's and a CA.
    pub max_intermediates: usize,
    /// The largest RSA key of a node, in bits.
    pub max_rsa_bits: usize,
    /// The path of the agents.
    pub path: PathTemplate,
}

/// The server's half.
#[derive(Debug)]
pub struct X509Pop {
    config: Config,
    clock: Arc<dyn Clock>,
}

impl X509Pop {
    /// The method with these settings.
    #[must_use]
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock }
    }

    /// The node's certificates, leaf first.
    fn certificates(&self, payload: &[u8]) -> Result<Vec<CertificateDer<'static>>, AttestError> {
        let opening: Opening = read(payload, "payload", r#"{"certificates":[DER in base64, …]}"#)?;
        if opening.certificates.len() > self.config.max_intermediates.saturating_add(1) {
            return Err(AttestError::TooLong("the certificate chain"));
        }
        Ok(opening.certificates.into_iter().map(|der| CertificateDer::from(der.0)).collect())
    }

    fn attested(&self, leaf: &Leaf, ca_fingerprints: &[String]) -> Result<Attested, AttestError> {
        let config = &self.config;
        let agent_id = config.path.render(&config.trust_domain, |name| match name {
            "PluginName" => Some(KIND.to_owned()),
            "TrustDomain" => Some(config.trust_domain.to_string()),
            "Fingerprint" => Some(leaf.fingerprint.clone()),
            "SerialNumberHex" => Some(leaf.serial_hex.clone()),
            "Subject.CommonName" => leaf.common_name.clone(),
            other => {
                let key = other.strip_prefix("URISanSelectors.")?;
                leaf.san_selectors.get(key).cloned()
            }
        })?;
        let cn = leaf.common_name.iter().map(|name| format!("subject:cn:{name}"));
        let cas = ca_fingerprints.iter().map(|print| format!("ca:fingerprint:{print}"));
        let serial = [format!("serialnumber:{}", leaf.serial_hex)];
        let sans = leaf.san_selectors.iter().map(|(key, value)| format!("san:{key}:{value}"));
        let selectors = cn
            .chain(cas)
            .chain(serial)
            .chain(sans)
            .map(|value| Selector::new(KIND, &value))
            .collect::<Result<Vec<_>, _>>()
            .or(Err(AttestError::TooLong("a name in the certificate")))?;
        let selectors = SelectorSet::from_iter(selectors);
        Ok(Attested { agent_id, name: None, selectors, can_reattest: true })
    }
}

#[tonic::async_trait]
impl NodeAttestor for X509Pop {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn attest(
        &self,
        payload: &[u8],
        node: &mut dyn Conversation,
    ) -> Result<Attested, AttestError> {
        let chain = self.certificates(payload)?;
        let (leaf_der, intermediates) = chain.split_first().ok_or(AttestError::Malformed {
            what: "payload",
            expected: "at least one certificate, the node's own first",
        })?;
        let leaf = Leaf::read(leaf_der, &self.config.trust_domain)?;
        leaf.key.check(self.config.max_rsa_bits)?;
        let now = self.clock.now();
        let fingerprints = self.config.authorities.verify(leaf_der, intermediates, now)?;

        let ours = proof::nonce()?;
        let challenge = serde_json::to_vec(&Challenge::of(&leaf.key, &ours))
            .or(Err(AttestError::Unavailable))?;
        let answer = node.challenge(challenge).await?;
        prove(&leaf.key, &ours, &answer)?;
        self.attested(&leaf, &fingerprints)
    }
}

/// Checks the answer to a challenge.
fn prove(key: &LeafKey, ours: &Nonce, answer: &[u8]) -> Result<(), AttestError> {
    let answer: Answer = read(
        answer,
        "challenge response",
        r#"{"rsa_signature":{"nonce","signature"}} or {"ecdsa_signature":{"nonce","r","s"}}"#,
    )?;
    let theirs = |nonce: &Bytes| Nonce::try_from(&*nonce.0).or(Err(AttestError::NoPossession));
    match (key, answer) {
        (LeafKey::Rsa(key), Answer { rsa_signature: Some(proof), ecdsa_signature: None }) => {
            let message = proof::message(ours, &theirs(&proof.nonce)?);
            key.verify(&message, &proof.signature.0)
        }
        (LeafKey::Ec(key), Answer { rsa_signature: None, ecdsa_signature: Some(proof) }) => {
            let message = proof::message(ours, &theirs(&proof.nonce)?);
            key.verify(&message, &proof.r.0, &proof.s.0)
        }
        (LeafKey::Rsa(_) | LeafKey::Ec(_), Answer { .. }) => Err(AttestError::NoPossession),
    }
}

fn read<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    what: &'static str,
    expected: &'static str,
) -> Result<T, AttestError> {
    if json.len() > MAX_PAYLOAD {
        return Err(AttestError::TooLong(what));
    }
    serde_json::from_slice(json).or(Err(AttestError::Malformed { what, expected }))
}

/// Bytes as standard base64 with padding.
#[derive(Debug)]
struct Bytes(Vec<u8>);

#[derive(Debug, Deserialize)]
struct Opening {
    certificates: Vec<Bytes>,
}

/// What the server asks; the member that does not fit the node's key is null.
#[derive(Debug, Serialize)]
struct Challenge {
    rsa_signature: Option<ChallengeNonce>,
    ecdsa_signature: Option<ChallengeNonce>,
}

#[derive(Debug, Serialize)]
struct ChallengeNonce {
    nonce: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    rsa_signature: Option<RsaAnswer>,
    ecdsa_signature: Option<EcAnswer>,
}

#[derive(Debug, Deserialize)]
struct RsaAnswer {
    nonce: Bytes,
    signature: Bytes,
}

#[derive(Debug, Deserialize)]
struct EcAnswer {
    nonce: Bytes,
    r: Bytes,
    s: Bytes,
}

impl Challenge {
    fn of(key: &LeafKey, nonce: &[u8; NONCE_LENGTH]) -> Self {
        let nonce = Some(ChallengeNonce { nonce: STANDARD.encode(nonce) });
        match key {
            LeafKey::Rsa(_) => Self { rsa_signature: nonce, ecdsa_signature: None },
            LeafKey::Ec(_) => Self { rsa_signature: None, ecdsa_signature: nonce },
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
