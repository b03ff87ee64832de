//! Measures what Steeple's binaries take of processor and memory, each figure beside its limit.

use std::process::ExitCode;

mod caller;
mod cli;
mod echo;
mod figures;
mod kit;
mod meter;
mod node;
mod place;
mod process;
mod raw;
mod report;
mod server;
mod sqlite;
mod workload;

fn main() -> ExitCode {
    cli::main()
}
