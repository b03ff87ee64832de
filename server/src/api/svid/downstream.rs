//! Signs the CA certificates of servers below this one.

use steeple::clock::unix_seconds;
use steeple_proto::spire::api::server::svid::v1 as pb;
use tonic::Request;

use super::mint;
use crate::api::error::ApiError;
use crate::api::issued::csr;
use crate::api::{Deps, admitted};
use crate::ca::Order;
use crate::ca::downstream::DownstreamRequest;
use crate::ca::request::MAX_TTL;

/// The chain of a new authority, and the roots of the trust domain. Nothing but the key is taken
/// from the request.
pub(super) async fn issue(
    deps: &Deps,
    request: &Request<pb::NewDownstreamX509caRequest>,
) -> Result<pb::NewDownstreamX509caResponse, ApiError> {
    let admitted = admitted(request)?;
    let peer = admitted.downstream().ok_or(ApiError::Internal)?;
    // It may be gone since the caller was let in.
    let entry = deps.registry.downstream_entry(&peer.id, unix_seconds(deps.clock.now()));
    let entry = entry.ok_or(ApiError::Denied { method: admitted.method, reason: None })?;
    let wish = request.get_ref();
    let csr = csr(&wish.csr)?;
    // Who has no preference gets what the entry says, or as much as there is.
    let default = entry.content.x509_svid_ttl.unwrap_or(MAX_TTL);
    let ttl = mint::ttl(wish.preferred_ttl, default)?;
    let order = Order {
        request: DownstreamRequest { public_key: csr.public_key(), ttl },
        entry_id: Some(&entry.id),
    };
    let issued = deps.ca.issue_downstream(&admitted.for_audit(), &order).await?;
    let roots = &deps.registry.own_bundle().x509_authorities;
    Ok(pb::NewDownstreamX509caResponse {
        ca_cert_chain: issued.chain.certificates().iter().map(|der| der.to_vec()).collect(),
        x509_authorities: roots.iter().map(|root| root.certificate.to_vec()).collect(),
    })
}
