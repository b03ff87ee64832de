//! Signs for the workloads of an agent, many at a time.

use std::sync::Arc;

use steeple::entry::{Entry, EntryId};
use steeple::x509::csr::Csr;
use steeple_proto::spire::api::server::svid::v1 as pb;
use tonic::Request;

use crate::api::error::ApiError;
use crate::api::issued::csr;
use crate::api::{Deps, admitted};
use crate::audit::event::Event;
use crate::ca::request::X509Request;
use crate::ca::{IssuedX509, Order};
use crate::entries::authorized::Authorized;

/// How many signatures are checked before others get a turn.
const TURN: usize = 16;

/// One result for each of the parameters, in their order, each with the entry that it is by.
pub(super) async fn issue(
    deps: &Deps,
    request: &Request<pb::BatchNewX509svidRequest>,
) -> Result<Vec<Result<(IssuedX509, Arc<Entry>), ApiError>>, ApiError> {
    let caller = admitted(request)?.for_audit();
    let authorized = deps.registry.authorized(&deps.agent(request).await?.id);
    let mut items = Vec::with_capacity(request.get_ref().params.len());
    for (index, params) in request.get_ref().params.iter().enumerate() {
        if index % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        items.push(read(params, &authorized));
    }
    let orders: Vec<_> = items
        .iter()
        .flatten()
        .map(|(entry, csr)| Order {
            request: X509Request::Workload {
                spiffe_id: &entry.content.spiffe_id,
                public_key: csr.public_key(),
                ttl: entry.content.x509_svid_ttl.unwrap_or(deps.ttl.x509_svid),
                dns_names: &entry.content.dns_names,
            },
            entry_id: Some(&entry.id),
        })
        .collect();
    let mut issued =
        if orders.is_empty() { Vec::new() } else { deps.ca.issue_x509(&caller, &orders).await }
            .into_iter();
    drop(orders);
    deps.record_done(&caller, items.iter().zip(&request.get_ref().params).filter_map(refusal))
        .await;
    let result = |item: Result<(Arc<Entry>, Csr), ApiError>| {
        let (entry, _) = item?;
        Ok((issued.next().ok_or(ApiError::Internal)??, entry))
    };
    Ok(items.into_iter().map(result).collect())
}

/// The name of an entry.
pub(super) fn entry_id(id: &str) -> Result<EntryId, ApiError> {
    if id.is_empty() {
        return Err(ApiError::Invalid { field: "entry_id", expected: "missing entry ID" });
    }
    // What cannot be a name is the name of nothing.
    EntryId::new(id).or(Err(ApiError::NotYourEntry))
}

/// The entry and the key, if the agent may have it signed.
fn read(
    params: &pb::NewX509svidParams,
    authorized: &Authorized,
) -> Result<(Arc<Entry>, Csr), ApiError> {
    let id = entry_id(&params.entry_id)?;
    let entry = authorized.get(&id).ok_or(ApiError::NotYourEntry)?;
    Ok((Arc::clone(entry), csr(&params.csr)?))
}

/// What the audit log says of an item that never came as far as the authorities.
fn refusal<T>((item, params): (&Result<T, ApiError>, &pb::NewX509svidParams)) -> Option<Event> {
    let why = item.as_ref().err()?.to_string();
    let entry_id = EntryId::new(&params.entry_id).ok();
    Some(Event::X509Refused { correlation: None, spiffe_id: None, entry_id, why })
}
