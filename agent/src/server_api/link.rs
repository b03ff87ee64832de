//! One connection to the server at a time, made when it is needed, and made anew when the agent
//! has a new SVID. Calls in flight end on the connection that they began on.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tracing::debug;

use super::dial::{Connector, Dial};
use super::status::server_error;
use super::{Denial, ServerError};

/// How long a call may take, connecting included.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What the server is told, so that it can give up first.
const TOLD_DEADLINE: Duration = Duration::from_secs(29);

/// How long a server may be silent during a call.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How long it may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of the server's answers may be on its way and not yet read.
const WINDOW: u32 = 512 * 1024;

/// A way to the server.
#[derive(Debug)]
pub struct Link {
    dial: Arc<dyn Dial>,
    current: ArcSwap<Current>,
    listeners: Option<Listeners>,
}

/// Who hears what the two ends think of each other.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Hears when the server does not take this node for an agent any more. It is enough that it has
    /// room for one.
    pub denials: mpsc::Sender<Denial>,
    /// Whether whoever answered last did not prove to be the server.
    pub distrust: watch::Sender<bool>,
}

#[derive(Debug)]
struct Current {
    generation: u64,
    channel: Channel,
}

impl Link {
    /// A link that connects by `dial`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, listeners: Option<Listeners>) -> Self {
        let current = Current { generation: 0, channel: channel(&dial) };
        Self { current: ArcSwap::from_pointee(current), dial, listeners }
    }

    /// Makes the next call use a new connection.
    pub fn reconnect(&self) {
        self.replace(self.current.load().generation);
    }

    /// Makes a call. `request` may be asked for it a second time.
    pub(super) async fn call<T, F>(
        &self,
        request: impl Fn(Channel) -> F + Send,
    ) -> Result<T, ServerError>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let used = self.current.load_full();
        let error = match attempt(request(used.channel.clone())).await {
            Ok(answer) => {
                self.proved(true);
                return Ok(answer);
            }
            Err(error) => error,
        };
        let newest = self.current.load_full();
        // The SVID of the old connection was replaced while the call was on its way.
        let replaced = newest.generation != used.generation;
        let error = if replaced && matches!(error, ServerError::Denied(_)) {
            match attempt(request(newest.channel.clone())).await {
                Ok(answer) => {
                    self.proved(true);
                    return Ok(answer);
                }
                Err(error) => error,
            }
        } else {
            error
        };
        self.note(&error, newest.generation);
        Err(error)
    }

    fn note(&self, error: &ServerError, generation: u64) {
        match error {
            ServerError::Denied(denial) => {
                self.proved(true);
                if let Some(Listeners { denials, .. }) = &self.listeners {
                    // A full channel holds a denial that was not heard yet, and one is enough.
                    let _heard = denials.try_send(*denial);
                }
            }
            // The connection may be dead without anybody having said so.
            ServerError::Timeout => self.replace(generation),
            ServerError::Untrusted(_) => self.proved(false),
            // Only the server itself says so.
            ServerError::Busy { .. }
            | ServerError::Forbidden(_)
            | ServerError::Invalid(_)
            | ServerError::TooLarge(_)
            | ServerError::Unsupported(_) => self.proved(true),
            ServerError::Unavailable(_) | ServerError::Failed(_) | ServerError::Answer(_) => {}
        }
    }

    /// Whoever answered is the server, or did not prove to be.
    fn proved(&self, is_server: bool) {
        if let Some(Listeners { distrust, .. }) = &self.listeners {
            // Doubts are heard each time, also by who has come to believe somebody else meanwhile.
            distrust.send_if_modified(|is_distrusted| {
                std::mem::replace(is_distrusted, !is_server) || !is_server
            });
        }
    }

    /// Replaces the connection, unless somebody has already replaced that of `generation`.
    fn replace(&self, generation: u64) {
        debug!(generation, "the next call uses a new connection");
        self.current.rcu(|current| {
            if current.generation == generation {
                let generation = generation.wrapping_add(1);
                Arc::new(Current { generation, channel: channel(&self.dial) })
            } else {
                Arc::clone(current)
            }
        });
    }
}

/// A request with the deadline in it.
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TOLD_DEADLINE);
    request
}

async fn attempt<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, ServerError> {
    match timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(server_error(&status)),
        Err(_) => Err(ServerError::Timeout),
    }
}

/// A channel that connects when it is first used. The name in it is for the `:authority` alone:
/// where it leads is the connector's business.
fn channel(dial: &Arc<dyn Dial>) -> Channel {
    Endpoint::from_static("http://steeple-server")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        // Servers of other make punish pings between calls.
        .keep_alive_while_idle(false)
        .buffer_size(64)
        .connect_with_connector_lazy(Connector(Arc::clone(dial)))
}
