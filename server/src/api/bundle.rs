//! The RPCs about trust bundles.

use std::sync::Arc;

use steeple::bundle::Bundle;
use steeple::clock::unix_seconds;
use steeple::convert::{bundle_from_proto, bundle_to_proto};
use steeple::entry::Entry;
use steeple::id::TrustDomain;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::server::bundle::v1::batch_delete_federated_bundle_request::Mode;
use steeple_proto::spire::api::server::bundle::v1::bundle_server;
use steeple_proto::spire::api::types;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::caller::{Admitted, Caller};
use super::error::{ApiError, item_status};
use super::{Deps, authorities, pages};
use crate::audit::event::{BundleFacts, EntryFacts, Event};
use crate::registry::bundles::{BundleWrite, DeleteMode, OwnBundleChange};
use crate::registry::list::PageRequest;

mod publish;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct BundleService(pub(super) Arc<Deps>);

type Written = Vec<Result<Arc<Bundle>, ApiError>>;

impl BundleService {
    /// Notes what a server below this one has, if it is one that asks.
    fn note_server_below(&self, admitted: &Admitted, sequence: u64) {
        let Caller::Peer(peer) = &*admitted.caller else { return };
        let now = unix_seconds(self.0.clock.now());
        if !peer.id.is_agent() && self.0.registry.is_downstream(&peer.id, now) {
            let server = (peer.id.clone(), peer.address.ip());
            self.0.servers_below.fetched(server, sequence, Instant::now());
        }
    }

    /// A bundle that somebody sent, if it is fit to be stored.
    fn read(&self, bundle: &types::Bundle) -> Result<Bundle, ApiError> {
        self.0.foreign(&bundle.trust_domain)?;
        let bundle = bundle_from_proto(bundle)?;
        authorities::check(&bundle)?;
        Ok(bundle)
    }

    async fn write<T>(
        &self,
        request: &Request<T>,
        items: impl Iterator<Item = Result<BundleWrite, ApiError>>,
    ) -> Result<Written, Status> {
        let caller = super::admitted(request)?.for_audit();
        self.0.recordable()?;
        let results =
            super::batch(items, async |items| self.0.registry.write_bundles(items).await).await;
        let set = |bundle: &Arc<Bundle>| Event::BundleSet { bundle: BundleFacts::from(&**bundle) };
        self.0.record_done(&caller, results.iter().flatten().map(set)).await;
        Ok(results)
    }
}

#[tonic::async_trait]
impl bundle_server::Bundle for BundleService {
    async fn count_bundles(
        &self,
        _: Request<pb::CountBundlesRequest>,
    ) -> Result<Response<pb::CountBundlesResponse>, Status> {
        let count = i32::try_from(self.0.registry.bundles().len()).unwrap_or(i32::MAX);
        Ok(Response::new(pb::CountBundlesResponse { count }))
    }

    async fn get_bundle(
        &self,
        request: Request<pb::GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let bundle = self.0.registry.own_bundle();
        self.note_server_below(super::admitted(&request)?, bundle.sequence);
        let mask = request.into_inner().output_mask;
        Ok(Response::new(bundle_to_proto(&bundle, mask.as_ref())))
    }

