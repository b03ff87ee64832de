//! The agent's executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    steeple_agent::cli::main()
}
