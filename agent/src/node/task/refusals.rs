//! What a node does when the server refuses it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use steeple::backoff::random_fraction;
use steeple::telemetry::with_causes;
use tracing::{error, info, warn};

use super::Node;
use crate::node::NodeError;
use crate::node::attestation::AttestFailure;
use crate::node::plan::{self, Standing, Verdict};
use crate::server_api::{Denial, ServerError};

/// How often to look for new evidence while there is no other way.
const LOOK: Duration = Duration::from_secs(5);

/// What helps where it is not the server of this node that answers.
const TRUST_ADVICE: &str = "server, trust_domain and trust_bundle (or its fingerprint) must be \
                            those of one server; `steeple-server bundle show` prints its bundle";

impl Node {
    pub(super) async fn attestation_failed(
        &mut self,
        failure: &AttestFailure,
    ) -> Result<(), NodeError> {
        let advice = self.advice(failure);
        let trouble = match advice {
            Some(advice) => format!("{}; {advice}", with_causes(failure)),
            None => with_causes(failure),
        };
        match failure.verdict() {
            Verdict::Retry(after) => {
                let wait = self.wait(after);
                warn!(error = trouble, retry_interval = ?wait, "node attestation failed");
                self.publish(Some(trouble));
                return Ok(());
            }
            Verdict::Refused | Verdict::Banned if !self.was_agent => {
                return Err(NodeError::NotAttested(trouble));
            }
            Verdict::Refused => {
                error!(error = trouble, "node attestation was refused");
                if self.standing == Standing::Attested {
                    self.standing = Standing::Refused(Denial::MustReattest);
                }
            }
            Verdict::Banned => self.forget(),
        }
        self.wait_for_help();
        self.publish(Some(trouble));
        Ok(())
    }

    /// Tries to get out of a refusal: with new evidence, or because it has been taken back.
    pub(super) async fn plead(&mut self) -> Result<(), NodeError> {
        let reattestable = self.saved.identity.as_ref().is_none_or(|i| i.reattestable);
        if reattestable || self.attestation().has_new_evidence(&self.saved).await {
            return self.attest().await;
        }
        match self.deps.contact.agent().post_status(env!("CARGO_PKG_VERSION")).await {
            // A server of SPIRE's that does not have the call yet has looked at the caller first.
            Ok(()) | Err(ServerError::Unsupported(_)) => {
                info!("the server takes this node for an agent again");
                self.standing = Standing::Attested;
                self.reset();
                self.publish(None);
            }
            Err(_still_refused) => self.wait_for_help(),
        }
        Ok(())
    }

    pub(super) async fn denied(&mut self, denial: Denial) {
        let Some(standing) = plan::denied(self.standing, denial) else {
            return;
        };
        if standing == Standing::Banned {
            self.forget();
            self.wait_for_help();
            self.publish(Some(format!("{denial}; {}", self.deps.attestor.advice())));
            return;
        }
        self.standing = standing;
        self.retry_at = self.deps.clock.now();
        self.reset();
        let reattestable = self.saved.identity.as_ref().is_some_and(|i| i.reattestable);
        if reattestable || self.attestation().has_new_evidence(&self.saved).await {
            warn!(error = &denial as &dyn Error, "Agent needs to re-attest: attesting again");
            self.publish(None);
        } else {
            let advice = self.deps.attestor.advice();
            error!(
                error = &denial as &dyn Error,
                advice, "Agent needs to re-attest and cannot by itself: serving what is valid"
            );
            self.publish(Some(format!("{denial}; {advice}")));
        }
    }

    /// Waits until there is something to present that was not presented yet. Only a method whose
    /// evidence works once has such a thing: others try the same again.
    pub(super) fn new_evidence(&self) -> impl Future<Output = ()> + use<> {
        let attestor = Arc::clone(&self.deps.attestor);
        // Neither what was refused last nor what was used up is worth another look.
        let known = [self.presented.clone(), self.saved.spent.clone()];
        async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let mark = attestor.begin().await.ok().and_then(|session| session.once);
                if mark.is_some() && !known.contains(&mark) {
                    return;
                }
            }
        }
    }

    /// Does not wait any longer.
    pub(super) fn present_at_once(&mut self) {
        info!("there is something new to present: attesting again");
        self.retry_at = self.deps.clock.now();
        self.reset();
    }

    /// Destroys all that made this node an agent.
    fn forget(&mut self) {
        error!("Agent is banned: removing SVID");
        self.saved.identity = None;
        self.term = None;
        self.standing = Standing::Banned;
        self.channels.material.send_replace(None);
        self.deps.contact.reconnect();
        self.publish(None);
        if let Err(error) = self.store() {
            error!(error = &error as &dyn Error, "removing all that was stored");
            // To remove a file takes no space.
            if let Err(error) = std::fs::remove_file(&self.config.file) {
                error!(error = &error as &dyn Error, "the SVID on disk was not removed");
            }
        }
    }

    /// What would help, if that is known.
    fn advice(&self, failure: &AttestFailure) -> Option<&'static str> {
        match failure.verdict() {
            _ if failure.is_distrust() => Some(TRUST_ADVICE),
            Verdict::Retry(_) => None,
            // The server was not asked.
            _ if matches!(failure, AttestFailure::Evidence(_)) => {
                self.deps.attestor.advice_without_evidence()
            }
            Verdict::Refused | Verdict::Banned => Some(self.deps.attestor.advice()),
        }
    }

    fn wait_for_help(&mut self) {
        self.retry_at = self.deps.clock.now() + self.appeal.wait(random_fraction());
    }
}
