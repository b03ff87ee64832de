//! Fuzz targets: what the parsers must hold to, whatever they are given.
//!
//! A target ([`target::Target`]) takes any bytes and panics if a property does not hold: what is
//! read has one spelling, an independent reader says the same, nothing is accepted that nobody
//! signed, pieces of any size come to the same. [`target::ALL`] lists them, `targets/` has one file
//! for each. They are run in two ways:
//!
//! - `cargo test -p steeple-fuzz` tries the seeds of each target and inputs generated from them,
//!   the same at every run.
//! - `tests/fuzz/run.sh` runs them under libFuzzer, guided by coverage: our crates are built with
//!   counters (`rustc.sh`, which any stable compiler can), all others as ever, so that little is
//!   built twice. It takes a C++ compiler.
//!
//! ```text
//! tests/fuzz/run.sh                      every target for a few seconds, as tests/run.sh does
//! tests/fuzz/run.sh 3600                 every target for an hour
//! tests/fuzz/run.sh 86400 jws filter     these for a day each
//! tests/fuzz/run.sh again jws FILE       one input once more
//! ```
//!
//! Inputs that reached something new are kept in `target/fuzz/corpus/TARGET` and are where the next
//! run starts. One that breaks a property is kept as `target/fuzz/TARGET-crash-…`, is printed in
//! base64, and fails the run. It is a bug: it becomes a row in the tests of the crate it is in, and
//! not a file here.
//!
//! A new target is a file in `targets/` and a line in [`target::ALL`]. Break the parser before you
//! believe it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target says that a property does not hold"
)]

pub mod der;
#[cfg(test)]
mod generated;
pub mod input;
pub mod memory;
pub mod target;
mod targets;
