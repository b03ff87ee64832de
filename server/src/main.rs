//! The server's executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    steeple_server::cli::main()
}
