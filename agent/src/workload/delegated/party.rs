//! A delegate, whom it asks for, and what those are entitled to at each moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use steeple::convert::selectors_from_proto;
use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;
use steeple_proto::spire::api::types;
use tracing::{info, warn};

use super::delegation::Lease;
use crate::attest::Attested;
use crate::attest::instance::Instance;
use crate::peer::Peer;
use crate::workload::WorkloadError;
use crate::workload::caller::{Caller, Entitlement, Lives, Party};

/// A caller that may ask for others.
#[derive(Debug)]
pub(super) struct Delegate {
    pub(super) caller: Caller,
    pub(super) delegates: Arc<BTreeSet<SpiffeId>>,
}

/// A delegate and whom it asks for.
#[derive(Debug)]
pub(super) struct Delegation {
    pub(super) delegate: Delegate,
    pub(super) subject: Found,
}

/// Whom a request asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Subject {
    /// Whoever has these selectors.
    Selectors(SelectorSet),
    /// The process with this number.
    Process(u32),
}

/// Whom a delegate asks for, as far as that is known.
#[derive(Debug)]
pub(super) enum Found {
    /// Whoever has some selectors.
    Delegation(Arc<Lease>),
    /// A process, pinned and attested.
    Process(Attested),
}

impl Subject {
    /// Reads a request: it names either one.
    pub(super) fn read(pid: i32, selectors: &[types::Selector]) -> Result<Self, WorkloadError> {
        match (pid, selectors) {
            (0, []) => Err(WorkloadError::NoSubject),
            (0, selectors) => Ok(Self::Selectors(
                selectors_from_proto(selectors).map_err(WorkloadError::Selectors)?,
            )),
            (pid, []) => u32::try_from(pid).map(Self::Process).or(Err(WorkloadError::NoSubject)),
            (_, _) => Err(WorkloadError::NoSubject),
        }
    }
}

impl Delegate {
    /// What the delegate itself is entitled to, which has to include the name of a delegate.
    pub(super) fn authorize(&self) -> Result<Entitlement, WorkloadError> {
        let own = self.caller.entitlement()?;
        if own.entries.iter().any(|entry| self.delegates.contains(&entry.content.spiffe_id)) {
            return Ok(own);
        }
        let pid = self.caller.attested().peer().pid();
        let id = own.entries.first().map(|entry| entry.content.spiffe_id.to_string());
        info!(pid, spiffe_id = id, "caller not configured as an authorized delegate");
        Err(WorkloadError::NotDelegate)
    }

    /// The process with this number, pinned from now on.
    pub(super) async fn process(&self, pid: u32) -> Result<Found, WorkloadError> {
        let peer = Peer::of_pid(pid).map_err(|error| {
            info!(pid, %error, "the process that a delegate asks for is not known");
            WorkloadError::Subject
        })?;
        let deps = &self.caller.deps;
        let attested = tokio::select! {
            attested = deps.attestors.attest(&peer) => attested,
            () = deps.stop.cancelled() => return Err(WorkloadError::Stopping),
        };
        attested.map(Found::Process).map_err(|error| {
            warn!(pid, %error, "workload attestation failed");
            WorkloadError::Subject
        })
    }
}

impl Delegation {
    /// What is known of the delegate, and of the process that it asks for, if it does.
    pub(super) fn known(&mut self) -> Vec<&mut Attested> {
        let delegate = self.delegate.caller.attested_mut();
        match &mut self.subject {
            Found::Delegation(_) => vec![delegate],
            Found::Process(subject) => vec![delegate, subject],
        }
    }
}

impl Party for Delegation {
    fn caller(&self) -> &Caller {
        &self.delegate.caller
    }

    fn instance(&self) -> &Instance {
        match &self.subject {
            Found::Delegation(lease) => lease.instance(),
            Found::Process(attested) => attested.instance(),
        }
    }

    fn selectors(&self) -> &SelectorSet {
        match &self.subject {
            Found::Delegation(lease) => lease.selectors(),
            Found::Process(attested) => attested.selectors(),
        }
    }

    fn lives(&self) -> Lives {
        let lives = Lives::of(self.caller().attested());
        match &self.subject {
            Found::Delegation(_) => lives,
            Found::Process(attested) => lives.and(attested),
        }
    }

    /// What the subject is entitled to, which may be nothing, while the delegate is one.
    fn entitlement(&self) -> Result<Entitlement, WorkloadError> {
        let mut own = self.delegate.authorize()?;
        own.entries = own.snapshot.matching(self.selectors(), own.at);
        own.entries.retain(|entry| !entry.content.admin && !entry.content.downstream);
        match &self.subject {
            // Not to know what a process is, is not to know that it is nobody.
            Found::Process(attested) if own.entries.is_empty() && !attested.gaps().is_empty() => {
                Err(WorkloadError::Subject)
            }
            Found::Process(_) | Found::Delegation(_) => Ok(own),
        }
    }
}

impl From<Arc<Lease>> for Found {
    fn from(lease: Arc<Lease>) -> Self {
        Self::Delegation(lease)
    }
}
