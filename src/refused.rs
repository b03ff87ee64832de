//! Flags of SPIRE's that neither of its successors here has anything for: each is refused with the
//! reason, and with what to do instead.

use clap::Args;

/// The flag of SPIRE's that says where something listens on Windows.
#[derive(Args, Clone, Debug)]
pub struct Pipe {
    #[arg(long = "namedPipeName", hide = true, value_parser = no_named_pipe)]
    _named_pipe_name: Option<String>,
}

/// The value of a flag that changes nothing here as long as it is `harmless`.
///
/// # Errors
/// It is something else: `why` that will not do.
pub fn unless(
    text: &str,
    harmless: &'static str,
    why: &'static str,
) -> Result<String, &'static str> {
    if text.eq_ignore_ascii_case(harmless) { Ok(text.to_owned()) } else { Err(why) }
}

fn no_named_pipe(_: &str) -> Result<String, &'static str> {
    Err("this runs where there are Unix sockets; say with --socket where that is")
}
