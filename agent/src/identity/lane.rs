//! What waits to be signed by the server, and goes there as fast as the server can.
//!
//! Requests that come while a call is under way go together in the next one. While the server is
//! busy they wait, each for a time that is bounded, and in the order in which they came.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use steeple::backoff::random_fraction;
use steeple::tasks::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info_span};

use super::MintFailure;
use super::pace::{Begun, Bounds, Outcome, Pace};
use crate::server_api::ServerError;

/// How many requests may wait. Whoever asks beyond that waits to be let in.
const MAX_WAITING: usize = 1_024;

/// How long a request may wait, being let in included, until it is answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// One result for each request, in order, or why there is none.
pub(super) type Answers<A> = Result<Vec<Result<A, MintFailure>>, ServerError>;

/// Makes one call for several requests.
pub(super) type Call<R, A> = Box<dyn Fn(Vec<R>) -> BoxFuture<'static, Answers<A>> + Send>;

/// The way to the server for one kind of request. Clones are the same way.
pub(super) struct Lane<R, A>(mpsc::Sender<Job<R, A>>);

struct Job<R, A> {
    request: R,
    deadline: Instant,
    reply: oneshot::Sender<Result<A, MintFailure>>,
}

/// The one task that makes the calls.
struct Driver<R, A> {
    call: Call<R, A>,
    tasks: Tasks,
    pace: Pace,
    arriving: mpsc::Receiver<Job<R, A>>,
    waiting: VecDeque<Job<R, A>>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended<R, A>>>,
    /// As many as can be under way at once: more are not taken out of the channel.
    room: usize,
}

struct Ended<R, A> {
    begun: Begun,
    jobs: Vec<Job<R, A>>,
    answers: Answers<A>,
}

impl<R, A> Lane<R, A>
where
    R: Clone + Send + 'static,
    A: Send + 'static,
{
    /// Starts the task that makes calls of this kind, which has a name.
    pub(super) fn start(
        name: &'static str,
        bounds: Bounds,
        tasks: &Tasks,
        call: Call<R, A>,
    ) -> Self {
        let (jobs, arriving) = mpsc::channel(MAX_WAITING);
        let driver = Driver {
            call,
            tasks: tasks.clone(),
            pace: Pace::new(bounds),
            arriving,
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            room: bounds.calls * bounds.batch,
        };
        tasks.spawn(info_span!("minter", kind = name), |stop| async move {
            stop.run_until_cancelled(driver.run()).await;
        });
        Self(jobs)
    }

    /// The answer to one request.
    pub(super) async fn ask(&self, request: R) -> Result<A, MintFailure> {
        let deadline = Instant::now() + PATIENCE;
        let (reply, answer) = oneshot::channel();
        let answered = timeout_at(deadline, async {
            self.0.send(Job { request, deadline, reply }).await.or(Err(stopping()))?;
            answer.await.unwrap_or_else(|_| Err(stopping()))
        });
        answered.await.unwrap_or_else(|_| Err(too_late()))
    }
}

