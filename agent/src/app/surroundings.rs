//! What a configuration names, looked at without starting anything.

use std::io::ErrorKind;
use std::sync::Arc;

use steeple::clock::{Clock, SystemClock};
use steeple::telemetry;

use super::AGENT_FILE;
use crate::config::{Config, NodeAttestorConfig};
use crate::node::attestor::EvidenceError;
use crate::node::join_token::JoinToken;
use crate::node::saved::{self, Saved, SavedError};
use crate::node::trust;

/// What there is to say of what was found.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// What keeps an agent from starting.
    pub problems: Vec<anyhow::Error>,
    /// What may surprise later.
    pub notes: Vec<anyhow::Error>,
}

/// What an agent of this configuration needs of what is there already.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// Something to believe the server by.
    trust: bool,
    /// Something to attest with.
    evidence: bool,
}

/// Looks at the files that a configuration names.
pub async fn check(config: Config) -> Surroundings {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut found = Surroundings::default();
    let saved = saved::load(&config.data_dir.join(AGENT_FILE), &config.trust_domain);
    let needs = found.needs(saved, &*clock);
    if let Err(error) = trust::check_file(&config.trust, &config.trust_domain, &*clock).await {
        found.add(needs.trust, error);
    }
    // A token may be given when the agent is started.
    let is_complete =
        !matches!(config.node_attestor, NodeAttestorConfig::JoinToken(JoinToken::None));
    match config.node_attestor.build().begin().await {
        Ok(_session) => {}
        Err(error @ EvidenceError::NoToken) if !is_complete => {
            if needs.evidence {
                found.add(false, error);
            }
        }
        Err(error) => found.add(needs.evidence, error),
    }
    if let Err(error) = telemetry::check(&config.log, &config.data_dir) {
        found.add(true, error);
    }
    found
}

impl Surroundings {
    fn add(&mut self, is_needed: bool, error: impl Into<anyhow::Error>) {
        let list = if is_needed { &mut self.problems } else { &mut self.notes };
        list.push(error.into());
    }

    /// An agent that was attested has what it needs.
    fn needs(&mut self, saved: Result<Saved, SavedError>, clock: &dyn Clock) -> Needs {
        match saved {
            Ok(saved) => {
                let is_good = |not_after| clock.now() <= not_after;
                let identity = saved.identity.as_ref();
                let is_agent = identity.is_some_and(|it| is_good(it.svid.not_after()));
                Needs { trust: saved.trust.is_empty(), evidence: !is_agent }
            }
            // It is that of an agent of another user, who will see what is in it.
            Err(error) if is_denied(&error) => {
                self.add(false, error);
                Needs { trust: false, evidence: false }
            }
            Err(error) => {
                self.add(true, error);
                Needs { trust: true, evidence: true }
            }
        }
    }
}

fn is_denied(error: &SavedError) -> bool {
    match error {
        SavedError::Io { source, .. } => source.kind() == ErrorKind::PermissionDenied,
        SavedError::Damaged { .. } | SavedError::OtherTrustDomain { .. } => false,
    }
}

#[cfg(test)]
mod tests;
