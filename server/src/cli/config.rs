//! `config`: what a configuration file says.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Output;
use crate::app;
use crate::config::Config;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration, and the files that it names, without starting anything
    Check(Check),
}

/// What `config check` is told.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => check.run(output),
        }
    }
}

impl Check {
    fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let config = Config::load(self.config.as_deref())?;
        app::check_files(&config)?;
        for (key, longest) in config.shortened_ttls() {
            let longest = humantime::format_duration(longest);
            output.note(&format!(
                "Warning: `{key}` is longer than what the authorities can always give; for a part \
                 of their life it will be {longest}. A longer `ca_ttl` helps."
            ))?;
        }
        output.line("The configuration is valid.")
    }
}