impl<R, A> Driver<R, A>
where
    R: Clone + Send + 'static,
    A: Send + 'static,
{
    async fn run(mut self) {
        let mut arrived = Vec::new();
        loop {
            let now = Instant::now();
            self.begin(now);
            let held_until = self.pace.held_until(now).filter(|_| !self.waiting.is_empty());
            let space = self.room.saturating_sub(self.waiting.len());
            tokio::select! {
                Some(ended) = self.under_way.next() => self.finish(ended),
                count = self.arriving.recv_many(&mut arrived, space), if space > 0 => {
                    if count == 0 {
                        return;
                    }
                    self.waiting.extend(arrived.drain(..));
                }
                () = sleep_until(held_until.unwrap_or(now)), if held_until.is_some() => {}
            }
        }
    }

    /// Begins as many calls as there is something to ask for.
    fn begin(&mut self, now: Instant) {
        // Whoever asked may have ended in the meantime, or lost patience.
        self.waiting.retain(|job| !job.reply.is_closed());
        self.refuse_late(now);
        while !self.waiting.is_empty() {
            let Some(begun) = self.pace.begin(now) else { return };
            let jobs: Vec<_> = self.waiting.drain(..begun.batch.min(self.waiting.len())).collect();
            let requests = jobs.iter().map(|job| job.request.clone()).collect();
            let call = (self.call)(requests);
            let span = info_span!("mint", requests = jobs.len());
            let task = self
                .tasks
                .spawn(span, |stop| async move { stop.run_until_cancelled_owned(call).await });
            self.under_way.push(Box::pin(async move {
                let stopped = || Err(ServerError::Unavailable("the agent is stopping".into()));
                let broken = |_| Err(ServerError::Failed("the call broke off".into()));
                let answers = task.await.map_or_else(broken, |ended| ended.unwrap_or_else(stopped));
                Ended { begun, jobs, answers }
            }));
        }
    }

    fn finish(&mut self, Ended { begun, jobs, answers }: Ended<R, A>) {
        let now = Instant::now();
        let outcome = match &answers {
            Err(ServerError::Busy { retry_after }) => Outcome::Busy(*retry_after),
            Err(ServerError::TooLarge(_)) => Outcome::TooLarge(jobs.len()),
            Ok(_) | Err(_) => Outcome::Answered,
        };
        self.pace.ended(begun, outcome, (now, random_fraction()));
        match (outcome, answers) {
            (Outcome::Busy(_), Err(error)) => self.wait_again(jobs, &error),
            (Outcome::TooLarge(_), Err(error)) if jobs.len() > 1 => self.wait_again(jobs, &error),
            (_, Ok(answers)) if answers.len() == jobs.len() => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let _gone = job.reply.send(answer);
                }
            }
            (_, Ok(_)) => refuse(jobs, &MintFailure::Wrong),
            (_, Err(error)) => refuse(jobs, &failed(&error)),
        }
    }

    /// Puts back in front what the server had no time for.
    fn wait_again(&mut self, jobs: Vec<Job<R, A>>, error: &ServerError) {
        debug!(requests = jobs.len(), %error, "minting waits");
        for job in jobs.into_iter().rev() {
            self.waiting.push_front(job);
        }
    }

    /// Refuses at once who will have lost patience before anybody is asked again.
    fn refuse_late(&mut self, now: Instant) {
        let Some(again_at) = self.pace.held_until(now) else { return };
        let (in_time, late): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|job| again_at < job.deadline);
        self.waiting = in_time.into();
        if !late.is_empty() {
            refuse(late, &busy(again_at.duration_since(now)));
        }
    }
}

impl<R, A> Clone for Lane<R, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R, A> fmt::Debug for Lane<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

fn refuse<R, A>(jobs: Vec<Job<R, A>>, failure: &MintFailure) {
    for job in jobs {
        let _gone = job.reply.send(Err(failure.clone()));
    }
}

/// What a failed call means to whoever asked.
fn failed(error: &ServerError) -> MintFailure {
    match error {
        ServerError::Unavailable(_)
        | ServerError::Untrusted(_)
        | ServerError::Timeout
        | ServerError::Busy { .. }
        | ServerError::Denied(_)
        | ServerError::Failed(_) => MintFailure::Unavailable(error.to_string()),
        ServerError::Forbidden(_)
        | ServerError::Invalid(_)
        | ServerError::TooLarge(_)
        | ServerError::Unsupported(_) => MintFailure::Refused(error.to_string()),
        ServerError::Answer(_) => MintFailure::Wrong,
    }
}

/// The server is left alone for longer than whoever asked waits.
fn busy(wait: Duration) -> MintFailure {
    let wait = humantime::format_duration(Duration::from_secs(wait.as_secs().max(1)));
    MintFailure::Unavailable(format!("it is busy, and will be asked again in {wait}"))
}

fn stopping() -> MintFailure {
    MintFailure::Unavailable("the agent is stopping".into())
}

fn too_late() -> MintFailure {
    let within = humantime::format_duration(PATIENCE);
    MintFailure::Unavailable(format!("it did not get round to it within {within}"))
}
