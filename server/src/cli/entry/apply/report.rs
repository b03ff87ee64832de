//! What `entry apply` has to do and what came of it, for people and for programs.

use std::collections::HashMap;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use steeple::shown;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;

use super::super::difference::{self, shown};
use super::super::update::Outcome;
use super::foresight::Foresight;
use super::plan::{Conflict, Delete, Plan, Update};
use crate::cli::batch::{self, Done};
use crate::cli::output::Output;
use crate::cli::{Format, json, pretty};

/// What has to be done, and what came of what was done.
#[derive(Debug)]
pub(super) struct Report {
    creates: Vec<Item<types::Entry>>,
    updates: Vec<Item<Update>>,
    deletes: Vec<Item<Delete>>,
    extra: Vec<types::Entry>,
    conflicts: Vec<Conflict>,
    unchanged: usize,
    /// Whether nothing is done at all, as something would be deleted for what would be refused.
    is_held: bool,
    stopped: Option<anyhow::Error>,
}

/// One thing to do, and what the server said to it if it was asked.
#[derive(Debug)]
struct Item<T> {
    what: T,
    status: Option<types::Status>,
}

/// What stands in front of what is done to an entry, and in which colour.
#[derive(Clone, Copy)]
enum Sign {
    Create,
    Update,
    Delete,
}

