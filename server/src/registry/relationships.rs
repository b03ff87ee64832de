//! Writes of relationships with other trust domains, in batches with one result for each item.

use std::fmt;
use std::sync::Arc;

use steeple::bundle::Bundle;
use steeple::id::TrustDomain;
use thiserror::Error;

use super::Registry;
use super::bundles::{self, BundleWrite, BundleWriteError};
use super::draft::Draft;
use super::list::{self, Page, PageError, PageRequest};
use super::writer::{WriteError, spread};
use crate::federation::{Profile, Relationship};

/// A write of a relationship, and of a bundle that is stored with it or not at all.
#[derive(Debug)]
pub struct RelationshipWrite {
    /// What becomes of the relationship.
    pub action: Action,
    /// The bundle of the other trust domain, or of the one that its endpoint belongs to.
    pub bundle: Option<Bundle>,
}

/// What becomes of a relationship.
pub enum Action {
    /// It is stored, if there is none yet.
    Create(Relationship),
    /// It is changed.
    Update {
        /// Whose.
        trust_domain: TrustDomain,
        /// Turns what it is into what it is to be. It may be called several times.
        change: Box<dyn Fn(&mut Relationship) + Send + Sync>,
    },
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// The relationship.
    pub relationship: Arc<Relationship>,
    /// The bundle that was set with it.
    pub set: Option<Arc<Bundle>>,
}

/// Why a relationship was not written.
#[derive(Clone, Debug, Error)]
pub enum RelationshipWriteError {
    /// There is one already.
    #[error("federation relationship already exists")]
    Exists,
    /// There is none.
    #[error("federation relationship not found")]
    NotFound,
    /// The bundle that came with it is that of somebody else.
    #[error(
        "trust_domain_bundle: must be the bundle of the other trust domain, or of the one that \
         endpoint_spiffe_id is in, and is that of {0}"
    )]
    ForeignBundle(TrustDomain),
    /// The bundle cannot be stored.
    #[error("trust_domain_bundle: {0}")]
    Bundle(#[source] BundleWriteError),
    /// It could not be stored.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
}

impl Registry {
    /// The relationship with a trust domain.
    #[must_use]
    pub fn relationship(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        self.read(|state| state.relationships.get(trust_domain).cloned())
    }

    /// A page of the relationships, in the order of the names of trust domains.
    pub fn list_relationships(
        &self,
        page: &PageRequest,
    ) -> Result<Page<Arc<Relationship>>, PageError> {
        self.read(|state| list::relationships(&state.relationships, page))
    }

    /// Writes relationships. Results are in the order of items.
    pub async fn write_relationships(
        &self,
        items: Vec<RelationshipWrite>,
    ) -> Vec<Result<Written, RelationshipWriteError>> {
        let own = self.trust_domain.clone();
        let count = items.len();
        let written =
            self.write(move |draft| items.iter().map(|item| write(draft, &own, item)).collect());
        spread(written.await, count)
    }

    /// Ends relationships. Bundles stay. Results are in the order of items.
    pub async fn delete_relationships(
        &self,
        names: Vec<TrustDomain>,
    ) -> Vec<Result<Arc<Relationship>, RelationshipWriteError>> {
        let count = names.len();
        let written =
            self.write(move |draft| names.iter().map(|name| delete(draft, name)).collect());
        spread(written.await, count)
    }
}

fn write(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    RelationshipWrite { action, bundle }: &RelationshipWrite,
) -> Result<Written, RelationshipWriteError> {
    let name = match action {
        Action::Create(relationship) => &relationship.trust_domain,
        Action::Update { trust_domain, .. } => trust_domain,
    };
    let former = draft.relationship(name).cloned();
    let relationship = match (action, &former) {
        (Action::Create(_), Some(_)) => return Err(RelationshipWriteError::Exists),
        (Action::Update { .. }, None) => return Err(RelationshipWriteError::NotFound),
        (Action::Create(relationship), None) => relationship.clone(),
        (Action::Update { change, .. }, Some(former)) => {
            let mut relationship = Relationship::clone(former);
            change(&mut relationship);
            relationship
        }
    };
    let set = match bundle {
        Some(bundle) => Some(set(draft, own, &relationship, bundle)?),
        None => None,
    };
    let relationship = match former {
        Some(former) if *former == relationship => former,
        Some(_) | None => draft.put_relationship(relationship),
    };
    Ok(Written { relationship, set })
}

/// Stores the bundle that came with a relationship.
fn set(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    relationship: &Relationship,
    bundle: &Bundle,
) -> Result<Arc<Bundle>, RelationshipWriteError> {
    let endpoint = match &relationship.profile {
        Profile::HttpsWeb => None,
        Profile::HttpsSpiffe { endpoint_id } => Some(endpoint_id.trust_domain()),
    };
    let name = &bundle.trust_domain;
    if *name != relationship.trust_domain && Some(name) != endpoint {
        return Err(RelationshipWriteError::ForeignBundle(name.clone()));
    }
    bundles::write(draft, own, &BundleWrite::Set(bundle.clone()))
        .map_err(RelationshipWriteError::Bundle)
}

fn delete(
    draft: &mut Draft<'_>,
    name: &TrustDomain,
) -> Result<Arc<Relationship>, RelationshipWriteError> {
    let former = draft.relationship(name).cloned().ok_or(RelationshipWriteError::NotFound)?;
    draft.delete_relationship(name);
    Ok(former)
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(relationship) => f.debug_tuple("Create").field(relationship).finish(),
            Self::Update { trust_domain, .. } => {
                f.debug_struct("Update").field("trust_domain", trust_domain).finish_non_exhaustive()
            }
        }
    }
}
