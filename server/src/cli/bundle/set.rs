//! `bundle set`: what a foreign trust domain signs with.
//!
//! PEM has no JWT authorities in it, and says nothing about them: those that are stored stay. A
//! SPIFFE bundle document replaces the bundle as a whole.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use steeple::bundle::Bundle;
use steeple::clock::{Clock as _, SystemClock};
use steeple::convert::bundle_to_proto;
use steeple::id::TrustDomain;
use steeple::jwk;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::types;
use tonic::Code;

use super::{Encoding, result_json};
use crate::cli::args::trust_domain;
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `bundle set` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The foreign trust domain
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain)]
    id: TrustDomain,
    /// The file with the bundle; standard input if there is none
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// The form of the bundle; pem leaves JWT authorities as they are
    #[arg(long = "format", value_name = "FORM", default_value = "pem", ignore_case = true)]
    encoding: Encoding,
}

/// What the server says of the one bundle that it was sent.
struct Outcome {
    status: types::Status,
    bundle: Option<types::Bundle>,
}

impl Set {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let name = || match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard input".to_owned(),
        };
        let content = match &self.path {
            Some(path) => std::fs::read(path),
            None => std::io::read_to_string(std::io::stdin()).map(String::into_bytes),
        };
        let content = content.with_context(|| format!("cannot read {}", name()))?;
        let bundle = read_bundle(&self.id, (self.encoding, &content), output).with_context(name)?;
        let client = self.connection.connect(output).await?;
        let outcome = match self.encoding {
            Encoding::Pem => set_x509(&client, bundle).await?,
            Encoding::Spiffe => set(&client, bundle).await?,
        };
        if self.format.output.is_json() {
            let bundle = json::optional(outcome.bundle.as_ref(), json::bundle);
            let result = result_json(Some(&outcome.status), ("bundle", bundle));
            output.json(&json!({ "results": [result] }))?;
        }
        if !batch::is_ok(Some(&outcome.status)) {
            bail!("failed to set the bundle of {} {}", self.id, pretty::failure(&outcome.status));
        }
        if !self.format.output.is_json() {
            output.line("bundle set.")?;
        }
        Ok(())
    }
}

/// The bundle of a trust domain in this form, as it goes over the wire. What is left out of it is
/// told.
pub(in crate::cli) fn read_bundle(
    id: &TrustDomain,
    (encoding, content): (Encoding, &[u8]),
    output: &mut Output,
) -> anyhow::Result<types::Bundle> {
    let bundle = match encoding {
        Encoding::Pem => {
            Bundle { x509_authorities: jwk::pem::parse(content)?, ..Bundle::empty(id.clone()) }
        }
        Encoding::Spiffe => {
            let now = SystemClock.now();
            let parsed = jwk::parse::bundle_document(id.clone(), content, now)?;
            for skipped in &parsed.skipped {
                let (index, reason) = (skipped.index, &skipped.reason);
                output.note(&format!("Warning: keys[{index}] is left out: {reason}"))?;
            }
            let is_empty = parsed.bundle.x509_authorities.is_empty()
                && parsed.bundle.jwt_authorities.is_empty();
            if is_empty && !parsed.skipped.is_empty() {
                bail!("no key of the document can be used, so that the bundle would be empty");
            }
            parsed.bundle
        }
    };
    Ok(bundle_to_proto(&bundle, None))
}

/// Replaces or adds the bundle as a whole.
async fn set(client: &Client, bundle: types::Bundle) -> anyhow::Result<Outcome> {
    let request = pb::BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
    let answer = client.answer(client.bundles().batch_set_federated_bundle(request)).await?;
    let result = answer.results.into_iter().next().context("the server answered nothing")?;
    Ok(Outcome { status: result.status.unwrap_or_default(), bundle: result.bundle })
}

/// Replaces the X.509 authorities, or adds the bundle if there is none.
async fn set_x509(client: &Client, bundle: types::Bundle) -> anyhow::Result<Outcome> {
    let request = pb::BatchUpdateFederatedBundleRequest {
        bundle: vec![bundle.clone()],
        input_mask: Some(types::BundleMask {
            x509_authorities: true,
            ..types::BundleMask::default()
        }),
        output_mask: None,
    };
    let answer = client.answer(client.bundles().batch_update_federated_bundle(request)).await?;
    let result = answer.results.into_iter().next().context("the server answered nothing")?;
    let status = result.status.unwrap_or_default();
    if Code::from(status.code) == Code::NotFound {
        return set(client, bundle).await;
    }
    Ok(Outcome { status, bundle: result.bundle })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Terminal;

    #[track_caller]
    fn check(document: &str, expected: Result<(), &str>) {
        let id = TrustDomain::parse("other").unwrap();
        let sink = || Box::new(std::io::sink());
        let mut output = Output::to(sink(), sink(), Terminal::default());
        let read = read_bundle(&id, (Encoding::Spiffe, document.as_bytes()), &mut output);
        match (read, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error:#}"),
            (read, _) => panic!("{read:?}"),
        }
    }

    #[test]
    fn a_document_of_which_nothing_can_be_used_replaces_nothing() {
        let unusable = Err("no key of the document can be used");
        check(r#"{"keys": [{"kty": "x"}]}"#, unusable);
        check(r#"{"keys": [{"kty": "RSA", "use": "y"}, {"kty": "x"}]}"#, unusable);
        check(r#"{"keys": []}"#, Ok(()));
    }
}
