//! Which containers a process may be in, from what `/proc` says of it; performs no I/O.
//!
//! What comes out are candidates, from the outermost container to the innermost. Only the runtime
//! can say which of them is a container, and only a comparison with that container's own process
//! that this one is inside it: see [`crate::attest::docker`].

use thiserror::Error;

use super::cgroup::{self, ContainerId, Membership, Named, PodUid};
use super::mountinfo;

/// The most candidates that are looked into. Whoever is in a container may nest cgroups of any
/// name below it, so the outermost are kept.
const MAX_CANDIDATES: usize = 4;

/// A container that a process may be in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// The container.
    pub container: ContainerId,
    /// The Kubernetes pod that it is in.
    pub pod: Option<PodUid>,
    /// The cgroups that bear its name, by hierarchy. Empty if only mounts speak of it.
    pub cgroups: Vec<(u32, Vec<u8>)>,
}

/// Why what `/proc` says of a process makes no sense.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LocateError {
    /// The hierarchies name containers of which neither is inside the other.
    #[error("the process's cgroups name both container {0} and container {1}")]
    Containers(ContainerId, ContainerId),
    /// The hierarchies name one container in two pods.
    #[error("the process's cgroups name both pod {0} and pod {1}")]
    Pods(PodUid, PodUid),
    /// The cgroup file cannot be read.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// The mountinfo file cannot be read.
    #[error(transparent)]
    Mountinfo(#[from] mountinfo::MountinfoError),
}

/// The containers that a process's cgroups name, from the outermost to the innermost.
///
/// Hierarchies that name none have nothing to say: in hybrid mode, and with one hierarchy mounted
/// and another not, that is the usual case. If some speak of pods, the others are not heard: a
/// node that is itself a container shows through in them. Of the rest, each must name the same
/// containers, or go less deep.
pub fn of_cgroups(memberships: &[Membership<'_>]) -> Result<Vec<Candidate>, LocateError> {
    let lines = memberships.iter().map(|line| (Some(line.hierarchy), line.path));
    merge(lines.map(|(hierarchy, path)| (hierarchy, path, cgroup::containers(path))).collect())
}

/// The containers that a process's mounts name. A hint, not evidence: a workload can forge it.
pub fn of_mounts(content: &[u8]) -> Result<Vec<Candidate>, LocateError> {
    let roots = mountinfo::cgroup_roots(content)?;
    merge(roots.iter().map(|root| (None, &**root, cgroup::containers(root))).collect())
}

/// Whether the cgroup file says nothing: the process is at the root of this agent's own cgroup
/// namespace in every hierarchy, and what is above it cannot be seen.
#[must_use]
pub fn is_hidden(memberships: &[Membership<'_>]) -> bool {
    memberships.iter().all(|line| line.path == b"/")
}

type Line<'a> = (Option<u32>, &'a [u8], Vec<Named>);

fn merge(mut lines: Vec<Line<'_>>) -> Result<Vec<Candidate>, LocateError> {
    lines.retain(|(_, _, named)| !named.is_empty());
    let has_pod = |line: &Line<'_>| line.2.iter().any(|named| named.pod.is_some());
    if lines.iter().any(has_pod) {
        lines.retain(has_pod);
    }
    for (_, _, named) in &mut lines {
        keep_outermost(named);
    }
    // The deepest line first, and the first of those in the file.
    lines.sort_by_key(|(_, _, named)| std::cmp::Reverse(named.len()));
    let mut candidates: Vec<Candidate> = Vec::new();
    for (hierarchy, path, named) in lines {
        if candidates.is_empty() {
            candidates = named.iter().map(Candidate::of).collect();
        }
        for (candidate, named) in candidates.iter_mut().zip(&named) {
            candidate.add(hierarchy, path, named)?;
        }
    }
    candidates.truncate(MAX_CANDIDATES);
    Ok(candidates)
}

/// A container's cgroup is the outermost that bears its name; others of that name are made by it.
fn keep_outermost(named: &mut Vec<Named>) {
    let mut seen: Vec<ContainerId> = Vec::new();
    named.retain(|named| {
        let new = !seen.contains(&named.container) && seen.len() < MAX_CANDIDATES;
        seen.extend(new.then(|| named.container.clone()));
        new
    });
}

impl Candidate {
    fn of(named: &Named) -> Self {
        Self { container: named.container.clone(), pod: named.pod.clone(), cgroups: Vec::new() }
    }

    fn add(
        &mut self,
        hierarchy: Option<u32>,
        path: &[u8],
        named: &Named,
    ) -> Result<(), LocateError> {
        match (&self.pod, &named.pod) {
            (Some(first), Some(second)) if first != second => {
                return Err(LocateError::Pods(first.clone(), second.clone()));
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(pod)) => self.pod = Some(pod.clone()),
        }
        if self.container != named.container {
            let (first, second) = (self.container.clone(), named.container.clone());
            return Err(LocateError::Containers(first, second));
        }
        if let Some(hierarchy) = hierarchy {
            let cgroup = path.get(..named.end).unwrap_or(path).to_vec();
            self.cgroups.push((hierarchy, cgroup));
            self.cgroups.sort_unstable();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
