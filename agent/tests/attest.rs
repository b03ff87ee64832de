//! Callers and what they are, with real processes, cgroups, namespaces and a real Docker engine.
//!
//! The processes are this very program, started anew as a puppet (see `puppet`).

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]
#![expect(clippy::indexing_slicing, reason = "a test may fail")]

#[path = "attest/again.rs"]
mod again;
#[path = "attest/cgroups.rs"]
mod cgroups;
#[path = "attest/docker.rs"]
mod docker;
#[path = "attest/namespaces.rs"]
mod namespaces;
#[path = "attest/peers.rs"]
mod peers;
#[path = "attest/puppet.rs"]
mod puppet;
#[path = "attest/selectors.rs"]
mod selectors;
