//! `logger`: how much a running server logs.

use clap::{Args, Subcommand};
use steeple::convert::log_level_to_proto;
use steeple::shown;
use steeple::telemetry::Level;
use steeple_proto::spire::api::server::logger::v1 as pb;

use super::output::Output;
use super::{Connection, Format};

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub(super) enum Logger {
    /// Show how much is logged, and how much was at the start
    Get(Plain),
    /// Log more or less from now on, until the server is started again
    Set(Set),
    /// Log as much as at the start again
    Reset(Plain),
}

/// What `logger get` and `logger reset` are told.
#[derive(Args, Debug)]
pub(super) struct Plain {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

/// What `logger set` is told.
#[derive(Args, Debug)]
pub(super) struct Set {
    #[command(flatten)]
    plain: Plain,
    /// How much to log
    #[arg(long, value_name = "LEVEL", ignore_case = true)]
    level: Level,
}

impl Logger {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let (plain, request) = match self {
            Self::Get(plain) => (plain, None),
            Self::Set(set) => (set.plain, Some(Some(set.level))),
            Self::Reset(plain) => (plain, Some(None)),
        };
        let client = plain.connection.connect(output).await?;
        let mut api = client.loggers();
        let logger = match request {
            None => client.answer(api.get_logger(pb::GetLoggerRequest {})).await?,
            Some(None) => client.answer(api.reset_log_level(pb::ResetLogLevelRequest {})).await?,
            Some(Some(level)) => {
                let request =
                    pb::SetLogLevelRequest { new_level: log_level_to_proto(level).into() };
                client.answer(api.set_log_level(request)).await?
            }
        };
        if plain.format.output.is_json() {
            return output.json(&shown::logger_json(&logger));
        }
        output.raw(shown::logger(&logger).as_bytes())
    }
}
