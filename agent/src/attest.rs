//! What a process is: asks every attestor what is known of a [`Peer`], and puts the answers
//! together.
//!
//! An attestor never learns anything of a caller but its [`Peer`], and knows nothing of entries or
//! identities. All are asked at once, each with a deadline of its own; one that fails, hangs or
//! panics is logged and takes nothing from the others. What comes out, [`Attested`], holds as long
//! as [`Attested::still_holds`] says so, which must be asked once more right before an answer
//! leaves.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::Deserialize;
use steeple::clock::Clock;
use steeple::selector::{Selector, SelectorSet};
use thiserror::Error;
use tracing::{debug, warn};

use crate::peer::{Peer, PeerError};

pub mod cgroup;
pub mod container;
pub mod docker;
pub mod instance;
pub mod interest;
pub mod mountinfo;
pub mod unix;

use docker::engine::EngineError;
use docker::{Docker, DockerConfig};
use instance::{Instance, Residence};
use interest::Interest;
use unix::{Unix, UnixConfig};

/// One way to find out what a process is.
#[tonic::async_trait]
pub trait WorkloadAttestor: std::fmt::Debug + Send + Sync {
    /// The type of its selectors.
    fn name(&self) -> &'static str;

    /// Reads what is known of `peer`. No selectors is an answer; an error is not knowing.
    ///
    /// It must not block the thread for longer than the kernel takes to answer from memory, and
    /// may be dropped at any await.
    async fn attest(&self, peer: &Peer) -> Result<Findings, AttestError>;

    /// Reads all of `peer` anew that an earlier answer rests on, as far as it is of `interest`, and
    /// says whether that would be the same now. False is not knowing: the attestor is asked again.
    /// It must not block the thread for longer than the kernel takes to answer from memory.
    fn still_finds(&self, _peer: &Peer, _grounds: &Grounds, _interest: Interest) -> bool {
        false
    }
}

/// What the answer of an attestor rests on.
#[derive(Debug)]
pub enum Grounds {
    /// Of the `unix` attestor.
    Unix(unix::Facts),
    /// Of the `docker` attestor.
    Docker(docker::Facts),
}

/// What one attestor found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is true of the process.
    pub selectors: Vec<Selector>,
    /// The container that it is in.
    pub residence: Option<Residence>,
    /// What could not be found out this time, and may be the next, such as `unix:sha256`.
    pub gaps: Vec<&'static str>,
    /// What this rests on, if [`WorkloadAttestor::still_finds`] can tell; such an answer has no
    /// gaps.
    pub grounds: Option<Grounds>,
}

/// Why it is not known what a process is.
#[derive(Debug, Error)]
pub enum AttestError {
    /// The process is gone, or not what it was.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The attestor took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The attestor has a defect.
    #[error("the attestor panicked")]
    Panicked,
    /// The container runtime gave no answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the kernel says of containers makes no sense.
    #[error(transparent)]
    Locate(#[from] container::LocateError),
    /// No attestor had an answer.
    #[error("every attestor failed")]
    Nobody,
}

/// The configuration of one attestor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AttestorConfig {
    /// Users, groups and the executable, from the kernel.
    Unix(UnixConfig),
    /// The container, from a Docker engine.
    Docker(DockerConfig),
}

impl AttestorConfig {
    /// The attestors of an agent whose configuration names none.
    #[must_use]
    pub fn standard() -> Vec<Self> {
        vec![Self::Unix(UnixConfig::standard()), Self::Docker(DockerConfig::standard())]
    }

    /// The attestor.
    #[must_use]
    pub fn build(&self, clock: Arc<dyn Clock>) -> Arc<dyn WorkloadAttestor> {
        match self {
            Self::Unix(config) => Arc::new(Unix::new(config, clock)),
            Self::Docker(config) => Arc::new(Docker::new(config)),
        }
    }

    /// How long one attestation may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Unix(config) => config.deadline_seconds.into(),
            Self::Docker(config) => config.deadline_seconds.into(),
        })
    }
}

/// All attestors of this agent.
#[derive(Clone, Debug)]
pub struct Attestors(Arc<[(Arc<dyn WorkloadAttestor>, Duration)]>);

/// What a process was found to be, and what that rests on. Clones rest on the same.
#[derive(Clone, Debug)]
pub struct Attested {
    peer: Peer,
    evidence: Arc<Evidence>,
    interest: Interest,
}

#[derive(Debug)]
struct Evidence {
    selectors: SelectorSet,
    instance: Instance,
    residence: Option<Residence>,
    gaps: Vec<&'static str>,
}

/// What is remembered of a peer from one request to the next, if all attestors can tell whether
/// they would find it again.
#[derive(Debug)]
struct Memory {
    attestors: Attestors,
    /// Of each attestor, in their order.
    grounds: Vec<Grounds>,
    evidence: Arc<Evidence>,
}

/// Whether the log says which attestors failed.
#[derive(Clone, Copy, Debug)]
enum Failures {
    Told,
    Known,
}

impl Attestors {
    /// These attestors, each with its deadline.
    #[must_use]
    pub fn new(attestors: Vec<(Arc<dyn WorkloadAttestor>, Duration)>) -> Self {
        Self(attestors.into())
    }

    /// The configured attestors.
    #[must_use]
    pub fn of_config(configs: &[AttestorConfig], clock: &Arc<dyn Clock>) -> Self {
        let built = |config: &AttestorConfig| (config.build(clock.clone()), config.deadline());
        Self::new(configs.iter().map(built).collect())
    }

