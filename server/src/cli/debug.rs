//! `debug`: what a running server says of itself.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple::shown::{self, Certificate};
use steeple_proto::spire::api::server::debug::v1 as pb;

use super::output::Output;
use super::{Connection, Format};

/// What can be looked into.
#[derive(Debug, Subcommand)]
pub(super) enum Debug {
    /// Show how long the server runs, how much it holds, and its own certificates
    Getinfo(Getinfo),
}

/// What `debug getinfo` is told.
#[derive(Args, Debug)]
pub(super) struct Getinfo {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

impl Debug {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Getinfo(getinfo) => getinfo.run(output).await,
        }
    }
}

impl Getinfo {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let info = client.answer(client.debug().get_info(pb::GetInfoRequest {})).await?;
        if self.format.output.is_json() {
            return output.json(&info_json(&info));
        }
        output.raw(info_text(&info).as_bytes())
    }
}

fn chain(info: &pb::GetInfoResponse) -> Vec<Certificate<'_>> {
    let certificates = info.svid_chain.iter();
    let shown = certificates.map(|certificate| Certificate {
        id: certificate.id.as_ref(),
        subject: &certificate.subject,
        expires_at: certificate.expires_at,
    });
    shown.collect()
}

fn info_json(info: &pb::GetInfoResponse) -> Value {
    json!({
        "svid_chain": shown::svid_chain_json(&chain(info)),
        "uptime": info.uptime,
        "agents_count": info.agents_count,
        "entries_count": info.entries_count,
        "federated_bundles_count": info.federated_bundles_count,
    })
}

fn info_text(info: &pb::GetInfoResponse) -> String {
    format!(
        "Server Debug Info:\n  \
         Uptime:                  {}\n  \
         Registered Agents:       {}\n  \
         Registration Entries:    {}\n  \
         Federated Bundles:       {}\n{}",
        shown::uptime(info.uptime),
        info.agents_count,
        info.entries_count,
        info.federated_bundles_count,
        shown::svid_chain(&chain(info)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    fn info() -> pb::GetInfoResponse {
        pb::GetInfoResponse {
            svid_chain: vec![pb::get_info_response::Cert {
                id: Some(testing::id("/spire/server")),
                expires_at: testing::TIME,
                subject: "C=US,O=SPIRE".into(),
            }],
            uptime: 3_661,
            agents_count: 2,
            federated_bundles_count: 0,
            entries_count: 7,
        }
    }

    #[test]
    fn what_a_server_says_of_itself_is_for_people_and_for_programs() {
        assert_eq!(
            info_text(&info()),
            "Server Debug Info:\n  \
             Uptime:                  1h1m1s\n  \
             Registered Agents:       2\n  \
             Registration Entries:    7\n  \
             Federated Bundles:       0\n  \
             SVID Chain:\n    \
             [0] SPIFFE ID:  spiffe://td/spire/server\n        \
             Subject:    C=US,O=SPIRE\n        \
             Expires At: 2033-05-18T03:33:20Z\n"
        );
        let expected = json!({
            "svid_chain": [{
                "id": { "trust_domain": "td", "path": "/spire/server" },
                "expires_at": "2000000000",
                "subject": "C=US,O=SPIRE",
            }],
            "uptime": 3_661,
            "agents_count": 2,
            "entries_count": 7,
            "federated_bundles_count": 0,
        });
        assert_eq!(info_json(&info()), expected);
    }
}
