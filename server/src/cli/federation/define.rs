//! `federation create` and `federation update`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use steeple::id::{SpiffeId, TrustDomain};
use steeple_proto::spire::api::server::trustdomain::v1 as pb;
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;

use super::{file, relationship_json, relationship_text};
use crate::cli::args::trust_domain;
use crate::cli::bundle::Encoding;
use crate::cli::bundle::set::read_bundle;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, batch, json, pretty};

/// What `federation create` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    given: Given,
}

/// What `federation update` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Update {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    given: Given,
}

/// A relationship as flags, or where there are some.
#[derive(Args, Debug)]
struct Given {
    /// A file with relationships in JSON, {"federationRelationships": […]}; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "Flags")]
    data: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args, Debug)]
struct Flags {
    /// The foreign trust domain
    #[arg(long, value_name = "TRUST DOMAIN", alias = "trustDomain")]
    trust_domain: Option<String>,
    /// Where its bundle is: an https URL
    #[arg(long, value_name = "URL", alias = "bundleEndpointURL")]
    bundle_endpoint_url: Option<String>,
    /// How that server proves who it is: https_web with a certificate of a public CA, or
    /// https_spiffe with an SVID
    #[arg(long, value_name = "PROFILE", alias = "bundleEndpointProfile")]
    bundle_endpoint_profile: Option<String>,
    /// With https_spiffe: the SPIFFE ID of that server
    #[arg(long, value_name = "SPIFFE ID", alias = "endpointSpiffeID")]
    endpoint_spiffe_id: Option<String>,
    /// A file with the bundle of that server's trust domain, to believe it at the first contact
    #[arg(long, value_name = "FILE", alias = "trustDomainBundlePath")]
    trust_domain_bundle_path: Option<PathBuf>,
    /// The form of that bundle
    #[arg(
        long,
        value_name = "FORM",
        alias = "trustDomainBundleFormat",
        default_value = "pem",
        ignore_case = true
    )]
    trust_domain_bundle_format: Encoding,
}

/// A relationship as somebody defines it, before its bundle is read.
#[derive(Debug)]
pub(super) struct Definition {
    trust_domain: TrustDomain,
    url: String,
    profile: Profile,
    bundle: Option<Bundle>,
}

#[derive(Debug)]
enum Profile {
    Web,
    Spiffe(SpiffeId),
}

/// A bundle, and the form that it is in.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) encoding: Encoding,
    pub(super) content: Vec<u8>,
}

/// What came of one relationship.
struct Outcome {
    status: Option<types::Status>,
    relationship: Option<types::FederationRelationship>,
}

impl Create {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let relationships = self.given.relationships(output)?;
        let client = self.connection.connect(output).await?;
        let sent = relationships.clone();
        let mut api = client.trust_domains();
        let done = batch::send(&client, relationships, async |federation_relationships| {
            let request = pb::BatchCreateFederationRelationshipRequest {
                federation_relationships,
                output_mask: None,
            };
            let answer = client.answer(api.batch_create_federation_relationship(request)).await?;
            let outcome = |result: pb::batch_create_federation_relationship_response::Result| {
                Outcome { status: result.status, relationship: result.federation_relationship }
            };
            Ok(answer.results.into_iter().map(outcome).collect())
        })
        .await;
        report("create", self.format, (&sent, done), output)
    }
}

impl Update {
    pub(in crate::cli) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let relationships = self.given.relationships(output)?;
        let client = self.connection.connect(output).await?;
        // What is not said of the bundle does not change it.
        let (with, without): (Vec<_>, Vec<_>) =
            relationships.into_iter().partition(|one| one.trust_domain_bundle.is_some());
        let sent: Vec<_> = with.iter().chain(&without).cloned().collect();
        let mut api = client.trust_domains();
        let mut results = Vec::new();
        let mut stopped = None;
        for (relationships, trust_domain_bundle) in [(with, true), (without, false)] {
            if relationships.is_empty() || stopped.is_some() {
                continue;
            }
            let mask = types::FederationRelationshipMask {
                bundle_endpoint_url: true,
                bundle_endpoint_profile: true,
                trust_domain_bundle,
            };
            let done = batch::send(&client, relationships, async |federation_relationships| {
                let request = pb::BatchUpdateFederationRelationshipRequest {
                    federation_relationships,
                    input_mask: Some(mask),
                    output_mask: None,
                };
                let answer =
                    client.answer(api.batch_update_federation_relationship(request)).await?;
                let outcome =
                    |result: pb::batch_update_federation_relationship_response::Result| Outcome {
                        status: result.status,
                        relationship: result.federation_relationship,
                    };
                Ok(answer.results.into_iter().map(outcome).collect())
            })
            .await;
            results.extend(done.results);
            stopped = done.stopped;
        }
        report("update", self.format, (&sent, batch::Done { results, stopped }), output)
    }
}

impl Given {
    /// What goes over the wire.
    fn relationships(
        &self,
        output: &mut Output,
    ) -> anyhow::Result<Vec<types::FederationRelationship>> {
        let definitions = match &self.data {
            Some(path) => file::definitions(path)?,
            None => vec![self.flags.definition()?],
        };
        if definitions.is_empty() {
            bail!("there are no federation relationships in the file");
        }
        for (index, one) in definitions.iter().enumerate() {
            let is_same = |other: &Definition| other.trust_domain == one.trust_domain;
            if definitions.iter().take(index).any(is_same) {
                bail!("federationRelationships[{index}]: {} is there twice", one.trust_domain);
            }
        }
        definitions.into_iter().map(|definition| definition.on_the_wire(output)).collect()
    }
}

