//! `entry delete`: forgets entries.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use steeple::entry::EntryId;
use steeple::shown;
use steeple_proto::spire::api::server::entry::v1 as pb;

use super::{file, report};
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `entry delete` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The entry; may be repeated
    #[arg(long, value_name = "ID", alias = "entryID", required_unless_present = "file")]
    entry_id: Vec<EntryId>,
    /// A file with IDs in JSON, {"ids": ["…"]}; - for standard input
    #[arg(long, value_name = "FILE", visible_alias = "data", conflicts_with = "entry_id")]
    file: Option<PathBuf>,
}

impl Delete {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let ids = match &self.file {
            Some(path) => file::ids(path)?,
            None => self.entry_id.iter().map(ToString::to_string).collect(),
        };
        if ids.is_empty() {
            bail!("there are no IDs of entries");
        }
        let client = self.connection.connect(output).await?;
        let mut api = client.entries();
        let done = batch::send(&client, ids, async |ids| {
            let request = pb::BatchDeleteEntryRequest { ids };
            Ok(client.answer(api.batch_delete_entry(request)).await?.results)
        })
        .await;

        let failed = done.results.iter().filter(|result| !batch::is_ok(result.status.as_ref()));
        let failed = failed.count();
        if self.format.output.is_json() {
            output.json(&json!({ "results": json::array(&done.results, result_json) }))?;
        } else {
            for result in &done.results {
                print(result, output)?;
            }
        }
        report("delete", failed, done.results.len(), done.stopped)
    }
}

fn result_json(result: &pb::batch_delete_entry_response::Result) -> Value {
    json::object([
        ("status", json::optional(result.status.as_ref(), json::status)),
        ("id", json!(result.id)),
    ])
}

fn print(
    result: &pb::batch_delete_entry_response::Result,
    output: &mut Output,
) -> anyhow::Result<()> {
    let id = shown::plain(&result.id);
    if batch::is_ok(result.status.as_ref()) {
        return output.line(&format!("Deleted entry with ID: {id}"));
    }
    let failure = pretty::failure(&result.status.clone().unwrap_or_default());
    output.note(&format!("Failed to delete entry with ID {id} {failure}"))
}
