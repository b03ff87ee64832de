//! The Steeple server.
