//! The server's front: listeners, who calls, what they may, and the RPCs.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::clock::Clock;
use steeple::convert::{selectors_from_proto, trust_domain_from_proto};
use steeple::id::TrustDomain;
use steeple::selector::SelectorSet;
use steeple::tasks::Tasks;
use steeple::telemetry::LogLevel;
use steeple::tls::Material;
use steeple_proto::spire::api::server::agent::v1::agent_server::AgentServer;
use steeple_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
use steeple_proto::spire::api::server::debug::v1::debug_server::DebugServer;
use steeple_proto::spire::api::server::entry::v1::entry_server::EntryServer;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_server::LocalAuthorityServer;
use steeple_proto::spire::api::server::logger::v1::logger_server::LoggerServer;
use steeple_proto::spire::api::server::svid::v1::svid_server::SvidServer;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_server::TrustDomainServer;
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::selector_match::MatchBehavior;
use steeple_proto::steeple::authority::v1::authority_use_server::AuthorityUseServer;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_health::pb::health_server::HealthServer;
use tracing::error;

use self::authority_use::below::ServersBelow;
use self::authority_use::reports::Reports;
use self::caller::{Admitted, Peer};
use self::error::ApiError;
use self::limits::{Limited, Limits};
use self::refusals::Refusals;
use crate::audit::event::{self, Event};
use crate::audit::{self, Audit};
use crate::authz::agent_status::Status as AgentStatus;
use crate::authz::operation::Reach;
use crate::ca::Ca;
use crate::ca::control::AuthorityControl;
use crate::ca::upstream::UpstreamAuthority;
use crate::config::TtlConfig;
use crate::entries::filter::Match;
use crate::node_attest::NodeAttestor;
use crate::registry::Registry;

mod agent;
mod authorities;
pub mod authority_use;
mod bundle;
pub mod caller;
pub mod connection;
mod debug;
mod entry;
pub mod error;
pub mod guard;
mod health;
pub mod inflow;
mod issued;
pub mod limits;
pub mod listener;
mod local_authority;
mod logger;
mod pages;
pub mod refusals;
pub mod socket;
mod svid;
mod trust_domain;

/// What the handlers work with.
#[derive(Debug)]
pub struct Deps {
    /// Entries, agents and bundles.
    pub registry: Registry,
    /// What signs.
    pub ca: Ca,
    /// What changes what signs.
    pub authorities: AuthorityControl,
    /// What agents hold of what was signed.
    pub reports: Reports,
    /// What the servers below this one have of its bundle.
    pub servers_below: ServersBelow,
    /// How long what is signed lives, unless an entry says otherwise.
    pub ttl: TtlConfig,
    /// The `iss` of tokens.
    pub jwt_issuer: Option<String>,
    /// What stands above this server, if something does.
    pub upstream: Option<Arc<dyn UpstreamAuthority>>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// The methods of node attestation, by name.
    pub attestors: BTreeMap<&'static str, Arc<dyn NodeAttestor>>,
    /// How often an address may ask.
    pub limits: Arc<Limits>,
    /// Where refusals are recorded that anybody can bring about.
    pub refusals: Arc<Refusals>,
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// When the server was started.
    pub started: Instant,
    /// What the server shows to its clients.
    pub own_svid: watch::Receiver<Arc<Material>>,
    /// How much is logged.
    pub log: LogLevel,
    /// Where what has to come to its end is done, though nobody waits for it any more.
    pub tasks: Tasks,
}

/// The services that can be reached there.
#[must_use]
pub fn routes(deps: &Arc<Deps>, reach: Reach) -> Routes {
    let mut routes = Routes::builder();
    routes
        .add_service(AgentServer::new(agent::AgentService(Arc::clone(deps))))
        .add_service(AuthorityUseServer::new(authority_use::AuthorityUseService(Arc::clone(deps))))
        .add_service(BundleServer::new(bundle::BundleService(Arc::clone(deps))))
        .add_service(EntryServer::new(entry::EntryService(Arc::clone(deps))))
        .add_service(LocalAuthorityServer::new(local_authority::LocalAuthorityService(Arc::clone(
            deps,
        ))))
        .add_service(SvidServer::new(svid::SvidService(Arc::clone(deps))))
        .add_service(TrustDomainServer::new(trust_domain::TrustDomainService(Arc::clone(deps))));
    match reach {
        Reach::Everywhere => {}
        Reach::AdminSocket => {
            routes
                .add_service(DebugServer::new(debug::DebugService(Arc::clone(deps))))
                .add_service(LoggerServer::new(logger::LoggerService(Arc::clone(deps))))
                .add_service(HealthServer::new(health::HealthService(Arc::clone(deps))));
        }
    }
    routes.routes().prepare()
}

