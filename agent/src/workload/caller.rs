//! The caller of one request: attested, and what it is entitled to at each moment.

use std::sync::Arc;

use steeple::clock::unix_seconds;
use steeple::entry::Entry;
use steeple::selector::SelectorSet;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Extensions;
use tracing::{info, warn};

use super::{Deps, Verifiers, WorkloadError};
use crate::attest::instance::Instance;
use crate::attest::interest::Interest;
use crate::attest::{AttestError, Attested};
use crate::identity::Snapshot;
use crate::peer::{Peer, PeerError};

/// An attested caller.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) deps: Arc<Deps>,
    attested: Attested,
}

/// What a caller is entitled to at one moment.
#[derive(Debug)]
pub(super) struct Entitlement {
    pub(super) snapshot: Arc<Snapshot>,
    /// The first is the default identity. A workload has at least one, and who only verifies others
    /// may have none.
    pub(super) entries: Vec<Arc<Entry>>,
    /// That moment, in seconds since 1970.
    pub(super) at: i64,
}

/// On whose behalf something is served: a caller for itself, or for somebody else.
pub(super) trait Party: Sync {
    /// Who calls.
    fn caller(&self) -> &Caller;

    /// What credentials are minted for.
    fn instance(&self) -> &Instance;

    /// What is known of whom they are for.
    fn selectors(&self) -> &SelectorSet;

    /// Who has to live on while an answer is under way.
    fn lives(&self) -> Lives;

    /// What it is entitled to now.
    fn entitlement(&self) -> Result<Entitlement, WorkloadError>;
}

/// Who has to live on, and to remain what it was found to be: the caller, and perhaps a process
/// that it asks for.
#[derive(Clone, Debug)]
pub(super) struct Lives {
    caller: Attested,
    subject: Option<Attested>,
}

impl Caller {
    /// Finds out what the peer of a request is.
    pub(super) async fn attest(
        deps: &Arc<Deps>,
        request: &Extensions,
    ) -> Result<Self, WorkloadError> {
        let peer = peer(request)?;
        Self::found(deps, peer, deps.attestors.attest(peer)).await
    }

    /// Finds out what the peer of a request is, as far as that is of `interest`. Nothing may rest on
    /// it before [`Lives::still_hold`] says that it is so.
    pub(super) async fn attest_for(
        deps: &Arc<Deps>,
        request: &Extensions,
        interest: Interest,
    ) -> Result<Self, WorkloadError> {
        let peer = peer(request)?;
        Self::found(deps, peer, deps.attestors.attest_for(peer, interest)).await
    }

    async fn found(
        deps: &Arc<Deps>,
        peer: &Peer,
        attesting: impl Future<Output = Result<Attested, AttestError>>,
    ) -> Result<Self, WorkloadError> {
        let attested = tokio::select! {
            // Most are known already, and then nobody waits.
            biased;
            attested = attesting => attested,
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
        self.entitled(Verifiers::Registered)
    }

    /// What the caller's bundles depend on now: perhaps no entry, and then it is entitled to that of
    /// the own trust domain alone.
    pub(super) fn entitlement_to_bundles(&self) -> Result<Entitlement, WorkloadError> {
        self.entitled(self.deps.verifiers)
    }

    fn entitled(&self, verifiers: Verifiers) -> Result<Entitlement, WorkloadError> {
        let snapshot = self.deps.snapshot.borrow().clone();
        let snapshot = snapshot.ok_or(WorkloadError::NotSynchronised)?;
        if !self.attested.interest().covers(snapshot.interest()) {
            return Err(WorkloadError::Unread);
        }
        let now = unix_seconds(self.deps.clock.now());
        let entries = snapshot.entitled(self.attested.selectors(), now);
        // Who is not known well enough may be entitled to more than nobody is.
        let is_nobody = entries.is_empty() && self.attested.gaps().is_empty();
        if !entries.is_empty() || (is_nobody && verifiers == Verifiers::Anybody) {
            return Ok(Entitlement { snapshot, entries, at: now });
        }
        let (pid, uid) = (self.attested.peer().pid(), self.attested.peer().uid());
        if is_nobody {
            let selectors = self.attested.selectors();
            if let Some(left_out) = self.deps.complaints.admit(uid, Instant::now()) {
                // How many of this user were not logged since the last that was.
                let left_out = (left_out > 0).then_some(left_out);
                // The one reason that is not in the entries.
                let banned = snapshot.is_of_banned_node().then_some(true);
                let registered = false;
                info!(pid, uid, registered, banned, ?selectors, left_out, "No identity issued");
            }
            return Err(match snapshot.is_of_banned_node() {
                true => WorkloadError::Banned,
                false => WorkloadError::NoIdentity,
            });
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

    pub(super) fn attested_mut(&mut self) -> &mut Attested {
        &mut self.attested
    }

    pub(super) fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.deps.snapshot.clone()
    }
}

impl Party for Caller {
    fn caller(&self) -> &Caller {
        self
    }

    fn instance(&self) -> &Instance {
        self.attested.instance()
    }

    fn selectors(&self) -> &SelectorSet {
        self.attested.selectors()
    }

    fn lives(&self) -> Lives {
        Lives::of(&self.attested)
    }

    fn entitlement(&self) -> Result<Entitlement, WorkloadError> {
        Self::entitlement(self)
    }
}

impl Lives {
    /// Of a caller.
    pub(super) fn of(caller: &Attested) -> Self {
        Self { caller: caller.clone(), subject: None }
    }

    /// And of the process that it asks for.
    pub(super) fn and(self, subject: &Attested) -> Self {
        Self { subject: Some(subject.clone()), ..self }
    }

    /// Returns when one of them has ended, and says what that means.
    pub(super) async fn end(&self) -> WorkloadError {
        let subject_exited = async {
            match &self.subject {
                Some(subject) => subject.peer().exited().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.caller.peer().exited() => PeerError::Exited.into(),
            () = subject_exited => WorkloadError::SubjectEnded,
        }
    }

    /// Checks that all still are what they were found to be. Right before an answer leaves.
    pub(super) fn still_hold(&self) -> Result<(), WorkloadError> {
        let told = |error: &PeerError| {
            info!(pid = self.caller.peer().pid(), %error, "caller refused");
        };
        self.caller.still_holds().inspect_err(told)?;
        match self.subject.as_ref().map(Attested::still_holds) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(WorkloadError::SubjectEnded),
        }
    }
}

/// Who has sent a request: the endpoint pins every peer at accept.
pub(super) fn peer(request: &Extensions) -> Result<&Peer, WorkloadError> {
    request.get().ok_or(WorkloadError::Attestation)
}
