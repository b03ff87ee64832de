//! The Steeple server.

pub mod api;
pub mod authz;
pub mod ca;
pub mod node_attest;
