//! `bundle delete`: forgets a foreign trust domain.

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::json;
use steeple::id::TrustDomain;
use steeple::shown;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::server::bundle::v1::batch_delete_federated_bundle_request as wire;

use super::result_json;
use crate::cli::args::trust_domain;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `bundle delete` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The foreign trust domain; may be repeated
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain, required = true)]
    id: Vec<TrustDomain>,
    /// What becomes of the entries that federate with it
    #[arg(long, value_name = "MODE", default_value = "restrict", ignore_case = true)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// If there are any, nothing is deleted
    Restrict,
    /// They are deleted, too
    Delete,
    /// They stay, and do not federate with it any more
    Dissociate,
}

impl Delete {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::BatchDeleteFederatedBundleRequest {
            trust_domains: self.id.iter().map(ToString::to_string).collect(),
            mode: self.mode.on_the_wire(),
        };
        let call = client.answer(client.bundles().batch_delete_federated_bundle(request)).await?;
        let results = call.results;
        let is_ok = |result: &pb::batch_delete_federated_bundle_response::Result| {
            batch::is_ok(result.status.as_ref())
        };
        if self.format.output.is_json() {
            let results = json::array(&results, |result| {
                result_json(result.status.as_ref(), ("trust_domain", json!(result.trust_domain)))
            });
            output.json(&json!({ "results": results }))?;
        } else {
            for result in results.iter().filter(|result| is_ok(result)) {
                match self.id.len() {
                    1 => output.line("bundle deleted.")?,
                    _ => output.line(&format!("bundle deleted: {}", result.trust_domain))?,
                }
            }
            for result in results.iter().filter(|result| !is_ok(result)) {
                let failure = pretty::failure(&result.status.clone().unwrap_or_default());
                let name = shown::plain(&result.trust_domain);
                output.note(&format!("Failed to delete the bundle of {name} {failure}"))?;
            }
        }
        match results.iter().filter(|result| is_ok(result)).count() {
            deleted if deleted == self.id.len() => Ok(()),
            deleted => bail!(
                "failed to delete {} of {} bundles",
                self.id.len().saturating_sub(deleted),
                self.id.len()
            ),
        }
    }
}

impl Mode {
    fn on_the_wire(self) -> i32 {
        let mode = match self {
            Self::Restrict => wire::Mode::Restrict,
            Self::Delete => wire::Mode::Delete,
            Self::Dissociate => wire::Mode::Dissociate,
        };
        mode.into()
    }
}
