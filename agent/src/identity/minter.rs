//! Asks the server to sign, for many instances at once.
//!
//! Requests that come while a call is under way go together in the next one, so that a thousand
//! processes that start at once cost a handful of calls.

use std::sync::Arc;

use steeple::entry::{Entry, EntryId};
use steeple::keys::{KeyAlgorithm, PrivateKey};
use steeple::tasks::Tasks;
use steeple::x509::{Name, Subject, csr};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::info_span;

use super::MintFailure;
use crate::server_api::{MintRefusal, Minted, ServerApi, ServerError, X509Mint};

/// The most requests in one call; a server signs as many in a few milliseconds.
const MAX_BATCH: usize = 100;
/// How many calls may be under way.
const MAX_CALLS: usize = 4;
/// How many requests may wait. Whoever asks beyond that waits to be let in.
const MAX_WAITING: usize = 1_024;

/// Signs for all instances of this node. Clones are the same minter.
#[derive(Clone, Debug)]
pub(super) struct Minter {
    jobs: mpsc::Sender<Job>,
    algorithm: KeyAlgorithm,
}

#[derive(Debug)]
struct Job {
    request: X509Mint,
    reply: oneshot::Sender<Result<Minted, MintFailure>>,
}

impl Minter {
    /// Starts the task that makes the calls.
    pub(super) fn start(
        server: Arc<dyn ServerApi>,
        algorithm: KeyAlgorithm,
        tasks: &Tasks,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let calls = tasks.clone();
        tasks.spawn(info_span!("minter"), |stop| async move {
            stop.run_until_cancelled(run(waiting, server, calls)).await;
        });
        Self { jobs, algorithm }
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
        let (reply, answer) = oneshot::channel();
        let request = X509Mint { entry_id: entry.id.clone(), csr };
        self.jobs.send(Job { request, reply }).await.or(Err(stopping()))?;
        Ok((key, answer.await.unwrap_or_else(|_| Err(stopping()))?))
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

async fn run(mut waiting: mpsc::Receiver<Job>, server: Arc<dyn ServerApi>, tasks: Tasks) {
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    while let Ok(call) = calls.clone().acquire_owned().await {
        let mut jobs = Vec::new();
        if waiting.recv_many(&mut jobs, MAX_BATCH).await == 0 {
            return;
        }
        let server = server.clone();
        tasks.spawn(info_span!("mint", requests = jobs.len()), |stop| async move {
            stop.run_until_cancelled(answer(jobs, &*server)).await;
            drop(call);
        });
    }
}

async fn answer(jobs: Vec<Job>, server: &dyn ServerApi) {
    let (requests, replies): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.request, job.reply)).unzip();
    let results = match server.mint_x509(requests).await {
        Ok(results) if results.len() == replies.len() => {
            results.into_iter().map(|result| result.map_err(refused)).collect()
        }
        Ok(_) => replies.iter().map(|_| Err(MintFailure::Wrong)).collect::<Vec<_>>(),
        Err(error) => replies.iter().map(|_| Err(failed(&error))).collect(),
    };
    for (reply, result) in replies.into_iter().zip(results) {
        // Whoever asked may have ended in the meantime.
        let _gone = reply.send(result);
    }
}

fn refused(refusal: MintRefusal) -> MintFailure {
    match refusal {
        MintRefusal::NotAuthorized | MintRefusal::Invalid(_) => {
            MintFailure::Refused(refusal.to_string())
        }
        MintRefusal::Failed(_) => MintFailure::Unavailable(refusal.to_string()),
    }
}

/// What a failed call means to whoever asked.
pub(super) fn failed(error: &ServerError) -> MintFailure {
    match error {
        ServerError::Unavailable(_)
        | ServerError::Untrusted(_)
        | ServerError::Timeout
        | ServerError::Busy { .. }
        | ServerError::Denied(_)
        | ServerError::Failed(_) => MintFailure::Unavailable(error.to_string()),
        ServerError::Forbidden(_) | ServerError::Invalid(_) | ServerError::Unsupported => {
            MintFailure::Refused(error.to_string())
        }
        ServerError::Answer(_) => MintFailure::Wrong,
    }
}

fn stopping() -> MintFailure {
    MintFailure::Unavailable("the agent is stopping".into())
}

/// The minting of a JWT-SVID, which the server does one at a time.
pub(super) async fn jwt(
    server: &dyn ServerApi,
    entry: &EntryId,
    audience: &[String],
) -> Result<crate::server_api::MintedJwt, MintFailure> {
    server.mint_jwt(entry, audience).await.map_err(|error| failed(&error))
}
