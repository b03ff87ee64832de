//! `api watch`: every state of this process's X.509-SVIDs, until interrupted.

use anyhow::bail;
use clap::Args;
use steeple::clock::{Clock as _, SystemClock};
use steeple_proto::workload::X509svidRequest;

use super::client::{explain, request};
use super::fetch_x509::Checked;
use super::output::Output;
use super::{Connection, Format};

/// What `api watch` is told.
#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

impl Watch {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect().await?;
        let mut api = client.workload_api();
        let opened = client.answer(api.fetch_x509svid(request(X509svidRequest {}))).await?;
        let mut stream = opened.into_inner();
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => bail!("the agent closed the stream"),
                Err(status) => return Err(explain(&status)),
            };
            let now = SystemClock.now();
            let checked = Checked::of(message, now)?;
            if self.format.output.is_json() {
                output.json(&checked.json())?;
            } else {
                output.line(&format!("--- {}", humantime::format_rfc3339_seconds(now)))?;
                checked.print(output)?;
            }
        }
    }
}
