//! The Steeple agent.

pub mod endpoint;
pub mod server_api;