    /// What `peer` is. The process was alive all the while, and after the last attestor had answered
    /// it was what it was when it was accepted.
    ///
    /// # Errors
    /// [`AttestError::Peer`] if the process is not what it was when it was accepted: such a
    /// connection is of no more use. [`AttestError::Nobody`] if no attestor had an answer.
    pub async fn attest(&self, peer: &Peer) -> Result<Attested, AttestError> {
        let attested = self.attest_for(peer, Interest::ALL).await?;
        peer.verify()?;
        Ok(attested)
    }

    /// What `peer` is, as far as that is of `interest`: the rest may have changed since an earlier
    /// request of its connection. Whether all the while it was what it was when it was accepted,
    /// [`Attested::still_holds`] says, without which nothing may rest on this.
    ///
    /// # Errors
    /// Those of [`Self::attest`].
    pub async fn attest_for(
        &self,
        peer: &Peer,
        interest: Interest,
    ) -> Result<Attested, AttestError> {
        if let Some(evidence) = self.recognise(peer, interest) {
            return Ok(Attested { peer: peer.clone(), evidence, interest });
        }
        let evidence = self.investigate(peer, Failures::Told).await?;
        Ok(Attested { peer: peer.clone(), evidence, interest: Interest::ALL })
    }

    /// What `peer` is, for who was told already that an attestor failed: nobody is told again.
    ///
    /// # Errors
    /// Those of [`Self::attest`].
    pub async fn attest_again(&self, peer: &Peer) -> Result<Attested, AttestError> {
        let evidence = self.investigate(peer, Failures::Known).await?;
        peer.verify()?;
        Ok(Attested { peer: peer.clone(), evidence, interest: Interest::ALL })
    }

    /// What was found out about the peer for an earlier request of its connection, if each attestor
    /// has looked and would find the same.
    fn recognise(&self, peer: &Peer, interest: Interest) -> Option<Arc<Evidence>> {
        let memory = peer.recall::<Memory>().filter(|memory| memory.is_of(self))?;
        let mut asked = self.0.iter().zip(&memory.grounds);
        let same = |(attestor, grounds): (&(Arc<dyn WorkloadAttestor>, _), _)| {
            attestor.0.still_finds(peer, grounds, interest)
        };
        asked.all(same).then(|| memory.evidence.clone())
    }

    async fn investigate(
        &self,
        peer: &Peer,
        failures: Failures,
    ) -> Result<Arc<Evidence>, AttestError> {
        let answers = join_all(self.0.iter().map(|(attestor, deadline)| async {
            (attestor.name(), ask(&**attestor, peer, *deadline).await)
        }));
        let mut merged = Findings::default();
        let mut answered = self.0.is_empty();
        let mut grounds = Vec::new();
        for (attestor, answer) in answers.await {
            match answer {
                Ok(findings) => {
                    answered = true;
                    merged.selectors.extend(findings.selectors);
                    merged.gaps.extend(findings.gaps);
                    merged.residence = merged.residence.or(findings.residence);
                    grounds.extend(findings.grounds);
                }
                Err(error) => {
                    // What was seen of a process that changed may be of either.
                    peer.verify()?;
                    failures.tell(attestor, peer, &error);
                    merged.gaps.push(attestor);
                }
            }
        }
        if !answered {
            return Err(AttestError::Nobody);
        }
        let evidence = Arc::new(Evidence::new(peer, merged));
        if grounds.len() == self.0.len() {
            let (attestors, evidence) = (self.clone(), evidence.clone());
            peer.remember(Arc::new(Memory { attestors, grounds, evidence }));
        }
        Ok(evidence)
    }
}

impl Failures {
    fn tell(self, attestor: &str, peer: &Peer, error: &(dyn Error + 'static)) {
        let pid = peer.pid();
        match self {
            Self::Told => warn!(attestor, pid, error, "an attestor failed"),
            Self::Known => debug!(attestor, pid, error, "an attestor failed again"),
        }
    }
}

impl Memory {
    fn is_of(&self, attestors: &Attestors) -> bool {
        Arc::ptr_eq(&self.attestors.0, &attestors.0)
    }
}

/// One attestor's answer, if it comes in time.
async fn ask(
    attestor: &dyn WorkloadAttestor,
    peer: &Peer,
    deadline: Duration,
) -> Result<Findings, AttestError> {
    let answer = AssertUnwindSafe(attestor.attest(peer)).catch_unwind();
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => Err(AttestError::Panicked),
        Err(_elapsed) => Err(AttestError::Deadline(deadline)),
    }
}

impl Evidence {
    fn new(peer: &Peer, findings: Findings) -> Self {
        Self {
            selectors: findings.selectors.into_iter().collect(),
            instance: Instance::of(peer, findings.residence.as_ref()),
            residence: findings.residence,
            gaps: findings.gaps,
        }
    }
}

impl Attested {
    /// The process.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What is true of it.
    #[must_use]
    pub fn selectors(&self) -> &SelectorSet {
        &self.evidence.selectors
    }

    /// What of that was true when it was attested; the rest was once.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// What credentials are minted for.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.evidence.instance
    }

    /// What could not be found out, and may be the next time. A process that matches no entry
    /// while there are gaps is not one that has no identity: it should ask again.
    #[must_use]
    pub fn gaps(&self) -> &[&'static str] {
        &self.evidence.gaps
    }

    /// Checks that all of this is true still: that the process lives and is the same, runs the
    /// same executable as the same user and group, and is in the same container, which runs.
    pub fn still_holds(&self) -> Result<(), PeerError> {
        let residence = self.evidence.residence.as_ref();
        let resident = residence.map_or(Ok(()), |residence| residence.verify(&self.peer));
        // Last, and with precedence: it tells a process that is gone from one that has moved.
        self.peer.verify()?;
        resident
    }
}

#[cfg(test)]
mod tests;
