//! `bundle`: the keys of this trust domain and of those that it federates with.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize as _;
use serde_json::{Value, json};
use steeple::convert::bundle_from_proto;
use steeple::jwk;
use steeple::shown;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::types;

use super::output::Output;
use super::{Connection, Format, pretty};

mod delete;
pub(super) mod list;
pub(super) mod set;

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub(super) enum Bundle {
    /// Show the bundle of the server's own trust domain
    Show(Show),
    /// List the bundles of foreign trust domains
    List(list::List),
    /// Set the bundle of a foreign trust domain
    Set(set::Set),
    /// Delete bundles of foreign trust domains
    Delete(delete::Delete),
    /// Count all bundles, the server's own among them
    Count(Count),
}

/// The form of a bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Encoding {
    /// The X.509 authorities alone, in PEM
    Pem,
    /// A SPIFFE bundle document, with the JWT authorities
    Spiffe,
}

/// What `bundle show` is told.
#[derive(Args, Debug)]
pub(super) struct Show {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The form of the bundle
    #[arg(long = "format", value_name = "FORM", default_value = "pem", ignore_case = true)]
    encoding: Encoding,
}

/// What `bundle count` is told.
#[derive(Args, Debug)]
pub(super) struct Count {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

impl Bundle {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Show(show) => show.run(output).await,
            Self::List(list) => list.run(output).await,
            Self::Set(set) => set.run(output).await,
            Self::Delete(delete) => delete.run(output).await,
            Self::Count(count) => count.run(output).await,
        }
    }
}

impl Show {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::GetBundleRequest { output_mask: None };
        let bundle = client.answer(client.bundles().get_bundle(request)).await?;
        if self.format.output.is_json() {
            return output.json(&super::json::bundle(&bundle));
        }
        output.raw(self.encoding.write(&bundle)?.as_bytes())
    }
}

impl Count {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = pb::CountBundlesRequest {};
        let count = client.answer(client.bundles().count_bundles(request)).await?.count;
        if self.format.output.is_json() {
            return output.json(&json!({ "count": count }));
        }
        let number = usize::try_from(count).unwrap_or_default();
        output.line(&pretty::count(number, "bundle", "bundles"))
    }
}

impl Encoding {
    /// The bundle in this form.
    fn write(self, bundle: &types::Bundle) -> anyhow::Result<String> {
        let name = || format!("the bundle of {}", shown::plain(&bundle.trust_domain));
        let bundle = bundle_from_proto(bundle).with_context(name)?;
        let certificates =
            || bundle.x509_authorities.iter().map(|authority| &authority.certificate);
        match self {
            Self::Pem => Ok(jwk::pem::write(certificates())),
            Self::Spiffe => indented(&jwk::write::bundle_document(&bundle)),
        }
    }
}

/// A JSON document for people to read.
fn indented(document: &str) -> anyhow::Result<String> {
    let document: Value = serde_json::from_str(document)?;
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

/// The result for one bundle, or for one of those that were to be deleted.
fn result_json(status: Option<&types::Status>, rest: (&str, Value)) -> Value {
    let status = super::json::optional(status, super::json::status);
    super::json::object([("status", status), rest])
}
