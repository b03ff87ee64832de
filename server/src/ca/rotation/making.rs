//! Makes authorities: the one place where a CA gets its certificate and a JWT key its name.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use steeple::bundle::{JwtAuthority, X509Authority};
use steeple::clock::{from_unix_seconds, unix_seconds};
use steeple::keys::{KeyId, SignError, Signer};
use steeple::x509::csr::{self, Wish};
use steeple::x509::make::{CaRequest, IssuerError, MakeError, Validity, self_signed_ca};
use steeple::x509::{Certificate, Chain, ChainError, Name};
use tracing::warn;

use super::{Config, RotationError};
use crate::ca::authorities::AuthorityId;
use crate::ca::journal::Record;
use crate::ca::slots::{Kind, Slot, Status};
use crate::ca::upstream::{self, Expected, UpstreamAuthority};
use crate::ca::{BundleChange, issue};

/// Where and when an authority is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its key is.
    pub(super) slot: Slot,
    /// When it is, in seconds since 1970.
    pub(super) now: i64,
}

/// A new authority: what is to be remembered of it, and what is to be published with it.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) record: Record,
    pub(super) changes: Vec<BundleChange>,
}

/// A CA that was signed, and what vouches for it.
#[derive(Debug)]
struct Signed {
    /// The CA, and the certificates above it up to one that is signed by one of `roots`.
    chain: Chain,
    /// What the bundle has to have so that the CA is relied on.
    roots: Vec<CertificateDer<'static>>,
    /// The subject key identifier of the one of them that vouches for it, where it is not the CA.
    upstream_authority_id: Option<AuthorityId>,
    /// Until when it and all above it are valid.
    not_after: SystemTime,
}

/// Makes a CA of a key, signed by what stands above this server, or by itself.
pub(super) async fn ca(
    config: &Config,
    place: Place,
    signer: &Arc<dyn Signer>,
    upstream: Option<&dyn UpstreamAuthority>,
) -> Result<Made, RotationError> {
    let signed = match upstream {
        Some(upstream) => by_upstream(config, place.now, signer, upstream).await?,
        None => by_itself(config, place.now, signer).await?,
    };
    let Signed { chain, roots, upstream_authority_id, not_after } = signed;
    let certificate = Certificate::parse(chain.leaf()).map_err(ChainError::from)?;
    let authority_id = certificate.subject_key_id_hex().ok_or(IssuerError::KeyId)?;
    let above = chain.certificates().iter().skip(1);
    let record = Record {
        kind: Kind::X509Ca,
        slot: Some(place.slot),
        status: Status::Prepared,
        authority_id: authority_id.into(),
        issued_at: place.now,
        not_before: unix_seconds(certificate.not_before()),
        not_after: unix_seconds(not_after),
        public: chain.leaf().to_vec(),
        upstream_chain: above.map(|certificate| certificate.to_vec()).collect(),
        upstream_authority_id,
    };
    let changes = roots.into_iter().map(BundleChange::AddX509).collect();
    Ok(Made { record, changes })
}

async fn by_itself(
    config: &Config,
    now: i64,
    signer: &Arc<dyn Signer>,
) -> Result<Signed, RotationError> {
    let (trust_domain, subject) = (config.trust_domain.clone(), config.ca_subject.clone());
    let validity = Validity::new(from_unix_seconds(now), config.lifetime);
    let key = Arc::clone(signer);
    let sign = move || {
        let request = CaRequest { trust_domain: &trust_domain, subject: &subject, validity };
        self_signed_ca(&request, &*key)
    };
    let signed = issue::aside(signer.pace(), 1, sign).await;
    let chain = signed.map_err(|_panicked| MakeError::from(SignError::Failed))??;
    let roots = chain.certificates().to_vec();
    Ok(Signed { chain, roots, upstream_authority_id: None, not_after: validity.not_after() })
}

async fn by_upstream(
    config: &Config,
    now: i64,
    signer: &Arc<dyn Signer>,
    upstream: &dyn UpstreamAuthority,
) -> Result<Signed, RotationError> {
    let (subject, id) = (Name::from(&config.ca_subject), config.trust_domain.id());
    let key = Arc::clone(signer);
    let make =
        move || csr::make(&*key, &Wish { subject: &subject, spiffe_id: Some(&id), dns_names: &[] });
    let made = issue::aside(signer.pace(), 1, make).await;
    let csr = made.map_err(|_panicked| SignError::Failed).flatten().map_err(MakeError::from)?;
    let minted = upstream.mint_ca(upstream::CaRequest { csr, ttl: config.lifetime }).await?;
    let expected = Expected {
        trust_domain: &config.trust_domain,
        public_key: signer.public_key(),
        now: from_unix_seconds(now),
    };
    let ca = minted.check(&expected)?;
    // Where upstream says what it vouches for, the bundle follows that. The one root that the CA
    // needs is needed at once.
    let says = upstream.vouched().borrow().is_some();
    let is_needed = |root: &&X509Authority| !says || root.certificate == *ca.root();
    let is_usable = |root: &&X509Authority| {
        let checked = upstream::check_root(root);
        if let Err(error) = &checked {
            let error: &dyn StdError = error;
            warn!(error, "a root from the upstream authority is left out of the bundle");
        }
        checked.is_ok()
    };
    let roots =
        ca.roots().iter().filter(is_needed).filter(is_usable).map(|root| root.certificate.clone());
    Ok(Signed {
        roots: roots.collect(),
        upstream_authority_id: Some(ca.root_id().to_owned().into()),
        not_after: ca.not_after(),
        chain: ca.chain().clone(),
    })
}

/// Names a key that signs tokens.
pub(super) fn key(
    config: &Config,
    place: Place,
    signer: &dyn Signer,
) -> Result<Made, RotationError> {
    let lifetime = i64::try_from(config.lifetime.as_secs()).unwrap_or(i64::MAX);
    let key_id = random_name()?;
    let record = Record {
        kind: Kind::JwtKey,
        slot: Some(place.slot),
        status: Status::Prepared,
        authority_id: key_id.clone().into(),
        issued_at: place.now,
        not_before: i64::MIN,
        not_after: place.now.saturating_add(lifetime),
        public: signer.public_key().spki_der().to_vec(),
        upstream_chain: Vec::new(),
        upstream_authority_id: None,
    };
    let change = BundleChange::AddJwt(JwtAuthority {
        key_id,
        public_key: record.public.clone(),
        expires_at: Some(record.not_after),
        tainted: false,
    });
    Ok(Made { record, changes: vec![change] })
}

/// The key in the key store that a slot's authority signs with.
#[expect(clippy::expect_used, reason = "four names, each of which a test reads")]
pub(super) fn key_id(kind: Kind, slot: Slot) -> KeyId {
    let name = match kind {
        Kind::X509Ca => format!("x509-CA-{slot}"),
        Kind::JwtKey => format!("JWT-Signer-{slot}"),
    };
    name.parse().expect("letters, digits and hyphens")
}

/// 32 random letters and digits.
fn random_name() -> Result<String, RotationError> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut name = String::with_capacity(32);
    while name.len() < 32 {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| RotationError::Random)?;
        // Numbers beyond the alphabet are dropped, so that each letter is as likely as any other.
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        name.extend(letters.take(32 - name.len()).map(|letter| char::from(*letter)));
    }
    Ok(name)
}
