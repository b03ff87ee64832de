//! `healthcheck`: whether a running server is healthy.

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::output::Output;
use super::{Connection, Format};

/// What `healthcheck` is told.
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Only whether the server answers at all, and not whether it can do its work
    #[arg(long)]
    shallow: bool,
    /// Say what is being done
    #[arg(long)]
    verbose: bool,
}

impl Healthcheck {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let is_json = self.format.output.is_json();
        if self.verbose && !is_json {
            output.line("Checking server health...")?;
            output.note(&format!("The admin socket is {}", self.connection.path()?.display()))?;
        }
        let healthy = self.is_healthy(output).await;
        if is_json {
            output.json(&json!({ "healthy": matches!(healthy, Ok(true)) }))?;
        }
        if !healthy.context("server is unhealthy: unable to determine health")? {
            bail!("server is unhealthy: server returned status \"NOT_SERVING\"; its log says why");
        }
        if !is_json {
            output.line("Server is healthy.")?;
        }
        Ok(())
    }

    async fn is_healthy(&self, output: &Output) -> anyhow::Result<bool> {
        let client = self.connection.connect(output).await?;
        let mut health = HealthClient::new(client.channel());
        let asked = HealthCheckRequest { service: String::new() };
        let answer = client.answer(health.check(asked)).await?;
        Ok(self.shallow || answer.status() == ServingStatus::Serving)
    }
}
