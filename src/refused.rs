//! A flag of SPIRE's that neither of its successors here has anything for: it is refused with the
//! reason, and with what to do instead.

use clap::Args;

/// The flag of SPIRE's that says where something listens on Windows.
#[derive(Args, Clone, Debug)]
pub struct Pipe {
    #[arg(long = "namedPipeName", hide = true, value_parser = no_named_pipe)]
    _named_pipe_name: Option<String>,
}

fn no_named_pipe(_: &str) -> Result<String, &'static str> {
    Err("this runs where there are Unix sockets; say with --socket where that is")
}
