//! `agent`: the nodes that are attested.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple_proto::spire::api::server::agent::v1 as pb;

use super::output::Output;
use super::{Connection, Format, json, pretty};

mod filter;
mod list;
mod purge;

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(super) enum Agent {
    /// List the agents that match, or all
    List(list::List),
    /// Count the agents that match, or all
    Count(list::Count),
    /// Show one agent and its selectors
    Show(Named),
    /// Ban an agent: it gets nothing any more and cannot attest again until it is evicted
    Ban(Named),
    /// Forget an agent, banned or not: it may attest again
    Evict(Named),
    /// Evict the agents that expired long ago
    Purge(purge::Purge),
}

/// One agent.
#[derive(Args, Debug)]
pub(super) struct Named {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The agent
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: SpiffeId,
}

impl Agent {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(output).await,
            Self::Count(count) => count.run(output).await,
            Self::Show(named) => named.show(output).await,
            Self::Ban(named) => named.ban(output).await,
            Self::Evict(named) => named.evict(output).await,
            Self::Purge(purge) => purge.run(output).await,
        }
    }
}

impl Named {
    async fn show(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request =
            pb::GetAgentRequest { id: Some(id_to_proto(&self.spiffe_id)), output_mask: None };
        let agent = client.answer(client.agents().get_agent(request)).await;
        let agent = agent.with_context(|| self.spiffe_id.to_string())?;
        if self.format.output.is_json() {
            return output.json(&json::agent(&agent));
        }
        output.line("Found an attested agent given its SPIFFE ID\n")?;
        output.raw(pretty::agent(&agent, &agent.selectors).as_bytes())
    }

    async fn ban(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::BanAgentRequest { id: Some(id_to_proto(&self.spiffe_id)) };
        let answer = client.answer(client.agents().ban_agent(request)).await;
        answer.with_context(|| self.spiffe_id.to_string())?;
        self.done("Agent banned successfully", output)
    }

    async fn evict(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::DeleteAgentRequest { id: Some(id_to_proto(&self.spiffe_id)) };
        let answer = client.answer(client.agents().delete_agent(request)).await;
        answer.with_context(|| self.spiffe_id.to_string())?;
        self.done("Agent evicted successfully", output)
    }

    fn done(&self, text: &str, output: &mut Output) -> anyhow::Result<()> {
        if self.format.output.is_json() { output.json(&json!({})) } else { output.line(text) }
    }
}
