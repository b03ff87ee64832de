//! `entry update`: changes the fields that are named, and no others.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use steeple::entry::EntryId;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use tonic::Code;

use super::draft::Draft;
use super::fields::Fields;
use super::{file, report};
use crate::cli::client::{Client, explain};
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `entry update` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Update {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// A file with entries in JSON, each with its entry_id and the fields to change; - for standard
    /// input
    #[arg(long, value_name = "FILE", visible_alias = "file", conflicts_with_all = ["Fields", "entry_id"])]
    data: Option<PathBuf>,
    /// The entry; of its fields only those that are named change, a list as a whole
    #[arg(long, value_name = "ID", alias = "entryID", required_unless_present = "data")]
    entry_id: Option<EntryId>,
    /// Reset the fields that are not named, as SPIRE's tools do
    #[arg(long)]
    replace: bool,
    /// Only if the entry still has this revision, as `entry show` prints it
    #[arg(long, value_name = "N", requires = "entry_id", value_parser = clap::value_parser!(i64).range(0..))]
    if_revision: Option<i64>,
    #[command(flatten)]
    fields: Fields,
}

pub(super) type Outcome = pb::batch_update_entry_response::Result;

impl Update {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let (connection, format) = (self.connection.clone(), self.format);
        let is_ignored = self.entry_id.is_some() || self.fields.are_any_named();
        if self.data.is_some() && is_ignored {
            output.note(file::ALONE)?;
        }
        let mut drafts = self.drafts()?;
        let client = connection.connect(output).await?;
        for draft in drafts.iter_mut().filter(|draft| draft.has_half_of_the_attributes()) {
            complete(&client, draft).await?;
        }
        let changes = drafts.into_iter().map(|draft| (draft.mask(), draft.into_entry())).collect();
        let (results, stopped) = send(&client, changes).await;

        let failed = results.iter().filter(|(_, result)| !batch::is_ok(result.status.as_ref()));
        let failed = failed.count();
        if format.output.is_json() {
            output.json(&json!({ "results": json::array(&results, result_json) }))?;
        } else {
            for (sent, result) in &results {
                print(sent, result, output)?;
            }
        }
        report("update", failed, results.len(), stopped)
    }

    fn drafts(self) -> anyhow::Result<Vec<Draft>> {
        let complete = |mut draft: Draft| {
            if self.replace {
                draft.reset_unnamed();
                draft.check_new()?;
            }
            draft.check_update()?;
            anyhow::Ok(draft)
        };
        let Some(path) = self.data else {
            let mut draft = self.fields.into_draft(self.entry_id.map(|id| id.to_string()));
            draft.if_revision = self.if_revision;
            return Ok(vec![complete(draft)?]);
        };
        let drafts = file::entries(&path)?;
        if drafts.is_empty() {
            bail!("{}: there are no entries in it", path.display());
        }
        let place = |index| format!("{}: entries[{index}]", path.display());
        let complete = |(index, draft)| complete(draft).with_context(|| place(index));
        drafts.into_iter().enumerate().map(complete).collect()
    }
}

/// Adds the attribute that is not to change, since both go over the wire as one field.
async fn complete(client: &Client, draft: &mut Draft) -> anyhow::Result<()> {
    let request = pb::GetEntryRequest {
        id: draft.id.clone().unwrap_or_default(),
        output_mask: Some(types::EntryMask {
            additional_attributes: true,
            ..types::EntryMask::default()
        }),
    };
    let stored = match client.outcome(client.entries().get_entry(request)).await? {
        Ok(entry) => entry.additional_attributes,
        // The update itself will say so of this entry.
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(explain(&status)),
    };
    draft.complete_attributes(stored.unwrap_or_default());
    Ok(())
}

/// Sends the changes, those of the same fields together, and puts the results in order again.
pub(super) async fn send(
    client: &Client,
    changes: Vec<(types::EntryMask, types::Entry)>,
) -> (Vec<(types::Entry, Outcome)>, Option<anyhow::Error>) {
    let mut by_mask: Vec<(types::EntryMask, Vec<(usize, types::Entry)>)> = Vec::new();
    let mut places = HashMap::new();
    for (index, (mask, entry)) in changes.into_iter().enumerate() {
        let place = *places.entry(mask).or_insert(by_mask.len());
        match by_mask.get_mut(place) {
            Some((_, items)) => items.push((index, entry)),
            None => by_mask.push((mask, vec![(index, entry)])),
        }
    }
    let mut results = Vec::new();
    let mut stopped = None;
    for (mask, items) in by_mask {
        let (indices, entries): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let sent = entries.clone();
        let mut api = client.entries();
        let done = batch::send(client, entries, async |entries| {
            let request =
                pb::BatchUpdateEntryRequest { entries, input_mask: Some(mask), output_mask: None };
            Ok(client.answer(api.batch_update_entry(request)).await?.results)
        })
        .await;
        let answered =
            indices.into_iter().zip(sent).zip(done.results).map(|((index, sent), result)| {
                let result = if mask.revision_number { confirmed(result, &sent) } else { result };
                (index, (sent, result))
            });
        results.extend(answered);
        if done.stopped.is_some() {
            stopped = done.stopped;
            break;
        }
    }
    results.sort_by_key(|(index, _)| *index);
    (results.into_iter().map(|(_, result)| result).collect(), stopped)
}

/// The result of a change that was to happen at one revision alone. A server that does not look at
/// revisions, as SPIRE's do not, betrays itself by the next one.
fn confirmed(mut result: Outcome, sent: &types::Entry) -> Outcome {
    let revision = result.entry.as_ref().map(|entry| entry.revision_number);
    let next = sent.revision_number.checked_add(1);
    if batch::is_ok(result.status.as_ref()) && revision.is_some() && revision != next {
        result.status = Some(types::Status {
            code: Code::Aborted.into(),
            message:
                "the entry was changed by somebody else at the same time, and this server does \
                      not look at revisions: look at the entry"
                    .into(),
        });
    }
    result
}

/// The result with the entry: as it is now, or as it was sent if it was refused.
fn result_json((sent, result): &(types::Entry, Outcome)) -> Value {
    json::object([
        ("status", json::optional(result.status.as_ref(), json::status)),
        ("entry", json::entry(result.entry.as_ref().unwrap_or(sent))),
    ])
}

fn print(sent: &types::Entry, result: &Outcome, output: &mut Output) -> anyhow::Result<()> {
    if batch::is_ok(result.status.as_ref()) {
        let entry = result.entry.as_ref().unwrap_or(sent);
        return output.raw(pretty::entry(entry).as_bytes());
    }
    let failure = pretty::failure(&result.status.clone().unwrap_or_default());
    // Of an entry of which not all was said, what it is called is all that is known of it here.
    let block = pretty::entry(sent);
    let known = if sent.spiffe_id.is_some() { usize::MAX } else { 1 };
    let lines: Vec<_> = block.trim_end().lines().take(known).collect();
    let lines = lines.join("\n");
    output.note(&format!("Failed to update the following entry {failure}:\n{lines}"))
}
