//! Tasks that a shutdown can tell to stop, and wait for.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
