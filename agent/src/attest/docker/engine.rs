//! Asks a Docker engine over its Unix socket what a container is.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::attest::cgroup::ContainerId;

/// The most bytes of an answer. A container with thousands of labels has a few hundred KiB.
const MAX_ANSWER: usize = 4 << 20;

/// How often a question is repeated, and after how long the first time.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A Docker engine.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

/// What an engine knows of a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct Inspection {
    /// The container's ID.
    pub id: String,
    /// The digest of the image it was made from.
    #[serde(default)]
    pub image: String,
    /// What it was made with.
    pub config: ContainerConfig,
    /// How it is now.
    pub state: ContainerState,
}

/// What a container was made with; it never changes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// The image as it was named.
    #[serde(default)]
    pub image: String,
    /// Its labels, and those of its image.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Its environment, each `NAME=VALUE`.
    #[serde(default)]
    pub env: Option<Vec<String>>,
}

/// How a container is now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// Whether its first process runs.
    pub running: bool,
    /// The number of its first process where the engine runs; 0 if it does not run.
    pub pid: u32,
}

/// Why an engine gave no answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Nobody listens at its socket, or this agent may not ask.
    #[error("connecting to the engine's socket")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error("talking to the engine")]
    Http(#[source] hyper::Error),
    /// It refused.
    #[error("the engine answered {0}")]
    Refused(StatusCode),
    /// The answer is longer than any that makes sense.
    #[error("the engine's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// The answer is not of the known form.
    #[error("reading the engine's answer")]
    Malformed(#[source] serde_json::Error),
    /// The answer is about another container, one that has this ID for a name.
    #[error("the engine answered about another container")]
    Another,
}

impl EngineError {
    /// Whether the same question may be answered a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) => true,
            Self::Refused(status) => status.is_server_error(),
            Self::TooLong | Self::Malformed(_) | Self::Another => false,
        }
    }
}

impl Engine {
    /// The engine that listens at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What the engine knows of a container; `None` if it knows of no such container. Asks again
    /// after a failure that may pass.
    pub async fn inspect(
        &self,
        container: &ContainerId,
    ) -> Result<Option<Inspection>, EngineError> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..RETRIES {
            match self.ask(container).await {
                Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause *= 2;
        }
        self.ask(container).await
    }

    async fn ask(&self, container: &ContainerId) -> Result<Option<Inspection>, EngineError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(EngineError::Connect)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(EngineError::Http)?;
        let exchange = pin!(async move {
            let answer =
                sender.send_request(request(container)).await.map_err(EngineError::Http)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(body_error)?.to_bytes()))
        });
        let (status, body) = match select(exchange, pin!(connection)).await {
            Either::Left((answer, _)) => answer?,
            Either::Right((_, exchange)) => exchange.await?,
        };
        match status {
            StatusCode::OK => read(container, &body).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(EngineError::Refused(other)),
        }
    }
}

fn request(container: &ContainerId) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    // The ID is 64 hexadecimal digits, which no URI can mind.
    *request.uri_mut() = format!("/containers/{container}/json").parse().unwrap_or_default();
    request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("docker"));
    request
}

fn read(container: &ContainerId, body: &[u8]) -> Result<Inspection, EngineError> {
    let inspection: Inspection = serde_json::from_slice(body).map_err(EngineError::Malformed)?;
    if inspection.id == container.as_str() { Ok(inspection) } else { Err(EngineError::Another) }
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    if error.is::<LengthLimitError>() {
        return EngineError::TooLong;
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => EngineError::Http(*error),
        Err(other) => EngineError::Connect(io::Error::other(other)),
    }
}
