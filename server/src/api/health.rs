//! `grpc.health.v1`: whether the server can do what it is for.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Deps;
use super::error::ApiError;
use crate::audit;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct HealthService(pub(super) Arc<Deps>);

impl HealthService {
    /// It can sign, and say what verifies it.
    fn serves(&self) -> bool {
        let bundle = self.0.registry.own_bundle();
        let signs = self.0.ca.authorities().x509().not_after() > self.0.clock.now();
        let records = match &*self.0.audit.health().borrow() {
            audit::Health::Recording => true,
            audit::Health::Failing { .. } => false,
        };
        signs && records && !bundle.x509_authorities.is_empty()
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            let expected = "per-service health is not supported";
            return Err(ApiError::Invalid { field: "service", expected }.into());
        }
        let status = if self.serves() { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(super::not_served())
    }
}
