//! The targets, one file each.

pub(crate) mod cgroup;
pub(crate) mod filter;
pub(crate) mod id;
pub(crate) mod jwk;
pub(crate) mod jws;
pub(crate) mod mountinfo;
pub(crate) mod node;
pub(crate) mod svid;
