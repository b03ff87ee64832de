//! How much the server logs, as those at the admin socket see and change it.

use std::sync::Arc;

use steeple::convert::{log_level_from_proto, logger_to_proto};
use steeple_proto::spire::api::server::logger::v1 as pb;
use steeple_proto::spire::api::server::logger::v1::logger_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};
use tracing::info;

use super::Deps;
use super::error::ApiError;
use crate::audit::event::{self, Event};

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct LoggerService(pub(super) Arc<Deps>);

impl LoggerService {
    /// Records that the level is another now, and says which.
    async fn changed(&self, caller: &event::Caller) -> Response<types::Logger> {
        let level = self.0.log.current();
        info!(?level, "log level set");
        self.0.record_done(caller, [Event::LogLevelSet { level }]).await;
        Response::new(logger_to_proto(&self.0.log))
    }
}

#[tonic::async_trait]
impl logger_server::Logger for LoggerService {
    async fn get_logger(
        &self,
        _: Request<pb::GetLoggerRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        Ok(Response::new(logger_to_proto(&self.0.log)))
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let level = log_level_from_proto(request.get_ref().new_level).map_err(ApiError::from)?;
        self.0.log.set(level);
        Ok(self.changed(&caller).await)
    }

    async fn reset_log_level(
        &self,
        request: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        self.0.log.reset();
        Ok(self.changed(&caller).await)
    }
}
