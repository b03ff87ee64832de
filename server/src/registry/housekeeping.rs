//! Forgets what has expired.

use std::sync::Arc;
use std::time::SystemTime;

use steeple::clock;
use steeple::entry::Entry;

use super::Registry;
use super::nodes::forget;
use super::writer::WriteError;
use crate::datastore::Node;

/// The most entries, and the most nodes, that one commit forgets.
const BATCH: usize = 1_000;

/// Which nodes are forgotten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodePurge {
    /// None.
    Never,
    /// Those that could prove again which node they run on and whose certificate expired before
    /// this, in seconds since 1970. Banned ones stay.
    Reattestable {
        /// The time.
        expired_before: i64,
    },
    /// Those whose certificate expired before this, in seconds since 1970, even if they could not
    /// come back. Banned ones stay.
    All {
        /// The time.
        expired_before: i64,
    },
}

/// What one commit forgot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Entries whose time ran out, and those that gave a node a name and went with it.
    pub entries: Vec<Arc<Entry>>,
    /// Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// How many join tokens nobody used in time.
    pub join_tokens: usize,
    /// Whether there may be more to forget.
    pub more: bool,
}

impl Registry {
    /// Forgets entries and join tokens whose time ran out before `now`, and nodes as told: as much
    /// as one commit does.
    pub async fn purge_expired(
        &self,
        nodes: NodePurge,
        now: SystemTime,
    ) -> Result<Purged, WriteError> {
        let now = clock::unix_seconds(now);
        self.write(move |draft| {
            let expired = draft.expired_entries(now, BATCH);
            let mut entries: Vec<_> =
                expired.iter().filter_map(|id| draft.entry(id).cloned()).collect();
            expired.iter().for_each(|id| draft.delete_entry(id));
            let expired = draft.untouched_nodes(BATCH, |node| nodes.wants(node));
            let nodes: Vec<_> = expired.iter().filter_map(|id| draft.node(id).cloned()).collect();
            let more = entries.len() >= BATCH || nodes.len() >= BATCH;
            entries.extend(expired.iter().flat_map(|id| forget(draft, id)));
            let tokens = draft.expired_join_tokens(now);
            tokens.iter().for_each(|hash| draft.delete_join_token(*hash));
            Purged { entries, nodes, join_tokens: tokens.len(), more }
        })
        .await
    }
}

impl NodePurge {
    fn wants(self, node: &Node) -> bool {
        !node.is_banned()
            && match self {
                Self::Never => false,
                Self::Reattestable { expired_before } => {
                    node.can_reattest && node.expires_at() < expired_before
                }
                Self::All { expired_before } => node.expires_at() < expired_before,
            }
    }
}
