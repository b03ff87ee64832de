//! The RPCs about agents.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use steeple::clock::unix_seconds;
use steeple::convert::{id_from_proto, id_to_proto, selectors_to_proto};
use steeple::id::SpiffeId;
use steeple::shown::quoted;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::server::agent::v1::agent_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;
use uuid::Uuid;

use super::error::ApiError;
use super::limits::Limited;
use super::{Deps, pages};
use crate::audit::event::{Event, sha256};
use crate::datastore::{JoinToken, Node, TokenHash};
use crate::node_attest::join_token;
use crate::registry::list::PageRequest;
use crate::registry::nodes::NodeWriteError;

mod attest;
mod filter;
mod renew;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct AgentService(pub(super) Arc<Deps>);

impl AgentService {
    /// The agent that an administrator means.
    fn agent_id(&self, id: Option<&types::Spiffeid>) -> Result<SpiffeId, ApiError> {
        let id = match id_from_proto(id, "id") {
            Ok(id) => id,
            Err(_) => return Err(ApiError::AgentId("not a SPIFFE ID")),
        };
        if id.trust_domain() != self.0.registry.trust_domain() {
            return Err(ApiError::AgentId("not of the server's trust domain"));
        }
        if !id.is_agent() {
            return Err(ApiError::AgentId("an agent's path is below /spire/agent"));
        }
        Ok(id)
    }

    /// A token as an administrator asks for it, and its text.
    fn token(&self, request: pb::CreateJoinTokenRequest) -> Result<(String, JoinToken), ApiError> {
        let ttl = u64::try_from(request.ttl).ok().filter(|ttl| *ttl > 0);
        let (found, expected) = (request.ttl.to_string(), "a number of seconds, at least 1");
        let ttl = ttl.ok_or(ApiError::Found { field: "ttl", found, expected })?;
        let ttl = Duration::from_secs(ttl);
        let token =
            if request.token.is_empty() { Uuid::new_v4().to_string() } else { request.token };
        let own = self.0.registry.trust_domain();
        if join_token::agent_id(own, &token).is_err() {
            let expected = "characters of [A-Za-z0-9._-] alone";
            return Err(ApiError::Invalid { field: "token", expected });
        }
        let agent_id = request.agent_id.map(|id| self.alias(&id)).transpose()?;
        let expires_at = unix_seconds(self.0.clock.now() + ttl);
        Ok((token.clone(), JoinToken { hash: TokenHash::of(&token), expires_at, agent_id }))
    }

    /// The further name that an agent is to get.
    fn alias(&self, id: &types::Spiffeid) -> Result<SpiffeId, ApiError> {
        let id = id_from_proto(Some(id), "agent_id")?;
        let is_fine = id.trust_domain() == self.0.registry.trust_domain()
            && !id.is_reserved()
            && !id.is_trust_domain();
        let expected = "an ID in the server's trust domain with a path that is not below /spire";
        let found = quoted(id.as_str());
        if is_fine { Ok(id) } else { Err(ApiError::Found { field: "agent_id", found, expected }) }
    }
}

#[tonic::async_trait]
impl agent_server::Agent for AgentService {
    type AttestAgentStream = BoxStream<'static, Result<pb::AttestAgentResponse, Status>>;

