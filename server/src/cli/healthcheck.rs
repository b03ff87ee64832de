//! `healthcheck`: whether a running server is healthy, and if not, why.

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
        let answer = self.ask(output).await;
        if is_json {
            let healthy = answer.as_ref().is_ok_and(|answer| self.is_well(answer));
            let detail = match &answer {
                Ok(answer) => detail(answer).to_owned(),
                Err(error) => format!("{error:#}"),
            };
            output.json(&json!({ "healthy": healthy, "detail": detail }))?;
        }
        let answer = answer.context("server is unhealthy: unable to determine health")?;
        if !self.is_well(&answer) {
            let why = shown::plain(detail(&answer));
            bail!("server is unhealthy: server returned status \"NOT_SERVING\": {why}");
        }
        if !is_json {
            output.line("Server is healthy.")?;
        }
        Ok(())
    }

    fn is_well(&self, answer: &Response<HealthCheckResponse>) -> bool {
        self.shallow || answer.get_ref().status() == ServingStatus::Serving
    }

    async fn ask(&self, output: &Output) -> anyhow::Result<Response<HealthCheckResponse>> {
        let client = self.connection.connect(output).await?;
        let mut health = HealthClient::new(client.channel());
        let asked = HealthCheckRequest { service: String::new() };
        client.answer(async { Ok(Response::new(health.check(asked).await?)) }).await
    }
}
