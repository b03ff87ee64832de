//! The caller of one request: attested, and what it is entitled to at each moment.

use std::sync::Arc;

use steeple::clock::unix_seconds;
use steeple::entry::Entry;
use tokio::sync::watch;
use tonic::Extensions;
use tracing::{info, warn};

use super::{Deps, WorkloadError};
use crate::attest::{AttestError, Attested};
use crate::identity::Snapshot;
use crate::peer::{Peer, PeerError};

/// An attested caller.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) deps: Deps,
    attested: Attested,
}

/// What a caller is entitled to at one moment.
#[derive(Debug)]
pub(super) struct Entitlement {
    pub(super) snapshot: Arc<Snapshot>,
    /// At least one; the first is the default identity.
    pub(super) entries: Vec<Arc<Entry>>,
    /// That moment, in seconds since 1970.
    at: i64,
}

impl Caller {
    /// Finds out what the peer of a request is.
    pub(super) async fn attest(deps: &Deps, request: &Extensions) -> Result<Self, WorkloadError> {
        // The endpoint pins every peer at accept.
        let peer = request.get::<Peer>().ok_or(WorkloadError::Attestation)?;
        let attested = tokio::select! {
            attested = deps.attestors.attest(peer) => attested,
            () = deps.stop.cancelled() => return Err(WorkloadError::Stopping),
        };
        match attested {
            Ok(attested) => Ok(Self { deps: deps.clone(), attested }),
            Err(AttestError::Peer(error)) => {
                info!(pid = peer.pid(), %error, "caller refused");
                Err(error.into())
            }
            Err(
                error @ (AttestError::Deadline(_)
                | AttestError::Panicked
                | AttestError::Engine(_)
                | AttestError::Locate(_)
                | AttestError::Nobody),
            ) => {
                warn!(pid = peer.pid(), %error, "workload attestation failed");
                Err(WorkloadError::Attestation)
            }
        }
    }

    /// What the caller is entitled to now.
    pub(super) fn entitlement(&self) -> Result<Entitlement, WorkloadError> {
        let snapshot = self.deps.snapshot.borrow().clone();
        let snapshot = snapshot.ok_or(WorkloadError::NotSynchronised)?;
        let now = unix_seconds(self.deps.clock.now());
        let entries = snapshot.entitled(self.attested.selectors(), now);
        if !entries.is_empty() {
            return Ok(Entitlement { snapshot, entries, at: now });
        }
        let (pid, uid) = (self.attested.peer().pid(), self.attested.peer().uid());
        if self.attested.gaps().is_empty() {
            let selectors = self.attested.selectors();
            info!(pid, uid, registered = false, ?selectors, "No identity issued");
            return Err(WorkloadError::NoIdentity);
        }
        warn!(pid, uid, gaps = ?self.attested.gaps(), "not enough is known of the caller");
        Err(WorkloadError::Attestation)
    }

    /// Whether what the caller was entitled to at some moment is what it is entitled to now: entries
    /// come and go with a new view, or at a full second.
    pub(super) fn is_current(&self, entitlement: &Entitlement) -> bool {
        let same = |snapshot: &Arc<Snapshot>| Arc::ptr_eq(snapshot, &entitlement.snapshot);
        entitlement.at == unix_seconds(self.deps.clock.now())
            && self.deps.snapshot.borrow().as_ref().is_some_and(same)
    }

    pub(super) fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Checks that the caller still is what it was found to be. Right before an answer leaves.
    pub(super) fn still_holds(&self) -> Result<(), PeerError> {
        self.attested.still_holds()
    }

    pub(super) fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.deps.snapshot.clone()
    }
}
