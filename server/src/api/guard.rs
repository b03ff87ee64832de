//! Lets a call through to its handler, or not: the one place that asks `authz`.
//!
//! Each connection has a guard of its own, which knows who is at the other end. What that caller may
//! do is looked up for every call, so that a ban counts from the next call on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use steeple::clock::{Clock, unix_seconds};
use steeple::id::SpiffeId;
use steeple::rpc;
use steeple::tasks::Tasks;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use tracing::{Instrument as _, Span, debug, error_span};

use super::caller::{Admitted, Caller, Peer, audit_caller};
use super::error::ApiError;
use super::inflow::Inflow;
use super::refusals::Refusals;
use crate::audit::event::Event;
use crate::authz::agent_status::{
    AgentRefusal, Presented, Remembered, Status as AgentStatus, status,
};
use crate::authz::operation::{Operation, Reach};
use crate::authz::{self, Class, Decision, Standing, permits};
use crate::registry::Registry;
use crate::registry::nodes::NodeWriteError;

/// How long a call may take until its answer begins. Most of it is for the caller, who may be slow
/// to say what it wants.
const PATIENCE: Duration = Duration::from_secs(60);

/// What guards of all connections have in common.
#[derive(Debug)]
pub struct Shared {
    /// What is known of agents and entries.
    pub registry: Registry,
    /// Who administers by configuration.
    pub admin_ids: BTreeSet<SpiffeId>,
    /// Whether calls about JWT-SVIDs are answered as if there were none.
    pub disable_jwt_svids: bool,
    /// Where refusals are recorded.
    pub refusals: Arc<Refusals>,
    /// How much callers are sending.
    pub inflow: Inflow,
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// Where calls that have to come to their end are made.
    pub tasks: Tasks,
}

/// The guard of one connection.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    caller: Arc<Caller>,
    shared: Arc<Shared>,
}

impl<S> Guard<S> {
    /// Lets calls of `caller` through to `inner`.
    pub fn new(inner: S, caller: Arc<Caller>, shared: Arc<Shared>) -> Self {
        Self { inner, caller, shared }
    }

    /// Who is at the other end.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// What is known of a caller at the moment.
struct Found {
    caller: authz::Caller,
    /// Whether it is an agent that uses its new certificate for the first time.
    promote: bool,
}

impl Shared {
    /// Whether a caller is anybody here: of the server's own trust domain, or an administrator of
    /// another by name. Others of that other domain are not, though their certificates are valid.
    pub(super) fn admits(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Local(_) | Caller::Anonymous(_) | Caller::Unnamed { .. } => true,
            Caller::Peer(peer) => {
                peer.id.trust_domain() == self.registry.trust_domain()
                    || self.admin_ids.contains(&peer.id)
            }
        }
    }

    /// Looks a caller up.
    fn find(&self, caller: &Caller) -> Found {
        let caller = match caller {
            Caller::Local(_) => authz::Caller::Local,
            Caller::Anonymous(_) => authz::Caller::Anonymous,
            Caller::Unnamed { certificate, .. } => authz::Caller::Unnamed(certificate.why),
            Caller::Peer(peer) => return self.find_peer(peer),
        };
        Found { caller, promote: false }
    }

    fn find_peer(&self, peer: &Peer) -> Found {
        let own = peer.id.trust_domain() == self.registry.trust_domain();
        let (agent, promote) = if own && peer.id.is_agent() {
            match agent_status(&self.registry, peer, &*self.clock) {
                AgentStatus::Active => (Standing::Active, false),
                AgentStatus::Promote => (Standing::Active, true),
                AgentStatus::Refused(reason) => (Standing::Refused(reason), false),
            }
        } else {
            (Standing::NotAnAgent, false)
        };
        // A certificate is verified when its holder connects, and a connection may outlast it.
        let now = unix_seconds(self.clock.now());
        let expired = peer.not_after < now;
        let caller = authz::Caller::Peer(authz::Peer {
            agent,
            admin: !expired
                && (self.admin_ids.contains(&peer.id)
                    || (own && self.registry.is_admin(&peer.id, now))),
            downstream: !expired && own && self.registry.is_downstream(&peer.id, now),
        });
        Found { caller, promote }
    }

