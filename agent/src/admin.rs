//! What an administrator of this node asks a running agent, on the admin socket: how it is doing,
//! and how much it logs.

pub mod debug;
pub mod logger;
