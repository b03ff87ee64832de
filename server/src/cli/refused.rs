//! Flags and commands of SPIRE's tools that this one has something else for, or nothing.

use anyhow::bail;
use clap::Args;

/// Flags of SPIRE's that say where the server is on Windows.
#[derive(Args, Clone, Debug)]
pub(super) struct Pipe {
    #[arg(long = "namedPipeName", hide = true, value_parser = no_named_pipe)]
    _named_pipe_name: Option<String>,
}

/// Flags of SPIRE's `run`.
#[derive(Args, Debug)]
pub(super) struct OfRun {
    #[command(flatten)]
    _pipe: Pipe,
    #[arg(long = "logFile", alias = "log-file", hide = true, value_parser = no_log_file)]
    _log_file: Option<String>,
    #[arg(long = "logSourceLocation", alias = "log-source-location", hide = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_parser = no_source_location)]
    _log_source_location: Option<String>,
}

/// `wit`, which SPIRE has behind a feature flag.
#[derive(Args, Debug)]
pub(super) struct Wit {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

impl Wit {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        bail!(
            "WIT-SVIDs are not minted: SPIRE has them as an experiment behind a feature flag, and this \
             server does not have them; `x509 mint` and `jwt mint` make the other two kinds"
        )
    }
}

fn no_named_pipe(_: &str) -> Result<String, &'static str> {
    Err("this server runs where there are Unix sockets; say with --socket where that is")
}

fn no_log_file(_: &str) -> Result<String, &'static str> {
    Err(
        "the log goes to standard error; send it to a file with 2>>FILE, or leave it to systemd or \
         the container engine",
    )
}

fn no_source_location(text: &str) -> Result<String, &'static str> {
    match text {
        "false" => Ok(text.to_owned()),
        _ => Err("a line of the log names the part of the server that wrote it, and no more"),
    }
}
