//! The `docker` attestor: what the engine knows of the container that a process is in.
//!
//! | selector | from |
//! |---|---|
//! | `docker:label:NAME:VALUE` | the labels of the container and its image |
//! | `docker:image_id:REFERENCE` | the image as it was named when the container was made |
//! | `docker:image_config_digest:sha256:…` | the image itself |
//! | `docker:env:NAME=VALUE` | the container's environment, only names that the configuration lists |
//!
//! A process in no container of this engine has no such selectors, and that is not an error.
//!
//! # Why a workload cannot pass for another container
//!
//! The kernel says which cgroup a process is in, but the name of a cgroup is chosen by who makes
//! it. Any user with a cgroup of their own (each systemd session has one), and any container with
//! writable cgroups, can make one below it that is called like another container. And what
//! `/proc/PID/mountinfo` shows, whoever may mount can arrange: that takes no privilege in a user
//! namespace. So neither is evidence. They are read for IDs to ask the engine about, from the
//! innermost to the outermost, and an ID counts only if
//!
//! 1. the engine knows a running container of exactly that ID, and
//! 2. the process is in the same cgroup as that container's first process, whose number the engine
//!    gives: in each hierarchy, the paths up to and including the segment that bears the ID are
//!    equal. To bring a process there takes the right to write to the container's own cgroup.
//!
//! A name that fails is logged and passed over: a process that hides below a forged name is still
//! attested as the container around it.
//!
//! Mounts are heard only if the cgroup file says nothing, which happens to processes in the
//! agent's own cgroup when the agent is in a cgroup namespace that is not the machine's first. A
//! container named that way counts only if the process is in the same mount namespace as the
//! container's first process, and the agent is not.
//!
//! The container is the instance: all its processes share its keys, until its first process ends.
//! The agent must be in the PID namespace of the engine, or the numbers mean nothing and no
//! container is ever confirmed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use steeple::selector::Selector;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::cgroup::{self, ContainerId};
use super::container::{self, Candidate, LocateError};
use super::instance::Residence;
use super::interest::Interest;
use super::{AttestError, Findings, Grounds, WorkloadAttestor};
use crate::peer::proc::{Namespace, NamespaceId};
use crate::peer::process::Process;
use crate::peer::{Peer, PeerError};

pub mod engine;

use engine::{Engine, EngineError, Inspection};

/// The most containers that are remembered.
const MAX_KNOWN: usize = 512;

/// How many questions the engine is asked at a time.
const QUESTIONS: usize = 4;

/// How long an ID that the engine does not know is not asked about again. IDs are random, and an
/// engine knows a container before its cgroup exists.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// The keys of `type = "docker"`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DockerConfig {
    /// The engine's socket.
    #[serde(default = "default_socket")]
    pub socket_path: PathBuf,
    /// The environment variables that become selectors.
    #[serde(default)]
    pub env: Vec<String>,
    /// How long one attestation may take, in seconds.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u32,
}

fn default_socket() -> PathBuf {
    PathBuf::from("/var/run/docker.sock")
}

fn default_deadline() -> u32 {
    10
}

impl DockerConfig {
    /// The engine at its usual place, and no environment variables.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            socket_path: default_socket(),
            env: Vec::new(),
            deadline_seconds: default_deadline(),
        }
    }
}

/// Attests by container.
#[derive(Debug)]
pub struct Docker {
    engine: Engine,
    env: Vec<String>,
    answers: Mutex<HashMap<ContainerId, Answer>>,
    questions: Semaphore,
}

/// What the engine said about an ID.
#[derive(Clone, Debug)]
enum Answer {
    Running(Arc<Container>),
    Unknown { until: Instant },
}

/// A running container. What it is made of never changes, so this is true until its first process
/// ends.
#[derive(Debug)]
struct Container {
    id: ContainerId,
    selectors: Vec<Selector>,
    init: Process,
    cgroups: Vec<(u32, Vec<u8>)>,
    mounts: Option<NamespaceId>,
}

