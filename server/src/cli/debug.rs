//! `debug`: what a running server says of itself.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple_proto::spire::api::server::debug::v1 as pb;

use super::output::Output;
use super::{Connection, Format, json, pretty};

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

fn info_json(info: &pb::GetInfoResponse) -> Value {
    let certificate = |certificate: &pb::get_info_response::Cert| {
        json::object([
            ("id", json::optional(certificate.id.as_ref(), json::spiffe_id)),
            ("expires_at", json::integer(certificate.expires_at)),
            ("subject", json!(certificate.subject)),
        ])
    };
    json!({
        "svid_chain": json::array(&info.svid_chain, certificate),
        "uptime": info.uptime,
        "agents_count": info.agents_count,
        "entries_count": info.entries_count,
        "federated_bundles_count": info.federated_bundles_count,
    })
}

fn info_text(info: &pb::GetInfoResponse) -> String {
    let uptime = std::time::Duration::from_secs(u64::try_from(info.uptime).unwrap_or_default());
    let mut text = format!(
        "Uptime            : {}\nAgents            : {}\nEntries           : {}\n\
         Federated bundles : {}\n",
        humantime::format_duration(uptime),
        info.agents_count,
        info.entries_count,
        info.federated_bundles_count,
    );
    for certificate in &info.svid_chain {
        let id = pretty::plain(&pretty::spiffe_id(certificate.id.as_ref()));
        let end = pretty::time(certificate.expires_at);
        let subject = pretty::plain(&certificate.subject);
        text.push_str(&format!(
            "\nSPIFFE ID         : {id}\nExpiration time   : {end}\nSubject           : {subject}\n"
        ));
    }
    text
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
            "Uptime            : 1h 1m 1s\n\
             Agents            : 2\n\
             Entries           : 7\n\
             Federated bundles : 0\n\n\
             SPIFFE ID         : spiffe://td/spire/server\n\
             Expiration time   : 2033-05-18 03:33:20 +0000 UTC\n\
             Subject           : C=US,O=SPIRE\n"
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
