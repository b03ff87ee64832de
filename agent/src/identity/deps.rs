//! Whom everything here works with.

use std::sync::Arc;

use steeple::clock::Clock;
use steeple::keys::KeyAlgorithm;
use steeple::tasks::Tasks;
use tokio::sync::{Notify, watch};

use super::Snapshot;
use crate::server_api::ServerApi;

/// Whom holders work with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Who signs.
    pub server: Arc<dyn ServerApi>,
    /// What the server says of this node; `None` until the first synchronisation.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Asks for a synchronisation before it is due.
    pub refresh: Arc<Notify>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where they run.
    pub tasks: Tasks,
    /// What keys workloads get.
    pub key_algorithm: KeyAlgorithm,
}
