//! A stream of complete states: one at once, and another whenever it differs.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256_OUTPUT_LEN};
use futures_util::Stream;
use futures_util::stream::{StreamExt as _, once, unfold};
use prost::Message;
use tokio::sync::watch;
use tonic::{Response, Status};
use tracing::error;
use zeroize::Zeroizing;

use super::WorkloadError;
use super::again::{self, Again, Learned};
use super::caller::{Caller, Lives};
use crate::attest::Attested;
use crate::identity::{Holdings, Snapshot};

/// The longest answer: clients refuse a message of more than 4 MiB.
const MAX_ANSWER: usize = 4 * 1024 * 1024 - 1024;

/// What a client receives.
pub(super) type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a stream shows, and how it is computed from the present state.
#[tonic::async_trait]
pub(super) trait View: Send + Sized + 'static {
    /// The message that shows it.
    type Message: Message + Default + 'static;

    /// Whom it is shown to.
    fn caller(&self) -> &Caller;

    /// Who has to live on for it to be shown.
    fn lives(&self) -> Lives {
        Lives::of(self.caller().attested())
    }

    /// What is known of whom it is shown to, and of whom it is about, in the same order each time.
    fn known(&mut self) -> Vec<&mut Attested>;

    /// Is told that one of these is known better, and may be another instance.
    fn learned(&mut self) {}

    /// The whole present state. May wait for what has to be minted first.
    async fn compute(&mut self) -> Result<Self::Message, WorkloadError>;

    /// What else than the snapshot changes it.
    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>>;

    /// The stream: complete states that differ from one another, then one status. It is there when
    /// the first of them is, so that both leave together.
    async fn updates(self) -> Result<Response<Updates<Self::Message>>, Status> {
        let snapshots = self.caller().snapshots();
        let mut watched =
            Watched { view: self, snapshots, holdings: None, again: None, last: None };
        let first = watched.next().await?;
        watched.look_again();
        let others = unfold(Some(watched), |watched| async move {
            let mut watched = watched?;
            match watched.next().await {
                Ok(message) => Some((Ok(message), Some(watched))),
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(once(ready(Ok(first))).chain(others))))
    }
}

struct Watched<V: View> {
    view: V,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// Looks for what is not known of the caller, if anything is not.
    again: Option<Again>,
    /// Of the last state only the digest is kept, as it has private keys in it.
    last: Option<[u8; SHA256_OUTPUT_LEN]>,
}

impl<V: View> Watched<V> {
    /// The next state that differs from the last. Ends only in an error: the caller has ended,
    /// is entitled to nothing any more, or the agent stops.
    async fn next(&mut self) -> Result<V::Message, WorkloadError> {
        let stop = self.view.caller().deps.stop.clone();
        let lives = self.view.lives();
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(WorkloadError::Stopping),
            ended = lives.end() => Err(ended),
            state = self.different() => state,
        }
    }

    async fn different(&mut self) -> Result<V::Message, WorkloadError> {
        if self.last.is_some() {
            self.changed().await?;
        }
        loop {
            self.snapshots.mark_unchanged();
            if let Some(holdings) = &mut self.holdings {
                holdings.mark_unchanged();
            }
            let computed = self.view.compute().await;
            // Who has become somebody else is not told what the other may have.
            let state =
                computed.map_err(|error| self.view.lives().still_hold().err().unwrap_or(error))?;
            if self.holdings.is_none() {
                self.holdings = self.view.holdings();
            }
            fits(&state)?;
            let digest = digest(&state);
            if self.last != Some(digest) {
                self.view.lives().still_hold()?;
                self.last = Some(digest);
                return Ok(state);
            }
            self.changed().await?;
        }
    }

    async fn changed(&mut self) -> Result<(), WorkloadError> {
        let changed = tokio::select! {
            changed = self.snapshots.changed() => changed,
            changed = or_never(self.holdings.as_mut().map(watch::Receiver::changed)) => changed,
            learned = or_never(self.again.as_mut()) => {
                self.learn(learned);
                return Ok(());
            }
        };
        changed.or(Err(WorkloadError::Stopping))
    }

    fn learn(&mut self, learned: Learned) {
        learned.put_into(self.view.known());
        self.view.learned();
        self.holdings = None;
        self.look_again();
    }

    /// Looks for what is not known. All is known of most, so that nothing is prepared for it.
    fn look_again(&mut self) {
        self.again = None;
        if self.view.known().iter().any(|attested| !attested.gaps().is_empty()) {
            let attestors = self.view.caller().deps.attestors.clone();
            self.again = again::again(&attestors, self.view.known());
        }
    }
}

async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The digest of a message as it is sent. Maps are ordered, so equal states have equal digests.
fn digest(message: &impl Message) -> [u8; SHA256_OUTPUT_LEN] {
    let encoded = Zeroizing::new(message.encode_to_vec());
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(digest::digest(&digest::SHA256, &encoded).as_ref());
    digest
}

/// Checks that clients will read the answer.
pub(super) fn fits(answer: &impl Message) -> Result<(), WorkloadError> {
    let bytes = answer.encoded_len();
    if bytes > MAX_ANSWER {
        error!(bytes, "an answer exceeds what clients read; give the workload fewer identities");
        return Err(WorkloadError::TooLarge);
    }
    Ok(())
}