#[tonic::async_trait]
impl WorkloadAttestor for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn attest(&self, peer: &Peer) -> Result<Findings, AttestError> {
        let content = peer.process().cgroup(<[u8]>::to_vec)?;
        let (source, candidates) = candidates(peer, &content)?;
        let Some(container) = self.innermost(peer, &candidates).await? else {
            let nowhere = source == Source::Cgroups && candidates.is_empty();
            let grounds =
                nowhere.then_some(Grounds::Docker(Facts::NoContainer { cgroup: content }));
            return Ok(Findings { grounds, ..Findings::default() });
        };
        // The engine may have taken its time.
        let residence = Residence::new(container.id.clone(), container.init.clone(), content);
        residence.verify(peer)?;
        let innermost = candidates.last().is_some_and(|last| last.container == container.id);
        let certain = source == Source::Cgroups && innermost;
        let grounds = certain.then(|| Grounds::Docker(Facts::Resident(residence.clone())));
        let selectors = container.selectors.clone();
        Ok(Findings { selectors, residence: Some(residence), grounds, ..Findings::default() })
    }

    fn still_finds(&self, peer: &Peer, grounds: &Grounds, interest: Interest) -> bool {
        let Grounds::Docker(facts) = grounds else {
            return false;
        };
        if !interest.container {
            return true;
        }
        match facts {
            Facts::NoContainer { cgroup } => peer.process().cgroup(|now| now == cgroup) == Ok(true),
            Facts::Resident(residence) => residence.verify(peer).is_ok(),
        }
    }
}

/// What an answer rests on, if it rests on cgroups alone and on nothing that the engine may say
/// otherwise the next time.
#[derive(Debug)]
pub enum Facts {
    /// The process's `/proc/PID/cgroup`, which names none.
    NoContainer {
        /// All of it.
        cgroup: Vec<u8>,
    },
    /// The innermost that it names. What a container is made of never changes.
    Resident(Residence),
}

/// Where candidates are named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Cgroups,
    Mounts,
}

impl Docker {
    /// An attestor that asks this engine.
    #[must_use]
    pub fn new(config: &DockerConfig) -> Self {
        Self {
            engine: Engine::new(config.socket_path.clone()),
            env: config.env.clone(),
            answers: Mutex::default(),
            questions: Semaphore::new(QUESTIONS),
        }
    }

    /// The innermost of the candidates that is a running container and has the peer inside it.
    async fn innermost(
        &self,
        peer: &Peer,
        candidates: &[Candidate],
    ) -> Result<Option<Arc<Container>>, AttestError> {
        for candidate in candidates.iter().rev() {
            let Some(container) = self.container(&candidate.container).await? else {
                continue;
            };
            if container.holds(peer, candidate) {
                return Ok(Some(container));
            }
            let container = &container.id;
            warn!(pid = peer.pid(), uid = peer.uid(), %container,
                "a process bears the name of a container that it is not in");
        }
        Ok(None)
    }

    /// The running container of this ID; `None` if this engine has none.
    async fn container(&self, id: &ContainerId) -> Result<Option<Arc<Container>>, EngineError> {
        if let Some(known) = self.remembered(id) {
            return Ok(known);
        }
        let permit = self.questions.acquire().await;
        // Another may have asked in the meantime.
        if let Some(known) = self.remembered(id) {
            return Ok(known);
        }
        let inspection = self.engine.inspect(id).await?;
        drop(permit);
        let Some(inspection) = inspection else {
            self.remember(id, Answer::Unknown { until: Instant::now() + UNKNOWN_FOR });
            return Ok(None);
        };
        let container = Container::of(id, &inspection, &self.env).map(Arc::new);
        if let Some(container) = &container {
            self.remember(id, Answer::Running(container.clone()));
        }
        Ok(container)
    }

    fn remembered(&self, id: &ContainerId) -> Option<Option<Arc<Container>>> {
        match self.answers().get(id)? {
            Answer::Running(container) if container.init.is_alive() => {
                Some(Some(container.clone()))
            }
            Answer::Unknown { until } if Instant::now() < *until => Some(None),
            Answer::Running(_) | Answer::Unknown { .. } => None,
        }
    }

