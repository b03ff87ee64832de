//! Forgets what has expired.

use std::time::SystemTime;

use steeple::clock;

use super::Registry;
use super::nodes::forget;
use super::writer::WriteError;

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

/// How much was forgotten.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Entries whose time ran out.
    pub entries: usize,
    /// Nodes.
    pub nodes: usize,
    /// Join tokens that nobody used in time.
    pub join_tokens: usize,
}

impl Registry {
    /// Forgets entries and join tokens whose time ran out before `now`, and nodes as told.
    pub async fn purge_expired(
        &self,
        nodes: NodePurge,
        now: SystemTime,
    ) -> Result<Purged, WriteError> {
        let now = clock::unix_seconds(now);
        let mut purged = Purged::default();
        loop {
            let some = self.purge_batch(nodes, now).await?;
            purged.entries += some.entries;
            purged.nodes += some.nodes;
            purged.join_tokens += some.join_tokens;
            if some.entries < BATCH && some.nodes < BATCH {
                return Ok(purged);
            }
        }
    }

    async fn purge_batch(&self, nodes: NodePurge, now: i64) -> Result<Purged, WriteError> {
        self.write(move |draft| {
            let entries = draft.expired_entries(now, BATCH);
            entries.iter().for_each(|id| draft.delete_entry(id));
            let expired = draft.untouched_nodes(BATCH, |node| {
                !node.is_banned()
                    && match nodes {
                        NodePurge::Never => false,
                        NodePurge::Reattestable { expired_before } => {
                            node.can_reattest && node.expires_at() < expired_before
                        }
                        NodePurge::All { expired_before } => node.expires_at() < expired_before,
                    }
            });
            expired.iter().for_each(|id| forget(draft, id));
            let tokens = draft.expired_join_tokens(now);
            tokens.iter().for_each(|hash| draft.delete_join_token(*hash));
            Purged { entries: entries.len(), nodes: expired.len(), join_tokens: tokens.len() }
        })
        .await
    }
}
