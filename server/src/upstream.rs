//! Reaches what stands above this server: a CA in files, or another server.

pub mod disk;
pub mod spire;
