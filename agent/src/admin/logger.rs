//! How much the agent logs, as those at the admin socket see and change it.

use steeple::convert::{log_level_from_proto, logger_to_proto};
use steeple::telemetry::LogLevel;
use steeple_proto::spire::api::agent::logger::v1::logger_server::Logger;
use steeple_proto::spire::api::agent::logger::v1::{
    GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest,
};
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};
use tracing::info;

/// The service.
#[derive(Clone, Debug)]
pub struct LoggerApi(LogLevel);

impl LoggerApi {
    /// The service over this level.
    #[must_use]
    pub fn new(level: LogLevel) -> Self {
        Self(level)
    }

    fn changed(&self) -> Response<types::Logger> {
        info!(level = ?self.0.current(), "log level set");
        Response::new(logger_to_proto(&self.0))
    }
}

#[tonic::async_trait]
impl Logger for LoggerApi {
    async fn get_logger(
        &self,
        _: Request<GetLoggerRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        Ok(Response::new(logger_to_proto(&self.0)))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let level = log_level_from_proto(request.get_ref().new_level)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.0.set(level);
        Ok(self.changed())
    }

    async fn reset_log_level(
        &self,
        _: Request<ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        self.0.reset();
        Ok(self.changed())
    }
}