impl Flags {
    fn definition(&self) -> anyhow::Result<Definition> {
        let trust_domain = self.trust_domain.as_deref().context("--trust-domain is missing")?;
        let bundle = match &self.trust_domain_bundle_path {
            Some(path) => Some(Bundle {
                encoding: self.trust_domain_bundle_format,
                content: std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?,
            }),
            None => None,
        };
        Definition::new(
            trust_domain,
            self.bundle_endpoint_url.clone(),
            self.bundle_endpoint_profile.as_deref(),
            self.endpoint_spiffe_id.as_deref(),
            bundle,
        )
    }
}

impl Definition {
    pub(super) fn new(
        name: &str,
        url: Option<String>,
        profile: Option<&str>,
        endpoint: Option<&str>,
        bundle: Option<Bundle>,
    ) -> anyhow::Result<Self> {
        let url = url.filter(|url| !url.is_empty());
        let url = url.context("the bundle endpoint URL is missing (--bundle-endpoint-url)")?;
        if !url.starts_with("https://") {
            bail!("the bundle endpoint URL is {url:?}; it must start with https://");
        }
        let endpoint = endpoint.filter(|id| !id.is_empty());
        let profile = match (profile, endpoint) {
            (Some("https_web"), None) => Profile::Web,
            (Some("https_web"), Some(_)) => {
                bail!("https_web has no endpoint SPIFFE ID; leave it out, or take https_spiffe")
            }
            (Some("https_spiffe"), Some(id)) => Profile::Spiffe(
                id.parse().with_context(|| format!("the endpoint SPIFFE ID is {id:?}"))?,
            ),
            (Some("https_spiffe"), None) => {
                bail!("https_spiffe needs the endpoint SPIFFE ID (--endpoint-spiffe-id)")
            }
            (found, _) => bail!(
                "the bundle endpoint profile is {:?}; it must be https_web or https_spiffe \
                 (--bundle-endpoint-profile)",
                found.unwrap_or_default()
            ),
        };
        let trust_domain = trust_domain(name).with_context(|| format!("trust domain {name:?}"))?;
        Ok(Self { trust_domain, url, profile, bundle })
    }

    fn on_the_wire(self, output: &mut Output) -> anyhow::Result<types::FederationRelationship> {
        // Who has to be believed is the server that is asked, and it may be of another trust domain.
        let of = match &self.profile {
            Profile::Web => self.trust_domain.clone(),
            Profile::Spiffe(id) => id.trust_domain().clone(),
        };
        let bundle = match self.bundle {
            Some(bundle) => Some(
                read_bundle(&of, (bundle.encoding, &bundle.content), output)
                    .with_context(|| format!("the bundle of {of}"))?,
            ),
            None => None,
        };
        Ok(types::FederationRelationship {
            trust_domain: self.trust_domain.to_string(),
            bundle_endpoint_url: self.url,
            trust_domain_bundle: bundle,
            bundle_endpoint_profile: Some(match self.profile {
                Profile::Web => BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
                Profile::Spiffe(id) => {
                    BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
                        endpoint_spiffe_id: id.to_string(),
                    })
                }
            }),
        })
    }
}

/// Prints what came of each, and fails if anything failed.
fn report(
    verb: &str,
    format: Format,
    (sent, done): (&[types::FederationRelationship], batch::Done<Outcome>),
    output: &mut Output,
) -> anyhow::Result<()> {
    if format.output.is_json() {
        let result = |outcome: &Outcome| {
            let relationship = json::optional(outcome.relationship.as_ref(), relationship_json);
            let status = json::optional(outcome.status.as_ref(), json::status);
            json::object([("status", status), ("federation_relationship", relationship)])
        };
        output.json(&json!({ "results": json::array(&done.results, result) }))?;
    }
    let mut failed = 0;
    for (outcome, sent) in done.results.iter().zip(sent) {
        let is_ok = batch::is_ok(outcome.status.as_ref());
        failed += usize::from(!is_ok);
        if format.output.is_json() {
            continue;
        }
        let text = relationship_text(outcome.relationship.as_ref().unwrap_or(sent));
        if is_ok {
            output.line("")?;
            output.raw(text.as_bytes())?;
        } else {
            let failure = pretty::failure(&outcome.status.clone().unwrap_or_default());
            output.note(&format!(
                "\nFailed to {verb} the following federation relationship {failure}:\n{}",
                text.trim_end()
            ))?;
        }
    }
    match (done.stopped, failed) {
        (None, 0) => Ok(()),
        (Some(error), _) => Err(error),
        (None, failed) => {
            bail!("failed to {verb} {failed} of {} federation relationships", sent.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(profile: Option<&str>, endpoint: Option<&str>, url: &str, expected: Result<(), &str>) {
        let defined = Definition::new("other", Some(url.into()), profile, endpoint, None);
        match (defined, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_relationship_is_checked_before_it_is_sent() {
        let (url, id) = ("https://other/bundle", Some("spiffe://other/server"));
        check(Some("https_web"), None, url, Ok(()));
        check(Some("https_spiffe"), id, url, Ok(()));
        check(Some("https_web"), id, url, Err("https_web has no endpoint SPIFFE ID"));
        check(Some("https_spiffe"), None, url, Err("--endpoint-spiffe-id"));
        check(Some("https_spiffe"), Some("other"), url, Err("the endpoint SPIFFE ID is \"other\""));
        check(Some("web"), None, url, Err("it must be https_web or https_spiffe"));
        check(None, None, url, Err("--bundle-endpoint-profile"));
        check(Some("https_web"), None, "http://other", Err("it must start with https://"));
        check(Some("https_web"), None, "", Err("--bundle-endpoint-url"));
    }
}
