//! `token`: join tokens.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::shown;
use steeple_proto::spire::api::server::agent::v1 as pb;

use super::args::Seconds;
use super::output::Output;
use super::{Connection, Format, json};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token that one node can join with, once
    Generate(Generate),
}

/// What `token generate` is told.
#[derive(Args, Debug)]
pub(super) struct Generate {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// How long the token can be used, in seconds or as 10m
    #[arg(long, value_name = "TIME", default_value = "600")]
    ttl: Seconds,
    /// A further name for the agent, which entries can have as their parent
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: Option<SpiffeId>,
}

impl Token {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(output).await,
        }
    }
}

impl Generate {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::CreateJoinTokenRequest {
            ttl: self.ttl.0,
            token: String::new(),
            agent_id: self.spiffe_id.as_ref().map(id_to_proto),
        };
        let token = client.answer(client.agents().create_join_token(request)).await;
        let token = token.with_context(|| match &self.spiffe_id {
            Some(id) => format!("no token for {id}, valid for {} s", self.ttl.0),
            None => format!("no token, valid for {} s", self.ttl.0),
        })?;
        if self.format.output.is_json() {
            return output.json(&json::join_token(&token));
        }
        output.line(&format!("Token: {}", shown::plain(&token.value)))?;
        if self.spiffe_id.is_none() {
            output.note(
                "Warning: Missing SPIFFE ID. Entries for this agent need its own ID as their \
                 parent, which ends in the token; --spiffe-id gives it a name that you choose.",
            )?;
        }
        Ok(())
    }
}
