//! The Workload endpoint: a Unix socket that speaks gRPC.

pub mod authority;
pub mod hpack;
