//! The RPCs about relationships with other trust domains.

use std::sync::Arc;

use steeple::convert::trust_domain_from_proto;
use steeple::id::TrustDomain;
use steeple_proto::spire::api::server::trustdomain::v1 as pb;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};
use tracing::warn;

use super::error::{ApiError, item_status};
use super::{Deps, pages};
use crate::audit::event::{BundleFacts, Event, RelationshipFacts};
use crate::federation::{Profile, Relationship};
use crate::registry::list::PageRequest;
use crate::registry::relationships::{RelationshipWrite, Written};

mod relationship;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct TrustDomainService(pub(super) Arc<Deps>);

type Mask = types::FederationRelationshipMask;

impl TrustDomainService {
    fn to_proto(
        &self,
        relationship: &Relationship,
        mask: Option<&Mask>,
    ) -> types::FederationRelationship {
        let bundle = self.0.registry.bundle(&relationship.trust_domain);
        relationship::to_proto(relationship, bundle.as_deref(), mask)
    }

    /// Writes what can be read, and records each with the event that `event` makes of it.
    async fn write<T>(
        &self,
        request: &Request<T>,
        items: impl Iterator<Item = Result<RelationshipWrite, ApiError>>,
        event: fn(RelationshipFacts) -> Event,
    ) -> Result<Vec<Result<Written, ApiError>>, Status> {
        let caller = super::admitted(request)?.for_audit();
        self.0.recordable()?;
        let registry = &self.0.registry;
        let results =
            super::batch(items, async |items| registry.write_relationships(items).await).await;
        let events = results.iter().flatten().flat_map(|written| {
            let set = written.set.as_ref();
            let set = set.map(|bundle| Event::BundleSet { bundle: BundleFacts::from(&**bundle) });
            let facts = RelationshipFacts::from(&*written.relationship);
            [Some(event(facts)), set].into_iter().flatten()
        });
        self.0.record_done(&caller, events).await;
        results.iter().flatten().for_each(|written| self.tell_of_lacking_bundle(written));
        Ok(results)
    }

    /// Whoever answers at an endpoint of this profile cannot be verified before there is a bundle.
    fn tell_of_lacking_bundle(&self, written: &Written) {
        let Relationship { trust_domain, profile, .. } = &*written.relationship;
        let Profile::HttpsSpiffe { endpoint_id } = profile else { return };
        if self.0.registry.bundle(endpoint_id.trust_domain()).is_none() {
            warn!(%trust_domain, %endpoint_id,
                "no bundle of the endpoint's trust domain; set it before bundles can be fetched");
        }
    }
}

#[tonic::async_trait]
impl trust_domain_server::TrustDomain for TrustDomainService {
    async fn list_federation_relationships(
        &self,
        request: Request<pb::ListFederationRelationshipsRequest>,
    ) -> Result<Response<pb::ListFederationRelationshipsResponse>, Status> {
        let request = request.into_inner();
        let wanted =
            PageRequest::new(request.page_size, &request.page_token).map_err(ApiError::from)?;
        let page = self.0.registry.list_relationships(&wanted).map_err(ApiError::from)?;
        let mask = request.output_mask.as_ref();
        let (federation_relationships, next_page_token) =
            pages::answer(&wanted, page, |relationship| self.to_proto(relationship, mask))?;
        Ok(Response::new(pb::ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        }))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<pb::GetFederationRelationshipRequest>,
    ) -> Result<Response<types::FederationRelationship>, Status> {
        let request = request.into_inner();
        let name = trust_domain(&request.trust_domain)?;
        let found = self.0.registry.relationship(&name).ok_or(ApiError::NoRelationship)?;
        Ok(Response::new(self.to_proto(&found, request.output_mask.as_ref())))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<pb::BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchCreateFederationRelationshipResponse>, Status> {
        let sent = request.get_ref().federation_relationships.iter();
        let items = sent.map(|sent| relationship::creation(&self.0, sent));
        let event = |relationship| Event::RelationshipCreated { relationship };
        let results = self.write(&request, items, event).await?;
        let mask = request.get_ref().output_mask.as_ref();
        let shown = |written: &Written| self.to_proto(&written.relationship, mask);
        let results = results
            .iter()
            .map(|result| pb::batch_create_federation_relationship_response::Result {
                status: Some(item_status(result)),
                federation_relationship: result.as_ref().ok().map(shown),
            })
            .collect();
        Ok(Response::new(pb::BatchCreateFederationRelationshipResponse { results }))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<pb::BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchUpdateFederationRelationshipResponse>, Status> {
        let input = request.get_ref().input_mask.as_ref();
        let sent = request.get_ref().federation_relationships.iter();
        let items = sent.map(|sent| relationship::update(&self.0, sent, input));
        let event = |relationship| Event::RelationshipUpdated { relationship };
        let results = self.write(&request, items, event).await?;
        let mask = request.get_ref().output_mask.as_ref();
        let shown = |written: &Written| self.to_proto(&written.relationship, mask);
        let results = results
            .iter()
            .map(|result| pb::batch_update_federation_relationship_response::Result {
                status: Some(item_status(result)),
                federation_relationship: result.as_ref().ok().map(shown),
            })
            .collect();
        Ok(Response::new(pb::BatchUpdateFederationRelationshipResponse { results }))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<pb::BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchDeleteFederationRelationshipResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let names = request.into_inner().trust_domains;
        let registry = &self.0.registry;
        let results = super::batch(names.iter().map(|name| trust_domain(name)), async |names| {
            registry.delete_relationships(names).await
        })
        .await;
        let deleted = |relationship: &Arc<Relationship>| Event::RelationshipDeleted {
            trust_domain: relationship.trust_domain.clone(),
        };
        self.0.record_done(&caller, results.iter().flatten().map(deleted)).await;
        let results = names
            .into_iter()
            .zip(&results)
            .map(|(name, result)| pb::batch_delete_federation_relationship_response::Result {
                status: Some(item_status(result)),
                trust_domain: name,
            })
            .collect();
        Ok(Response::new(pb::BatchDeleteFederationRelationshipResponse { results }))
    }

    async fn refresh_bundle(
        &self,
        request: Request<pb::RefreshBundleRequest>,
    ) -> Result<Response<()>, Status> {
        let name = trust_domain(&request.get_ref().trust_domain)?;
        match self.0.registry.relationship(&name) {
            None => Err(ApiError::NotRefreshed(name).into()),
            Some(_) => Err(ApiError::Unimplemented(
                "this version does not fetch bundles; set them with `bundle set`",
            )
            .into()),
        }
    }
}

fn trust_domain(name: &str) -> Result<TrustDomain, ApiError> {
    Ok(trust_domain_from_proto(name, "trust_domain")?)
}
