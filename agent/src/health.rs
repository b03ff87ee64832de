//! Whether this agent can do its work, and if not, why: `grpc.health.v1` on both sockets.
//!
//! The service `""` (or `ready`) is serving while this node is an agent in good standing and knows
//! who is entitled to what; a server that is away does not change that. The service `live` is
//! serving as long as the agent runs at all: restarting an agent that waits for its server or for
//! its operator would only lose what it still can serve. A header says in words what is the matter.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, stream};
use steeple::clock::{self, Clock};
use steeple::health::explained;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::node::NodeStatus;
use crate::node::plan::Standing;
use crate::sync::SyncStatus;

/// What health depends on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// What this node is to its server.
    pub node: watch::Receiver<NodeStatus>,
    /// How synchronisation goes.
    pub sync: watch::Receiver<SyncStatus>,
    /// What time it is.
    pub clock: std::sync::Arc<dyn Clock>,
    /// Tells every stream to end.
    pub stop: CancellationToken,
}

/// The service.
#[derive(Clone, Debug)]
pub struct HealthApi(Deps);

/// How the agent is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Whether it can do its work.
    pub ready: bool,
    /// How it is, in words.
    pub detail: String,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    Ready,
    Live,
}

/// How an agent is whose node and synchronisation are like this.
#[must_use]
pub fn report(node: &NodeStatus, sync: &SyncStatus, now: SystemTime) -> Report {
    let standing = match node.standing {
        Standing::Unattested => "not attested yet".to_owned(),
        Standing::Attested => match node.not_after {
            Some(not_after) => format!("attested until {}", time(not_after)),
            None => "attested".to_owned(),
        },
        Standing::Refused(denial) => {
            let until = node.not_after.map_or_else(|| "no longer".to_owned(), time);
            format!("refused by the server ({denial}), own SVID valid until {until}")
        }
        Standing::Expired => "expired: the agent's SVID is no longer valid".to_owned(),
        Standing::Banned => "banned by an administrator".to_owned(),
    };
    let entries = sync.entries.unwrap_or_default();
    let synced = match (sync.last_success, sync.entries) {
        (Some(at), _) => {
            let ago = now.duration_since(at).unwrap_or(Duration::ZERO).as_secs();
            format!("synced {ago}s ago with {entries} entries")
        }
        (None, Some(_)) => format!("not synced since the start, {entries} entries known"),
        (None, None) => "not synced yet".to_owned(),
    };
    let mut parts = vec![standing, synced];
    // A node that is in trouble has one cause, and it is the node's.
    parts.extend(node.trouble.as_ref().or(sync.trouble.as_ref()).cloned());
    Report {
        ready: node.standing == Standing::Attested && sync.entries.is_some(),
        detail: parts.join("; "),
    }
}

impl HealthApi {
    /// The service over these.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self(deps)
    }

    fn report(&self) -> Report {
        let (node, sync) = (self.0.node.borrow().clone(), self.0.sync.borrow().clone());
        report(&node, &sync, self.0.clock.now())
    }

    fn status(&self, subject: Subject) -> ServingStatus {
        match subject {
            Subject::Live => ServingStatus::Serving,
            Subject::Ready if self.report().ready => ServingStatus::Serving,
            Subject::Ready => ServingStatus::NotServing,
        }
    }
}

#[tonic::async_trait]
impl Health for HealthApi {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let subject = subject(&request.get_ref().service)
            .ok_or_else(|| Status::not_found("the services here are ready and live"))?;
        Ok(explained(Response::new(answer(self.status(subject))), &self.report().detail))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let Some(subject) = subject(&request.get_ref().service) else {
            let unknown = Ok(answer(ServingStatus::ServiceUnknown));
            let pending = stream::once(std::future::pending());
            return Ok(Response::new(Box::pin(futures_util::StreamExt::chain(
                stream::iter([unknown]),
                pending,
            ))));
        };
        let watching = Some((self.clone(), None));
        Ok(Response::new(Box::pin(stream::unfold(watching, move |watching| async move {
            let (mut health, last) = watching?;
            match health.changed(subject, last).await {
                Some(status) => Some((Ok(answer(status)), Some((health, Some(status))))),
                None => Some((Err(Status::unavailable("the agent is stopping")), None)),
            }
        }))))
    }
}

