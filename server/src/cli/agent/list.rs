//! `agent list` and `agent count`.

use clap::Args;
use serde_json::json;
use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::shown;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::types;

use super::filter::Filter;
use crate::cli::batch::{self, Progress};
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, ListFormat, ListStyle, json, pretty, table};

/// What `agent list` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: ListFormat,
    #[command(flatten)]
    filter: Filter,
}

/// What `agent count` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    filter: Filter,
}

impl List {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let agents = all(&client, self.filter.for_list()).await?;
        match self.format.output.unwrap_or(self.format.default(output)) {
            ListStyle::Json => {
                let agents = json::array(&agents, json::agent);
                output.json(&json!({ "agents": agents, "next_page_token": "" }))
            }
            ListStyle::Pretty | ListStyle::Table if agents.is_empty() => {
                output.line("No attested agents found")
            }
            ListStyle::Pretty => {
                let count = pretty::count(agents.len(), "attested agent", "attested agents");
                output.line(&format!("Found {count}:\n"))?;
                agents.iter().try_for_each(|agent| output.raw(pretty::agent(agent, &[]).as_bytes()))
            }
            ListStyle::Table => {
                let now = unix_seconds(SystemClock.now());
                let rows: Vec<_> = agents.iter().map(|agent| row(agent, now)).collect();
                let header = ["SPIFFE ID", "ATTESTATION", "STATE", "EXPIRES", "VERSION"];
                output.raw(table::render(header, &rows, output.terminal().width).as_bytes())
            }
        }
    }
}

impl Count {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::CountAgentsRequest { filter: self.filter.for_count() };
        let count = client.answer(client.agents().count_agents(request)).await?.count;
        if self.format.output.is_json() {
            return output.json(&json!({ "count": count }));
        }
        let number = usize::try_from(count).unwrap_or_default();
        output.line(&pretty::count(number, "attested agent", "attested agents"))
    }
}

/// The agents that match, in the order of their names.
pub(super) async fn all(
    client: &Client,
    filter: Option<pb::list_agents_request::Filter>,
) -> anyhow::Result<Vec<types::Agent>> {
    let mut progress = Progress::start(client.terminal());
    let mut agents: Vec<types::Agent> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListAgentsRequest {
            filter: filter.clone(),
            output_mask: None,
            page_size: batch::page_size()?,
            page_token: page_token.clone(),
        };
        let page = client.answer(client.agents().list_agents(request)).await?;
        agents.extend(page.agents);
        match batch::next_page(page.next_page_token, &page_token)? {
            Some(next) => page_token = next,
            None => break,
        }
        progress.show(agents.len(), None, "agents");
    }
    agents.sort_by_cached_key(|agent| shown::spiffe_id(agent.id.as_ref()));
    Ok(agents)
}

fn row(agent: &types::Agent, now: i64) -> [String; 5] {
    let state = match agent {
        types::Agent { banned: true, .. } => "banned",
        types::Agent { x509svid_expires_at, .. } if *x509svid_expires_at <= now => "expired",
        types::Agent { .. } => "active",
    };
    [
        shown::plain(&shown::spiffe_id(agent.id.as_ref())),
        shown::plain(&agent.attestation_type),
        state.to_owned(),
        shown::time(agent.x509svid_expires_at).replace(" +0000 UTC", "Z"),
        shown::plain(&agent.agent_version),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    #[track_caller]
    fn check(banned: bool, now: i64, state: &str) {
        let agent = types::Agent { banned, ..testing::full_agent() };
        let expected =
            ["spiffe://td/spire/agent/x", "x509pop", state, "2033-05-18 03:33:20Z", "1.2"];
        assert_eq!(row(&agent, now), expected);
    }

    #[test]
    fn a_row_says_in_what_state_the_agent_is() {
        check(false, testing::TIME - 1, "active");
        check(false, testing::TIME, "expired");
        check(true, testing::TIME, "banned");
    }
}
