//! What the audit log says of entries, bundles and relationships.

use serde::Serialize;
use steeple::bundle::Bundle;
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};

use super::{Event, Hex, Selectors, sha256};
use crate::federation::{Profile, Relationship};

/// What an entry says, as far as it decides who gets which identity.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of an entry")]
pub struct EntryFacts {
    pub id: EntryId,
    pub revision: i64,
    pub spiffe_id: SpiffeId,
    pub parent_id: SpiffeId,
    pub selectors: Selectors,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub federates_with: Vec<TrustDomain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509_svid_ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_svid_ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    #[serde(skip_serializing_if = "is_not")]
    pub admin: bool,
    #[serde(skip_serializing_if = "is_not")]
    pub downstream: bool,
}

/// What a bundle vouches with.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of a bundle")]
pub struct BundleFacts {
    pub trust_domain: TrustDomain,
    pub x509_sha256: Vec<Hex<[u8; 32]>>,
    pub jwt_key_ids: Vec<String>,
    pub sequence: u64,
}

/// Where the bundle of another trust domain is found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of a relationship")]
pub struct RelationshipFacts {
    pub trust_domain: TrustDomain,
    pub bundle_endpoint_url: String,
    pub bundle_endpoint_profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_spiffe_id: Option<SpiffeId>,
}

impl Event {
    /// An entry is gone.
    #[must_use]
    pub fn of_deleted(entry: &Entry) -> Self {
        Self::EntryDeleted {
            entry_id: entry.id.clone(),
            spiffe_id: entry.content.spiffe_id.clone(),
            parent_id: entry.content.parent_id.clone(),
        }
    }
}

impl From<&Entry> for EntryFacts {
    fn from(entry: &Entry) -> Self {
        let content = &entry.content;
        Self {
            id: entry.id.clone(),
            revision: entry.revision,
            spiffe_id: content.spiffe_id.clone(),
            parent_id: content.parent_id.clone(),
            selectors: Selectors(content.selectors.clone()),
            dns_names: content.dns_names.iter().map(|name| name.as_str().into()).collect(),
            federates_with: content.federates_with.iter().cloned().collect(),
            x509_svid_ttl: content.x509_svid_ttl.map(|ttl| ttl.as_secs()),
            jwt_svid_ttl: content.jwt_svid_ttl.map(|ttl| ttl.as_secs()),
            expires_at: content.expires_at,
            admin: content.admin,
            downstream: content.downstream,
        }
    }
}

impl From<&Bundle> for BundleFacts {
    fn from(bundle: &Bundle) -> Self {
        let certificates = bundle.x509_authorities.iter().map(|authority| &authority.certificate);
        Self {
            trust_domain: bundle.trust_domain.clone(),
            x509_sha256: certificates.map(|certificate| sha256(certificate)).collect(),
            jwt_key_ids: bundle.jwt_authorities.iter().map(|key| key.key_id.clone()).collect(),
            sequence: bundle.sequence,
        }
    }
}

impl From<&Relationship> for RelationshipFacts {
    fn from(relationship: &Relationship) -> Self {
        let (bundle_endpoint_profile, endpoint_spiffe_id) = match &relationship.profile {
            Profile::HttpsWeb => ("https_web", None),
            Profile::HttpsSpiffe { endpoint_id } => ("https_spiffe", Some(endpoint_id.clone())),
        };
        Self {
            trust_domain: relationship.trust_domain.clone(),
            bundle_endpoint_url: relationship.endpoint_url.as_str().into(),
            bundle_endpoint_profile,
            endpoint_spiffe_id,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_not(flag: &bool) -> bool {
    !flag
}
