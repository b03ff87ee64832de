//! Flags of SPIRE's that neither of its successors here has anything for: each is refused with the
//! reason, and with what to do instead.

use clap::Args;

/// The flag of SPIRE's that says where something listens on Windows.
#[derive(Args, Clone, Debug)]
pub struct Pipe {
    #[arg(long = "namedPipeName", hide = true, value_parser = no_named_pipe)]
    _named_pipe_name: Option<String>,
}

/// Flags of SPIRE's `run` and `validate`, for a server as for an agent.
#[derive(Args, Debug)]
pub struct OfEachRun {
    #[command(flatten)]
    _pipe: Pipe,
    #[arg(long = "logFile", alias = "log-file", hide = true, value_parser = no_log_file)]
    _log_file: Option<String>,
    #[arg(long = "logSourceLocation", alias = "log-source-location", hide = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_parser = no_source_location)]
    _log_source_location: Option<String>,
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

fn no_log_file(_: &str) -> Result<String, &'static str> {
    Err(
        "the log goes to standard error; send it to a file with 2>>FILE, or leave it to systemd or \
         the container engine",
    )
}

fn no_source_location(text: &str) -> Result<String, &'static str> {
    unless(
        text,
        "false",
        "a line of the log names the part of the program that wrote it, and no more",
    )
}
