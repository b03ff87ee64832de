//! What the Steeple agent and server must agree on.
//!
//! Identities ([`id`], [`selector`]), and the
//! plumbing that both binaries share ([`clock`], [`tasks`], [`atomic_file`], …). Nothing here
//! listens, loops or decides policy.
#![warn(missing_docs)]

pub mod atomic_file;
pub mod backoff;
pub mod bundle;
pub mod clock;
pub mod entry;
pub mod id;
pub mod json;
pub mod selector;
pub mod tasks;
