//! A CA in files, which signs the CAs of this server: a root, or one below a root.
//!
//! The files are read again for each signature, so that they can be replaced while the server runs.
//! If what is read does not fit together, as between the writes of two files, the CA that was read
//! last goes on signing.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use steeple::bundle::{JwtAuthority, X509Authority};
use steeple::clock::Clock;
use steeple::id::TrustDomain;
use steeple::jwk::pem::{self, PemError};
use steeple::keys::{PrivateKey, PrivateKeyError};
use steeple::x509::csr::Csr;
use steeple::x509::make::{IntermediateRequest, Issuer, IssuerError, Validity};
use steeple::x509::{Certificate, Chain, ChainError};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::ca::upstream::{
    CaRequest, MintedCa, Published, UnusableCa, UpstreamAuthority, UpstreamError, Vouched,
    check_root, leads_to_root,
};

/// Where the CA is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Its certificate in PEM, and those that lead from it to a root.
    pub cert_file: PathBuf,
    /// Its key in PEM.
    pub key_file: PathBuf,
    /// The roots in PEM; none where the CA is the root.
    pub bundle_file: Option<PathBuf>,
}

/// A CA in files.
#[derive(Debug)]
pub struct Disk {
    config: Config,
    trust_domain: TrustDomain,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
    vouched: watch::Sender<Option<Arc<Vouched>>>,
}

/// Why files are no CA.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A file cannot be read.
    #[error("`upstream_authority.{key}`: cannot read {}", path.display())]
    Read {
        /// What names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The certificate is none.
    #[error(
        "{} has to hold the certificate of a CA in PEM, and those that lead from it to a root",
        path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ChainError,
    },
    /// The key is none.
    #[error("{} has to hold the key of the CA in PEM", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PrivateKeyError,
    },
    /// The certificate is not that of a CA, or not of this key.
    #[error("{} and {} have to be the certificate and the key of one CA", cert.display(), key.display())]
    Issuer {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        source: IssuerError,
    },
    /// It is not known which root the CA is below.
    #[error(
        "{} is not self-signed, so `upstream_authority.bundle_file_path` has to name a file with \
         the root that it leads to",
        path.display()
    )]
    NoBundle {
        /// The file with the certificate.
        path: PathBuf,
    },
    /// The roots are none.
    #[error("{} has to hold the certificates of roots in PEM", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// A root is not fit to be one.
    #[error("each root in {} has to be a CA with a subject key identifier", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UnusableCa,
    },
    /// The CA is not below one of the roots, or something has expired.
    #[error("{} does not lead to a root in {}", cert.display(), bundle.display())]
    Chain {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the roots.
        bundle: PathBuf,
        /// What is wrong.
        source: UnusableCa,
    },
}

/// What the files have in them.
struct Files {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    bundle: Option<Vec<u8>>,
}

/// A CA that can sign.
#[derive(Clone, Debug)]
struct Loaded {
    issuer: Arc<Issuer>,
    roots: Arc<[X509Authority]>,
}

/// What was read last.
#[derive(Debug)]
struct Last {
    good: Loaded,
    /// What was wrong the last time, so that it is said once.
    fault: Option<String>,
}

impl Disk {
    /// Reads the CA.
    pub fn open(
        config: Config,
        trust_domain: TrustDomain,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DiskError> {
        let good = config.load(clock.now())?;
        let last = Mutex::new(Last { good, fault: None });
        Ok(Self { config, trust_domain, clock, last, vouched: watch::Sender::new(None) })
    }

    /// What is in the files now, or was the last time that it was of any use.
    fn current(&self) -> Loaded {
        let read = steeple::tasks::aside(|| self.config.load(self.clock.now()));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(loaded) => {
                if loaded.issuer.authority_id() != last.good.issuer.authority_id() {
                    let subject_key_id = loaded.issuer.authority_id();
                    info!(subject_key_id, "the upstream authority in the files was replaced");
                }
                last.fault = None;
                last.good = loaded;
            }
            Err(error) => {
                let fault = steeple::telemetry::with_causes(&error);
                if last.fault.as_ref() != Some(&fault) {
                    let error = &error as &dyn StdError;
                    warn!(
                        error,
                        "the upstream authority in the files is of no use; the last one signs on"
                    );
                }
                last.fault = Some(fault);
            }
        }
        last.good.clone()
    }

