//! `healthcheck`: whether a running agent is healthy, and if not, why.

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use steeple::health::detail;
use steeple::shown;
use tonic::Response;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::output::Output;
use super::{Connection, Format};

/// What `healthcheck` is told.
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Say what is being done
    #[arg(long)]
    verbose: bool,
    /// As with SPIRE's agent, of no effect
    #[arg(long, hide = true)]
    shallow: bool,
}

impl Healthcheck {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        if self.verbose && !self.format.output.is_json() {
            output.line("Checking agent health...")?;
        }
        let answer = self.ask().await.context("Agent is unhealthy: unable to determine health")?;
        let detail = detail(&answer).to_owned();
        let healthy = answer.into_inner().status() == ServingStatus::Serving;
        if self.format.output.is_json() {
            output.json(&json!({ "healthy": healthy, "detail": detail }))?;
        }
        if !healthy {
            bail!("Agent is unhealthy: agent returned status \"NOT_SERVING\": {detail}");
        }
        if !self.format.output.is_json() {
            output.line("Agent is healthy.")?;
            output.line(&shown::plain(&detail))?;
        }
        Ok(())
    }

    async fn ask(&self) -> anyhow::Result<Response<HealthCheckResponse>> {
        let client = self.connection.connect().await?;
        let mut health = HealthClient::new(client.channel());
        let asked = HealthCheckRequest { service: String::new() };
        client.answer(health.check(asked)).await
    }
}
