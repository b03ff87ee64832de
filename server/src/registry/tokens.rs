//! Join tokens: made, used once, and the name that an agent gets with one.

use std::sync::Arc;
use std::time::SystemTime;

use steeple::clock;
use steeple::entry::{Entry, EntryContent};
use steeple::id::SpiffeId;
use steeple::selector::Selector;
use thiserror::Error;

use super::Registry;
use super::draft::Draft;
use super::entries::new_id;
use super::writer::WriteError;
use crate::datastore::{JoinToken, TokenHash};

/// Why a join token was not made or used.
#[derive(Clone, Debug, Error)]
pub enum TokenError {
    /// Such a token exists already.
    #[error("join token already exists")]
    Exists,
    /// There is no such token.
    #[error("join token does not exist or has already been used")]
    Unknown,
    /// Its time ran out. It is gone now.
    #[error("join token expired")]
    Expired,
    /// It could not be stored.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
}

impl Registry {
    /// Stores a token.
    pub async fn create_join_token(&self, token: JoinToken) -> Result<(), TokenError> {
        let written = self.write(move |draft| {
            if draft.join_token(&token.hash).is_some() {
                return Err(TokenError::Exists);
            }
            draft.put_join_token(token.clone());
            Ok(())
        });
        written.await?
    }

    /// Uses a token up. When this returns, nobody can use it again, not even after a crash.
    pub async fn consume_join_token(
        &self,
        hash: TokenHash,
        now: SystemTime,
    ) -> Result<JoinToken, TokenError> {
        let now = clock::unix_seconds(now);
        let written = self.write(move |draft| {
            let token = draft.join_token(&hash).cloned().ok_or(TokenError::Unknown)?;
            draft.delete_join_token(hash);
            if token.expires_at < now { Err(TokenError::Expired) } else { Ok(token) }
        });
        written.await?
    }
}

/// The entry that gives an agent a further name, which other entries may have as their parent.
///
/// Its selector is the agent's own ID, which no workload has.
pub(super) fn alias(agent: &SpiffeId, name: &SpiffeId, now: SystemTime) -> Option<Arc<Entry>> {
    let content = EntryContent {
        spiffe_id: name.clone(),
        parent_id: agent.clone(),
        selectors: [mark(agent)?].into_iter().collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: None,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    };
    let (id, created_at) = (new_id(now), clock::unix_seconds(now));
    Some(Arc::new(Entry { id, revision: 0, created_at, content }))
}

/// Deletes the entries that [`alias`] made for this agent, and returns them.
pub(super) fn delete_aliases(draft: &mut Draft<'_>, agent: &SpiffeId) -> Vec<Arc<Entry>> {
    let Some(mark) = mark(agent) else { return Vec::new() };
    let mut aliases = draft.children(agent);
    aliases.retain(|child| {
        child.content.selectors.len() == 1 && child.content.selectors.contains(&mark)
    });
    aliases.iter().for_each(|alias| draft.delete_entry(&alias.id));
    aliases
}

fn mark(agent: &SpiffeId) -> Option<Selector> {
    Selector::new("spiffe_id", agent.as_str()).ok()
}
