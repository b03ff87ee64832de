//! `entry create`: new entries, from flags or from a file.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use steeple::entry::EntryId;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use tonic::Code;

use super::draft::{Draft, DraftError};
use super::fields::Fields;
use super::{difference, file, report};
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `entry create` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// A file with entries in JSON, as `entry show --output json` writes them; - for standard input
    #[arg(long, value_name = "FILE", visible_alias = "file", conflicts_with_all = ["Fields", "entry_id", "node"])]
    data: Option<PathBuf>,
    /// The name of the entry; the server makes one up if there is none
    #[arg(long, value_name = "ID", alias = "entryID")]
    entry_id: Option<EntryId>,
    /// Make an alias of agents: its selectors are those of nodes, its parent is the server
    #[arg(long, conflicts_with = "parent_id")]
    node: bool,
    /// Take an entry that is there already and says the same for done; one that says something else
    /// in the other fields is an error that names them
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    fields: Fields,
}

impl Create {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let (connection, format) = (self.connection.clone(), self.format);
        let if_not_exists = self.if_not_exists;
        self.warn_of_what_says_nothing(output)?;
        let entries = self.entries()?;
        let client = connection.connect(output).await?;
        let mut api = client.entries();
        let sent = entries.clone();
        let mut done = batch::send(&client, entries, async |entries| {
            let request = pb::BatchCreateEntryRequest { entries, output_mask: None };
            Ok(client.answer(api.batch_create_entry(request)).await?.results)
        })
        .await;

        if if_not_exists {
            done.results.iter_mut().zip(&sent).for_each(|(result, sent)| settle(result, sent));
        }
        let failed = done.results.iter().filter(|result| !batch::is_ok(result.status.as_ref()));
        let failed = failed.count();
        for (result, sent) in done.results.iter_mut().zip(&sent) {
            result.entry.get_or_insert_with(|| sent.clone());
        }
        if format.output.is_json() {
            output.json(&json!({ "results": json::array(&done.results, result_json) }))?;
        } else {
            for result in &done.results {
                print(result, output)?;
            }
        }
        report("create", failed, done.results.len(), done.stopped)
    }

    /// The flags that are taken beside others, as SPIRE takes them, and do nothing there.
    fn warn_of_what_says_nothing(&self, output: &mut Output) -> anyhow::Result<()> {
        if self.data.is_some() {
            if self.node || self.entry_id.is_some() || self.fields.are_any_named() {
                output.note(file::ALONE)?;
            }
        } else if self.node && self.fields.parent_id.is_some() {
            output
                .note("Warning: --parent-id is ignored, as with --node the server is the parent")?;
        }
        Ok(())
    }

    /// What is to be created, complete.
    fn entries(self) -> anyhow::Result<Vec<types::Entry>> {
        let Some(path) = self.data else {
            if self.node && self.fields.federates_with.is_some() {
                bail!(
                    "--node and --federates-with do not go together: nodes get no foreign bundles"
                );
            }
            let mut draft = self.fields.into_draft(self.entry_id.map(|id| id.to_string()));
            if let Some(spiffe_id) = draft.spiffe_id.as_ref().filter(|_| self.node) {
                draft.parent_id = Some(spiffe_id.trust_domain().server_id());
            }
            draft.check_new().map_err(with_flag)?;
            return Ok(vec![draft.into_entry()]);
        };
        let drafts = file::entries(&path)?;
        if drafts.is_empty() {
            bail!("{}: there are no entries in it", path.display());
        }
        let complete = |(index, draft): (usize, Draft)| {
            draft.check_new().with_context(|| format!("{}: entries[{index}]", path.display()))?;
            Ok(draft.into_entry())
        };
        drafts.into_iter().enumerate().map(complete).collect()
    }
}

/// Takes an entry that was in the way for the one that was to be created, if it says the same.
fn settle(result: &mut pb::batch_create_entry_response::Result, sent: &types::Entry) {
    let (Some(status), Some(existing)) = (&mut result.status, &result.entry) else { return };
    if Code::from(status.code) != Code::AlreadyExists {
        return;
    }
    let mut differences: Vec<_> =
        difference::between(existing, sent).iter().map(ToString::to_string).collect();
    if !sent.id.is_empty() && sent.id != existing.id {
        differences.insert(0, format!("entry ID is {}, not {}", existing.id, sent.id));
    }
    *status = if differences.is_empty() {
        types::Status { code: 0, message: "it was there already".into() }
    } else {
        let differences = differences.join("; ");
        types::Status { code: status.code, message: format!("{}: {differences}", status.message) }
    };
}

/// The error with the flag that would help.
fn with_flag(error: DraftError) -> anyhow::Error {
    let flag = match error {
        DraftError::NoSpiffeId => "--spiffe-id",
        DraftError::NoParentId => "--parent-id",
        DraftError::NoSelectors => "--selector",
        DraftError::NoId | DraftError::Unchanged => return error.into(),
    };
    anyhow::Error::from(error).context(flag)
}

fn result_json(result: &pb::batch_create_entry_response::Result) -> Value {
    json::object([
        ("status", json::optional(result.status.as_ref(), json::status)),
        ("entry", json::optional(result.entry.as_ref(), json::entry)),
    ])
}

/// A new entry to standard output; one that was refused, or the one in its way, to standard error.
fn print(
    result: &pb::batch_create_entry_response::Result,
    output: &mut Output,
) -> anyhow::Result<()> {
    let status = result.status.clone().unwrap_or_default();
    let block = result.entry.as_ref().map(pretty::entry).unwrap_or_default();
    if batch::is_ok(result.status.as_ref()) {
        return output.raw(block.as_bytes());
    }
    let failure = pretty::failure(&status);
    output.note(&format!("Failed to create the following entry {failure}:\n{}", block.trim_end()))
}