impl HealthApi {
    /// The next status that is another one than `last`; `None` if the agent stops first.
    async fn changed(
        &mut self,
        subject: Subject,
        last: Option<ServingStatus>,
    ) -> Option<ServingStatus> {
        loop {
            let status = self.status(subject);
            if last != Some(status) {
                return Some(status);
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return None,
                changed = self.0.node.changed() => changed.ok()?,
                changed = self.0.sync.changed() => changed.ok()?,
            }
        }
    }
}

fn subject(service: &str) -> Option<Subject> {
    match service {
        "" | "ready" => Some(Subject::Ready),
        "live" => Some(Subject::Live),
        _ => None,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn time(time: SystemTime) -> String {
    let whole = clock::from_unix_seconds(clock::unix_seconds(time));
    humantime::format_rfc3339_seconds(whole).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use steeple::clock::{SystemClock, from_unix_seconds};

    use super::*;
    use crate::server_api::Denial;

    fn node(standing: Standing) -> NodeStatus {
        NodeStatus { standing, not_after: Some(from_unix_seconds(2_000)), ..NodeStatus::default() }
    }

    fn synced() -> SyncStatus {
        let last_success = Some(from_unix_seconds(990));
        SyncStatus { last_success, trouble: None, entries: Some(3) }
    }

    #[track_caller]
    fn check(node: &NodeStatus, sync: &SyncStatus, ready: bool, parts: &[&str]) {
        let report = report(node, sync, from_unix_seconds(1_000));
        assert_eq!(report.ready, ready, "{report:?}");
        assert!(parts.iter().all(|part| report.detail.contains(part)), "{report:?}");
    }

    #[test]
    fn an_agent_in_good_standing_that_knows_its_entries_is_ready() {
        let attested = node(Standing::Attested);
        let until = "attested until 1970-01-01T00:33:20Z";
        check(&attested, &synced(), true, &[until, "synced 10s ago with 3 entries"]);
        check(&attested, &SyncStatus::default(), false, &["not synced yet"]);
        let away = SyncStatus { trouble: Some("server away".into()), ..synced() };
        check(&attested, &away, true, &["server away"]);
        let kept = SyncStatus { last_success: None, ..away };
        check(&attested, &kept, true, &["not synced since the start, 3 entries known"]);
    }

    #[test]
    fn each_other_standing_is_told_apart() {
        check(&node(Standing::Unattested), &synced(), false, &["not attested yet"]);
        check(&node(Standing::Banned), &synced(), false, &["banned by an administrator"]);
        check(&node(Standing::Expired), &synced(), false, &["expired"]);
        let refused = NodeStatus {
            trouble: Some("ask somebody".into()),
            ..node(Standing::Refused(Denial::NotAttested))
        };
        let parts = ["the server does not know this agent", "1970-01-01T00:33:20Z", "ask somebody"];
        check(&refused, &synced(), false, &parts);
    }

    struct World {
        node: watch::Sender<NodeStatus>,
        stop: CancellationToken,
        api: HealthApi,
    }

    fn world() -> World {
        let node = watch::Sender::new(node(Standing::Unattested));
        let sync = watch::Sender::new(synced());
        let stop = CancellationToken::new();
        let deps = Deps {
            node: node.subscribe(),
            sync: sync.subscribe(),
            clock: Arc::new(SystemClock),
            stop: stop.clone(),
        };
        // The other end of a watch that nobody changes.
        std::mem::forget(sync);
        World { node, stop, api: HealthApi::new(deps) }
    }

    fn about(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.into() })
    }

    #[tokio::test]
    async fn a_check_has_the_detail_in_a_header() {
        let world = world();
        let unready = world.api.check(about("")).await.unwrap();
        assert!(steeple::health::detail(&unready).contains("not attested"));
        assert_eq!(unready.into_inner().status(), ServingStatus::NotServing);
        let live = world.api.check(about("live")).await.unwrap().into_inner();
        assert_eq!(live.status(), ServingStatus::Serving);
        let unknown = world.api.check(about("x")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watch_tells_changes_and_ends_when_the_agent_stops() {
        let world = world();
        let mut watch = world.api.watch(about("")).await.unwrap().into_inner();
        let mut next = async || watch.next().await.unwrap().map(|answer| answer.status());
        assert_eq!(next().await.unwrap(), ServingStatus::NotServing);
        world.node.send_replace(node(Standing::Attested));
        assert_eq!(next().await.unwrap(), ServingStatus::Serving);
        world.stop.cancel();
        assert_eq!(next().await.unwrap_err().code(), tonic::Code::Unavailable); // PIT-02
        assert!(watch.next().await.is_none());
    }
}
