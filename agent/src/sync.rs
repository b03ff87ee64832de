//! What the server says of this node, fetched again and again: entries by differences, the own
//! bundle, and those of the foreign trust domains that an entry names.
//!
//! A view is published when it differs from the one before, and kept on disk without any key, so
//! that an agent that is started while the server is away can at least tell who is entitled to
//! what, serve bundles and validate tokens. Where the server answers, what was kept is never used:
//! it is shown only once the first try has failed.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::atomic_file::{self, Access};
use steeple::backoff::random_fraction;
use steeple::clock::{self, Clock};
use steeple::id::TrustDomain;
use steeple::tasks;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

mod pace;
mod round;
mod view;

use self::pace::Pace;
use self::view::View;
use crate::identity::Snapshot;
use crate::node::plan::Standing;
use crate::node::{NodeStatus, OwnBundle};
use crate::server_api::kept::Kept;
use crate::server_api::{ServerApi, ServerError};

/// How long a first try may take before what was kept is shown.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// What a synchronisation works with.
#[derive(Debug)]
pub struct Deps {
    /// The server.
    pub server: Arc<dyn ServerApi>,
    /// What this node is to the server.
    pub node: watch::Receiver<NodeStatus>,
    /// Asks for a synchronisation before it is due.
    pub refresh: Arc<Notify>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust domain of this node.
    pub trust_domain: TrustDomain,
    /// How often to ask.
    pub interval: Duration,
    /// Where the last view is kept.
    pub file: PathBuf,
}

/// Where the view goes.
#[derive(Debug)]
pub struct Channels {
    /// Entries and bundles, for whoever serves them. Nothing before there is a view.
    pub snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// The own bundle as the server said it since this start.
    pub bundle: watch::Sender<Option<OwnBundle>>,
    /// How it goes.
    pub status: watch::Sender<SyncStatus>,
}

/// How synchronisation goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SyncStatus {
    /// When the last one succeeded.
    pub last_success: Option<SystemTime>,
    /// Why the last one failed, if it did.
    pub trouble: Option<String>,
    /// How many entries this node has, by a view of this start or the one before; `None` before
    /// there is any view.
    pub entries: Option<usize>,
}

/// The task.
#[derive(Debug)]
pub struct Sync {
    deps: Deps,
    config: Config,
    channels: Channels,
    view: View,
    pace: Pace,
    next: SystemTime,
    standing: Standing,
    bootstraps: u32,
    /// Whether what is on disk is of before the view.
    unkept: bool,
    /// Whether it was said that nothing can be kept there.
    warned: bool,
}

impl Sync {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(deps: Deps, config: Config, channels: Channels) -> Self {
        let (pace, next) = (Pace::new(config.interval), deps.clock.now());
        let NodeStatus { standing, bootstraps, .. } = *deps.node.borrow();
        let view = View::empty(&config.trust_domain);
        Self {
            deps,
            config,
            channels,
            view,
            pace,
            next,
            standing,
            bootstraps,
            unkept: false,
            warned: false,
        }
    }