impl Report {
    /// A report of what nobody has done yet.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            creates: items(plan.creates),
            updates: items(plan.updates),
            deletes: items(plan.deletes),
            extra: plan.extra,
            conflicts: plan.conflicts,
            unchanged: plan.unchanged,
            is_held: false,
            stopped: None,
        }
    }

    /// Says of what is to come that it would be refused, if it would be.
    pub(super) fn foresee(&mut self, foresight: &Foresight) {
        for item in &mut self.creates {
            item.status = foresight.refusal(&item.what, &[]);
        }
        for item in &mut self.updates {
            item.status = foresight.refusal(&item.what.wanted, &item.what.federated_with);
        }
        let is_risky = self.deletes.iter().any(|item| item.what.is_in_the_way);
        self.is_held = is_risky && self.has_refusals();
    }

    pub(super) fn created(&mut self, done: Done<pb::batch_create_entry_response::Result>) {
        for (item, result) in self.creates.iter_mut().zip(done.results) {
            item.status = Some(result.status.unwrap_or_default());
            if let (true, Some(entry)) = (item.is_done(), result.entry) {
                item.what = entry;
            }
        }
        self.stopped = done.stopped;
    }

    pub(super) fn updated(
        &mut self,
        results: Vec<(types::Entry, Outcome)>,
        stopped: Option<anyhow::Error>,
    ) {
        let mut statuses: HashMap<_, _> =
            results.into_iter().map(|(sent, result)| (sent.id, result.status)).collect();
        for item in &mut self.updates {
            if let Some(status) = statuses.remove(&item.what.wanted.id) {
                item.status = Some(status.unwrap_or_default());
            }
        }
        self.stopped = stopped;
    }

    pub(super) fn deleted(&mut self, done: Done<pb::batch_delete_entry_response::Result>) {
        let mut statuses: HashMap<_, _> =
            done.results.into_iter().map(|result| (result.id, result.status)).collect();
        for item in &mut self.deletes {
            if let Some(status) = statuses.remove(&item.what.entry.id) {
                item.status = Some(status.unwrap_or_default());
            }
        }
        self.stopped = done.stopped;
    }

    /// Whether the server still answers.
    pub(super) fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }

    pub(super) fn has_conflicts(&self) -> bool {
        !self.conflicts.is_empty()
    }

    /// Whether nothing is to be done at all.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether something that is to be there is refused.
    pub(super) fn has_refusals(&self) -> bool {
        let creates = self.creates.iter().map(|item| &item.status);
        let updates = self.updates.iter().map(|item| &item.status);
        creates.chain(updates).flatten().any(|status| status.code != 0)
    }

    pub(super) fn entries_to_delete(&self, which: impl Fn(&Delete) -> bool) -> Vec<types::Entry> {
        let wanted = self.deletes.iter().filter(|item| which(&item.what));
        wanted.map(|item| item.what.entry.clone()).collect()
    }

    pub(super) fn changes(&self) -> Vec<(types::EntryMask, types::Entry)> {
        self.updates.iter().map(|item| item.what.on_the_wire()).collect()
    }

    pub(super) fn entries_to_create(&self) -> Vec<types::Entry> {
        self.creates.iter().map(|item| item.what.clone()).collect()
    }

    /// Success only if the set is what the file says, but for what nobody asked to delete.
    pub(super) fn outcome(self) -> anyhow::Result<()> {
        if self.has_conflicts() {
            bail!(
                "nothing was done: {} in the way of the file",
                pretty::count(
                    self.conflicts.len(),
                    "foreign entry stands",
                    "foreign entries stand"
                )
            );
        }
        let failed = self.failed();
        let failure = || anyhow!("failed for {}", pretty::count(failed, "entry", "entries"));
        match (self.stopped, failed) {
            (None, 0) => Ok(()),
            (None, _) => Err(failure()),
            (Some(error), 0) => Err(error),
            (Some(error), _) => Err(error.context(failure())),
        }
    }

    pub(super) fn print(
        &self,
        format: Format,
        dry_run: bool,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        if format.output.is_json() {
            return output.json(&self.json(dry_run));
        }
        let colours = output.terminal().width.is_some() && std::env::var_os("NO_COLOR").is_none();
        let may_come = dry_run && !self.is_held;
        let may_go = dry_run && !self.has_refusals();
        for item in &self.creates {
            let text = created_text(&item.what);
            print(Sign::Create, (&text, item.status.as_ref()), (may_come, colours), output)?;
        }
        for item in &self.updates {
            let text = updated_text(&item.what);
            print(Sign::Update, (&text, item.status.as_ref()), (may_come, colours), output)?;
        }
        for item in &self.deletes {
            let text = title(&item.what.entry);
            print(Sign::Delete, (&text, item.status.as_ref()), (may_go, colours), output)?;
        }
        output.line(&self.summary(dry_run))?;
        self.print_what_is_left(output)
    }

    /// What is there and would have to go, and why it stays.
    fn print_what_is_left(&self, output: &mut Output) -> anyhow::Result<()> {
        if !self.extra.is_empty() {
            output.note("Not in the file; --prune deletes them:")?;
        }
        for entry in &self.extra {
            output.note(&format!("  {}", title(entry)))?;
        }
        if self.is_held {
            output.note(
                "Nothing is done: what is to be deleted first makes room for what would be refused",
            )?;
        }
        let kept: Vec<_> = self.kept().collect();
        if !kept.is_empty() {
            output.note("Not deleted, as not all of the file is there in their place:")?;
        }
        for entry in kept {
            output.note(&format!("  {}", title(entry)))?;
        }
        for Conflict { wanted, other } in &self.conflicts {
            let (wanted, id) = (title(wanted), shown::plain(&other.id));
            output.note(&format!(
                "In the way of {wanted}: the entry {id}, which is not of this set"
            ))?;
        }
        Ok(())
    }

    /// What is not deleted, since something that is to be there is refused.
    fn kept(&self) -> impl Iterator<Item = &types::Entry> {
        let is_kept = self.has_refusals();
        let rest = self.deletes.iter().filter(move |item| is_kept && item.status.is_none());
        rest.map(|item| &item.what.entry)
    }

    fn summary(&self, dry_run: bool) -> String {
        let (creates, updates, deletes) = (&self.creates, &self.updates, &self.deletes);
        let unchanged = self.unchanged;
        if dry_run {
            let (create, update) =
                if self.is_held { (0, 0) } else { (undecided(creates), undecided(updates)) };
            let delete = if self.has_refusals() { 0 } else { deletes.len() };
            return format!(
                "{create} to create, {update} to update, {delete} to delete, {unchanged} unchanged"
            );
        }
        let (created, updated, deleted) = (done(creates), done(updates), done(deletes));
        format!("{created} created, {updated} updated, {deleted} deleted, {unchanged} unchanged")
    }

    fn json(&self, dry_run: bool) -> Value {
        let status = |status: &Option<types::Status>| json::optional(status.as_ref(), json::status);
        let change = |difference: &difference::Difference| {
            let (from, to) = (&difference.from, &difference.to);
            json!({ "field": difference.field.name(), "from": from, "to": to })
        };
        let created = |item: &Item<types::Entry>| {
            json::object([("entry", json::entry(&item.what)), ("status", status(&item.status))])
        };
        let updated = |item: &Item<Update>| {
            json::object([
                ("id", json!(item.what.wanted.id)),
                ("revision_number", json::integer(item.what.revision)),
                ("changes", json::array(&item.what.differences, change)),
                ("status", status(&item.status)),
            ])
        };
        let deleted = |item: &Item<Delete>| {
            json::object([("id", json!(item.what.entry.id)), ("status", status(&item.status))])
        };
        let conflict = |conflict: &Conflict| {
            let wanted = json::entry(&conflict.wanted);
            json!({ "entry": wanted, "in_the_way": json::entry(&conflict.other) })
        };
        json!({
            "dry_run": dry_run,
            "create": json::array(&self.creates, created),
            "update": json::array(&self.updates, updated),
            "delete": json::array(&self.deletes, deleted),
            "not_pruned": json::array(&self.extra, |entry| json!(entry.id)),
            "kept": self.kept().map(|entry| json!(entry.id)).collect::<Value>(),
            "conflicts": json::array(&self.conflicts, conflict),
            "unchanged": self.unchanged,
        })
    }

    /// How many the server refused.
    fn failed(&self) -> usize {
        let creates = self.creates.iter().map(|item| &item.status);
        let updates = self.updates.iter().map(|item| &item.status);
        let deletes = self.deletes.iter().map(|item| &item.status);
        let statuses = creates.chain(updates).chain(deletes).flatten();
        statuses.filter(|status| status.code != 0).count()
    }
}

