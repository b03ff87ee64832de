//! `join_token`: a node shows a token that an administrator made for it, once.

use std::sync::Arc;

use steeple::clock::Clock;
use steeple::id::{ParseError, SpiffeId, TrustDomain};
use steeple::selector::SelectorSet;

use super::{AttestError, Attested, Conversation, NodeAttestor};
use crate::datastore::TokenHash;
use crate::registry::Registry;
use crate::registry::tokens::TokenError;

/// The name of the method.
pub const KIND: &str = "join_token";

/// The longest token that is looked up, in bytes.
const MAX_TOKEN: usize = 255;

/// The server's half.
#[derive(Debug)]
pub struct JoinTokens {
    registry: Registry,
    clock: Arc<dyn Clock>,
}

impl JoinTokens {
    /// The method with the tokens of this registry.
    #[must_use]
    pub fn new(registry: Registry, clock: Arc<dyn Clock>) -> Self {
        Self { registry, clock }
    }
}

/// The ID of the agent that joins with `token`.
pub fn agent_id(trust_domain: &TrustDomain, token: &str) -> Result<SpiffeId, ParseError> {
    if token.is_empty() || token.len() > MAX_TOKEN || token.contains('/') {
        return Err(ParseError::Path);
    }
    SpiffeId::new(trust_domain, &format!("/spire/agent/{KIND}/{token}"))
}

#[tonic::async_trait]
impl NodeAttestor for JoinTokens {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// Uses the token up before anything else happens: should the server die now, the token is lost
    /// and nobody can use it a second time.
    async fn attest(
        &self,
        payload: &[u8],
        _: &mut dyn Conversation,
    ) -> Result<Attested, AttestError> {
        let malformed = AttestError::Malformed { what: "join token", expected: "the token alone" };
        let token = std::str::from_utf8(payload).or(Err(malformed.clone()))?;
        let agent_id = agent_id(self.registry.trust_domain(), token).or(Err(malformed))?;
        let used = self.registry.consume_join_token(TokenHash::of(token), self.clock.now()).await;
        let token = used.map_err(|error| match error {
            TokenError::Unknown | TokenError::Exists => AttestError::UnknownToken,
            TokenError::Expired => AttestError::ExpiredToken,
            TokenError::NotWritten(_) => AttestError::Unavailable,
        })?;
        Ok(Attested {
            agent_id,
            name: token.agent_id,
            selectors: SelectorSet::default(),
            can_reattest: false,
        })
    }
}
