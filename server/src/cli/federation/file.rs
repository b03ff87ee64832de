//! Federation relationships in a JSON file, as SPIRE's tools read them.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::define::{Bundle, Definition};
use crate::cli::bundle::Encoding;
use crate::cli::entry::file::{parse, read};

/// The relationships of a file, or of standard input if it is `-`.
pub(super) fn definitions(path: &Path) -> anyhow::Result<Vec<Definition>> {
    let file: File = parse(&read(path)?, path)?;
    let complete = |(index, raw): (usize, Raw)| {
        raw.definition()
            .with_context(|| format!("{}: federationRelationships[{index}]", path.display()))
    };
    file.relationships.into_iter().enumerate().map(complete).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object {\"federationRelationships\": […]}")]
struct File {
    #[serde(rename = "federationRelationships")]
    relationships: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the fields of a federation relationship")]
struct Raw {
    #[serde(rename = "trustDomain")]
    trust_domain: String,
    #[serde(rename = "bundleEndpointURL")]
    url: Option<String>,
    #[serde(rename = "bundleEndpointProfile")]
    profile: Option<String>,
    #[serde(rename = "endpointSPIFFEID")]
    endpoint_spiffe_id: Option<String>,
    #[serde(rename = "trustDomainBundle")]
    bundle: Option<Value>,
    #[serde(rename = "trustDomainBundleFormat")]
    bundle_format: Option<String>,
}

impl Raw {
    fn definition(self) -> anyhow::Result<Definition> {
        let encoding = match self.bundle_format {
            Some(name) => {
                <Encoding as clap::ValueEnum>::from_str(&name, true).ok().with_context(|| {
                    format!("trustDomainBundleFormat is {name:?}; it must be pem or spiffe")
                })?
            }
            None => Encoding::Pem,
        };
        let bundle = self.bundle.map(|bundle| Bundle {
            encoding,
            content: match bundle.as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => bundle.to_string().into_bytes(),
            },
        });
        Definition::new(
            &self.trust_domain,
            self.url,
            self.profile.as_deref(),
            self.endpoint_spiffe_id.as_deref(),
            bundle,
        )
    }
}
