//! Another server, ours or SPIRE's, of which this one is a branch.
//!
//! This server is to the other what any workload is: an agent of that server attests it and hands
//! it an SVID, by an entry that is marked as downstream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use steeple::backoff::{Backoff, random_fraction};
use steeple::bundle::JwtAuthority;
use steeple::clock::Clock;
use steeple::id::TrustDomain;
use steeple::tasks::Tasks;
use steeple::tls::ConnectorError;
use steeple::x509::verify::AnchorSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use self::own_svid::OwnSvid;
use self::server::{Identity, Server};
use crate::ca::upstream::{
    CaRequest, MintedCa, Published, UpstreamAuthority, UpstreamError, Vouched,
};

mod own_svid;
mod server;

/// How often the other server is asked what it vouches for.
const POLL: Duration = Duration::from_secs(5);

/// The longest wait between two tries to ask it.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Which server, and which agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The server, as `host:port`.
    pub server: String,
    /// The Workload API of an agent of that server on this machine.
    pub workload_api_socket: PathBuf,
}

/// Another server.
#[derive(Debug)]
pub struct Spire {
    server: Arc<Server>,
    vouched: watch::Receiver<Option<Arc<Vouched>>>,
}

/// Asks a server now and then what it vouches for.
struct Poll {
    server: Arc<Server>,
    vouched: watch::Sender<Option<Arc<Vouched>>>,
    backoff: Backoff,
    fault: Option<String>,
    newest: Newest,
}

/// The newest answer so far: one that is older, as from a cache, must not pass for a revocation.
#[derive(Debug, Default)]
struct Newest {
    sequence: u64,
    /// Whether it was said that answers are older.
    warned: bool,
}

impl Spire {
    /// Begins to fetch an SVID, and with that what the server vouches for, in `tasks`.
    pub fn start(
        config: &Config,
        trust_domain: TrustDomain,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, ConnectorError> {
        let (material, shown) = watch::channel(None);
        let (anchors, trusted) = watch::channel(Arc::new(AnchorSet::default()));
        let (name, named) = watch::channel(None);
        let (fault, reason) = watch::channel(None);
        let own_svid = OwnSvid {
            socket: config.workload_api_socket.clone(),
            trust_domain: trust_domain.clone(),
            material,
            anchors,
            name,
            fault,
        };
        tasks.spawn(info_span!("upstream_svid"), |stop| own_svid.run(stop));
        let identity = Identity { material: shown, anchors: trusted, name: named, fault: reason };
        let server = Arc::new(Server::new(&config.server, trust_domain, identity, clock)?);
        let (sender, vouched) = watch::channel(None);
        let poll = Poll {
            server: Arc::clone(&server),
            vouched: sender,
            backoff: Backoff::new(POLL, MAX_WAIT),
            fault: None,
            newest: Newest::default(),
        };
        tasks.spawn(info_span!("upstream"), |stop| poll.run(stop));
        Ok(Self { server, vouched })
    }
}

impl UpstreamAuthority for Spire {
    fn mint_ca(&self, request: CaRequest) -> BoxFuture<'_, Result<MintedCa, UpstreamError>> {
        Box::pin(self.server.mint_ca(request))
    }

    fn publish_jwt_key(
        &self,
        key: JwtAuthority,
    ) -> BoxFuture<'_, Result<Published, UpstreamError>> {
        Box::pin(async move { self.server.publish(&key).await })
    }

    fn vouched(&self) -> watch::Receiver<Option<Arc<Vouched>>> {
        self.vouched.clone()
    }
}

impl Poll {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    /// Asks once, and waits.
    async fn round(&mut self) {
        let wait = match self.server.vouched().await {
            Ok((sequence, vouched)) => {
                if self.fault.take().is_some() {
                    info!("the upstream server answers again");
                }
                self.backoff.reset();
                if self.newest.admits(sequence) {
                    self.publish(vouched);
                }
                POLL
            }
            Err(error) => {
                let fault = steeple::telemetry::with_causes(&error);
                if self.fault.as_ref() != Some(&fault) {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "the upstream server did not say what it vouches for");
                }
                self.fault = Some(fault);
                self.backoff.wait(random_fraction())
            }
        };
        tokio::time::sleep(wait).await;
    }

    fn publish(&self, vouched: Vouched) {
        self.vouched.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&vouched);
            if changed {
                *known = Some(Arc::new(vouched));
            }
            changed
        });
    }
}

impl Newest {
    fn admits(&mut self, sequence: u64) -> bool {
        if sequence < self.sequence {
            if !std::mem::replace(&mut self.warned, true) {
                warn!(
                    sequence,
                    newest = self.sequence,
                    "the upstream server answered with an older bundle than before, which is not \
                     followed; if its database was restored, restart this server"
                );
            }
            return false;
        }
        *self = Self { sequence, warned: false };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Newest;

    #[test]
    fn an_older_answer_is_not_followed() {
        let mut newest = Newest::default();
        let admitted = [0, 0, 7, 6, 7, 8, 0].map(|sequence| newest.admits(sequence));
        assert_eq!(admitted, [true, true, true, false, true, true, false]);
    }
}
