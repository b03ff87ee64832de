//! `upstreamauthority`: the authorities above the server's own.

use clap::{Args, Subcommand};
use serde_json::json;
use steeple::shown;
use steeple_proto::spire::api::server::localauthority::v1 as pb;

use super::output::Output;
use super::{Connection, Format, json as wire};

/// What can be done with them.
#[derive(Debug, Subcommand)]
pub(super) enum UpstreamAuthority {
    /// Mark an upstream authority as no longer to be relied on, so that all below it is replaced
    Taint(Named),
    /// No longer vouch for a tainted upstream authority
    Revoke(Named),
}

/// Which one.
#[derive(Args, Debug)]
pub(super) struct Named {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The subject key identifier of its certificate in hexadecimal, as `localauthority x509 show`
    /// prints it
    #[arg(long, value_name = "ID", alias = "subjectKeyID")]
    subject_key_id: String,
}

impl UpstreamAuthority {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let (title, named) = match &self {
            Self::Taint(named) => ("Tainted", named),
            Self::Revoke(named) => ("Revoked", named),
        };
        let client = named.connection.connect(output).await?;
        let (mut calls, subject_key_id) = (client.authorities(), named.subject_key_id.clone());
        let changed = match &self {
            Self::Taint(_) => {
                let request = pb::TaintX509UpstreamAuthorityRequest { subject_key_id };
                let answer = client.answer(calls.taint_x509_upstream_authority(request)).await?;
                answer.upstream_authority_subject_key_id
            }
            Self::Revoke(_) => {
                let request = pb::RevokeX509UpstreamAuthorityRequest { subject_key_id };
                let answer = client.answer(calls.revoke_x509_upstream_authority(request)).await?;
                answer.upstream_authority_subject_key_id
            }
        };
        if named.format.output.is_json() {
            let member = ("upstream_authority_subject_key_id", json!(changed));
            return output.json(&wire::object([member]));
        }
        output.line(&format!("{title} X.509 upstream authority:"))?;
        output.line(&format!("  Subject Key ID: {}", shown::plain(&changed)))
    }
}
