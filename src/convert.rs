//! Between protobuf and the types of this crate. Protobuf goes no further than here and the RPC
//! handlers.

use thiserror::Error;

use crate::entry::EntryError;
use crate::id::{ParseError, SpiffeId, TrustDomain};
use crate::selector::{Selector, SelectorError, SelectorSet};
use crate::shown::{self, quoted};
use steeple_proto::spire::api::types;

mod bundle;
mod entry;
mod logger;

pub use bundle::{bundle_from_proto, bundle_to_proto, jwt_authority_from_proto};
pub use entry::{all_entry_fields, entry_from_proto, entry_to_proto, stored_entry_from_proto};
pub use logger::{log_level_from_proto, log_level_name, log_level_to_proto, logger_to_proto};

/// Why a message cannot be read. The text names the field.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConvertError {
    /// A field that is needed is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A SPIFFE ID or trust domain is malformed.
    #[error("{field}: {cause}: {}", quoted(found))]
    Id {
        /// The field.
        field: &'static str,
        /// What is in it.
        found: String,
        /// What is wrong with it.
        cause: ParseError,
    },
    /// A selector is malformed.
    #[error("selectors[{index}]: {cause}: {}", quoted(found))]
    Selector {
        /// Which one, from 0.
        index: usize,
        /// What it is.
        found: String,
        /// What is wrong with it.
        cause: SelectorError,
    },
    /// The content of an entry is wrong.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A bundle has a key without an ID, or the ID twice.
    #[error("jwt_authorities: every key needs a key_id that no other key has")]
    KeyId,
    /// A bundle has an authority without a certificate or key.
    #[error("{0}: an authority is empty")]
    EmptyAuthority(&'static str),
    /// The refresh hint is negative.
    #[error("refresh_hint: must be 0 (none) or a number of seconds")]
    RefreshHint,
    /// A log level is not one.
    #[error("new_level: must be PANIC, FATAL, ERROR, WARN, INFO, DEBUG or TRACE")]
    LogLevel,
}

/// Reads the SPIFFE ID in `field`.
///
/// # Errors
/// It is absent or malformed.
pub fn id_from_proto(
    id: Option<&types::Spiffeid>,
    field: &'static str,
) -> Result<SpiffeId, ConvertError> {
    let id = id.ok_or(ConvertError::Missing(field))?;
    TrustDomain::parse(&id.trust_domain)
        .and_then(|trust_domain| SpiffeId::new(&trust_domain, &id.path))
        .map_err(|cause| ConvertError::Id { field, found: shown::spiffe_id(Some(id)), cause })
}

/// Writes a SPIFFE ID.
#[must_use]
pub fn id_to_proto(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid { trust_domain: id.trust_domain().to_string(), path: id.path().to_owned() }
}

/// Reads the trust domain name in `field`, also where it is written as `spiffe://NAME`.
///
/// # Errors
/// It is malformed.
pub fn trust_domain_from_proto(
    name: &str,
    field: &'static str,
) -> Result<TrustDomain, ConvertError> {
    TrustDomain::parse(name.strip_prefix("spiffe://").unwrap_or(name))
        .map_err(|cause| ConvertError::Id { field, found: name.to_owned(), cause })
}

/// Reads selectors.
///
/// # Errors
/// One of them is malformed.
pub fn selectors_from_proto(selectors: &[types::Selector]) -> Result<SelectorSet, ConvertError> {
    let read = |(index, selector): (usize, &types::Selector)| {
        Selector::new(&selector.r#type, &selector.value).map_err(|cause| {
            let found = format!("{}:{}", selector.r#type, selector.value);
            ConvertError::Selector { index, found, cause }
        })
    };
    selectors
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<_>, _>>()
        .map(SelectorSet::from_iter)
}

/// Writes selectors in their order.
#[must_use]
pub fn selectors_to_proto(selectors: &SelectorSet) -> Vec<types::Selector> {
    let write = |selector: &Selector| types::Selector {
        r#type: selector.kind().to_owned(),
        value: selector.value().to_owned(),
    };
    selectors.iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_travels_as_trust_domain_and_path() {
        let id: SpiffeId = "spiffe://td/a/b".parse().unwrap();
        assert_eq!(id_from_proto(Some(&id_to_proto(&id)), "id"), Ok(id));
        assert_eq!(id_from_proto(None, "id"), Err(ConvertError::Missing("id")));
        let wire = |trust_domain: &str, path: &str| types::Spiffeid {
            trust_domain: trust_domain.into(),
            path: path.into(),
        };
        let fails = |id: &types::Spiffeid| id_from_proto(Some(id), "id").is_err();
        assert!(fails(&wire("td", "a")));
        assert!(fails(&wire("td/x", "/a")));
        assert!(fails(&wire("", "/a")));
        assert!(fails(&wire("td", "/")));
    }

    #[test]
    fn selectors_travel_in_order_and_name_the_wrong_one() {
        let set: SelectorSet =
            ["b:2", "a:1"].iter().map(|text| text.parse::<Selector>().unwrap()).collect();
        assert_eq!(selectors_from_proto(&selectors_to_proto(&set)), Ok(set.clone()));
        let mut wire = selectors_to_proto(&set);
        wire.push(types::Selector { r#type: "a".into(), value: String::new() });
        assert_eq!(
            selectors_from_proto(&wire),
            Err(ConvertError::Selector {
                index: 2,
                found: "a:".into(),
                cause: SelectorError::NoValue
            })
        );
        let text = |kind: &str| {
            let selector = types::Selector { r#type: kind.into(), value: "v".into() };
            selectors_from_proto(&[selector]).unwrap_err().to_string()
        };
        assert_eq!(text("a:b"), "selectors[0]: the selector's type has a colon: \"a:b:v\"");
    }

    #[test]
    fn a_refusal_of_an_id_shows_it() {
        let id = types::Spiffeid { trust_domain: "A".into(), path: "/\n".into() };
        let error = id_from_proto(Some(&id), "spiffe_id").unwrap_err().to_string();
        assert!(error.starts_with("spiffe_id: "), "{error}");
        assert!(error.ends_with(r#": "spiffe://A/\n""#), "{error}");
        let error = trust_domain_from_proto("B", "trust_domain").unwrap_err().to_string();
        assert!(error.ends_with(": \"B\""), "{error}");
    }
}
