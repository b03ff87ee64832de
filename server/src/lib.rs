//! The Steeple server.

pub mod api;
pub mod app;
pub mod audit;
pub mod authz;
pub mod ca;
pub mod cli;
pub mod config;
pub mod datastore;
pub mod entries;
pub mod federation;
pub mod node_attest;
pub mod registry;
pub mod upstream;
