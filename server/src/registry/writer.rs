//! The one writer: decides on the present state, commits, applies to memory, and only then answers.
//!
//! Writes that wait at the same time share one commit, and so one wait for the disk.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use steeple::telemetry::with_causes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::draft::Draft;
use super::state::State;
use crate::datastore::{Change, Datastore, DatastoreError, Revision};

/// How many objects one commit touches, unless a single write touches more.
const COMMIT_SIZE: usize = 4_096;

/// How often a decision is made anew because another server wrote in between.
const ATTEMPTS: usize = 8;

/// How often a datastore that did not write is tried again while nobody has anything to write.
pub(super) const PROBE: Duration = Duration::from_secs(10);

/// How much room there has to be then: more than an administrator's changes need at a time, save in
/// batches. What needs less would find room on a disk where nothing else does.
pub(super) const ROOM: u32 = 64 << 10;

/// How many writes wait at most before a caller has to wait to hand its over.
pub(super) const QUEUE: usize = 1_024;

/// Why nothing was written.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    /// The datastore failed. Which one, and where, is for the log.
    #[error("nothing was written: {}", .0.in_short())]
    Datastore(#[source] Arc<DatastoreError>),
    /// The server is shutting down.
    #[error("nothing was written, as the server is shutting down")]
    Stopped,
}

/// A write that waits. Its decision may be made several times; only the last one counts.
pub(super) trait Job: Send {
    /// Decides, and notes the changes in the draft.
    fn decide(&mut self, draft: &mut Draft<'_>);
    /// Answers, now that the decision is durable or failed.
    fn finish(self: Box<Self>, written: Result<(), WriteError>);
}

/// A [`Job`] out of a function, with somebody who waits for what it returns.
pub(super) struct Request<T, F> {
    decide: F,
    decision: Option<T>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

/// Owner of the memory: nobody else changes it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) datastore: Arc<dyn Datastore>,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) revision: watch::Sender<Revision>,
    /// Whether the last that was to be written was.
    pub(super) writes: watch::Sender<Option<String>>,
}

impl<T, F> Request<T, F>
where
    T: Send,
    F: FnMut(&mut Draft<'_>) -> T + Send,
{
    pub(super) fn new(decide: F) -> (Self, oneshot::Receiver<Result<T, WriteError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { decide, decision: None, reply }, answer)
    }
}

impl<T, F> Job for Request<T, F>
where
    T: Send,
    F: FnMut(&mut Draft<'_>) -> T + Send,
{
    fn decide(&mut self, draft: &mut Draft<'_>) {
        self.decision = Some((self.decide)(draft));
    }

    fn finish(self: Box<Self>, written: Result<(), WriteError>) {
        let Self { decision, reply, .. } = *self;
        let answer = written.and_then(|()| decision.ok_or(WriteError::Stopped));
        // Whoever asked may have gone. What was written stays.
        drop(reply.send(answer));
    }
}

impl Writer {
    /// Writes until told to stop and nothing waits any more.
    pub(super) async fn run(
        self,
        mut queue: mpsc::Receiver<Box<dyn Job>>,
        stop: CancellationToken,
    ) {
        let mut waiting = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                job = queue.recv() => match job {
                    Some(job) => waiting.push_back(job),
                    None => return,
                },
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                () = tokio::time::sleep(PROBE), if self.writes.borrow().is_some() => self.probe().await,
            }
            while let Ok(job) = queue.try_recv() {
                waiting.push_back(job);
            }
            while !waiting.is_empty() {
                self.write(&mut waiting).await;
            }
        }
    }

    /// Commits as many of the waiting writes as fit, and answers them.
    async fn write(&self, waiting: &mut VecDeque<Box<dyn Job>>) {
        let mut jobs = Vec::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(&mut jobs, waiting).await {
                Err(DatastoreError::Conflict { .. }) => {
                    if let Err(error) = self.catch_up().await {
                        return fail(jobs, error);
                    }
                }
                Err(error) => return fail(jobs, error),
                Ok(()) => return jobs.into_iter().for_each(|job| job.finish(Ok(()))),
            }
        }
        let at = self.read(|state| state.revision);
        fail(jobs, DatastoreError::Conflict { at });
    }

    async fn attempt(
        &self,
        jobs: &mut Vec<Box<dyn Job>>,
        waiting: &mut VecDeque<Box<dyn Job>>,
    ) -> Result<(), DatastoreError> {
        let (base, changes) = self.read(|state| {
            let mut draft = Draft::new(state);
            jobs.iter_mut().for_each(|job| job.decide(&mut draft));
            while draft.len() < COMMIT_SIZE
                && let Some(mut job) = waiting.pop_front()
            {
                job.decide(&mut draft);
                jobs.push(job);
            }
            (state.revision, draft.into_changes())
        });
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(base, changes).await
    }

    async fn commit(&self, base: Revision, changes: Vec<Change>) -> Result<(), DatastoreError> {
        let committed = self.datastore.commit(base, &changes).await;
        // That another server was faster says nothing of the datastore.
        if !matches!(committed, Err(DatastoreError::Conflict { .. })) {
            self.note_writes(committed.as_ref().err());
        }
        let revision = committed?;
        self.change(|state| state.apply(revision, changes));
        self.revision.send_replace(revision);
        Ok(())
    }

    /// Finds out whether the datastore writes again what somebody may want to be written.
    async fn probe(&self) {
        let found = self.datastore.find_room(ROOM).await;
        self.note_writes(found.as_ref().err());
        if let Err(error) = found {
            debug!(error = &error as &dyn std::error::Error, "the database is not written yet");
        }
    }

    fn note_writes(&self, failure: Option<&DatastoreError>) {
        let trouble = failure.map(|error| with_causes(error));
        let is_over = trouble.is_none();
        if self.writes.send_replace(trouble).is_some() && is_over {
            info!("the database is written again");
        }
    }

    /// Learns what other servers committed.
    async fn catch_up(&self) -> Result<(), DatastoreError> {
        let known = self.read(|state| state.revision);
        let revision = match self.datastore.changes_since(known).await {
            Ok(commits) => self.change(|state| {
                for commit in commits {
                    state.apply(commit.revision, commit.changes);
                }
                state.revision
            }),
            Err(DatastoreError::Pruned { .. }) => {
                warn!("too much was written by others; loading everything");
                let loaded = State::new(self.datastore.load().await?);
                self.change(|state| {
                    drop(mem::replace(state, loaded));
                    state.revision
                })
            }
            Err(error) => return Err(error),
        };
        self.revision.send_replace(revision);
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One result for each item, also where the whole batch failed.
pub(super) fn spread<T, E: From<WriteError>>(
    written: Result<Vec<Result<T, E>>, WriteError>,
    count: usize,
) -> Vec<Result<T, E>> {
    match written {
        Ok(results) => results,
        Err(error) => (0..count).map(|_| Err(error.clone().into())).collect(),
    }
}

fn fail(jobs: Vec<Box<dyn Job>>, error: DatastoreError) {
    error!(error = &error as &dyn std::error::Error, writes = jobs.len(), "nothing was written");
    let error = WriteError::Datastore(Arc::new(error));
    jobs.into_iter().for_each(|job| job.finish(Err(error.clone())));
}