impl Deps {
    /// Takes `cost` out of what the caller may ask.
    fn charge<T>(&self, request: &Request<T>, limited: Limited, cost: u32) -> Result<(), ApiError> {
        let source = admitted(request)?.caller.source();
        Ok(self.limits.charge(source, limited, cost, Instant::now())?)
    }

    /// The agent that calls, if it still may: it may have been banned while it said what it wants.
    async fn agent<'a, T>(&self, request: &'a Request<T>) -> Result<&'a Peer, ApiError> {
        let admitted = admitted(request)?;
        let peer = admitted.agent().ok_or(ApiError::Internal)?;
        let reason = match guard::agent_status(&self.registry, peer, &*self.clock) {
            AgentStatus::Active | AgentStatus::Promote => return Ok(peer),
            AgentStatus::Refused(reason) => reason,
        };
        let method = admitted.method;
        let event = Event::CallRefused { method, why: format!("{reason:?}") };
        self.record_done(&admitted.for_audit(), [event]).await;
        Err(ApiError::Denied { method, reason: Some(reason) })
    }

    /// The trust domain in `name`, if it is not the server's own.
    fn foreign(&self, name: &str) -> Result<TrustDomain, ApiError> {
        let trust_domain = trust_domain_from_proto(name, "trust_domain")?;
        if trust_domain == *self.registry.trust_domain() {
            return Err(ApiError::Invalid {
                field: "trust_domain",
                expected: "not the server's own trust domain, which is not federated with itself",
            });
        }
        Ok(trust_domain)
    }

    /// Lets nobody be given anything more while it cannot be recorded. What takes something away
    /// does not ask.
    fn recordable(&self) -> Result<(), ApiError> {
        match &*self.audit.health().borrow() {
            audit::Health::Recording => Ok(()),
            audit::Health::Failing { .. } => Err(ApiError::Unrecorded),
        }
    }

    /// Records what was done already. That it cannot be recorded undoes nothing, so it is logged.
    async fn record_done(&self, caller: &event::Caller, events: impl IntoIterator<Item = Event>) {
        let events: Vec<_> = events.into_iter().collect();
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.audit.record(caller, &events).await {
            error!(
                error = &error as &dyn std::error::Error,
                "what was done is not in the audit log"
            );
        }
    }
}

/// Who calls. Only the guard lets calls through, and it always says.
fn admitted<T>(request: &Request<T>) -> Result<&Admitted, ApiError> {
    request.extensions().get::<Admitted>().ok_or(ApiError::Internal)
}

/// The answer to whatever is about WIT-SVIDs, in the words of SPIRE.
fn no_wit() -> Status {
    ApiError::Unimplemented("WIT functionality is disabled").into()
}

/// Does what can be read of a batch in one go. Results are in the order of items.
async fn batch<T, U, E: Into<ApiError>>(
    items: impl Iterator<Item = Result<T, ApiError>>,
    act: impl AsyncFnOnce(Vec<T>) -> Vec<Result<U, E>>,
) -> Vec<Result<U, ApiError>> {
    let mut good = Vec::new();
    let slots: Vec<Result<(), ApiError>> =
        items.map(|item| item.map(|item| good.push(item))).collect();
    let mut done = if good.is_empty() { Vec::new() } else { act(good).await }.into_iter();
    let mut next =
        || done.next().map_or(Err(ApiError::Internal), |result| result.map_err(Into::into));
    slots.into_iter().map(|slot| slot.and_then(|()| next())).collect()
}

/// Reads which selectors are asked for, of which there has to be one, and how they are to match.
fn selector_match(wanted: &types::SelectorMatch) -> Result<(SelectorSet, Match), ApiError> {
    let field = "by_selectors";
    if wanted.selectors.is_empty() {
        return Err(ApiError::Invalid { field, expected: "at least one selector" });
    }
    let how = match MatchBehavior::try_from(wanted.r#match) {
        Ok(MatchBehavior::MatchExact) => Match::Exact,
        Ok(MatchBehavior::MatchSubset) => Match::Subset,
        Ok(MatchBehavior::MatchSuperset) => Match::Superset,
        Ok(MatchBehavior::MatchAny) => Match::Any,
        Err(_) => return Err(ApiError::Invalid { field, expected: "a match that is known" }),
    };
    Ok((selectors_from_proto(&wanted.selectors)?, how))
}

#[cfg(test)]
mod tests;
