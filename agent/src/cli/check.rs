//! `config check`: whether an agent could start.

use steeple::config::survey::{self, Survey};

use super::output::Output;
use crate::app::surroundings::{self, Surroundings};
use crate::config::{Config, Flags};

/// Names all that is wrong, and all that may surprise.
pub(super) async fn run(flags: &Flags, output: &mut Output) -> anyhow::Result<()> {
    let Survey { config, problems } = Config::survey(flags);
    // Without it there is no telling where its files are.
    let is_placed = !problems.iter().any(|problem| problem.is_of("data_dir"));
    let mut problems: Vec<_> = problems.into_iter().map(anyhow::Error::from).collect();
    let mut notes = Vec::new();
    if let Some(config) = config.filter(|_| is_placed) {
        let found: Surroundings = surroundings::check(config).await;
        problems.extend(found.problems);
        notes = found.notes;
    }
    for problem in &problems {
        output.note(&format!("{problem:#}"))?;
    }
    for note in &notes {
        output.note(&format!("Warning: {note:#}"))?;
    }
    Ok(survey::verdict(problems.len())?)
}
