//! What an agent does when it is sent a signal.

use std::io;

use steeple::telemetry::{Log, Reopening};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals that an agent takes note of.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reload: Signal,
    log: Reopening,
}

impl Signals {
    pub(super) fn catch(log: &Log) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: signal(SignalKind::user_defined1())?,
            log: log.catch_signal()?,
        })
    }

    /// Waits for one that ends the agent.
    pub(super) async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    info!("SIGHUP is of no effect on an agent; SIGUSR2 opens its log file again");
                }
                // SPIRE's reads configurations of plug-ins anew.
                _ = self.reload.recv() => {
                    info!("SIGUSR1 is of no effect: a configuration is read when the agent starts");
                }
                never = self.log.run() => match never {},
            }
        }
    }
}
