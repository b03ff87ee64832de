//! Becoming and staying an agent: one task that owns this node's key and SVID ([`task`]).
//!
//! It attests the node, renews at half of the SVID's life, attests again where that is what the
//! server's refusal means, and keeps what it has on disk. Whatever the server says or does not say,
//! it goes on: only a node that never was an agent, and is refused for good, gives up.
//!
//! A ban is another thing than a refusal: key and SVID are destroyed at once, and nothing is served
//! until the server takes the node back.
//!
//! A server that does not prove to be the one that is believed is no server. Only where that is
//! configured, and after a while, is the configured trust bundle believed once more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use steeple::bundle::Bundle;
use steeple::clock::Clock;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::tls::Material;
use steeple::x509::verify::AnchorSet;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

pub mod attestation;
pub mod attestor;
pub mod contact;
pub mod join_token;
pub mod plan;
pub mod saved;
pub mod task;
#[cfg(test)]
pub(crate) mod testing;
pub mod trust;
pub mod web;
pub mod x509pop;

use self::attestor::NodeAttestor;
use self::contact::Contact;
use self::plan::{Rebootstrap, Standing};
use self::saved::SavedError;
use self::trust::TrustSource;
use crate::server_api::Denial;

/// What a node works with.
#[derive(Debug)]
pub struct Deps {
    /// The ways to the server.
    pub contact: Arc<dyn Contact>,
    /// How this node proves what it is.
    pub attestor: Arc<dyn NodeAttestor>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust domain of the server and this node.
    pub trust_domain: TrustDomain,
    /// Why the server is believed at the first contact.
    pub trust: TrustSource,
    /// Whether it is believed again where the server proves to be another one.
    pub rebootstrap: Rebootstrap,
    /// Where key and SVID are kept.
    pub file: PathBuf,
}

/// Where a node says what it is, and hears what others found out.
#[derive(Debug)]
pub struct Channels {
    /// What this node presents to the server.
    pub material: watch::Sender<Option<Arc<Material>>>,
    /// The authorities that the server's SVID has to come from.
    pub anchors: watch::Sender<Arc<AnchorSet>>,
    /// What this node is.
    pub status: watch::Sender<NodeStatus>,
    /// The server's refusals.
    pub denials: mpsc::Receiver<Denial>,
    /// Whether whoever answered last did not prove to be the server.
    pub distrust: watch::Receiver<bool>,
    /// The own bundle as the last sync saw it.
    pub bundle: watch::Receiver<Option<OwnBundle>>,
}

/// The bundle of this node's trust domain, as its server said it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnBundle {
    /// What it said.
    pub bundle: Arc<Bundle>,
    /// Which server that was: the node's `bootstraps` when it was asked.
    pub bootstraps: u32,
}

/// What a node is, for everybody else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    /// What it is to its server.
    pub standing: Standing,
    /// Its ID, once it has one.
    pub spiffe_id: Option<SpiffeId>,
    /// Until when its SVID is valid, if it has one.
    pub not_after: Option<SystemTime>,
    /// How often it came to believe another server.
    pub bootstraps: u32,
    /// Why the last try to become or stay an agent failed, and what would help.
    pub trouble: Option<String>,
}

impl Default for NodeStatus {
    fn default() -> Self {
        let standing = Standing::Unattested;
        Self { standing, spiffe_id: None, not_after: None, bootstraps: 0, trouble: None }
    }
}

/// Why a node gives up.
#[derive(Debug, Error)]
pub enum NodeError {
    /// What it kept cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// It never was an agent, and will not become one without somebody's help: why, and what would
    /// help.
    #[error("this node was not attested: {0}")]
    NotAttested(String),
}

#[cfg(test)]
mod tests;
