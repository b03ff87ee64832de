//! `bundle list`: the bundles of foreign trust domains.

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use steeple::id::TrustDomain;
use steeple::shown;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::types;

use super::Encoding;
use crate::cli::args::trust_domain;
use crate::cli::batch;
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, json};

/// What stands above and below the name of a trust domain.
const RULE: &str = "****************************************";

/// What `bundle list` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The bundle of this trust domain alone
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain)]
    id: Option<TrustDomain>,
    /// The form of the bundles
    #[arg(long = "format", value_name = "FORM", default_value = "pem", ignore_case = true)]
    encoding: Encoding,
}

impl List {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        if let Some(id) = &self.id {
            let request =
                pb::GetFederatedBundleRequest { trust_domain: id.to_string(), output_mask: None };
            let bundle = client.answer(client.bundles().get_federated_bundle(request)).await;
            let bundle = bundle.with_context(|| id.to_string())?;
            if self.format.output.is_json() {
                return output.json(&json::bundle(&bundle));
            }
            return output.raw(self.encoding.write(&bundle)?.as_bytes());
        }
        let bundles = all(&client, None).await?;
        if self.format.output.is_json() {
            let bundles = json::array(&bundles, json::bundle);
            return output.json(&json!({ "bundles": bundles, "next_page_token": "" }));
        }
        for (index, bundle) in bundles.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            let name = shown::plain(&bundle.trust_domain);
            output.line(&format!("{gap}{RULE}\n* {name}\n{RULE}"))?;
            output.raw(self.encoding.write(bundle)?.as_bytes())?;
        }
        Ok(())
    }
}

/// All of them, with the fields of the mask or with all fields.
pub(in crate::cli) async fn all(
    client: &Client,
    output_mask: Option<types::BundleMask>,
) -> anyhow::Result<Vec<types::Bundle>> {
    let mut bundles = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListFederatedBundlesRequest {
            output_mask,
            page_size: batch::page_size()?,
            page_token: page_token.clone(),
        };
        let page = client.answer(client.bundles().list_federated_bundles(request)).await?;
        bundles.extend(page.bundles);
        match batch::next_page(page.next_page_token, &page_token)? {
            Some(next) => page_token = next,
            None => return Ok(bundles),
        }
    }
}
