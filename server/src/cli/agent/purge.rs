//! `agent purge`: evicts agents that expired long ago.
//!
//! Only those go that could come back, or that could not come back without a new token. The others
//! were trusted on first use: to forget them would let somebody else be the first. A banned agent
//! stays, since to forget it would lift the ban.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::config::HumanDuration;
use steeple::shown;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::types;
use tonic::Code;

use super::filter::on_the_wire;
use super::list;
use crate::cli::args::Moment;
use crate::cli::batch::Progress;
use crate::cli::client::{Client, explain};
use crate::cli::output::Output;
use crate::cli::{Connection, Format, json, pretty};

/// What `agent purge` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Purge {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// How long ago an agent's certificate has to have ended
    #[arg(long, value_name = "DURATION", default_value = "720h", alias = "expiredFor")]
    expired_for: HumanDuration,
    /// Only say which agents would be evicted
    #[arg(long, alias = "dryRun")]
    dry_run: bool,
}

/// What became of one agent.
#[derive(Debug)]
struct Purged {
    id: String,
    deleted: bool,
    error: Option<String>,
}

impl Purge {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let before = SystemClock.now().checked_sub(self.expired_for.0);
        let before = unix_seconds(before.ok_or_else(|| anyhow!("--expired-for is too long"))?);
        let mut purged = Vec::new();
        let mut progress = Progress::start(output.terminal());
        let expired = expired(&client, before).await?;
        let total = expired.len();
        for (id, agent) in expired {
            purged.push(if self.dry_run {
                Purged { id, deleted: false, error: None }
            } else {
                evict(&client, id, agent.id).await?
            });
            progress.show(purged.len(), Some(total), "agents evicted");
        }
        drop(progress);
        if self.format.output.is_json() {
            // SPIRE's tools print what is no message as an array.
            output.json(&json!([{ "expired_agents": json::array(&purged, Purged::json) }]))?;
        } else {
            self.print(&purged, output)?;
        }
        match purged.iter().filter(|agent| agent.error.is_some()).count() {
            0 => Ok(()),
            failed => bail!("failed to evict {failed} of {} agents", purged.len()),
        }
    }

    fn print(&self, purged: &[Purged], output: &mut Output) -> anyhow::Result<()> {
        if purged.is_empty() {
            return output.line("No agents to purge.");
        }
        let count = pretty::count(purged.len(), "expired agent", "expired agents");
        output.line(&format!("Found {count}\n"))?;
        let line = |agent: &Purged| format!("SPIFFE ID         : {}", agent.id);
        if self.dry_run {
            output.line("Agents that can be purged:")?;
            return purged.iter().try_for_each(|agent| output.line(&line(agent)));
        }
        if purged.iter().any(|agent| agent.deleted) {
            output.line("Agents purged:")?;
        }
        for agent in purged.iter().filter(|agent| agent.deleted) {
            output.line(&line(agent))?;
        }
        if purged.iter().any(|agent| !agent.deleted) {
            output.note("Agents not purged:")?;
        }
        for agent in purged.iter().filter(|agent| !agent.deleted) {
            let error = agent.error.as_deref().unwrap_or_default();
            output.note(&format!("{}\nError             : {error}", line(agent)))?;
        }
        Ok(())
    }
}

impl Purged {
    fn json(&self) -> Value {
        json::object([
            ("agent_id", json!(self.id)),
            ("deleted", json!(self.deleted)),
            ("error", json!(self.error)),
        ])
    }
}

/// The agents that may go, by their names.
async fn expired(client: &Client, before: i64) -> anyhow::Result<BTreeMap<String, types::Agent>> {
    let filter = pb::list_agents_request::Filter {
        by_banned: Some(false),
        by_expires_before: on_the_wire(Moment(before)).map_err(anyhow::Error::msg)?,
        ..pb::list_agents_request::Filter::default()
    };
    let agents = list::all(client, Some(filter)).await?;
    let named = |agent: types::Agent| (shown::spiffe_id(agent.id.as_ref()), agent);
    Ok(agents.into_iter().filter(|agent| may_go(agent, before)).map(named).collect())
}

/// Whether to forget an agent is safe. The server was asked for some of this; to delete, its word
/// is not enough.
fn may_go(agent: &types::Agent, before: i64) -> bool {
    let can_return_as_itself_alone = agent.can_reattest || agent.attestation_type == "join_token";
    can_return_as_itself_alone && !agent.banned && agent.x509svid_expires_at < before
}

async fn evict(
    client: &Client,
    id: String,
    wire: Option<types::Spiffeid>,
) -> anyhow::Result<Purged> {
    let request = pb::DeleteAgentRequest { id: wire };
    Ok(match client.outcome(client.agents().delete_agent(request)).await? {
        Ok(()) => Purged { id, deleted: true, error: None },
        // Somebody else was faster.
        Err(status) if status.code() == Code::NotFound => Purged { id, deleted: true, error: None },
        Err(status) => Purged { id, deleted: false, error: Some(explain(&status).to_string()) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    #[track_caller]
    fn check(change: impl FnOnce(&mut types::Agent), expected: bool) {
        let mut agent = testing::full_agent();
        change(&mut agent);
        assert_eq!(may_go(&agent, testing::TIME + 1), expected);
    }

    #[test]
    fn only_who_expired_and_cannot_be_impersonated_may_go() {
        check(|_| {}, true);
        check(|agent| agent.x509svid_expires_at += 1, false);
        check(|agent| agent.banned = true, false);
        check(|agent| agent.can_reattest = false, false);
        check(
            |agent| {
                agent.can_reattest = false;
                agent.attestation_type = "join_token".into();
            },
            true,
        );
    }
}
