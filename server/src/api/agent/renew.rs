//! An agent that cannot prove again what it is gets its next certificate.

use steeple::clock::unix_seconds;
use steeple_proto::spire::api::server::agent::v1 as pb;
use tonic::Request;

use crate::api::caller::Peer;
use crate::api::error::ApiError;
use crate::api::issued::{csr, x509_to_proto};
use crate::api::limits::Limited;
use crate::api::{Deps, admitted};
use crate::audit::event::{Event, Hex};
use crate::ca::Order;
use crate::ca::request::X509Request;
use crate::datastore::NewSerial;

/// Signs the next certificate, which becomes the current one when it is used.
pub(super) async fn answer(
    deps: &Deps,
    request: Request<pb::RenewAgentRequest>,
) -> Result<pb::RenewAgentResponse, ApiError> {
    deps.charge(&request, Limited::X509Signing, 1)?;
    let caller = admitted(&request)?.for_audit();
    let Peer { id, serial: current, .. } = deps.agent(&request).await?.clone();
    let node = deps.registry.node(&id).ok_or(ApiError::NoAgent)?;
    if node.can_reattest {
        return Err(ApiError::MustReattest);
    }
    let params = request.into_inner().params;
    let params = params.ok_or(ApiError::Invalid { field: "params", expected: "missing params" })?;
    let csr = csr(&params.csr)?;
    let order = Order {
        request: X509Request::Agent {
            spiffe_id: &id,
            public_key: csr.public_key(),
            ttl: deps.ttl.agent,
        },
        entry_id: None,
    };
    let issued = deps.ca.issue_one_x509(&caller, &order).await?;
    let serial = issued.svid.serial();
    let new =
        NewSerial { serial: serial.to_string(), not_after: unix_seconds(issued.svid.not_after()) };
    // Before it is handed out: a certificate that nobody remembers would be of no use.
    deps.registry.renew_node(id.clone(), current, new).await?;
    let event =
        Event::AgentRenewed { correlation: issued.correlation, agent_id: id, serial: Hex(serial) };
    deps.record_done(&caller, [event]).await;
    Ok(pb::RenewAgentResponse { svid: Some(x509_to_proto(&issued, None)) })
}
