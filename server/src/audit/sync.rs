//! Makes the log durable in the background, and finds out when it can be written again.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::event::{Caller, Event};
use super::{Audit, AuditError, Durability, Health};

/// How long events are gathered before they are made durable together. With the time a disk takes
/// that stays below the 100 ms that are promised.
const GATHER: Duration = Duration::from_millis(50);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How far the log is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The last event that is.
    pub(super) durable: u64,
    /// The last event of which it is known that it may not be.
    doubtful: u64,
    /// Whether the last try failed.
    pub(super) failing: bool,
    /// Whether somebody is at it.
    running: bool,
}

impl Audit {
    /// Makes durable what is written, until `stop` and once more after it.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.progress.send_modify(|progress| progress.running = true);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.due() => {}
            }
            self.sync().await;
            self.probe();
        }
        self.sync().await;
        self.progress.send_modify(|progress| progress.running = false);
    }

    /// Waits until there is something to make durable, or to try again.
    async fn due(&self) {
        let mut health = self.health.subscribe();
        let failing = matches!(*health.borrow_and_update(), Health::Failing { .. });
        if failing || self.progress.borrow().failing {
            return tokio::time::sleep(RETRY).await;
        }
        tokio::select! {
            () = self.written.notified() => match self.durability {
                Durability::Background => tokio::time::sleep(GATHER).await,
                Durability::Strict => {}
            },
            // Nothing was written, and the next try is due in a while.
            _ = health.changed() => {}
        }
    }

    /// Makes durable all that is written by now.
    async fn sync(&self) {
        let (storages, sequence) = {
            let mut log = self.log();
            let mut storages = std::mem::take(&mut log.left);
            storages.push(log.storage.clone());
            (storages, log.sequence)
        };
        let sync = move || storages.iter().try_for_each(|storage| storage.sync());
        let result = match tokio::task::spawn_blocking(sync).await {
            Ok(result) => result,
            Err(ended) => Err(ended.into()),
        };
        self.progress.send_modify(|progress| match &result {
            Ok(()) => {
                progress.durable = sequence.max(progress.durable);
                progress.failing = false;
            }
            Err(_) => {
                progress.doubtful = sequence;
                progress.failing = true;
            }
        });
        if let Err(error) = result {
            self.failed(&error.to_string());
        }
    }

    /// Finds out whether the log can be written again when nobody else tries.
    fn probe(&self) {
        if self.progress.borrow().failing || *self.health.borrow() == Health::Recording {
            return;
        }
        let events_refused = self.log().events_refused;
        let event = Event::AuditRecovered { events_refused };
        // The event that says so does not count.
        let counted = match self.append(&Caller::Server, &[event]) {
            Ok(_) => events_refused,
            Err(_) => 1,
        };
        let mut log = self.log();
        log.events_refused = log.events_refused.saturating_sub(counted);
    }

    /// Waits until the event of this number, and all before it, is durable.
    pub(super) async fn durable(&self, sequence: u64) -> Result<(), AuditError> {
        let mut progress = self.progress.subscribe();
        let known = progress
            .wait_for(|progress| {
                !progress.running || progress.durable.max(progress.doubtful) >= sequence
            })
            .await
            .map(|progress| *progress);
        match known {
            Ok(progress) if progress.durable >= sequence => Ok(()),
            Ok(progress) if progress.doubtful >= sequence => Err(AuditError::Sync),
            // Before the start of `run` and after its end.
            Ok(_) | Err(_) => {
                self.sync().await;
                let progress = *self.progress.borrow();
                if progress.durable >= sequence { Ok(()) } else { Err(AuditError::Sync) }
            }
        }
    }
}
