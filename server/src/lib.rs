//! The Steeple server.

pub mod ca;
pub mod api;
pub mod authz;
