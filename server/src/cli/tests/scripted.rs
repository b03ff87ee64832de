//! A server that does what the IDs of entries tell it to.

use std::sync::{Arc, Mutex};

use futures_util::stream::{self, Empty};
use steeple::health::explained;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::server::entry::v1::entry_server;
use steeple_proto::spire::api::types;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb as health;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;

/// A server, and what it was asked. An entry whose ID is `similar` exists already, one with `gone`
/// does not exist, one with `raced` is changed by somebody else first, and a call with `explode` in
/// it fails as a whole. Of what is similar the hint is `h`. What ends with `.raced` is at revision 1
/// when it is read alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Scripted {
    pub(super) is_sick: bool,
    /// How many entries there are to list.
    pub(super) entries: usize,
    /// What there is to list instead of that.
    pub(super) listed: Vec<types::Entry>,
    pub(super) deletes: Arc<Mutex<Vec<String>>>,
    pub(super) updates: Arc<Mutex<Vec<pb::BatchUpdateEntryRequest>>>,
    pub(super) lists: Arc<Mutex<Vec<pb::ListEntriesRequest>>>,
    pub(super) calls: Arc<Mutex<usize>>,
}

impl Scripted {
    fn status(&self, id: &str) -> types::Status {
        let (code, message) = match id.rsplit('.').next().unwrap_or_default() {
            "similar" => (Code::AlreadyExists, "similar entry already exists"),
            "gone" => (Code::NotFound, "entry not found"),
            _other => (Code::Ok, ""),
        };
        types::Status { code: code.into(), message: message.into() }
    }

    fn called<'a>(&self, mut ids: impl Iterator<Item = &'a str>) -> Result<(), Status> {
        *self.calls.lock().unwrap() += 1;
        if ids.any(|id| id == "explode") {
            return Err(Status::unavailable("the disk is full"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl entry_server::Entry for Scripted {
    type SyncAuthorizedEntriesStream = Empty<Result<pb::SyncAuthorizedEntriesResponse, Status>>;

    async fn count_entries(
        &self,
        _: Request<pb::CountEntriesRequest>,
    ) -> Result<Response<pb::CountEntriesResponse>, Status> {
        Ok(Response::new(pb::CountEntriesResponse { count: 1 }))
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        self.lists.lock().unwrap().push(request.clone());
        if !self.listed.is_empty() {
            let (entries, next_page_token) = (self.listed.clone(), String::new());
            return Ok(Response::new(pb::ListEntriesResponse { entries, next_page_token }));
        }
        let from: usize = request.page_token.parse().unwrap_or(0);
        let to = self.entries.min(from + usize::try_from(request.page_size).unwrap());
        // Backwards, so that there is something to sort.
        let entry = |index: usize| types::Entry {
            id: format!("e{index}"),
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "td".into(),
                path: format!("/{:04}", 9_999 - index),
            }),
            ..types::Entry::default()
        };
        Ok(Response::new(pb::ListEntriesResponse {
            entries: (from..to).map(entry).collect(),
            next_page_token: if to < self.entries { to.to_string() } else { String::new() },
        }))
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let id = request.into_inner().id;
        let revision_number = if id.ends_with(".raced") { 1 } else { 0 };
        if id.ends_with("gone") {
            return Err(Status::not_found("entry not found"));
        }
        let additional_attributes = Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        });
        let entry = types::Entry { id, revision_number, ..types::Entry::default() };
        Ok(Response::new(types::Entry { additional_attributes, ..entry }))
    }

    async fn batch_create_entry(
        &self,
        request: Request<pb::BatchCreateEntryRequest>,
    ) -> Result<Response<pb::BatchCreateEntryResponse>, Status> {
        let entries = request.into_inner().entries;
        self.called(entries.iter().map(|entry| entry.id.as_str()))?;
        let result = |mut entry: types::Entry| {
            let status = self.status(&entry.id);
            if status.code != 0 {
                entry.hint = "h".into();
                entry.revision_number = 7;
            }
            let is_shown = Code::from(status.code) != Code::NotFound;
            let entry = is_shown.then_some(entry);
            pb::batch_create_entry_response::Result { status: Some(status), entry }
        };
        let results = entries.into_iter().map(result).collect();
        Ok(Response::new(pb::BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<pb::BatchUpdateEntryRequest>,
    ) -> Result<Response<pb::BatchUpdateEntryResponse>, Status> {
        let request = request.into_inner();
        self.called(request.entries.iter().map(|entry| entry.id.as_str()))?;
        self.updates.lock().unwrap().push(request.clone());
        let result = |entry: types::Entry| {
            let status = self.status(&entry.id);
            let changes = if entry.id == "raced" { 2 } else { 1 };
            let revision_number = entry.revision_number + changes;
            let entry = (status.code == 0).then_some(types::Entry { revision_number, ..entry });
            pb::batch_update_entry_response::Result { status: Some(status), entry }
        };
        let results = request.entries.into_iter().map(result).collect();
        Ok(Response::new(pb::BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<pb::BatchDeleteEntryRequest>,
    ) -> Result<Response<pb::BatchDeleteEntryResponse>, Status> {
        let ids = request.into_inner().ids;
        self.called(ids.iter().map(String::as_str))?;
        self.deletes.lock().unwrap().extend(ids.iter().cloned());
        let result = |id: String| pb::batch_delete_entry_response::Result {
            status: Some(self.status(&id)),
            id,
        };
        let results = ids.into_iter().map(result).collect();
        Ok(Response::new(pb::BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        _: Request<pb::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<pb::GetAuthorizedEntriesResponse>, Status> {
        Err(Status::unimplemented("not for admins"))
    }

    async fn sync_authorized_entries(
        &self,
        _: Request<Streaming<pb::SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        Err(Status::unimplemented("not for admins"))
    }
}

#[tonic::async_trait]
impl health_server::Health for Scripted {
    type WatchStream = Empty<Result<health::HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: Request<health::HealthCheckRequest>,
    ) -> Result<Response<health::HealthCheckResponse>, Status> {
        let status = if self.is_sick { ServingStatus::NotServing } else { ServingStatus::Serving };
        let answer = Response::new(health::HealthCheckResponse { status: status.into() });
        Ok(if self.is_sick { explained(answer, "the disk is full") } else { answer })
    }

    async fn watch(
        &self,
        _: Request<health::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(stream::empty()))
    }
}
