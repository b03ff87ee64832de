//! `entry show` and `entry count`.

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use steeple::entry::EntryId;
use steeple::shown;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;

use super::filter::Filter;
use crate::cli::batch::{self, Progress};
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, ListFormat, ListStyle, json, pretty, table};

/// What `entry show` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: ListFormat,
    /// This entry alone
    #[arg(long, value_name = "ID", alias = "entryID", conflicts_with = "Filter")]
    entry_id: Option<EntryId>,
    #[command(flatten)]
    filter: Filter,
}

/// What `entry count` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    filter: Filter,
}

impl Show {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let mut entries = match &self.entry_id {
            Some(id) => {
                let request = pb::GetEntryRequest { id: id.to_string(), output_mask: None };
                let entry = client.answer(client.entries().get_entry(request)).await;
                vec![entry.with_context(|| id.to_string())?]
            }
            None => list(&client, &self.filter).await?,
        };
        entries.sort_by_cached_key(sort_key);
        let default =
            if self.entry_id.is_some() { ListStyle::Pretty } else { self.format.default(output) };
        match self.format.output.unwrap_or(default) {
            ListStyle::Json => {
                let entries = json::array(&entries, json::entry);
                output.json(&json!({ "entries": entries, "next_page_token": "" }))
            }
            ListStyle::Pretty => {
                let count = pretty::count(entries.len(), "entry", "entries");
                output.line(&format!("Found {count}"))?;
                entries.iter().try_for_each(|entry| output.raw(pretty::entry(entry).as_bytes()))
            }
            ListStyle::Table => {
                let rows: Vec<_> = entries.iter().map(row).collect();
                let header = ["ENTRY ID", "SPIFFE ID", "PARENT ID", "SELECTORS"];
                output.raw(table::render(header, &rows, output.terminal().width).as_bytes())
            }
        }
    }
}

impl Count {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::CountEntriesRequest { filter: self.filter.for_count() };
        let count = client.answer(client.entries().count_entries(request)).await?.count;
        if self.format.output.is_json() {
            return output.json(&json!({ "count": count }));
        }
        let number = usize::try_from(count).unwrap_or_default();
        output.line(&pretty::count(number, "registration entry", "registration entries"))
    }
}

async fn list(client: &Client, filter: &Filter) -> anyhow::Result<Vec<types::Entry>> {
    let mut progress = Progress::start(client.terminal());
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListEntriesRequest {
            filter: filter.for_list(),
            output_mask: None,
            page_size: batch::page_size()?,
            page_token: page_token.clone(),
        };
        let page = client.answer(client.entries().list_entries(request)).await?;
        entries.extend(page.entries);
        match batch::next_page(page.next_page_token, &page_token)? {
            Some(next) => page_token = next,
            None => return Ok(entries),
        }
        progress.show(entries.len(), None, "entries");
    }
}

fn sort_key(entry: &types::Entry) -> (String, String, String) {
    let id = |id: &Option<types::Spiffeid>| shown::spiffe_id(id.as_ref());
    (id(&entry.spiffe_id), id(&entry.parent_id), entry.id.clone())
}

fn row(entry: &types::Entry) -> [String; 4] {
    let selectors = entry.selectors.iter().map(pretty::selector_text);
    let selectors = selectors.map(|selector| shown::plain(&selector)).collect::<Vec<_>>();
    [
        shown::plain(&entry.id),
        shown::plain(&shown::spiffe_id(entry.spiffe_id.as_ref())),
        shown::plain(&shown::spiffe_id(entry.parent_id.as_ref())),
        selectors.join("\n"),
    ]
}