impl<T> Item<T> {
    fn is_done(&self) -> bool {
        batch::is_ok(self.status.as_ref())
    }
}

impl Sign {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The first line in colour, if there are any.
    fn paint(self, text: &str, colours: bool) -> String {
        let (sign, colour) = match self {
            Self::Create => ('+', 32),
            Self::Update => ('~', 33),
            Self::Delete => ('-', 31),
        };
        if !colours {
            return format!("{sign} {text}");
        }
        let (first, rest) = text.split_once('\n').map_or((text, None), |(a, b)| (a, Some(b)));
        let rest = rest.map(|rest| format!("\n{rest}")).unwrap_or_default();
        format!("\x1b[{colour}m{sign} {first}\x1b[0m{rest}")
    }
}

/// Prints what is to be done or was done to standard output, and what failed to standard error.
fn print(
    sign: Sign,
    (text, status): (&str, Option<&types::Status>),
    (dry_run, colours): (bool, bool),
    output: &mut Output,
) -> anyhow::Result<()> {
    match status {
        Some(status) if status.code != 0 => {
            let (verb, failure) = (sign.verb(), pretty::failure(status));
            output.note(&format!("Failed to {verb} the following entry {failure}:\n  {text}"))
        }
        Some(_) => output.line(&sign.paint(text, colours)),
        None if dry_run => output.line(&sign.paint(text, colours)),
        None => Ok(()),
    }
}

fn items<T>(all: Vec<T>) -> Vec<Item<T>> {
    all.into_iter().map(|what| Item { what, status: None }).collect()
}

/// How many of them are done.
fn done<T>(items: &[Item<T>]) -> usize {
    items.iter().filter(|item| item.is_done()).count()
}

/// Of how many the server has not said anything.
fn undecided<T>(items: &[Item<T>]) -> usize {
    items.iter().filter(|item| item.status.is_none()).count()
}

/// Which entry it is.
fn title(entry: &types::Entry) -> String {
    let id = shown::plain(&shown::spiffe_id(entry.spiffe_id.as_ref()));
    match &*entry.id {
        "" => id,
        name => format!("{id} ({})", shown::plain(name)),
    }
}

/// An entry with all that is said in it.
fn created_text(entry: &types::Entry) -> String {
    let mut text = title(entry);
    for difference in difference::between(&types::Entry::default(), entry) {
        if difference.field != difference::Field::SpiffeId {
            text += &format!("\n    {}: {}", difference.field.name(), shown(&difference.to));
        }
    }
    text
}

/// An entry with what changes in it.
fn updated_text(update: &Update) -> String {
    let mut text = title(&update.wanted);
    for difference in &update.differences {
        let (from, to) = (shown(&difference.from), shown(&difference.to));
        text += &format!("\n    {}: {from} -> {to}", difference.field.name());
    }
    text
}

#[cfg(test)]
mod tests;
