//! The Steeple agent.
#![warn(missing_docs)]

pub mod admin;
pub mod app;
pub mod attest;
pub mod census;
pub mod cli;
pub mod complaints;
pub mod config;
pub mod endpoint;
pub mod health;
pub mod identity;
pub mod node;
pub mod peer;
pub mod server_api;
pub mod sync;
pub mod workload;
