//! Writes of attested nodes.

use std::sync::Arc;
use std::time::SystemTime;

use steeple::entry::Entry;
use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;
use thiserror::Error;

use super::draft::Draft;
use super::writer::WriteError;
use super::{Registry, tokens};
use crate::datastore::{NewSerial, Node};
use crate::entries::filter::{Match, selectors_match};

/// The longest agent version in bytes.
pub const MAX_AGENT_VERSION: usize = 255;

/// What agents have to be to be listed: all that is not `None`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFilter {
    /// How they proved which node they run on.
    pub attestation_type: Option<String>,
    /// What is known of their node.
    pub selectors: Option<(SelectorSet, Match)>,
    /// Whether they are banned.
    pub banned: Option<bool>,
    /// Whether they could prove it again.
    pub can_reattest: Option<bool>,
    /// Their certificate expires before this, in seconds since 1970.
    pub expires_before: Option<i64>,
}

/// Why a node was not written.
#[derive(Clone, Debug, Error)]
pub enum NodeWriteError {
    /// There is no such agent.
    #[error("agent not found")]
    NotFound(SpiffeId),
    /// The agent is banned.
    #[error("agent is banned")]
    Banned,
    /// The serial number is neither that of the agent's certificate nor of the next one.
    #[error("agent is not active: another of its certificates is in use")]
    NotActive,
    /// The agent's version is too long.
    #[error("agent version: at most {MAX_AGENT_VERSION} bytes")]
    AgentVersion,
    /// It could not be stored.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
}

impl NodeFilter {
    /// Whether this node is asked for.
    #[must_use]
    pub fn admits(&self, node: &Node) -> bool {
        self.attestation_type.as_ref().is_none_or(|wanted| *wanted == node.attestation_type)
            && self.banned.is_none_or(|wanted| wanted == node.is_banned())
            && self.can_reattest.is_none_or(|wanted| wanted == node.can_reattest)
            && self.expires_before.is_none_or(|before| node.not_after < before)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(wanted, how)| selectors_match(&node.selectors, wanted, *how))
    }
}

impl Registry {
    /// Records that an agent proved which node it runs on, unless it is banned. What it was before
    /// is replaced, save the version that it reported.
    ///
    /// `name` is a further name for it, that of its join token. The entry that gives it this name
    /// is returned, unless there was one.
    pub async fn put_node(
        &self,
        node: Node,
        name: Option<SpiffeId>,
        now: SystemTime,
    ) -> Result<Option<Arc<Entry>>, NodeWriteError> {
        let alias = name.and_then(|name| tokens::alias(&node.id, &name, now));
        let written = self.write(move |draft| {
            let mut node = node.clone();
            if let Some(former) = draft.node(&node.id) {
                if former.is_banned() {
                    return Err(NodeWriteError::Banned);
                }
                if node.agent_version.is_empty() {
                    node.agent_version.clone_from(&former.agent_version);
                }
            }
            let alias = alias.clone().filter(|alias| draft.similar(&alias.content).is_none());
            if let Some(alias) = &alias {
                draft.put_entry(Arc::clone(alias));
            }
            draft.put_node(node);
            Ok(alias)
        });
        written.await?
    }

    /// Records the certificate that an agent was given to replace the one of serial `current`,
    /// which has to be the agent's present one still: whoever stole an older one must not get
    /// another by being quick.
    pub async fn renew_node(
        &self,
        id: SpiffeId,
        current: String,
        new: NewSerial,
    ) -> Result<Arc<Node>, NodeWriteError> {
        self.change_node(id, move |node| match &node.serial {
            None => Err(NodeWriteError::Banned),
            Some(serial) if *serial != current => Err(NodeWriteError::NotActive),
            Some(_) => {
                node.new_serial = Some(new.clone());
                Ok(())
            }
        })
        .await
    }

    /// Makes the certificate that an agent now uses its only one. Without effect if it is already.
    pub async fn activate_serial(
        &self,
        id: SpiffeId,
        serial: String,
    ) -> Result<Arc<Node>, NodeWriteError> {
        self.change_node(id, move |node| match (&node.serial, &node.new_serial) {
            (None, _) => Err(NodeWriteError::Banned),
            (Some(current), _) if *current == serial => Ok(()),
            (Some(_), Some(new)) if new.serial == serial => {
                node.serial = Some(new.serial.clone());
                node.not_after = new.not_after;
                node.new_serial = None;
                Ok(())
            }
            (Some(_), Some(_) | None) => Err(NodeWriteError::NotActive),
        })
        .await
    }

    /// Records the version that an agent says it has.
    pub async fn set_agent_version(
        &self,
        id: SpiffeId,
        version: String,
    ) -> Result<Arc<Node>, NodeWriteError> {
        if version.len() > MAX_AGENT_VERSION {
            return Err(NodeWriteError::AgentVersion);
        }
        self.change_node(id, move |node| {
            node.agent_version.clone_from(&version);
            Ok(())
        })
        .await
    }

    /// Bans an agent: none of its certificates is accepted any more, and it may not come back until
    /// its record is deleted.
    pub async fn ban_node(&self, id: SpiffeId) -> Result<Arc<Node>, NodeWriteError> {
        self.change_node(id, |node| {
            node.serial = None;
            node.new_serial = None;
            Ok(())
        })
        .await
    }

    /// Forgets an agent, and the name that it got with its join token: the entries that gave it
    /// are returned. It may come back.
    pub async fn evict_node(&self, id: SpiffeId) -> Result<Vec<Arc<Entry>>, NodeWriteError> {
        let written = self.write(move |draft| match draft.node(&id) {
            None => Err(NodeWriteError::NotFound(id.clone())),
            Some(_) => Ok(forget(draft, &id)),
        });
        written.await?
    }

    async fn change_node(
        &self,
        id: SpiffeId,
        change: impl Fn(&mut Node) -> Result<(), NodeWriteError> + Send + 'static,
    ) -> Result<Arc<Node>, NodeWriteError> {
        let written = self.write(move |draft| {
            let Some(former) = draft.node(&id).cloned() else {
                return Err(NodeWriteError::NotFound(id.clone()));
            };
            let mut node = Node::clone(&former);
            change(&mut node)?;
            Ok(if node == *former { former } else { draft.put_node(node) })
        });
        written.await?
    }
}

/// Deletes the record of an agent, and the name that it got with its join token: the entries that
/// gave it are returned.
pub(super) fn forget(draft: &mut Draft<'_>, id: &SpiffeId) -> Vec<Arc<Entry>> {
    draft.delete_node(id);
    tokens::delete_aliases(draft, id)
}
