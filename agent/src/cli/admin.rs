//! `logger` and `debug`: what is asked of a running agent on its admin socket.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple::clock::from_unix_seconds;
use steeple::convert::{log_level_name, log_level_to_proto};
use steeple::telemetry::Level;
use steeple_proto::spire::agent::debug::v1::debug_client::DebugClient;
use steeple_proto::spire::agent::debug::v1::{GetInfoRequest, GetInfoResponse, get_info_response};
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
            return output.json(&json!({
                "current_level": logger.current_level().as_str_name(),
                "launch_level": logger.launch_level().as_str_name(),
            }));
        }
        output.line(&format!("Logger Level : {}", log_level_name(logger.current_level())))?;
        output.line(&format!("Launch Level : {}", log_level_name(logger.launch_level())))
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
        print(&info, output)
    }
}

/// As SPIRE prints it: names of the wire format, and 64-bit numbers as texts.
fn as_json(info: &GetInfoResponse) -> Value {
    let certificate = |certificate: &get_info_response::Cert| {
        let id = certificate.id.as_ref();
        json!({
            "id": id.map(|id| json!({ "trust_domain": id.trust_domain, "path": id.path })),
            "expires_at": certificate.expires_at.to_string(),
            "subject": certificate.subject,
        })
    };
    json!({
        "svid_chain": info.svid_chain.iter().map(certificate).collect::<Vec<_>>(),
        "uptime": info.uptime,
        "svids_count": info.svids_count,
        "last_sync_success": info.last_sync_success.to_string(),
        "cached_x509_svids_count": info.cached_x509_svids_count,
        "cached_jwt_svids_count": info.cached_jwt_svids_count,
        "cached_svidstore_x509_svids_count": info.cached_svidstore_x509_svids_count,
    })
}

fn print(info: &GetInfoResponse, output: &mut Output) -> anyhow::Result<()> {
    let uptime = Duration::from_secs(u64::try_from(info.uptime).unwrap_or_default());
    let synced = match info.last_sync_success {
        0 => "never".to_owned(),
        seconds => time(seconds),
    };
    output.field("Uptime", &humantime::format_duration(uptime).to_string())?;
    output.field("Last sync", &synced)?;
    output.field("X509-SVIDs", &info.cached_x509_svids_count.to_string())?;
    output.field("JWT-SVIDs", &info.cached_jwt_svids_count.to_string())?;
    for certificate in &info.svid_chain {
        output.line("")?;
        if let Some(id) = &certificate.id {
            output.field("SPIFFE ID", &format!("spiffe://{}{}", id.trust_domain, id.path))?;
        }
        output.field("Expiration time", &time(certificate.expires_at))?;
        output.field("Subject", &certificate.subject)?;
    }
    Ok(())
}

fn time(seconds: i64) -> String {
    humantime::format_rfc3339_seconds(from_unix_seconds(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use steeple_proto::spire::api::types;

    use super::*;

    #[test]
    fn the_json_has_the_names_of_the_wire_and_texts_for_long_numbers() {
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
    }
}
