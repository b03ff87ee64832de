//! The `unix` attestor: who a process runs as, and which executable it runs.
//!
//! | selector | from |
//! |---|---|
//! | `unix:uid:N`, `unix:gid:N` | the effective user and group |
//! | `unix:user:NAME`, `unix:group:NAME` | their names, where they have one |
//! | `unix:supplementary_gid:N`, `unix:supplementary_group:NAME` | the supplementary groups |
//! | `unix:path:/PATH` | the executable, as the process sees it; where it was, if it was removed since |
//! | `unix:sha256:HEX` | the executable's content |
//!
//! The effective IDs count, as for every access check of the kernel, and they must be those that
//! the kernel noted when the process connected. A process that connects and then runs a
//! set-user-ID program would otherwise obtain, over a connection that others still hold, what that
//! program's owner is entitled to; and one that gave up its rights would keep them here.
//!
//! An executable that this agent may not read, because it runs without the right to trace other
//! users' processes, has no `path` and no `sha256`; the other selectors stand. Neither has
//!
//! - a process in another user namespace than the agent's: whoever makes one may mount there what
//!   they like where they like, and may set what `/proc/PID/exe` leads to;
//! - for `sha256`, a file on a FUSE file system, whose server may show each reader something else.
//!
//! `path` is only as strong as the right to write to that place, and neither tells programs of one
//! user apart if that user sets out to deceive: combine them with `uid` or a group.

use std::ffi::OsString;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use steeple::clock::Clock;
use steeple::selector::Selector;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::interest::Interest;
use super::{AttestError, Findings, Grounds, WorkloadAttestor};
use crate::peer::image::Executable;
use crate::peer::proc::Namespace;
use crate::peer::{Peer, PeerError, stat};

pub mod digest;
pub mod names;

use digest::{DigestError, Digests, SizeLimit};
use names::Names;

/// The most supplementary groups whose names are looked up.
const MAX_NAMED_GROUPS: usize = 256;

/// How long an attestation waits for a digest that is not known yet. Hashing goes on after that,
/// and the next one finds it.
const DIGEST_PATIENCE: Duration = Duration::from_secs(3);

/// The keys of `type = "unix"`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct UnixConfig {
    /// Whether there are `path` selectors.
    #[serde(default = "yes")]
    pub path: bool,
    /// Whether there are `sha256` selectors.
    #[serde(default = "yes")]
    pub sha256: bool,
    /// The largest executable that is hashed, in bytes; 0 for any size, less than 0 for none.
    #[serde(default = "default_size_limit")]
    pub workload_size_limit: i64,
    /// How long one attestation may take, in seconds.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u32,
}

fn yes() -> bool {
    true
}

fn default_size_limit() -> i64 {
    1 << 30
}

fn default_deadline() -> u32 {
    5
}

impl UnixConfig {
    /// Everything, of executables up to 1 GiB.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            path: true,
            sha256: true,
            workload_size_limit: default_size_limit(),
            deadline_seconds: default_deadline(),
        }
    }
}

/// Attests by user, group and executable.
#[derive(Debug)]
pub struct Unix {
    path: bool,
    digests: Option<Digests>,
    names: Names,
}

#[tonic::async_trait]
impl WorkloadAttestor for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    async fn attest(&self, peer: &Peer) -> Result<Findings, AttestError> {
        let credentials = peer.process().status(|status| stat::credentials(status).map(Box::from));
        let credentials: Box<[u8]> = credentials?.ok_or(PeerError::Malformed("status"))?;
        let status = stat::status(&credentials).ok_or(PeerError::Malformed("status"))?;
        if (status.uid, status.gid) != (peer.uid(), peer.gid()) {
            return Err(PeerError::CredentialsChanged.into());
        }
        let mut found = Findings::default();
        let until = self.who(&status, &mut found).await;
        let program = self.program(peer)?;
        let settled = self.what(peer, &program, &mut found).await;
        found.grounds = until
            .filter(|_| settled)
            .map(|until| Grounds::Unix(Facts { credentials, program, until }));
        Ok(found)
    }

    fn still_finds(&self, peer: &Peer, grounds: &Grounds, interest: Interest) -> bool {
        let Grounds::Unix(facts) = grounds else {
            return false;
        };
        let same = |status: &[u8]| stat::credentials(status) == Some(&*facts.credentials);
        // Its effective user and group are those that it connected with, or it is not that peer.
        Instant::now() < facts.until
            && (!interest.groups || peer.process().status(same) == Ok(true))
            && (!interest.program || self.is_still(&facts.program, peer))
    }
}

