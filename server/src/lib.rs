//! The Steeple server.

pub mod ca;
