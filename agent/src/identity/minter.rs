//! Asks the server to sign, for many instances at once.
//!
//! It is the one place that paces what is asked: a thousand processes that start at once, or all
//! that have to move off a tainted authority, cost a handful of calls, as fast as the server signs.

use std::sync::Arc;

use futures_util::FutureExt as _;
use steeple::entry::{Entry, EntryId};
use steeple::keys::{KeyAlgorithm, PrivateKey};
use steeple::tasks::Tasks;
use steeple::x509::{Name, Subject, csr};

use super::MintFailure;
use super::cut::Cuts;
use super::lane::{Answers, Lane};
use super::pace::Bounds;
use crate::server_api::{MintRefusal, Minted, MintedJwt, ServerApi, X509Mint};

/// X.509-SVIDs go to the server in batches; it signs as many in a few milliseconds.
const X509: Bounds = Bounds { calls: 4, batch: 100 };

/// JWT-SVIDs go one by one, as there is no other call.
const JWT: Bounds = Bounds { calls: 128, batch: 1 };

/// Signs for all instances of this node. Clones are the same minter.
#[derive(Clone, Debug)]
pub(super) struct Minter {
    x509: Lane<X509Mint, Minted>,
    jwt: Lane<JwtMint, MintedJwt>,
    algorithm: KeyAlgorithm,
    cuts: Cuts,
}

#[derive(Clone, Debug)]
struct JwtMint {
    entry: EntryId,
    audience: Arc<[String]>,
}

impl Minter {
    /// Starts the tasks that make the calls.
    pub(super) fn start(
        server: Arc<dyn ServerApi>,
        algorithm: KeyAlgorithm,
        tasks: &Tasks,
    ) -> Self {
        let signer = server.clone();
        let x509 = move |requests| x509_call(signer.clone(), requests).boxed();
        let jwt = move |requests| jwt_call(server.clone(), requests).boxed();
        Self {
            x509: Lane::start("x509", X509, tasks, Box::new(x509)),
            jwt: Lane::start("jwt", JWT, tasks, Box::new(jwt)),
            algorithm,
            cuts: Cuts::default(),
        }
    }

    /// What is known of SVIDs that end early.
    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// Makes a key and has the server sign for it. The answer is not checked yet.
    pub(super) async fn x509(&self, entry: &Entry) -> Result<(PrivateKey, Minted), MintFailure> {
        let algorithm = self.algorithm;
        let (key, csr) = match algorithm {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => key_and_request(algorithm),
            // Looking for primes takes long enough to hold up everybody else.
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa4096 => {
                tokio::task::spawn_blocking(move || key_and_request(algorithm))
                    .await
                    .unwrap_or(Err(MintFailure::Key))
            }
        }?;
        let minted = self.x509.ask(X509Mint { entry_id: entry.id.clone(), csr }).await?;
        Ok((key, minted))
    }

    /// Has the server sign a token, which is not checked yet.
    pub(super) async fn jwt(
        &self,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<MintedJwt, MintFailure> {
        self.jwt.ask(JwtMint { entry: entry.clone(), audience: audience.into() }).await
    }
}

fn key_and_request(algorithm: KeyAlgorithm) -> Result<(PrivateKey, Vec<u8>), MintFailure> {
    let key = PrivateKey::generate(algorithm).or(Err(MintFailure::Key))?;
    // The identity is the entry's to say; the server takes only the key from the request.
    let wish =
        csr::Wish { subject: &Name::from(&Subject::default()), spiffe_id: None, dns_names: &[] };
    let csr = csr::make(&key, &wish).or(Err(MintFailure::Key))?;
    Ok((key, csr))
}

async fn x509_call(server: Arc<dyn ServerApi>, requests: Vec<X509Mint>) -> Answers<Minted> {
    let results = server.mint_x509(requests).await?;
    Ok(results.into_iter().map(|result| result.map_err(refused)).collect())
}

async fn jwt_call(server: Arc<dyn ServerApi>, requests: Vec<JwtMint>) -> Answers<MintedJwt> {
    let mut results = Vec::with_capacity(requests.len());
    for request in requests {
        results.push(Ok(server.mint_jwt(&request.entry, &request.audience).await?));
    }
    Ok(results)
}

fn refused(refusal: MintRefusal) -> MintFailure {
    match refusal {
        MintRefusal::NotAuthorized | MintRefusal::Invalid(_) => {
            MintFailure::Refused(refusal.to_string())
        }
        MintRefusal::Failed(_) => MintFailure::Unavailable(refusal.to_string()),
    }
}
