//! `federation`: where the bundles of foreign trust domains come from.

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple::id::TrustDomain;
use steeple::shown;
use steeple_proto::spire::api::server::trustdomain::v1 as pb;
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;
use tonic::Code;

use super::args::trust_domain;
use super::batch::{self, Progress};
use super::client::{Client, explain};
use super::output::Output;
use super::{Connection, Format, json, pretty};

mod define;
mod file;

/// What can be done with federation relationships.
#[derive(Debug, Subcommand)]
pub(super) enum Federation {
    /// Have the bundle of a foreign trust domain fetched from now on
    Create(define::Create),
    /// Change from where the bundle of a foreign trust domain is fetched
    Update(define::Update),
    /// List all relationships
    List(List),
    /// Show one relationship
    Show(Show),
    /// End a relationship; the bundle that was fetched stays until `bundle delete`
    Delete(Delete),
    /// Have the bundle of a foreign trust domain fetched now
    Refresh(Refresh),
}

/// What `federation list` is told.
#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

/// What `federation show` is told.
#[derive(Args, Debug)]
pub(super) struct Show {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The foreign trust domain
    #[arg(long, value_name = "TRUST DOMAIN", alias = "trustDomain", value_parser = trust_domain)]
    trust_domain: TrustDomain,
}

/// What `federation delete` is told.
#[derive(Args, Debug)]
pub(super) struct Delete {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The foreign trust domain; may be repeated
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain, required = true)]
    id: Vec<TrustDomain>,
}

/// What `federation refresh` is told.
#[derive(Args, Debug)]
pub(super) struct Refresh {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The foreign trust domain
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain)]
    id: TrustDomain,
}

impl Federation {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run(output).await,
            Self::Update(update) => update.run(output).await,
            Self::List(list) => list.run(output).await,
            Self::Show(show) => show.run(output).await,
            Self::Delete(delete) => delete.run(output).await,
            Self::Refresh(refresh) => refresh.run(output).await,
        }
    }
}

impl List {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let relationships = all(&client).await?;
        if self.format.output.is_json() {
            let relationships = json::array(&relationships, relationship_json);
            return output.json(
                &json!({ "federation_relationships": relationships, "next_page_token": "" }),
            );
        }
        let (one, many) = ("federation relationship", "federation relationships");
        output.line(&format!("Found {}", pretty::count(relationships.len(), one, many)))?;
        relationships.iter().try_for_each(|relationship| {
            output.line("")?;
            output.raw(relationship_text(relationship).as_bytes())
        })
    }
}

impl Show {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::GetFederationRelationshipRequest {
            trust_domain: self.trust_domain.to_string(),
            output_mask: None,
        };
        let mut api = client.trust_domains();
        let answer = client.answer(api.get_federation_relationship(request)).await;
        let shown = answer.with_context(|| self.trust_domain.to_string())?;
        if self.format.output.is_json() {
            return output.json(&relationship_json(&shown));
        }
        let name = &self.trust_domain;
        output.line(&format!("Found a federation relationship with trust domain {name}:\n"))?;
        output.raw(relationship_text(&shown).as_bytes())
    }
}

impl Delete {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let names = self.id.iter().map(ToString::to_string).collect();
        let request = pb::BatchDeleteFederationRelationshipRequest { trust_domains: names };
        let mut api = client.trust_domains();
        let answer = client.answer(api.batch_delete_federation_relationship(request)).await?;
        let results = answer.results;
        if self.format.output.is_json() {
            let result = |result: &pb::batch_delete_federation_relationship_response::Result| {
                let status = json::optional(result.status.as_ref(), json::status);
                json::object([("status", status), ("trust_domain", json!(result.trust_domain))])
            };
            output.json(&json!({ "results": json::array(&results, result) }))?;
        }
        let mut deleted = 0;
        for result in &results {
            let is_ok = batch::is_ok(result.status.as_ref());
            deleted += usize::from(is_ok);
            if !self.format.output.is_json() {
                let failure = pretty::failure(&result.status.clone().unwrap_or_default());
                let name = shown::plain(&result.trust_domain);
                match (is_ok, self.id.len()) {
                    (true, 1) => output.line("federation relationship deleted.")?,
                    (true, _) => {
                        output.line(&format!("federation relationship deleted: {name}"))?
                    }
                    (false, _) => output.note(&format!(
                        "Failed to delete the federation relationship with {name} {failure}"
                    ))?,
                }
            }
        }
        match self.id.len().saturating_sub(deleted) {
            0 => Ok(()),
            failed => bail!("failed to delete {failed} of {} relationships", self.id.len()),
        }
    }
}

