//! Tasks that a shutdown can tell to stop, and wait for.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

/// All tasks of a process, or of a part of it. Clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task within `span`. It is handed the token that tells it to stop.
    pub fn spawn<F, T>(
        &self,
        span: Span,
        task: impl FnOnce(CancellationToken) -> F,
    ) -> JoinHandle<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        self.tracker.spawn(task(self.stop.clone()).instrument(span))
    }

    /// The token that tells every task to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to stop, and waits for them, at most for `patience`.
    ///
    /// # Errors
    /// The number of tasks that had not ended by then.
    pub async fn shutdown(&self, patience: Duration) -> Result<(), usize> {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(patience, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.tracker.len()),
        }
    }
}

/// Does what waits for a disk, and lets other tasks of this thread go on elsewhere meanwhile, if
/// the runtime has more threads than one.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works while another task of the only worker has to run for it to end.
    fn beside_another_task() {
        let (told, heard) = std::sync::mpsc::channel();
        let other = Tasks::new();
        other.spawn(Span::none(), |_| async move { told.send(()) });
        aside(|| heard.recv_timeout(Duration::from_secs(60))).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_waits_for_a_disk_holds_up_no_other_task() {
        let task = Tasks::new().spawn(Span::none(), |_| async { beside_another_task() });
        task.await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_for_a_disk_is_done_where_there_is_no_other_thread() {
        assert_eq!(aside(|| 7), 7);
    }

    #[tokio::test]
    async fn a_shutdown_stops_tasks_and_counts_those_that_will_not() {
        let tasks = Tasks::new();
        tasks.spawn(Span::none(), |stop| async move { stop.cancelled().await });
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Ok(()));

        let stubborn = Tasks::new();
        stubborn.spawn(Span::none(), |_| std::future::pending::<()>());
        assert_eq!(stubborn.shutdown(Duration::from_millis(1)).await, Err(1));
    }
}
