//! The server's executable.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use steeple::telemetry::{self, Format, Level};

/// Decides who may have which identity, signs, rotates and records.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Run the server
    ///
    /// Without a configuration it serves the trust domain example.org on port 8081, with its data
    /// in /var/lib/steeple/server, or below the state directory of a user who is not root.
    Run {
        /// The configuration file
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Command::Run { config } = Command::parse();
    if let Err(error) = steeple_server::app::run(config.as_deref()) {
        // Without effect if the log was started already.
        drop(telemetry::start(Level::Info, Format::Text));
        tracing::error!("{error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
