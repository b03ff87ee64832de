//! Whose certificates are looked at when somebody connects: those of the own trust domain, and of
//! the domains that administrators may come from. All others are refused with the handshake.

use std::collections::BTreeSet;
use std::sync::Arc;

use steeple::bundle::Bundles;
use steeple::id::TrustDomain;
use steeple::tasks::Tasks;
use steeple::x509::verify::AnchorSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use crate::config::Config;
use crate::registry::Registry;

/// The anchors, which follow the bundles in the registry.
pub(super) fn watch(
    registry: &Registry,
    config: &Config,
    tasks: &Tasks,
) -> watch::Receiver<Arc<AnchorSet>> {
    let admins = config.admin_ids.iter().map(|id| id.trust_domain().clone());
    let follower = Follower {
        admitted: admins.chain([config.trust_domain.clone()]).collect(),
        registry: registry.clone(),
    };
    let bundles = follower.bundles();
    let (sender, anchors) = watch::channel(Arc::new(AnchorSet::from_bundles(&bundles)));
    tasks.spawn(info_span!("anchors"), |stop| follower.run(bundles, sender, stop));
    anchors
}

struct Follower {
    admitted: BTreeSet<TrustDomain>,
    registry: Registry,
}

impl Follower {
    async fn run(
        self,
        mut known: Bundles,
        anchors: watch::Sender<Arc<AnchorSet>>,
        stop: CancellationToken,
    ) {
        let mut revisions = self.registry.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = revisions.changed() => if changed.is_err() { return },
            }
            let bundles = self.bundles();
            if !is_same(&bundles, &known) {
                anchors.send_replace(Arc::new(AnchorSet::from_bundles(&bundles)));
                known = bundles;
            }
        }
    }

    fn bundles(&self) -> Bundles {
        let find = |name: &TrustDomain| Some((name.clone(), self.registry.bundle(name)?));
        self.admitted.iter().filter_map(find).collect()
    }
}

/// Whether these are the very same bundles, whatever else was written.
fn is_same(a: &Bundles, b: &Bundles) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
}
