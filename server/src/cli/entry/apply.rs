//! `entry apply`: makes a set of entries be exactly what a file says.
//!
//! The set is those of one parent, or those of one owner: entries whose ID starts with the name of
//! the owner and a dot. Nothing on the wire says who an entry belongs to, and the ID is the one thing
//! about an entry that never changes. What is in the set and not in the file is deleted only with
//! `--prune`. An entry changes only at the revision at which it was compared.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use steeple::id::SpiffeId;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;

use self::plan::{Plan, Scope};
use self::report::Report;
use super::{file, update};
use crate::cli::batch::{self, Progress};
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format};

mod plan;
mod report;

/// What `entry apply` is told.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").required(true).args(["owner", "parent_id"]))]
pub(in crate::cli) struct Apply {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The file with the entries, in JSON or YAML, {"entries": […]}; - for standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Whose entries these are: a name that their IDs start with. An entry of the file without an
    /// entry_id gets one that is made from its identity, parent and selectors
    #[arg(long, value_name = "NAME", value_parser = plan::owner)]
    owner: Option<String>,
    /// Whose children these are; entries of the file need not repeat it
    #[arg(long, value_name = "SPIFFE ID", alias = "parentID")]
    parent_id: Option<SpiffeId>,
    /// Delete what is not in the file
    #[arg(long)]
    prune: bool,
    /// Only say what would be done
    #[arg(long, alias = "dryRun")]
    dry_run: bool,
}

impl Apply {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let scope = match (self.owner, self.parent_id) {
            (Some(owner), None) => Scope::Owner(owner),
            (None, Some(parent)) => Scope::Parent(parent),
            (_, _) => bail!("say whose entries these are, with --owner or --parent-id"),
        };
        let name = self.file.display();
        let drafts = file::entries_of_any_form(&self.file)?;
        let wanted = plan::wanted(&scope, drafts).with_context(|| name.to_string())?;
        let client = self.connection.connect(output).await?;
        let stored = list(&client, &scope, &wanted).await?;
        let plan = Plan::new(&scope, &wanted, stored, self.prune);
        let mut report = Report::new(plan);
        if !self.dry_run && !report.has_conflicts() {
            execute(&client, &mut report).await;
        }
        report.print(self.format, self.dry_run, output)?;
        report.outcome()
    }
}

/// The entries of the set, and others that stand in the way of it.
async fn list(
    client: &Client,
    scope: &Scope,
    wanted: &[types::Entry],
) -> anyhow::Result<Vec<types::Entry>> {
    let mut progress = Progress::start(client.terminal());
    let concerns = plan::Concerns::new(scope, wanted);
    let mut stored = Vec::new();
    let mut seen = 0;
    let mut page_token = String::new();
    loop {
        let request = pb::ListEntriesRequest {
            filter: scope.filter(),
            output_mask: None,
            page_size: batch::page_size()?,
            page_token: page_token.clone(),
        };
        let page = client.answer(client.entries().list_entries(request)).await?;
        seen += page.entries.len();
        stored.extend(page.entries.into_iter().filter(|entry| concerns.include(entry)));
        match batch::next_page(page.next_page_token, &page_token)? {
            Some(next) => page_token = next,
            None => return Ok(stored),
        }
        progress.show(seen, None, "entries read");
    }
}

/// Does what the plan says: first goes what is in the way of something, last what is in the way of
/// nothing, so that nobody is without an identity for longer than need be.
async fn execute(client: &Client, report: &mut Report) {
    let first = report.ids_to_delete(|delete| delete.is_in_the_way);
    report.deleted(delete(client, first).await);
    if report.goes_on() {
        let (results, stopped) = update::send(client, report.changes()).await;
        report.updated(results, stopped);
    }
    if report.goes_on() {
        report.created(create(client, report.entries_to_create()).await);
    }
    if report.goes_on() {
        let last = report.ids_to_delete(|delete| !delete.is_in_the_way);
        report.deleted(delete(client, last).await);
    }
}

async fn create(
    client: &Client,
    entries: Vec<types::Entry>,
) -> batch::Done<pb::batch_create_entry_response::Result> {
    let mut api = client.entries();
    batch::send(client, entries, async |entries| {
        let request = pb::BatchCreateEntryRequest { entries, output_mask: None };
        Ok(client.answer(api.batch_create_entry(request)).await?.results)
    })
    .await
}

async fn delete(
    client: &Client,
    ids: Vec<String>,
) -> batch::Done<pb::batch_delete_entry_response::Result> {
    let mut api = client.entries();
    batch::send(client, ids, async |ids| {
        let request = pb::BatchDeleteEntryRequest { ids };
        Ok(client.answer(api.batch_delete_entry(request)).await?.results)
    })
    .await
}
