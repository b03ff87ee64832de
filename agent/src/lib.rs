//! The Steeple agent.

pub mod endpoint;