    async fn count_agents(
        &self,
        request: Request<pb::CountAgentsRequest>,
    ) -> Result<Response<pb::CountAgentsResponse>, Status> {
        let filter = filter::from_proto(request.into_inner().filter.map(Into::into))?;
        let count = i32::try_from(self.0.registry.count_nodes(&filter)).unwrap_or(i32::MAX);
        Ok(Response::new(pb::CountAgentsResponse { count }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = filter::from_proto(request.filter.map(Into::into))?;
        let wanted =
            PageRequest::new(request.page_size, &request.page_token).map_err(ApiError::from)?;
        let page = self.0.registry.list_nodes(&filter, &wanted).map_err(ApiError::from)?;
        let mask = request.output_mask.as_ref();
        let (agents, next_page_token) =
            pages::answer(&wanted, page, |node| node_to_proto(node, mask))?;
        Ok(Response::new(pb::ListAgentsResponse { agents, next_page_token }))
    }

    async fn get_agent(
        &self,
        request: Request<pb::GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = self.agent_id(request.id.as_ref())?;
        let node = self.0.registry.node(&id).ok_or(ApiError::NoAgent)?;
        Ok(Response::new(node_to_proto(&node, request.output_mask.as_ref())))
    }

    async fn delete_agent(
        &self,
        request: Request<pb::DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let id = self.agent_id(request.get_ref().id.as_ref())?;
        let entries = self.0.registry.evict_node(id.clone()).await.map_err(no_agent)?;
        self.0.reports.forget(&id);
        info!(spiffe_id = %id, "Agent deleted");
        let entries = entries.iter().map(|entry| Event::of_deleted(entry));
        let events: Vec<_> =
            [Event::AgentEvicted { agent_id: id }].into_iter().chain(entries).collect();
        self.0.record_done(&caller, events).await;
        Ok(Response::new(()))
    }

    async fn ban_agent(
        &self,
        request: Request<pb::BanAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let id = self.agent_id(request.get_ref().id.as_ref())?;
        self.0.registry.ban_node(id.clone()).await.map_err(no_agent)?;
        self.0.reports.forget(&id);
        info!(spiffe_id = %id, "Agent banned");
        self.0.record_done(&caller, [Event::AgentBanned { agent_id: id }]).await;
        Ok(Response::new(()))
    }

    async fn attest_agent(
        &self,
        request: Request<Streaming<pb::AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        Ok(Response::new(attest::answer(&self.0, request).await?))
    }

    async fn renew_agent(
        &self,
        request: Request<pb::RenewAgentRequest>,
    ) -> Result<Response<pb::RenewAgentResponse>, Status> {
        Ok(Response::new(renew::answer(&self.0, request).await?))
    }

    async fn post_status(
        &self,
        request: Request<pb::PostStatusRequest>,
    ) -> Result<Response<pb::PostStatusResponse>, Status> {
        self.0.charge(&request, Limited::PostStatus, 1)?;
        let id = self.0.agent(&request).await?.id.clone();
        let version = request.into_inner().agent_version;
        self.0.registry.set_agent_version(id, version).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::PostStatusResponse {}))
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        self.0.recordable()?;
        if !self.0.attestors.contains_key(join_token::KIND) {
            return Err(ApiError::NoJoinTokens.into());
        }
        let (value, token) = self.token(request.into_inner())?;
        let event = Event::JoinTokenCreated {
            token_sha256: sha256(value.as_bytes()),
            agent_id: token.agent_id.clone(),
            expires_at: token.expires_at,
        };
        let expires_at = token.expires_at;
        self.0.registry.create_join_token(token).await.map_err(ApiError::from)?;
        self.0.record_done(&caller, [event]).await;
        Ok(Response::new(types::JoinToken { value, expires_at }))
    }
}

fn no_agent(error: NodeWriteError) -> ApiError {
    match error {
        NodeWriteError::NotFound(_) => ApiError::NoAgent,
        NodeWriteError::Banned
        | NodeWriteError::NotActive
        | NodeWriteError::AgentVersion
        | NodeWriteError::NotWritten(_) => error.into(),
    }
}

fn node_to_proto(node: &Node, mask: Option<&types::AgentMask>) -> types::Agent {
    let on = |field: fn(&types::AgentMask) -> bool| mask.is_none_or(field);
    let text = |on: bool, text: &str| if on { text.to_owned() } else { String::new() };
    types::Agent {
        id: Some(id_to_proto(&node.id)),
        attestation_type: text(on(|mask| mask.attestation_type), &node.attestation_type),
        x509svid_serial_number: text(
            on(|mask| mask.x509svid_serial_number),
            node.serial.as_deref().unwrap_or_default(),
        ),
        x509svid_expires_at: if on(|mask| mask.x509svid_expires_at) { node.not_after } else { 0 },
        selectors: if on(|mask| mask.selectors) {
            selectors_to_proto(&node.selectors)
        } else {
            Vec::new()
        },
        banned: on(|mask| mask.banned) && node.is_banned(),
        can_reattest: on(|mask| mask.can_reattest) && node.can_reattest,
        agent_version: text(on(|mask| mask.agent_version), &node.agent_version),
    }
}