    fn remember(&self, id: &ContainerId, answer: Answer) {
        let mut answers = self.answers();
        if answers.len() >= MAX_KNOWN {
            let now = Instant::now();
            answers.retain(|_, answer| match answer {
                Answer::Running(container) => container.init.is_alive(),
                Answer::Unknown { until } => now < *until,
            });
        }
        if answers.len() >= MAX_KNOWN {
            // Unknown IDs first: a workload can make up any number of them.
            let unknown = |answer: &Answer| matches!(answer, Answer::Unknown { .. });
            let victim = answers.iter().find(|(_, answer)| unknown(answer)).map(|(id, _)| id);
            let victim = victim.or_else(|| answers.keys().next()).cloned();
            victim.and_then(|victim| answers.remove(&victim));
        }
        answers.insert(id.clone(), answer);
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<ContainerId, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container {
    /// The container, pinned by its first process; `None` if it does not run.
    fn of(id: &ContainerId, inspection: &Inspection, env: &[String]) -> Option<Self> {
        if !inspection.state.running || inspection.state.pid == 0 {
            return None;
        }
        let init = Process::open(inspection.state.pid).ok()?;
        let content = init.read(c"cgroup").ok()?;
        let lines = cgroup::parse(&content).ok()?;
        let named = container::of_cgroups(&lines).unwrap_or_default();
        let own = named.into_iter().find(|candidate| candidate.container == *id);
        let cgroups = own.map_or_else(Vec::new, |candidate| candidate.cgroups);
        let mounts = init.namespace(Namespace::Mount);
        let selectors = selectors(inspection, env);
        init.is_alive().then_some(Self { id: id.clone(), selectors, init, cgroups, mounts })
    }

    /// Whether the peer, of which `candidate` was read, is in this container.
    fn holds(&self, peer: &Peer, candidate: &Candidate) -> bool {
        if candidate.cgroups.is_empty() {
            let mounts = peer.process().namespace(Namespace::Mount);
            mounts.is_some() && mounts == self.mounts && mounts != Namespace::Mount.own()
        } else {
            candidate.cgroups == self.cgroups
        }
    }
}

/// The containers that the process may be in, from the outermost to the innermost.
fn candidates(peer: &Peer, content: &[u8]) -> Result<(Source, Vec<Candidate>), AttestError> {
    let lines = cgroup::parse(content).map_err(LocateError::from)?;
    let named = container::of_cgroups(&lines)?;
    let root_is_true = Namespace::Cgroup.own().is_none_or(NamespaceId::is_initial_cgroup);
    if !named.is_empty() || root_is_true || !container::is_hidden(&lines) {
        return Ok((Source::Cgroups, named));
    }
    let named = match peer.process().read(c"mountinfo") {
        Ok(mounts) => container::of_mounts(&mounts)?,
        Err(PeerError::Exited) => return Err(PeerError::Exited.into()),
        Err(error) => {
            debug!(pid = peer.pid(), %error, "mountinfo is unreadable");
            Vec::new()
        }
    };
    Ok((Source::Mounts, named))
}

fn selectors(inspection: &Inspection, env: &[String]) -> Vec<Selector> {
    let config = &inspection.config;
    let labels = config.labels.iter().flatten();
    let mut values: Vec<_> = labels.map(|(name, value)| format!("label:{name}:{value}")).collect();
    let listed = |variable: &&String| {
        variable.split_once('=').is_some_and(|(name, _)| env.iter().any(|listed| listed == name))
    };
    let variables = config.env.iter().flatten().filter(listed);
    values.extend(variables.map(|variable| format!("env:{variable}")));
    if !config.image.is_empty() {
        values.push(format!("image_id:{}", config.image));
    }
    if !inspection.image.is_empty() {
        values.push(format!("image_config_digest:{}", inspection.image));
    }
    let selector = |value: &String| {
        Selector::new("docker", value)
            .inspect_err(|error| debug!(%error, "a value of a container makes no selector"))
            .ok()
    };
    values.iter().filter_map(selector).collect()
}

#[cfg(test)]
mod tests;
