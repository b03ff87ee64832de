//! `config`: what a configuration file says.

use clap::{Args, Subcommand};
use steeple::config::survey::{self, Survey};
use steeple::refused::Pipe;

use super::output::Output;
use crate::app;
use crate::config::Config;
use crate::config::flags::Flags;

mod import;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration, and the files that it names, without starting anything
    Check(Check),
    /// Print the configuration that does what one of SPIRE's does
    ///
    /// Reads server.conf or agent.conf, prints TOML for steeple-server or steeple-agent, and names on
    /// standard error, by line, everything that has no counterpart, with what to do instead. The exit
    /// code is 0 only if nothing was left out, unless --allow-incomplete is given.
    Import(import::Import),
}

/// What `config check` is told.
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    _refused: Pipe,
}

impl ConfigCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => {
                check.run(output)?;
                output.line("The configuration is valid.")
            }
            Self::Import(import) => import.run(output),
        }
    }
}

impl Check {
    /// Names all that is wrong, and all that may surprise.
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let Survey { config, problems } = Config::survey(&self.flags);
        let mut problems: Vec<_> = problems.into_iter().map(anyhow::Error::from).collect();
        if let Some(config) = &config {
            problems.extend(app::check_surroundings(config));
        }
        for problem in &problems {
            output.note(&format!("{problem:#}"))?;
        }
        survey::verdict(problems.len())?;
        for (key, longest) in config.iter().flat_map(Config::shortened_ttls) {
            let longest = humantime::format_duration(longest);
            output.note(&format!(
                "Warning: `{key}` is longer than what the authorities can always give; for a part \
                 of their life it will be {longest}. A longer `ca_ttl` helps."
            ))?;
        }
        Ok(())
    }
}
