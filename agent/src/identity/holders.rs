//! The holders of all instances of this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use steeple::clock::Clock;
use steeple::keys::KeyAlgorithm;
use steeple::tasks::Tasks;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info_span};

use super::holder::Holder;
use super::mint::Mint;
use super::minter::Minter;
use super::owner::Owner;
use super::{Holdings, Snapshot};
use crate::attest::instance::{Instance, InstanceId};
use crate::server_api::ServerApi;

/// How many asks of one holder may wait.
const MAX_ASKS: usize = 64;

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

/// One holder for each instance that has asked for something. Clones are the same holders.
#[derive(Clone, Debug)]
pub struct Holders {
    deps: Deps,
    minter: Minter,
    live: Arc<Mutex<HashMap<InstanceId, Holder>>>,
}

impl Holders {
    /// None yet.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let minter = Minter::start(deps.server.clone(), deps.key_algorithm, &deps.tasks);
        Self { deps, minter, live: Arc::default() }
    }

    /// The holder of this instance. It comes into being with the first call.
    #[must_use]
    pub fn of(&self, instance: &Instance) -> Holder {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = live.get(instance.id()) {
            return holder.clone();
        }
        let holder = self.start(instance.clone());
        live.insert(instance.id().clone(), holder.clone());
        holder
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn start(&self, instance: Instance) -> Holder {
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let (published, holdings) = watch::channel(Arc::new(Holdings::default()));
        let mint = Mint::new(self.deps.clone(), self.minter.clone());
        let owner = Owner::new(self.deps.clone(), mint, published);
        let live = self.live.clone();
        let span = info_span!("instance", id = %instance.id());
        self.deps.tasks.spawn(span, |stop| async move {
            owner.run(instance.clone(), asked, stop).await;
            // No other instance ever has this ID, so whoever is found there is this one.
            live.lock().unwrap_or_else(PoisonError::into_inner).remove(instance.id());
            debug!("the instance has ended");
        });
        Holder { asks, holdings }
    }
}
