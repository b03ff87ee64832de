//! Reads bundle maps: the bundles of several trust domains in one document (Trust Domain and
//! Bundle 5), which is the state of the world. It is taken as a whole or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::LIMITS;
use super::parse::{self, DocumentError, ParsedBundle, refresh_hint};
use crate::id::{self, TrustDomain};
use crate::json::{self, Json, JsonError};

/// What a bundle map says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleMap {
    /// The bundles. One that the last map had and this one has not is withdrawn.
    pub bundles: BTreeMap<TrustDomain, ParsedBundle>,
    /// How often to look for a newer map. Bundles in a map have no hint of their own.
    pub refresh_hint: Option<Duration>,
}

/// Why a document is no bundle map.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum MapError {
    /// It is not strict JSON; a trust domain that is there twice is one way not to be.
    #[error("the bundle map is not valid JSON")]
    Json(#[source] JsonError),
    /// It is not an object with an object `trust_domains`.
    #[error("the bundle map has no object `trust_domains`")]
    NoTrustDomains,
    /// A name is not that of a trust domain.
    #[error("entry {index} of `trust_domains` is not named after a trust domain")]
    Name {
        /// Which one in alphabetical order, from 0.
        index: usize,
        /// What is wrong with the name.
        #[source]
        cause: id::ParseError,
    },
    /// A bundle is malformed.
    #[error("the bundle of trust domain {trust_domain}")]
    Bundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        #[source]
        cause: DocumentError,
    },
}

/// Reads a bundle map.
pub fn bundle_map(document: &[u8], now: SystemTime) -> Result<BundleMap, MapError> {
    let map = json::parse_object(document, &LIMITS).map_err(MapError::Json)?.unwrap_or_default();
    let Some(Json::Object(trust_domains)) = map.get("trust_domains") else {
        return Err(MapError::NoTrustDomains);
    };
    let mut bundles = BTreeMap::new();
    for (index, (name, document)) in trust_domains.iter().enumerate() {
        let named = TrustDomain::parse(name);
        let trust_domain = named.map_err(|cause| MapError::Name { index, cause })?;
        let refused = |cause| MapError::Bundle { trust_domain: trust_domain.clone(), cause };
        let Json::Object(document) = document else {
            return Err(refused(DocumentError::NotAnObject));
        };
        let mut parsed = parse::read(trust_domain.clone(), document, now).map_err(refused)?;
        parsed.bundle.refresh_hint = None;
        bundles.insert(trust_domain, parsed);
    }
    // The specification calls the member by both names.
    let hint = map.get("spiffe_refresh_hint").or_else(|| map.get("refresh_hint"));
    Ok(BundleMap { bundles, refresh_hint: hint.and_then(refresh_hint) })
}

#[cfg(test)]
mod tests;