/// What was read of a process, and all that an answer rests on.
#[derive(Debug)]
pub struct Facts {
    /// The lines of its `status`.
    credentials: Box<[u8]>,
    program: Program,
    /// How long the names of its user and groups are good for.
    until: Instant,
}

/// The executable of a process, as it is now.
#[derive(Debug)]
enum Program {
    /// It is not for this agent to know, or to ask.
    Unknown,
    /// This file, at this path if the configuration asks for it.
    File(Executable, Option<OsString>),
}

impl Unix {
    /// An attestor with these keys.
    #[must_use]
    pub fn new(config: &UnixConfig, clock: Arc<dyn Clock>) -> Self {
        let limit = SizeLimit::of(config.workload_size_limit).filter(|_| config.sha256);
        Self {
            path: config.path,
            digests: limit.map(|limit| Digests::new(limit, clock)),
            names: Names::new(names::system),
        }
    }

    /// Says until when that is so; `None` if not all of it could be found out.
    async fn who(&self, status: &stat::Status, found: &mut Findings) -> Option<Instant> {
        let named = status.groups.get(..MAX_NAMED_GROUPS).unwrap_or(&status.groups);
        let names = self.names.of(status.uid, status.gid, named).await;
        if names.is_incomplete() {
            found.gaps.push("unix:user");
        }
        push(found, "uid", status.uid);
        push(found, "gid", status.gid);
        names.user(status.uid).into_iter().for_each(|name| push(found, "user", name));
        names.group(status.gid).into_iter().for_each(|name| push(found, "group", name));
        for gid in &status.groups {
            push(found, "supplementary_gid", gid);
            let name = names.group(*gid).into_iter();
            name.for_each(|name| push(found, "supplementary_group", name));
        }
        names.good_until()
    }

    fn program(&self, peer: &Peer) -> Result<Program, PeerError> {
        if !self.path && self.digests.is_none() {
            return Ok(Program::Unknown);
        }
        if !is_in_own_user_namespace(peer) {
            debug!(pid = peer.pid(), "no executable is read in another user namespace");
            return Ok(Program::Unknown);
        }
        let Some(executable) = peer.executable()? else {
            debug!(pid = peer.pid(), "the executable is not for this agent to read");
            return Ok(Program::Unknown);
        };
        let path = if self.path { Some(executable.path()?) } else { None };
        Ok(Program::File(executable, path))
    }

    fn is_still(&self, program: &Program, peer: &Peer) -> bool {
        match program {
            Program::Unknown => matches!(self.program(peer), Ok(Program::Unknown)),
            Program::File(executable, path) => {
                is_in_own_user_namespace(peer) && peer.still_runs(executable, path.as_deref())
            }
        }
    }

    /// Says whether the same program will always be found to be the same.
    async fn what(&self, peer: &Peer, program: &Program, found: &mut Findings) -> bool {
        let Program::File(executable, path) = program else {
            return true;
        };
        match path.as_ref().map(|path| (path, path.to_str())) {
            Some((_, Some(path))) => push(found, "path", path),
            Some((path, None)) => debug!(pid = peer.pid(), ?path, "a path that is not UTF-8"),
            None => {}
        }
        let Some(digests) = &self.digests else {
            return true;
        };
        digest(digests, peer, executable.clone(), found).await;
        digests.remembers(&executable.stamp())
    }
}

fn is_in_own_user_namespace(peer: &Peer) -> bool {
    let users = peer.process().namespace(Namespace::User);
    users.is_some() && users == Namespace::User.own()
}

async fn digest(digests: &Digests, peer: &Peer, executable: Executable, found: &mut Findings) {
    let pid = peer.pid();
    match tokio::time::timeout(DIGEST_PATIENCE, digests.of(peer.uid(), executable)).await {
        Ok(Ok(digest)) => push(found, "sha256", digest),
        Ok(Err(error @ (DigestError::Changed | DigestError::Broken | DigestError::Read(_)))) => {
            warn!(pid, %error, "an executable was not hashed");
            found.gaps.push("unix:sha256");
        }
        Ok(Err(error @ (DigestError::TooLarge(_) | DigestError::UserSpace))) => {
            debug!(pid, %error, "an executable is not hashed");
        }
        Err(_elapsed) => {
            warn!(pid, "hashing an executable takes long");
            found.gaps.push("unix:sha256");
        }
    }
}

fn push(found: &mut Findings, key: &str, value: impl Display) {
    match Selector::new("unix", &format!("{key}:{value}")) {
        Ok(selector) => found.selectors.push(selector),
        Err(error) => debug!(key, %error, "a value makes no selector"),
    }
}

#[cfg(test)]
mod tests;