impl Refresh {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::RefreshBundleRequest { trust_domain: self.id.to_string() };
        match client.outcome(client.trust_domains().refresh_bundle(request)).await? {
            Ok(()) if self.format.output.is_json() => output.json(&json!({})),
            Ok(()) => output.line("Bundle refreshed"),
            Err(status) if status.code() == Code::NotFound => Err(anyhow!(
                "there is no federation relationship with trust domain {}; `federation create` makes one",
                self.id
            )),
            Err(status) => Err(explain(&status).context("failed to refresh bundle")),
        }
    }
}

async fn all(client: &Client) -> anyhow::Result<Vec<types::FederationRelationship>> {
    let mut progress = Progress::start(client.terminal());
    let mut relationships = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListFederationRelationshipsRequest {
            output_mask: None,
            page_size: batch::page_size()?,
            page_token: page_token.clone(),
        };
        let mut api = client.trust_domains();
        let page = client.answer(api.list_federation_relationships(request)).await?;
        relationships.extend(page.federation_relationships);
        match batch::next_page(page.next_page_token, &page_token)? {
            Some(next) => page_token = next,
            None => return Ok(relationships),
        }
        progress.show(relationships.len(), None, "relationships");
    }
}

fn relationship_json(relationship: &types::FederationRelationship) -> Value {
    let (web, spiffe) = match &relationship.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(_)) => (json!({}), Value::Null),
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
            (Value::Null, json!({ "endpoint_spiffe_id": profile.endpoint_spiffe_id }))
        }
        None => (Value::Null, Value::Null),
    };
    let bundle = relationship.trust_domain_bundle.as_ref();
    json::object([
        ("trust_domain", json!(relationship.trust_domain)),
        ("bundle_endpoint_url", json!(relationship.bundle_endpoint_url)),
        ("https_web", web),
        ("https_spiffe", spiffe),
        ("trust_domain_bundle", json::optional(bundle, json::bundle)),
    ])
}

fn relationship_text(relationship: &types::FederationRelationship) -> String {
    let line = |label: &str, value: &str| format!("{label:<26}: {}\n", shown::plain(value));
    let mut text = line("Trust domain", &relationship.trust_domain);
    text += &line("Bundle endpoint URL", &relationship.bundle_endpoint_url);
    match &relationship.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(_)) => {
            text += &line("Bundle endpoint profile", "https_web");
        }
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
            text += &line("Bundle endpoint profile", "https_spiffe");
            text += &line("Endpoint SPIFFE ID", &profile.endpoint_spiffe_id);
        }
        None => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(profile: BundleEndpointProfile, text: &str, json: Value) {
        let relationship = types::FederationRelationship {
            trust_domain: "other".into(),
            bundle_endpoint_url: "https://other/bundle".into(),
            bundle_endpoint_profile: Some(profile),
            trust_domain_bundle: None,
        };
        let head = "Trust domain              : other\n\
                    Bundle endpoint URL       : https://other/bundle\n\
                    Bundle endpoint profile   : ";
        assert_eq!(relationship_text(&relationship), format!("{head}{text}"));
        assert_eq!(relationship_json(&relationship), json);
    }

    #[test]
    fn a_relationship_is_printed_as_spire_prints_it() {
        let common = json!({
            "trust_domain": "other", "bundle_endpoint_url": "https://other/bundle"
        });
        let with = |key: &str, value: Value| {
            let mut object = common.clone();
            object[key] = value;
            object
        };
        check(
            BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
            "https_web\n",
            with("https_web", json!({})),
        );
        check(
            BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
                endpoint_spiffe_id: "spiffe://other/spire/server".into(),
            }),
            "https_spiffe\nEndpoint SPIFFE ID        : spiffe://other/spire/server\n",
            with("https_spiffe", json!({ "endpoint_spiffe_id": "spiffe://other/spire/server" })),
        );
    }
}