    fn mint(&self, request: &CaRequest) -> Result<MintedCa, UpstreamError> {
        let refused = |error: Box<dyn StdError + Send + Sync>| UpstreamError::Refused(error);
        let csr = Csr::parse_verified(&request.csr).map_err(|error| refused(error.into()))?;
        let Loaded { issuer, roots } = self.current();
        let unsigned = issuer.prepare_ca(&IntermediateRequest {
            trust_domain: &self.trust_domain,
            subject: csr.subject(),
            public_key: csr.public_key(),
            validity: Validity::new(self.clock.now(), request.ttl),
        });
        let signed = unsigned.and_then(steeple::x509::make::Unsigned::sign_chain);
        let chain = signed.map_err(|error| refused(error.into()))?;
        Ok(MintedCa { chain: chain.certificates().to_vec(), roots: roots.to_vec() })
    }
}

impl UpstreamAuthority for Disk {
    fn mint_ca(&self, request: CaRequest) -> BoxFuture<'_, Result<MintedCa, UpstreamError>> {
        Box::pin(async move { self.mint(&request) })
    }

    fn publish_jwt_key(&self, _: JwtAuthority) -> BoxFuture<'_, Result<Published, UpstreamError>> {
        Box::pin(async { Ok(Published::NotTaken) })
    }

    /// Files that were replaced revoke nothing: what they held before stays until an administrator
    /// says otherwise.
    fn vouched(&self) -> watch::Receiver<Option<Arc<Vouched>>> {
        self.vouched.subscribe()
    }
}

impl Config {
    fn load(&self, now: SystemTime) -> Result<Loaded, DiskError> {
        let read = |key, path: &Path| {
            std::fs::read(path).map_err(|source| DiskError::Read {
                key,
                path: path.to_owned(),
                source,
            })
        };
        let files = Files {
            cert: read("cert_file_path", &self.cert_file)?,
            key: Zeroizing::new(read("key_file_path", &self.key_file)?),
            bundle: match &self.bundle_file {
                Some(path) => Some(read("bundle_file_path", path)?),
                None => None,
            },
        };
        self.parse(&files, now)
    }

    fn parse(&self, files: &Files, now: SystemTime) -> Result<Loaded, DiskError> {
        let cert = || self.cert_file.clone();
        let certificate = |source| DiskError::Certificate { path: cert(), source };
        let chain = Chain::from_pem(&files.cert).map_err(certificate)?;
        let key = PrivateKey::from_pem(&files.key)
            .map_err(|source| DiskError::Key { path: self.key_file.clone(), source })?;
        let roots = self.roots(&chain, files)?;
        let below: Vec<_> = without_roots(&chain, &roots).cloned().collect();
        let chain = Chain::new(below).map_err(certificate)?;
        let issuer = Issuer::new(&chain, Arc::new(key)).map_err(|source| DiskError::Issuer {
            cert: cert(),
            key: self.key_file.clone(),
            source,
        })?;
        leads_to_root(chain.certificates(), &roots, now).map_err(|source| DiskError::Chain {
            cert: cert(),
            bundle: self.bundle_file.clone().unwrap_or_else(cert),
            source,
        })?;
        Ok(Loaded { issuer: Arc::new(issuer), roots: roots.into() })
    }

    fn roots(&self, chain: &Chain, files: &Files) -> Result<Vec<X509Authority>, DiskError> {
        let root = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Root { path, source }
        };
        if let (Some(path), Some(text)) = (&self.bundle_file, &files.bundle) {
            let roots = pem::parse(text)
                .map_err(|source| DiskError::Bundle { path: path.clone(), source })?;
            roots.iter().try_for_each(check_root).map_err(root(path))?;
            return Ok(roots);
        }
        let path = || self.cert_file.clone();
        let certificate = Certificate::parse(chain.leaf())
            .map_err(|error| DiskError::Certificate { path: path(), source: error.into() })?;
        if !certificate.is_self_signed() {
            return Err(DiskError::NoBundle { path: path() });
        }
        let certificate = CertificateDer::from(chain.leaf().to_vec());
        let authority = X509Authority { certificate, tainted: false };
        check_root(&authority).map_err(root(&self.cert_file))?;
        Ok(vec![authority])
    }
}

/// A chain up to the first root in it; all of it where the CA is the root.
fn without_roots<'a>(
    chain: &'a Chain,
    roots: &'a [X509Authority],
) -> impl Iterator<Item = &'a CertificateDer<'static>> {
    let is_root = |der: &CertificateDer<'_>| roots.iter().any(|root| root.certificate == *der);
    let (ca, above) = chain.certificates().split_at(1);
    let above = above.iter().take_while(move |der| !is_root(der));
    ca.iter().chain(above)
}

#[cfg(test)]
mod tests;
