//! `api watch`: every state of this process's X.509-SVIDs, until interrupted.

use std::time::{Duration, Instant};

use clap::Args;
use steeple::backoff::{Backoff, random_fraction};
use steeple::clock::{Clock as _, SystemClock};
use steeple_proto::workload::{X509svidRequest, X509svidResponse};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::client::{Client, explain, request};
use super::fetch_x509::Checked;
use super::output::Output;
use super::{Connection, Format};

/// How long to wait before the next try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What `api watch` is told.
#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

impl Watch {
    /// Goes on where there is nothing to show yet, or not at the moment, as client libraries do.
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect().await?;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = None;
        let mut last = Instant::now();
        loop {
            let status = self.follow(&client, output, (&mut backoff, &mut last)).await?;
            if is_final(status.code()) {
                return Err(explain(&status));
            }
            let trouble = (status.code(), status.message().to_owned());
            if told.as_ref() != Some(&trouble) {
                output.error(&explain(&status));
                told = Some(trouble);
            }
            sleep(backoff.wait(random_fraction())).await;
        }
    }

    /// Shows one stream to its end; why it has ended.
    async fn follow(
        &self,
        client: &Client,
        output: &mut Output,
        (backoff, last): (&mut Backoff, &mut Instant),
    ) -> anyhow::Result<Status> {
        let mut api = client.workload_api();
        let opened = api.fetch_x509svid(request(X509svidRequest {}));
        let mut stream = match timeout(self.connection.timeout.0, opened).await {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => return Ok(status),
            Err(_) => return Ok(Status::deadline_exceeded("the agent did not answer in time")),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    let elapsed = std::mem::replace(last, Instant::now()).elapsed();
                    self.show(message, elapsed, output)?;
                }
                Ok(None) => return Ok(Status::unavailable("the agent closed the stream")),
                Err(status) => return Ok(status),
            }
            backoff.reset();
        }
    }

    /// Shows a message that came after this time.
    fn show(
        &self,
        message: X509svidResponse,
        elapsed: Duration,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let now = SystemClock.now();
        let checked = Checked::of(message, now)?;
        if self.format.output.is_json() {
            return output.json(&checked.json());
        }
        checked.print(elapsed, output)?;
        output.line("")
    }
}

/// Whether to ask again is of no use (Workload Endpoint 5).
fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::Unimplemented)
}