    /// Makes the new certificate of an agent its only one.
    async fn promote(&self, caller: &Caller, method: &'static str) -> Result<(), ApiError> {
        let Caller::Peer(peer) = caller else { return Ok(()) };
        match self.registry.activate_serial(peer.id.clone(), peer.serial.clone()).await {
            Ok(_) => Ok(()),
            // Evicted in between.
            Err(NodeWriteError::NotFound(_)) => {
                Err(ApiError::Denied { method, reason: Some(AgentRefusal::NotAttested) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records that a caller may not do what it wanted.
    async fn refuse(&self, caller: &Caller, method: &'static str, refusal: ApiError) -> Status {
        let why = if let ApiError::Denied { reason, .. } = refusal {
            reason.map_or_else(|| "not permitted".to_owned(), |why| format!("{why:?}"))
        } else {
            refusal.to_string()
        };
        debug!(method, ?caller, %why, "call refused");
        let refusal = Status::from(refusal);
        let event = Event::CallRefused { method, why };
        self.refusals.record(caller.source(), &audit_caller(caller, None), event).await;
        refusal
    }
}

impl<S> Service<http::Request<Body>> for Guard<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let (caller, shared) = (Arc::clone(&self.caller), Arc::clone(&self.shared));
        let Some((operation, method)) = served(request.uri().path(), &caller) else {
            let status = Status::unimplemented("unknown service or method");
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let span = span(&caller, method);
        let found = shared.find(&caller);
        let class = match permitted(found.caller, operation, method) {
            Ok(class) => class,
            Err(refusal) => {
                let refused =
                    async move { Ok(shared.refuse(&caller, method, refusal).await.into_http()) };
                return Box::pin(refused.instrument(span));
            }
        };
        if shared.disable_jwt_svids && Operation::is_about_jwt(method) {
            let status = Status::from(ApiError::Unimplemented("JWT functionality is disabled"));
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let admitted = Admitted { caller: Arc::clone(&caller), class, method };
        request.extensions_mut().insert(admitted);
        let request =
            request.map(|body| Body::new(shared.inflow.bound(body, class, caller.source())));
        // The one that was polled for readiness is used, and its clone kept for the next call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let tasks = shared.tasks.clone();
        let work = async move {
            if found.promote
                && let Err(error) = shared.promote(&caller, method).await
            {
                return Ok(Status::from(error).into_http());
            }
            inner.call(request).await
        };
        let answered = async move {
            let answer = if operation.has_to_end() {
                let work = tasks.spawn(Span::current(), |_| work);
                let panicked = |_| Ok(Status::from(ApiError::Internal).into_http());
                tokio::time::timeout(PATIENCE, work)
                    .await
                    .map(|ended| ended.unwrap_or_else(panicked))
            } else {
                tokio::time::timeout(PATIENCE, work).await
            };
            match answer {
                Ok(answer) => answer,
                Err(_) => Ok(Status::from(ApiError::TooSlow("the call took too long")).into_http()),
            }
        };
        Box::pin(answered.instrument(span))
    }
}

/// As what a caller is let in.
fn permitted(
    caller: authz::Caller,
    operation: Operation,
    method: &'static str,
) -> Result<Class, ApiError> {
    match permits(caller, operation) {
        Decision::Allowed(class) => Ok(class),
        Decision::Denied(reason) => Err(ApiError::Denied { method, reason }),
        Decision::Unauthenticated(why) => Err(ApiError::NoSvid(why)),
    }
}

/// What records of the log say of a call, in the words of SPIRE's.
fn span(caller: &Caller, method: &'static str) -> Span {
    let (service, method) = rpc::names(method);
    let (process, peer) = match caller {
        Caller::Local(process) => (Some(process), None),
        Caller::Peer(peer) => (None, Some(peer)),
        Caller::Anonymous(_) | Caller::Unnamed { .. } => (None, None),
    };
    // Of the level at which even a log of nothing but errors says whose call failed.
    error_span!(
        "call",
        %service,
        %method,
        request_id = %rpc::request_id(),
        caller_uid = process.map(|process| process.uid),
        caller_gid = process.map(|process| process.gid),
        caller_pid = process.and_then(|process| process.pid),
        caller_id = peer.map(|peer| display(&peer.id)),
        caller_addr = caller.address().map(display),
    )
}

/// How an agent stands at the moment.
pub(super) fn agent_status(registry: &Registry, peer: &Peer, clock: &dyn Clock) -> AgentStatus {
    let node = registry.node(&peer.id);
    let remembered = node.as_ref().map(|node| Remembered {
        serial: node.serial.as_deref(),
        new_serial: node.new_serial.as_ref().map(|new| new.serial.as_str()),
    });
    let presented = Presented { serial: &peer.serial, not_after: peer.not_after };
    status(presented, remembered, unix_seconds(clock.now()))
}

/// The operation behind a path, if it exists where this caller came in.
fn served(path: &str, caller: &Caller) -> Option<(Operation, &'static str)> {
    let (operation, method) = Operation::of_path(path)?;
    match (operation.reach(), caller) {
        (Reach::Everywhere, _) | (Reach::AdminSocket, Caller::Local(_)) => {
            Some((operation, method))
        }
        (Reach::AdminSocket, Caller::Anonymous(_) | Caller::Peer(_) | Caller::Unnamed { .. }) => {
            None
        }
    }
}
