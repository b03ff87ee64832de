//! The two ways in which a node speaks to its server: as a stranger and as the agent that it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use steeple::clock::Clock;
use steeple::id::TrustDomain;
use steeple::tls::{ClientDeps, Connector, ConnectorError, ExpectedServer, Material, Trust};
use steeple::x509::verify::AnchorSet;
use tokio::sync::watch;

use crate::server_api::grpc::Grpc;
use crate::server_api::link::{Link, Listeners};
use crate::server_api::node_api::NodeApi;
use crate::server_api::tls::TlsDial;

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The ways to the server.
pub trait Contact: fmt::Debug + Send + Sync {
    /// The server for who has no SVID to show, believed for this reason.
    fn stranger(&self, trust: Trust) -> Arc<dyn NodeApi>;

    /// The server for the agent that this node is.
    fn agent(&self) -> Arc<dyn NodeApi>;

    /// The agent's SVID is another one from now on.
    fn reconnect(&self);
}

/// What connections to a server are made of.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Host and port.
    pub address: Arc<str>,
    /// The trust domain of both.
    pub trust_domain: TrustDomain,
    /// The agent's key and SVID, while it has one.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// The authorities that the server's SVID has to come from.
    pub anchors: watch::Receiver<Arc<AnchorSet>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A server at an address.
#[derive(Debug)]
pub struct ServerContact {
    deps: Deps,
    link: Arc<Link>,
    agent: Arc<Grpc>,
}

impl ServerContact {
    /// Connects when there is something to say. The listeners hear of what this node says as the
    /// agent that it is.
    pub fn new(deps: Deps, listeners: Listeners) -> Result<Self, ConnectorError> {
        let trust = Trust::Anchors(deps.anchors.clone());
        let dial = dial(&deps, deps.material.clone(), trust)?;
        let link = Arc::new(Link::new(Arc::new(dial), Some(listeners)));
        Ok(Self { agent: Arc::new(Grpc::new(Arc::clone(&link))), link, deps })
    }

    /// The server for the agent that this node is.
    #[must_use]
    pub fn server(&self) -> Arc<Grpc> {
        Arc::clone(&self.agent)
    }
}

impl Contact for ServerContact {
    fn stranger(&self, trust: Trust) -> Arc<dyn NodeApi> {
        let nothing = watch::Sender::new(None).subscribe();
        match dial(&self.deps, nothing, trust) {
            Ok(dial) => Arc::new(Grpc::new(Arc::new(Link::new(Arc::new(dial), None)))),
            // What the address and the library are was checked when this was made.
            Err(_impossible) => self.agent(),
        }
    }

    fn agent(&self) -> Arc<dyn NodeApi> {
        self.server()
    }

    fn reconnect(&self) {
        self.link.reconnect();
    }
}

fn dial(
    deps: &Deps,
    material: watch::Receiver<Option<Arc<Material>>>,
    trust: Trust,
) -> Result<TlsDial, ConnectorError> {
    let server = ExpectedServer { spiffe_id: deps.trust_domain.server_id(), trust };
    let client = ClientDeps { material, server, clock: Arc::clone(&deps.clock) };
    Connector::new(&deps.address, client, CONNECT_DEADLINE).map(TlsDial)
}
