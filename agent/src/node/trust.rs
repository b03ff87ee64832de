//! What a node believes of a server before the two have ever spoken.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::Uri;
use steeple::bundle::{Bundle, X509Authority};
use steeple::clock::Clock;
use steeple::id::TrustDomain;
use steeple::jwk::{parse, pem};
use steeple::tls::Trust;
use steeple::x509::verify::{AnchorSet, Anchors};
use thiserror::Error;
use tokio::sync::watch;
use tracing::warn;

use super::contact::Contact;
use super::web::{self, WebError};
use crate::server_api::ServerError;

/// Why the administrator says that the server may be believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TrustSource {
    /// Its authorities are in a file: certificates in PEM, or a SPIFFE bundle document.
    File(PathBuf),
    /// Its authorities are on a web server that this machine's CAs vouch for, in the same formats.
    Url(Uri),
    /// One of its authorities has this SHA-256 hash.
    Fingerprint([u8; 32]),
    /// Because it says so, the first time.
    Insecure,
}

/// Why a server is not believed.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The trust bundle cannot be read.
    #[error("cannot read the trust bundle {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The trust bundle cannot be fetched.
    #[error("cannot fetch the trust bundle {url}")]
    Fetch {
        /// From where.
        url: String,
        /// Why not.
        source: WebError,
    },
    /// The trust bundle is none.
    #[error("the trust bundle {place}: {what}")]
    Malformed {
        /// The file or address.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// No authority has the fingerprint.
    #[error(
        "no authority of the server has the fingerprint that was given; those it has are: {}",
        found.join(", ")
    )]
    Fingerprint {
        /// The fingerprints that the server's authorities have.
        found: Vec<String>,
    },
    /// The server cannot be reached, or is not believed.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// The server's authorities as it says itself, once there was reason to believe it: what was
/// `stored` of it if anything was, else the `source`.
pub async fn establish(
    contact: &dyn Contact,
    clock: &Arc<dyn Clock>,
    own: &TrustDomain,
    reason: (Option<Bundle>, &TrustSource),
) -> Result<Bundle, TrustError> {
    let trust = match reason {
        (Some(stored), _) => anchored(&stored.x509_authorities, own),
        (None, TrustSource::File(path)) => anchored(&read_file(path, own, &**clock).await?, own),
        (None, TrustSource::Url(url)) => {
            let text = web::get(url, web::system_roots(), clock.clone()).await;
            let text = text.map_err(|source| TrustError::Fetch { url: url.to_string(), source })?;
            let authorities = read(&text, own, &**clock).map_err(malformed(url))?;
            anchored(&authorities, own)
        }
        (None, TrustSource::Fingerprint(fingerprint)) => {
            let said = contact.stranger(Trust::Unverified).own_bundle().await?;
            anchored(&[pinned(&said, fingerprint)?], own)
        }
        (None, TrustSource::Insecure) => Trust::Unverified,
    };
    let is_unverified = matches!(trust, Trust::Unverified);
    let bundle = contact.stranger(trust).own_bundle().await?;
    check(&bundle, own)?;
    if is_unverified {
        warn!("believed the first server that answered, as --insecure-bootstrap says");
    }
    Ok(bundle)
}

/// Whether there is a trust bundle where one is said to be, as far as that is known without asking
/// anybody.
///
/// # Errors
/// It cannot be read.
pub async fn check_file(
    source: &TrustSource,
    own: &TrustDomain,
    clock: &dyn Clock,
) -> Result<(), TrustError> {
    match source {
        TrustSource::File(path) => read_file(path, own, clock).await.map(drop),
        TrustSource::Url(_) | TrustSource::Fingerprint(_) | TrustSource::Insecure => Ok(()),
    }
}

/// Trust in these authorities.
#[must_use]
pub fn anchored(authorities: &[X509Authority], own: &TrustDomain) -> Trust {
    let anchors = Anchors::new(authorities.iter().map(|authority| &authority.certificate));
    Trust::Anchors(watch::Sender::new(AnchorSet::of(own.clone(), anchors).into()).subscribe())
}

/// Whether an own bundle may take the place of the one before. One without authorities would cut
/// the agent off from its server for good.
pub fn check(bundle: &Bundle, own: &TrustDomain) -> Result<(), ServerError> {
    if bundle.trust_domain != *own {
        let theirs = &bundle.trust_domain;
        return Err(ServerError::Answer(format!("the bundle of {theirs}, where {own} is ours")));
    }
    if Anchors::from(bundle).is_empty() {
        return Err(ServerError::Answer("an own bundle without any X.509 authority".into()));
    }
    Ok(())
}

/// The SHA-256 hash of a certificate in lower-case hexadecimal.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    let hash = digest(&SHA256, certificate);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn read_file(
    path: &Path,
    own: &TrustDomain,
    clock: &dyn Clock,
) -> Result<Vec<X509Authority>, TrustError> {
    let text = tokio::fs::read(path).await;
    let text = text.map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
    read(&text, own, clock).map_err(malformed(path.display()))
}

fn malformed(place: impl ToString) -> impl FnOnce(String) -> TrustError {
    move |what| TrustError::Malformed { place: place.to_string(), what }
}

fn read(text: &[u8], own: &TrustDomain, clock: &dyn Clock) -> Result<Vec<X509Authority>, String> {
    if text.trim_ascii_start().starts_with(b"{") {
        let parsed = parse::bundle_document(own.clone(), text, clock.now());
        let bundle = parsed.map_err(|error| error.to_string())?.bundle;
        return if bundle.x509_authorities.is_empty() {
            Err("no X.509 authority in it is valid".into())
        } else {
            Ok(bundle.x509_authorities)
        };
    }
    pem::parse(text).map_err(|error| error.to_string())
}

fn pinned(said: &Bundle, wanted: &[u8; 32]) -> Result<X509Authority, TrustError> {
    let has_it =
        |authority: &&X509Authority| digest(&SHA256, &authority.certificate).as_ref() == wanted;
    said.x509_authorities.iter().find(has_it).cloned().ok_or_else(|| TrustError::Fingerprint {
        found: said.x509_authorities.iter().map(|a| fingerprint(&a.certificate)).collect(),
    })
}
