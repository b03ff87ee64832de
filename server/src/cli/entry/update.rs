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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Fields", "entry_id"])]
    data: Option<PathBuf>,
    /// The entry; of its fields only those that are named change, a list as a whole
    #[arg(long, value_name = "ID", alias = "entryID", required_unless_present = "data")]
    entry_id: Option<EntryId>,
    #[command(flatten)]
    fields: Fields,
}

type Outcome = pb::batch_update_entry_response::Result;

impl Update {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let (connection, format) = (self.connection.clone(), self.format);
        let mut drafts = self.drafts()?;
        let client = connection.connect(output).await?;
        for draft in drafts.iter_mut().filter(|draft| draft.has_half_of_the_attributes()) {
            complete(&client, draft).await?;
        }
        let (results, stopped) = send(&client, drafts).await;

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
        let Some(path) = self.data else {
            let draft = self.fields.into_draft(self.entry_id.map(|id| id.to_string()));
            draft.check_update()?;
            return Ok(vec![draft]);
        };
        let drafts = file::entries(&path)?;
        if drafts.is_empty() {
            bail!("{}: there are no entries in it", path.display());
        }
        for (index, draft) in drafts.iter().enumerate() {
            draft
                .check_update()
                .with_context(|| format!("{}: entries[{index}]", path.display()))?;
        }
        Ok(drafts)
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
async fn send(
    client: &Client,
    drafts: Vec<Draft>,
) -> (Vec<(types::Entry, Outcome)>, Option<anyhow::Error>) {
    let mut by_mask: Vec<(types::EntryMask, Vec<(usize, types::Entry)>)> = Vec::new();
    let mut places = HashMap::new();
    for (index, draft) in drafts.into_iter().enumerate() {
        let mask = draft.mask();
        let place = *places.entry(mask).or_insert(by_mask.len());
        let item = (index, draft.into_entry());
        match by_mask.get_mut(place) {
            Some((_, items)) => items.push(item),
            None => by_mask.push((mask, vec![item])),
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
        let answered = indices.into_iter().zip(sent).zip(done.results);
        results.extend(answered.map(|((index, sent), result)| (index, (sent, result))));
        if done.stopped.is_some() {
            stopped = done.stopped;
            break;
        }
    }
    results.sort_by_key(|(index, _)| *index);
    (results.into_iter().map(|(_, result)| result).collect(), stopped)
}

fn result_json((_, result): &(types::Entry, Outcome)) -> Value {
    json::object([
        ("status", json::optional(result.status.as_ref(), json::status)),
        ("entry", json::optional(result.entry.as_ref(), json::entry)),
    ])
}

fn print(sent: &types::Entry, result: &Outcome, output: &mut Output) -> anyhow::Result<()> {
    if batch::is_ok(result.status.as_ref()) {
        let entry = result.entry.as_ref().unwrap_or(sent);
        return output.raw(pretty::entry(entry).as_bytes());
    }
    let failure = pretty::failure(&result.status.clone().unwrap_or_default());
    output.note(&format!("Failed to update the entry with ID {} {failure}", sent.id))
}
