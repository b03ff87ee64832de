//! `grpc.health.v1`: whether the server can do what it is for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
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
    /// It can sign, say what verifies it, and keep what it is told.
    fn serves(&self) -> bool {
        let bundle = self.0.registry.own_bundle();
        let signs = self.0.ca.authorities().x509().not_after() > self.0.clock.now();
        let records = match &*self.0.audit.health().borrow() {
            audit::Health::Recording => true,
            audit::Health::Failing { .. } => false,
        };
        let keeps = self.0.registry.is_written();
        signs && records && keeps && !bundle.x509_authorities.is_empty()
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
        Ok(Response::new(answer(self.serves())))
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