    async fn append_bundle(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        self.0.recordable()?;
        let request = request.into_inner();
        if !request.wit_authorities.is_empty() {
            return Err(super::no_wit());
        }
        let own = self.0.registry.trust_domain().to_string();
        let read = bundle_from_proto(&types::Bundle {
            trust_domain: own,
            x509_authorities: request.x509_authorities,
            jwt_authorities: request.jwt_authorities,
            ..types::Bundle::default()
        });
        let new = read.map_err(ApiError::from)?;
        if new.x509_authorities.is_empty() && new.jwt_authorities.is_empty() {
            let expected = "at least one is needed";
            return Err(ApiError::Invalid { field: "authorities", expected }.into());
        }
        authorities::check(&new)?;
        let change =
            OwnBundleChange::Append { x509: new.x509_authorities, jwt: new.jwt_authorities };
        let now = self.0.clock.now();
        let written = self.0.registry.change_own_bundle(change, now).await;
        let bundle = written.map_err(ApiError::from)?;
        let event = Event::BundleSet { bundle: BundleFacts::from(&*bundle) };
        self.0.record_done(&caller, [event]).await;
        Ok(Response::new(bundle_to_proto(&bundle, request.output_mask.as_ref())))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<pb::ListFederatedBundlesRequest>,
    ) -> Result<Response<pb::ListFederatedBundlesResponse>, Status> {
        let request = request.into_inner();
        let wanted =
            PageRequest::new(request.page_size, &request.page_token).map_err(ApiError::from)?;
        let page = self.0.registry.list_federated_bundles(&wanted).map_err(ApiError::from)?;
        let mask = request.output_mask.as_ref();
        let (bundles, next_page_token) =
            pages::answer(&wanted, page, |bundle| bundle_to_proto(bundle, mask))?;
        Ok(Response::new(pb::ListFederatedBundlesResponse { bundles, next_page_token }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        let trust_domain = self.0.foreign(&request.trust_domain)?;
        let bundle = self.0.registry.bundle(&trust_domain).ok_or(ApiError::NoBundle)?;
        Ok(Response::new(bundle_to_proto(&bundle, request.output_mask.as_ref())))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchCreateFederatedBundleResponse>, Status> {
        let bundles = request.get_ref().bundle.iter();
        let items = bundles.map(|bundle| self.read(bundle).map(BundleWrite::Create));
        let results = self.write(&request, items).await?;
        let mask = request.get_ref().output_mask.as_ref();
        let results = results
            .iter()
            .map(|result| pb::batch_create_federated_bundle_response::Result {
                status: Some(item_status(result)),
                bundle: result.as_ref().ok().map(|bundle| bundle_to_proto(bundle, mask)),
            })
            .collect();
        Ok(Response::new(pb::BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchUpdateFederatedBundleResponse>, Status> {
        let input = request.get_ref().input_mask;
        let items = request.get_ref().bundle.iter().map(|bundle| {
            let new = self.read(bundle)?;
            Ok(BundleWrite::Update {
                trust_domain: new.trust_domain.clone(),
                change: Box::new(move |bundle| copy(&new, input.as_ref(), bundle)),
            })
        });
        let results = self.write(&request, items).await?;
        let mask = request.get_ref().output_mask.as_ref();
        let results = results
            .iter()
            .map(|result| pb::batch_update_federated_bundle_response::Result {
                status: Some(item_status(result)),
                bundle: result.as_ref().ok().map(|bundle| bundle_to_proto(bundle, mask)),
            })
            .collect();
        Ok(Response::new(pb::BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchSetFederatedBundleResponse>, Status> {
        let bundles = request.get_ref().bundle.iter();
        let items = bundles.map(|bundle| self.read(bundle).map(BundleWrite::Set));
        let results = self.write(&request, items).await?;
        let mask = request.get_ref().output_mask.as_ref();
        let results = results
            .iter()
            .map(|result| pb::batch_set_federated_bundle_response::Result {
                status: Some(item_status(result)),
                bundle: result.as_ref().ok().map(|bundle| bundle_to_proto(bundle, mask)),
            })
            .collect();
        Ok(Response::new(pb::BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchDeleteFederatedBundleResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let request = request.into_inner();
        let (mode, name) = match Mode::try_from(request.mode) {
            Ok(Mode::Restrict) => (DeleteMode::Restrict, "restrict"),
            Ok(Mode::Delete) => (DeleteMode::Delete, "delete"),
            Ok(Mode::Dissociate) => (DeleteMode::Dissociate, "dissociate"),
            Err(_) => {
                let expected = "RESTRICT, DELETE or DISSOCIATE";
                return Err(ApiError::Invalid { field: "mode", expected }.into());
            }
        };
        let items = request.trust_domains.iter().map(|name| self.0.foreign(name));
        let results = super::batch(items, async |items: Vec<TrustDomain>| {
            let deleted = self.0.registry.delete_bundles(items.clone(), mode).await;
            let named = deleted.into_iter().zip(items);
            named.map(|(result, name)| result.map(|entries| (name, entries))).collect()
        })
        .await;
        let mut events = Vec::new();
        for (trust_domain, entries) in results.iter().flatten() {
            let trust_domain = trust_domain.clone();
            events.push(Event::BundleDeleted { trust_domain, mode: name });
            events.extend(entries.iter().filter_map(|entry| changed(entry, mode)));
        }
        self.0.record_done(&caller, events).await;
        let results = request
            .trust_domains
            .into_iter()
            .zip(&results)
            .map(|(trust_domain, result)| pb::batch_delete_federated_bundle_response::Result {
                status: Some(item_status(result)),
                trust_domain,
            })
            .collect();
        Ok(Response::new(pb::BatchDeleteFederatedBundleResponse { results }))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        let bundle = publish::jwt_authority(&self.0, &request).await?;
        let jwt_authorities = bundle_to_proto(&bundle, None).jwt_authorities;
        Ok(Response::new(pb::PublishJwtAuthorityResponse { jwt_authorities }))
    }

    async fn publish_wit_authority(
        &self,
        _: Request<pb::PublishWitAuthorityRequest>,
    ) -> Result<Response<pb::PublishWitAuthorityResponse>, Status> {
        Err(super::no_wit())
    }
}

/// What became of an entry that federated with a trust domain whose bundle is gone.
fn changed(entry: &Entry, mode: DeleteMode) -> Option<Event> {
    match mode {
        DeleteMode::Restrict => None,
        DeleteMode::Delete => Some(Event::of_deleted(entry)),
        DeleteMode::Dissociate => Some(Event::EntryUpdated { entry: EntryFacts::from(entry) }),
    }
}

/// Copies the fields that `mask` has on; all without a mask.
fn copy(new: &Bundle, mask: Option<&types::BundleMask>, bundle: &mut Bundle) {
    let on = |field: fn(&types::BundleMask) -> bool| mask.is_none_or(field);
    if on(|mask| mask.x509_authorities) {
        bundle.x509_authorities.clone_from(&new.x509_authorities);
    }
    if on(|mask| mask.jwt_authorities) {
        bundle.jwt_authorities.clone_from(&new.jwt_authorities);
    }
    if on(|mask| mask.refresh_hint) {
        bundle.refresh_hint = new.refresh_hint;
    }
    if on(|mask| mask.sequence_number) {
        bundle.sequence = new.sequence;
    }
}
