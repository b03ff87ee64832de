//! `grpc.health.v1`: whether the server can do what it is for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use steeple::health::explained;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Deps;
use super::error::ApiError;
use crate::audit;

/// How often somebody who watches has it looked at. It depends on the time as much as on events.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Answers the RPCs.
#[derive(Clone, Debug)]
pub(super) struct HealthService(pub(super) Arc<Deps>);

impl HealthService {
    /// What keeps it from signing, saying what verifies that, or keeping what it is told.
    fn troubles(&self) -> Vec<String> {
        let Deps { registry, ca, audit, clock, .. } = &*self.0;
        let mut troubles = Vec::new();
        if ca.authorities().x509().not_after() <= clock.now() {
            troubles.push("the X.509 authority has expired, and there is no other yet".to_owned());
        }
        if registry.own_bundle().x509_authorities.is_empty() {
            troubles.push("the bundle of the trust domain has no X.509 authority".to_owned());
        }
        match &*audit.health().borrow() {
            audit::Health::Recording => {}
            audit::Health::Failing { why, .. } => {
                troubles.push(format!("the audit log cannot be written: {why}"));
            }
        }
        if let Some(why) = registry.write_trouble() {
            troubles.push(format!("the database cannot be written: {why}"));
        }
        troubles
    }

    fn serves(&self) -> bool {
        self.troubles().is_empty()
    }

    /// Waits until the answer is not the one that was told.
    async fn other_than(&self, told: Option<bool>) -> bool {
        loop {
            let serves = self.serves();
            if told != Some(serves) {
                return serves;
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        whole(&request)?;
        let troubles = self.troubles();
        let detail = if troubles.is_empty() { "all is well".into() } else { troubles.join("; ") };
        Ok(explained(Response::new(answer(troubles.is_empty())), &detail))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        whole(&request)?;
        let changes = stream::unfold((self.clone(), None), |(service, told)| async move {
            let serves = service.other_than(told).await;
            Some((Ok(answer(serves)), (service, Some(serves))))
        });
        Ok(Response::new(changes.boxed()))
    }
}

/// There is one answer, about the whole server.
fn whole(request: &Request<HealthCheckRequest>) -> Result<(), ApiError> {
    if request.get_ref().service.is_empty() { Ok(()) } else { Err(ApiError::PerServiceHealth) }
}

fn answer(serves: bool) -> HealthCheckResponse {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
