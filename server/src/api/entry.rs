//! The RPCs about registration entries.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use steeple::convert::{all_entry_fields, entry_from_proto, entry_to_proto};
use steeple::entry::{Entry, EntryId};
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::server::entry::v1::entry_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status, Streaming};

use super::error::{ApiError, item_status};
use super::{Deps, pages};
use crate::audit::event::{EntryFacts, Event};
use crate::registry::entries::EntryWriteError;
use crate::registry::list::PageRequest;

mod filter;
mod sync;
mod update;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct EntryService(pub(super) Arc<Deps>);

#[tonic::async_trait]
impl entry_server::Entry for EntryService {
    type SyncAuthorizedEntriesStream =
        BoxStream<'static, Result<pb::SyncAuthorizedEntriesResponse, Status>>;

    async fn count_entries(
        &self,
        request: Request<pb::CountEntriesRequest>,
    ) -> Result<Response<pb::CountEntriesResponse>, Status> {
        let filter = filter::from_proto(request.into_inner().filter.map(Into::into))?;
        let count = i32::try_from(self.0.registry.count_entries(&filter)).unwrap_or(i32::MAX);
        Ok(Response::new(pb::CountEntriesResponse { count }))
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let filter = filter::from_proto(request.filter.map(Into::into))?;
        let wanted =
            PageRequest::new(request.page_size, &request.page_token).map_err(ApiError::from)?;
        let page = self.0.registry.list_entries(&filter, &wanted).map_err(ApiError::from)?;
        let mask = request.output_mask.unwrap_or_else(all_entry_fields);
        let (entries, next_page_token) =
            pages::answer(&wanted, page, |entry| entry_to_proto(entry, &mask))?;
        Ok(Response::new(pb::ListEntriesResponse { entries, next_page_token }))
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        let id = entry_id(&request.id)?;
        let entry = self.0.registry.entry(&id).ok_or(ApiError::NoEntry)?;
        let mask = request.output_mask.unwrap_or_else(all_entry_fields);
        Ok(Response::new(entry_to_proto(&entry, &mask)))
    }

    async fn batch_create_entry(
        &self,
        request: Request<pb::BatchCreateEntryRequest>,
    ) -> Result<Response<pb::BatchCreateEntryResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        self.0.recordable()?;
        let request = request.into_inner();
        let mask = request.output_mask.unwrap_or_else(all_entry_fields);
        let read = request.entries.iter().map(|entry| entry_from_proto(entry).map_err(Into::into));
        let now = self.0.clock.now();
        let results =
            super::batch(read, async |items| self.0.registry.create_entries(items, now).await)
                .await;
        let created =
            |entry: &Arc<Entry>| Event::EntryCreated { entry: EntryFacts::from(&**entry) };
        self.0.record_done(&caller, results.iter().flatten().map(created)).await;
        let results = results
            .iter()
            .map(|result| pb::batch_create_entry_response::Result {
                status: Some(item_status(result)),
                entry: shown(result).map(|entry| entry_to_proto(entry, &mask)),
            })
            .collect();
        Ok(Response::new(pb::BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<pb::BatchUpdateEntryRequest>,
    ) -> Result<Response<pb::BatchUpdateEntryResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        self.0.recordable()?;
        let request = request.into_inner();
        let input = request.input_mask.as_ref();
        let mask = request.output_mask.unwrap_or_else(all_entry_fields);
        let own = self.0.registry.trust_domain();
        let read = request.entries.iter().map(|entry| update::from_proto(entry, input, own));
        let results =
            super::batch(read, async |items| self.0.registry.update_entries(items).await).await;
        let updated =
            |entry: &Arc<Entry>| Event::EntryUpdated { entry: EntryFacts::from(&**entry) };
        self.0.record_done(&caller, results.iter().flatten().map(updated)).await;
        let results = results
            .iter()
            .map(|result| pb::batch_update_entry_response::Result {
                status: Some(item_status(result)),
                entry: result.as_ref().ok().map(|entry| entry_to_proto(entry, &mask)),
            })
            .collect();
        Ok(Response::new(pb::BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<pb::BatchDeleteEntryRequest>,
    ) -> Result<Response<pb::BatchDeleteEntryResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let ids = request.into_inner().ids;
        let results = super::batch(ids.iter().map(|id| entry_id(id)), async |items| {
            self.0.registry.delete_entries(items).await
        })
        .await;
        let deleted = |entry: &Arc<Entry>| Event::of_deleted(entry);
        self.0.record_done(&caller, results.iter().flatten().map(deleted)).await;
        let results = ids
            .into_iter()
            .zip(&results)
            .map(|(id, result)| pb::batch_delete_entry_response::Result {
                status: Some(item_status(result)),
                id,
            })
            .collect();
        Ok(Response::new(pb::BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<pb::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<pb::GetAuthorizedEntriesResponse>, Status> {
        let authorized = self.0.registry.authorized(&self.0.agent(&request).await?.id);
        let mask = request.into_inner().output_mask.unwrap_or_else(all_entry_fields);
        let entries = pages::whole(authorized.entries(), |entry| entry_to_proto(entry, &mask))?;
        Ok(Response::new(pb::GetAuthorizedEntriesResponse { entries }))
    }

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<pb::SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let authorized = self.0.registry.authorized(&self.0.agent(&request).await?.id);
        let stop = self.0.tasks.stop_token();
        Ok(Response::new(sync::answer(authorized, request.into_inner(), stop).await?))
    }
}

/// What is shown of a creation: the entry, or the one that stands in its way.
fn shown(result: &Result<Arc<Entry>, ApiError>) -> Option<&Arc<Entry>> {
    match result {
        Ok(entry) | Err(ApiError::Entry(EntryWriteError::Similar(entry))) => Some(entry),
        Err(_) => None,
    }
}

fn entry_id(id: &str) -> Result<EntryId, ApiError> {
    if id.is_empty() {
        return Err(ApiError::Invalid { field: "id", expected: "missing entry ID" });
    }
    // What cannot be an ID is the ID of nothing.
    EntryId::new(id).or(Err(ApiError::NoEntry))
}
