//! `logger` and `debug`: what is asked of a running agent on its admin socket.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple::clock::from_unix_seconds;
use steeple::convert::log_level_to_proto;
use steeple::shown::{self, Certificate};
use steeple::telemetry::Level;
use steeple_proto::spire::agent::debug::v1::debug_client::DebugClient;
use steeple_proto::spire::agent::debug::v1::{GetInfoRequest, GetInfoResponse};
use steeple_proto::spire::api::agent::logger::v1::logger_client::LoggerClient;
use steeple_proto::spire::api::agent::logger::v1::{
    GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest,
};

use super::output::Output;
use super::{AdminConnection, Format};

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub(super) enum Logger {
    /// Show how much is logged, and how much was at the start
    Get(Plain),
    /// Log more or less from now on, until the agent is started again
    Set(Set),
    /// Log as much as at the start again
    Reset(Plain),
}

/// What can be looked into.
#[derive(Debug, Subcommand)]
pub(super) enum Debug {
    /// Show how long the agent runs, how much it holds, and its own certificates
    Getinfo(Plain),
}

/// What a command without parameters of its own is told.
#[derive(Args, Debug)]
pub(super) struct Plain {
    #[command(flatten)]
    connection: AdminConnection,
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
        let plain = match &self {
            Self::Get(plain) | Self::Reset(plain) => plain,
            Self::Set(set) => &set.plain,
        };
        let client = plain.connection.connect().await?;
        let mut api = LoggerClient::new(client.channel());
        let answer = match &self {
            Self::Get(_) => client.answer(api.get_logger(GetLoggerRequest {})).await?,
            Self::Reset(_) => client.answer(api.reset_log_level(ResetLogLevelRequest {})).await?,
            Self::Set(set) => {
                let request =
                    SetLogLevelRequest { new_level: log_level_to_proto(set.level).into() };
                client.answer(api.set_log_level(request)).await?
            }
        };
        let logger = answer.into_inner();
        if plain.format.output.is_json() {
            return output.json(&shown::logger_json(&logger));
        }
        output.raw(shown::logger(&logger).as_bytes())
    }
}

impl Debug {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let Self::Getinfo(plain) = self;
        let client = plain.connection.connect().await?;
        let mut api = DebugClient::new(client.channel());
        let info = client.answer(api.get_info(GetInfoRequest {})).await?.into_inner();
        if plain.format.output.is_json() {
            return output.json(&as_json(&info));
        }
        output.raw(as_text(&info).as_bytes())
    }
}

fn chain(info: &GetInfoResponse) -> Vec<Certificate<'_>> {
    let certificates = info.svid_chain.iter();
    let shown = certificates.map(|certificate| Certificate {
        id: certificate.id.as_ref(),
        subject: &certificate.subject,
        expires_at: certificate.expires_at,
    });
    shown.collect()
}

/// As SPIRE prints it: names of the wire format, and 64-bit numbers as texts.
fn as_json(info: &GetInfoResponse) -> Value {
    json!({
        "svid_chain": shown::svid_chain_json(&chain(info)),
        "uptime": info.uptime,
        "svids_count": info.svids_count,
        "last_sync_success": info.last_sync_success.to_string(),
        "cached_x509_svids_count": info.cached_x509_svids_count,
        "cached_jwt_svids_count": info.cached_jwt_svids_count,
        "cached_svidstore_x509_svids_count": info.cached_svidstore_x509_svids_count,
    })
}

fn as_text(info: &GetInfoResponse) -> String {
    let synced = match info.last_sync_success {
        0 => "(never)".to_owned(),
        seconds => humantime::format_rfc3339_seconds(from_unix_seconds(seconds)).to_string(),
    };
    format!(
        "Agent Debug Info:\n  \
         Uptime:                          {}\n  \
         Last Sync Success:               {synced}\n  \
         Cached X.509 SVIDs:              {}\n  \
         Cached JWT SVIDs:                {}\n  \
         Cached SVID Store X.509 SVIDs:   {}\n{}",
        shown::uptime(info.uptime),
        info.cached_x509_svids_count,
        info.cached_jwt_svids_count,
        info.cached_svidstore_x509_svids_count,
        shown::svid_chain(&chain(info)),
    )
}

#[cfg(test)]
mod tests {
    use steeple_proto::spire::agent::debug::v1::get_info_response;
    use steeple_proto::spire::api::types;

    use super::*;

    #[test]
    fn what_an_agent_says_of_itself_is_for_people_and_for_programs() {
        let id = types::Spiffeid { trust_domain: "td".into(), path: "/spire/agent/a".into() };
        let info = GetInfoResponse {
            svid_chain: vec![get_info_response::Cert {
                id: Some(id),
                expires_at: 2_000_000_000,
                subject: "C=US,O=SPIRE".into(),
            }],
            uptime: 61,
            svids_count: 3,
            last_sync_success: 1_900_000_000,
            cached_x509_svids_count: 3,
            cached_jwt_svids_count: 1,
            cached_svidstore_x509_svids_count: 0,
        };
        let expected = json!({
            "svid_chain": [{
                "id": { "trust_domain": "td", "path": "/spire/agent/a" },
                "expires_at": "2000000000",
                "subject": "C=US,O=SPIRE",
            }],
            "uptime": 61,
            "svids_count": 3,
            "last_sync_success": "1900000000",
            "cached_x509_svids_count": 3,
            "cached_jwt_svids_count": 1,
            "cached_svidstore_x509_svids_count": 0,
        });
        assert_eq!(as_json(&info), expected);
        assert_eq!(
            as_text(&info),
            "Agent Debug Info:\n  \
             Uptime:                          1m1s\n  \
             Last Sync Success:               2030-03-17T17:46:40Z\n  \
             Cached X.509 SVIDs:              3\n  \
             Cached JWT SVIDs:                1\n  \
             Cached SVID Store X.509 SVIDs:   0\n  \
             SVID Chain:\n    \
             [0] SPIFFE ID:  spiffe://td/spire/agent/a\n        \
             Subject:    C=US,O=SPIRE\n        \
             Expires At: 2033-05-18T03:33:20Z\n"
        );
        let never = as_text(&GetInfoResponse::default());
        assert!(never.contains("Last Sync Success:               (never)\n"), "{never}");
    }
}
