//! What a target is, and which there are.

use crate::targets::{cgroup, filter, id, jwk, jws, mountinfo, node, svid};

/// One property or several of one parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Panics if these bytes break a property.
    pub check: fn(&[u8]),
    /// Inputs to start from, each of which gets far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Texts that mean something to the parser.
    pub words: &'static [&'static str],
    /// The longest input that is worth trying.
    pub max_length: usize,
}

/// All of them.
pub const ALL: &[Target] = &[
    id::TARGET,
    jws::TARGET,
    jwk::TARGET,
    svid::TARGET,
    cgroup::TARGET,
    mountinfo::TARGET,
    filter::TARGET,
    node::TARGET,
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|target| target.name == name)
    }
}
