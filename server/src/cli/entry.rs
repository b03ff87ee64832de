//! `entry`: registration entries, one or many.

use anyhow::anyhow;
use clap::Subcommand;

use super::output::Output;

mod apply;
mod create;
mod delete;
mod difference;
mod draft;
mod fields;
pub(super) mod file;
mod filter;
mod show;
mod update;

/// What can be done with entries.
#[derive(Debug, Subcommand)]
pub(super) enum Entry {
    /// Create entries
    Create(create::Create),
    /// Show the entries that match, or all
    Show(show::Show),
    /// Count the entries that match, or all
    Count(show::Count),
    /// Change fields of entries
    Update(update::Update),
    /// Delete entries
    Delete(delete::Delete),
    /// Make a set of entries be exactly what a file says
    Apply(apply::Apply),
}

impl Entry {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run(output).await,
            Self::Show(show) => show.run(output).await,
            Self::Count(count) => count.run(output).await,
            Self::Update(update) => update.run(output).await,
            Self::Delete(delete) => delete.run(output).await,
            Self::Apply(apply) => apply.run(output).await,
        }
    }
}

/// Success only if every item was done.
fn report(
    verb: &str,
    failed: usize,
    answered: usize,
    stopped: Option<anyhow::Error>,
) -> anyhow::Result<()> {
    let failure = match answered {
        1 => format!("failed to {verb} the entry"),
        _ => format!("failed to {verb} {failed} of {answered} entries"),
    };
    match (stopped, failed) {
        (None, 0) => Ok(()),
        (Some(error), 0) => Err(error),
        (None, _) => Err(anyhow!(failure)),
        (Some(error), _) => Err(error.context(failure)),
    }
}
