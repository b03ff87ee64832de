//! `entry apply`: makes a set of entries be exactly what a file says.
//!
//! The set is those of one parent, or those of one owner: entries whose ID starts with the name of
//! the owner and a dot. Nothing on the wire says who an entry belongs to, and the ID is the one thing
//! about an entry that never changes. What is in the set and not in the file is deleted only with
//! `--prune`, and a file that wants nothing empties a set only with `--allow-empty`. An entry changes
//! or goes only at the revision at which it was compared. While anything of the file is refused,
//! nothing is deleted that may be what the refused was to replace.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::{ArgGroup, Args};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use steeple::id::SpiffeId;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use tonic::Code;

use self::foresight::Foresight;
use self::plan::{Plan, Scope};
use self::report::Report;
use super::{file, update};
use crate::cli::batch::{self, Progress};
use crate::cli::client::{self, Client};
use crate::cli::output::Output;
use crate::cli::{Connection, Format, pretty};

mod foresight;
mod plan;
mod report;

/// How many entries are looked at again at the same time before they are deleted.
const LOOKS_AT_ONCE: usize = 16;

/// What `entry apply` is told.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").required(true).args(["owner", "parent_id"]))]
pub(in crate::cli) struct Apply {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The file with the entries, in JSON or YAML, {"entries": […]}; - for standard input
    #[arg(long, short, value_name = "FILE", visible_alias = "data")]
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
    /// Let --prune delete all entries of the set, where the file wants none
    #[arg(long, alias = "allowEmpty", requires = "prune")]
    allow_empty: bool,
    /// Only say what would be done, and what the server would refuse
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
        let is_refused = wanted.is_empty() && !plan.deletes.is_empty() && !self.allow_empty;
        let refusal = is_refused.then(|| emptied(plan.deletes.len()));
        let is_risky = plan.deletes.iter().any(|delete| delete.is_in_the_way);
        let mut report = Report::new(plan);
        if self.dry_run || is_risky {
            let foresight = Foresight::of(&client, &wanted).await?;
            report.foresee(&foresight);
        }
        if self.dry_run {
            report.print(self.format, true, output)?;
            return refusal.map_or_else(|| report.outcome(), Err);
        }
        if let Some(refusal) = refusal {
            return Err(refusal).with_context(|| name.to_string());
        }
        if !report.has_conflicts() && !report.is_held() {
            execute(&client, &mut report).await;
        }
        report.print(self.format, false, output)?;
        report.outcome()
    }
}

/// Why a file that wants nothing does not empty a set of so many.
fn emptied(count: usize) -> anyhow::Error {
    let all = pretty::count(count, "entry of the set", "entries of the set");
    anyhow!(
        "no entry is in the file, so --prune would delete all there is: {all}; add --allow-empty if \
         that is meant"
    )
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
    let first = report.entries_to_delete(|delete| delete.is_in_the_way);
    report.deleted(delete(client, first).await);
    if report.goes_on() {
        let (results, stopped) = update::send(client, report.changes()).await;
        report.updated(results, stopped);
    }
    if report.goes_on() {
        report.created(create(client, report.entries_to_create()).await);
    }
    if report.goes_on() && !report.has_refusals() {
        let last = report.entries_to_delete(|delete| !delete.is_in_the_way);
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

/// Deletes what is as it was when it was compared.
async fn delete(
    client: &Client,
    entries: Vec<types::Entry>,
) -> batch::Done<pb::batch_delete_entry_response::Result> {
    let mut api = client.entries();
    batch::send(client, entries, async |entries| {
        // Nothing on the wire ties a deletion to a revision, so this is looked at right before.
        let looks = entries.into_iter().map(|entry| look_again(client, entry));
        let looks = stream::iter(looks).buffered(LOOKS_AT_ONCE);
        let looks: Vec<Result<String, _>> = looks.try_collect().await?;
        let (mut ids, mut results) = (Vec::new(), Vec::new());
        for look in looks {
            match look {
                Ok(id) => ids.push(id),
                Err(result) => results.push(result),
            }
        }
        if !ids.is_empty() {
            let request = pb::BatchDeleteEntryRequest { ids };
            results.extend(client.answer(api.batch_delete_entry(request)).await?.results);
        }
        Ok(results)
    })
    .await
}

/// The ID of an entry that is as it was when it was compared, or what to say of another.
async fn look_again(
    client: &Client,
    entry: types::Entry,
) -> anyhow::Result<Result<String, pb::batch_delete_entry_response::Result>> {
    let id = entry.id;
    let mask = types::EntryMask { revision_number: true, ..types::EntryMask::default() };
    let request = pb::GetEntryRequest { id: id.clone(), output_mask: Some(mask) };
    let (code, message) = match client.outcome(client.entries().get_entry(request)).await? {
        Ok(now) if now.revision_number == entry.revision_number => return Ok(Ok(id)),
        Ok(now) => {
            let (then, now) = (entry.revision_number, now.revision_number);
            let message = format!(
                "somebody else changed the entry since it was compared: it was at revision {then}, \
                 and is at {now}; look at it and apply the file again"
            );
            (Code::Aborted, message)
        }
        Err(status) if status.code() == Code::NotFound => {
            (status.code(), status.message().to_owned())
        }
        Err(status) => return Err(client::explain(&status)),
    };
    let status = Some(types::Status { code: code.into(), message });
    Ok(Err(pb::batch_delete_entry_response::Result { status, id }))
}
