//! What the Steeple agent and server must agree on.
//!
//! Identities ([`id`], [`selector`], [`entry`]), what vouches for them ([`bundle`], [`keys`]),
//! their form on the wire ([`convert`], [`x509`], [`jwt`], [`jwk`]), and the plumbing of both
//! binaries ([`tls`], [`clock`], [`tasks`], [`config`], …). Nothing here listens, loops or decides
//! policy.
#![warn(missing_docs)]

pub mod atomic_file;
pub mod backoff;
pub mod bundle;
pub mod clock;
pub mod config;
pub mod convert;
mod der;
pub mod entry;
pub mod gathered;
pub mod health;
pub mod id;
pub mod json;
pub mod jwk;
pub mod jwt;
pub mod keys;
pub mod locked;
pub mod refused;
pub mod rpc;
pub mod selector;
pub mod shown;
pub mod socket_directory;
pub mod spelling;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod turns;
pub mod watch;
pub mod x509;
