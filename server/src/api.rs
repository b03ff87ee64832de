//! The server's front.

pub mod limits;
