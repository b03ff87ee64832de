//! `healthcheck`: whether a running server is healthy.

use anyhow::bail;
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
    /// Taken as SPIRE's tools take it; it changes nothing
    #[arg(long, hide = true)]
    shallow: bool,
    /// Taken as SPIRE's tools take it; it changes nothing
    #[arg(long, hide = true)]
    verbose: bool,
}

impl Healthcheck {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let healthy = self.is_healthy(output).await;
        if self.format.output.is_json() {
            output.json(&json!({ "healthy": matches!(healthy, Ok(true)) }))?;
        }
        if !healthy? {
            bail!("server is unhealthy; its log says why");
        }
        if !self.format.output.is_json() {
            output.line("Server is healthy.")?;
        }
        Ok(())
    }

    async fn is_healthy(&self, output: &Output) -> anyhow::Result<bool> {
        let client = self.connection.connect(output).await?;
        let mut health = HealthClient::new(client.channel());
        let asked = HealthCheckRequest { service: String::new() };
        let answer = client.answer(health.check(asked)).await?;
        Ok(answer.status() == ServingStatus::Serving)
    }
}
