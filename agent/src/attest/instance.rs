//! What a credential is minted for: one run of one process, or of one container.

use std::fmt;

use tokio_util::sync::CancellationToken;

use super::cgroup::ContainerId;
use crate::peer::process::{Life, Process, ProcessId};
use crate::peer::{Peer, PeerError};

/// Which instance of a workload. Another run has another, even of the same container or with the
/// same process number.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum InstanceId {
    /// A process in no container that an attestor knows.
    Process(ProcessId),
    /// A run of a container, with all its processes.
    Container {
        /// The container, which keeps its ID when it is started again.
        id: ContainerId,
        /// Its first process, which is another one in each run.
        init: ProcessId,
    },
    /// What a delegate fetches for whoever has some selectors, where no process is named.
    Delegation {
        /// The delegate.
        delegate: ProcessId,
        /// Which of all delegations since the agent started.
        number: u64,
    },
}

/// A live instance. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Instance {
    id: InstanceId,
    /// Of the process that the instance lives and dies with.
    life: Life,
    /// Ends the instance before that.
    ended: Option<CancellationToken>,
    user: Option<u32>,
}

/// That a process is in a container, and what that rests on.
#[derive(Clone, Debug)]
pub struct Residence {
    container: ContainerId,
    init: Process,
    /// The process's `/proc/PID/cgroup` at that time.
    cgroup: Vec<u8>,
}

impl Instance {
    /// The instance that this process is, or is part of.
    pub(super) fn of(peer: &Peer, residence: Option<&Residence>) -> Self {
        match residence {
            None => Self {
                id: InstanceId::Process(peer.process_id()),
                life: peer.process().life().clone(),
                ended: None,
                user: Some(peer.uid()),
            },
            Some(residence) => Self {
                id: InstanceId::Container {
                    id: residence.container.clone(),
                    init: residence.init.id(),
                },
                life: residence.init.life().clone(),
                ended: None,
                user: None,
            },
        }
    }

    /// A process of this user, for tests of what instances hold.
    #[cfg(test)]
    pub(crate) fn of_process(process: &Process, user: u32) -> Self {
        let id = InstanceId::Process(process.id());
        Self { id, life: process.life().clone(), ended: None, user: Some(user) }
    }

    /// What a delegate fetches for others: it ends with the delegate, or when `ended` says so.
    pub(crate) fn delegated(delegate: &Peer, number: u64, ended: CancellationToken) -> Self {
        let id = InstanceId::Delegation { delegate: delegate.process_id(), number };
        let life = delegate.process().life().clone();
        Self { id, life, ended: Some(ended), user: Some(delegate.uid()) }
    }

    /// Whose process this is; `None` for a container, which is not of one user.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// Which instance this is.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.life.is_alive() && !self.ended.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Returns when it has ended: the process has exited, or the container's first process, with
    /// which a container ends; or a delegation is over.
    pub async fn ended(&self) {
        match &self.ended {
            None => self.life.exited().await,
            Some(ended) => tokio::select! {
                () = self.life.exited() => {}
                () = ended.cancelled() => {}
            },
        }
    }
}

impl Residence {
    pub(super) fn new(container: ContainerId, init: Process, cgroup: Vec<u8>) -> Self {
        Self { container, init, cgroup }
    }

    /// That of a process which is the first of a container, for tests of who asks for it.
    #[cfg(test)]
    pub(crate) fn of_init(init: &Process) -> Self {
        let line = format!("0::/docker/{}", "a".repeat(64));
        let lines = super::cgroup::parse(line.as_bytes()).unwrap();
        let named = super::container::of_cgroups(&lines).unwrap().remove(0);
        let cgroup = init.cgroup(<[u8]>::to_vec).unwrap();
        Self::new(named.container, init.clone(), cgroup)
    }

    /// Checks that the container runs and that the process has not left it since.
    pub(super) fn verify(&self, peer: &Peer) -> Result<(), PeerError> {
        if self.init.is_alive() && peer.process().cgroup(|cgroup| *cgroup == *self.cgroup)? {
            Ok(())
        } else {
            Err(PeerError::ContainerChanged)
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => write!(f, "process {process}"),
            Self::Container { id, init } => write!(f, "container {id}/{init}"),
            Self::Delegation { delegate, number } => write!(f, "delegation {delegate}/{number}"),
        }
    }
}
