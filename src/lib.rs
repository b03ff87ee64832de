//! Steeple library.