    /// Synchronises until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.first() => {}
        }
        loop {
            let clock = Arc::clone(&self.deps.clock);
            let next = clock::end_of_wait(self.next, self.pace.longest(), clock.now());
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.deps.node.changed() => self.node_changed(),
                () = self.deps.refresh.notified() => self.hasten(),
                () = clock::sleep_until(&*clock, next) => {
                    let mut node = self.deps.node.clone();
                    let bootstraps = self.bootstraps;
                    let is_left = |node: &NodeStatus| {
                        node.standing == Standing::Banned || node.bootstraps != bootstraps
                    };
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        // Whatever the server is about to say is of no use, of a banned node or to one
                        // that believes another server now.
                        Ok(_) = node.wait_for(is_left) => {
                            self.next = self.deps.clock.now() + self.config.interval;
                        }
                        () = self.due() => {}
                    }
                }
            }
        }
    }

    /// The first try, as soon as the node is an agent. What was kept is shown if that takes long, or
    /// fails.
    async fn first(&mut self) {
        let mut node = self.deps.node.clone();
        let tried = async {
            if node.wait_for(|node| may_ask(node.standing)).await.is_ok() {
                self.due().await;
            }
        };
        if tokio::time::timeout(FIRST_TRY, tried).await.is_err() {
            self.next = self.deps.clock.now();
        }
        let is_banned = self.deps.node.borrow().standing == Standing::Banned;
        if self.channels.snapshot.borrow().is_none() && !is_banned {
            self.show_kept();
        }
    }

    async fn due(&mut self) {
        let standing = self.deps.node.borrow().standing;
        if !may_ask(standing) {
            // What the node becomes is heard.
            self.next = self.deps.clock.now() + self.config.interval;
            return;
        }
        self.standing = standing;
        let now = self.deps.clock.now();
        let fetched = round::fetch(&*self.deps.server, &self.view, now).await;
        let wait = match fetched {
            Ok(view) => {
                self.succeeded(view);
                self.pace.after_success(random_fraction())
            }
            Err(error) => self.failed(&error),
        };
        self.next = self.deps.clock.now() + wait;
    }

    fn succeeded(&mut self, view: View) {
        let entries = view.entries().len();
        let shown = self.channels.snapshot.borrow().clone();
        let known = shown.is_some_and(|shown| !shown.is_of_banned_node());
        if !known || view.differs(&self.view) {
            info!(entries, bundles = view.bundles().len(), "synced");
            tell_of_taints(&self.view, &view);
            view.tell(&self.view);
            self.view = view;
            self.publish();
            self.unkept = true;
        }
        if self.unkept {
            self.keep();
        }
        let bootstraps = self.bootstraps;
        let own = self.view.own_bundle().map(|bundle| OwnBundle { bundle, bootstraps });
        self.channels.bundle.send_if_modified(|bundle| {
            let changed = *bundle != own;
            *bundle = own;
            changed
        });
        let last_success = Some(self.deps.clock.now());
        let entries = Some(entries);
        self.channels.status.send_replace(SyncStatus { last_success, trouble: None, entries });
    }

    fn failed(&mut self, error: &ServerError) -> Duration {
        let serves = self.channels.snapshot.borrow().is_some();
        let wait = self.pace.after_failure(error, serves, random_fraction());
        warn!(error = error as &dyn Error, retry_interval = ?wait, "sync failed");
        let trouble = Some(error.to_string());
        self.channels.status.send_modify(|status| status.trouble = trouble);
        wait
    }

    fn node_changed(&mut self) {
        let NodeStatus { standing, bootstraps, .. } = *self.deps.node.borrow_and_update();
        if std::mem::replace(&mut self.bootstraps, bootstraps) != bootstraps {
            // Another server has other entries by the same names. Until it has said which, what is
            // known is served.
            self.view = View::empty(&self.config.trust_domain);
            self.next = self.deps.clock.now();
        }
        // A node says more of itself than what it is.
        if std::mem::replace(&mut self.standing, standing) == standing {
            return;
        }
        if standing == Standing::Banned {
            self.forget();
        } else if may_ask(standing) {
            self.next = self.deps.clock.now();
        }
    }

    fn hasten(&mut self) {
        let soonest = self.pace.soonest(self.next, self.deps.clock.now());
        self.next = self.next.min(soonest);
    }

    /// Nobody on a banned node has an identity.
    fn forget(&mut self) {
        self.view = self.view.without_entries();
        self.unkept = false;
        let snapshot = self.view.snapshot().of_banned_node();
        self.channels.snapshot.send_replace(Some(Arc::new(snapshot)));
        self.channels.status.send_replace(SyncStatus::default());
        if let Err(error) = std::fs::remove_file(&self.config.file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(error = &error as &dyn Error, "what was kept of entries was not removed");
        }
    }

    fn publish(&self) {
        self.channels.snapshot.send_replace(Some(Arc::new(self.view.snapshot())));
    }

    /// What could not be kept is tried again with the next success, as long as a full disk is full.
    fn keep(&mut self) {
        let bytes = self.view.kept().encode();
        let write = || atomic_file::write(&self.config.file, &bytes, Access::Private);
        match tasks::aside(write) {
            Ok(()) => (self.unkept, self.warned) = (false, false),
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                warn!(error = &error as &dyn Error, "entries and bundles were not kept on disk");
            }
            Err(error) => debug!(error = &error as &dyn Error, "they still cannot be kept"),
        }
    }

    fn show_kept(&mut self) {
        let kept = match std::fs::read(&self.config.file) {
            Ok(bytes) => Kept::decode(&bytes),
            Err(_none) => return,
        };
        let now = self.deps.clock.now();
        let view = kept.ok().and_then(|kept| View::of_kept(&self.config.trust_domain, kept, now));
        let Some(view) = view else {
            warn!("what was kept of entries and bundles is damaged, and not used");
            return;
        };
        info!(entries = view.entries().len(), "serving what was known before this start");
        let entries = Some(view.entries().len());
        self.channels.status.send_modify(|status| status.entries = entries);
        self.view = view;
        self.publish();
    }
}

/// Says what is newly tainted, in the words that operators of SPIRE look for.
fn tell_of_taints(former: &View, view: &View) {
    let Some(own) = view.own_prepared() else { return };
    let former = former.own_prepared();
    let x509 = own.x509_authorities();
    let x509 = x509.newly_tainted(former.map(|former| former.x509_authorities()));
    let jwt = own.jwt_authorities();
    let jwt = jwt.newly_tainted(former.map(|former| former.jwt_authorities()));
    if !x509.is_empty() {
        info!(subject_key_ids = x509.join(","), "New tainted X.509 authorities found");
    }
    if !jwt.is_empty() {
        info!(jwt_authority_key_ids = jwt.join(","), "New tainted JWT authorities found");
    }
}

/// Whether the server has reason to answer.
fn may_ask(standing: Standing) -> bool {
    match standing {
        Standing::Attested | Standing::Refused(_) => true,
        Standing::Unattested | Standing::Expired | Standing::Banned => false,
    }
}

#[cfg(test)]
mod tests;
