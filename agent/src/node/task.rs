//! The task that makes this node an agent and keeps it one: decisions by [`plan`], acts in order.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::backoff::{Backoff, random_fraction};
use steeple::bundle::Bundle;
use steeple::clock;
use steeple::telemetry::with_causes;
use steeple::tls::Material;
use steeple::x509::verify::{AnchorSet, Anchors};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::rebootstrap::Distrust;
use super::attestation::Attestation;
use super::attestor::Mark;
use super::plan::{self, Next, Situation, Standing, Term, Verdict};
use super::saved::{self, Identity, Saved};
use super::{Channels, Config, Deps, NodeError, NodeStatus};

/// Waits while the server is away.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Waits while the server refuses this node.
const APPEAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

mod rebootstrap;
mod refusals;
mod storing;

/// The task.
#[derive(Debug)]
pub struct Node {
    deps: Deps,
    config: Config,
    channels: Channels,
    saved: Saved,
    term: Option<Term>,
    standing: Standing,
    /// Whether this process ever had a valid SVID.
    was_agent: bool,
    retry: Backoff,
    appeal: Backoff,
    retry_at: SystemTime,
    /// The evidence that was presented last, if it can be used once only.
    presented: Option<Mark>,
    /// When to store again what could not be stored.
    store_at: Option<SystemTime>,
    store_again: Backoff,
    distrust: Distrust,
    bootstraps: u32,
    greeted: bool,
}

impl Node {
    /// A node that is what it was when it was last stopped.
    pub fn load(deps: Deps, config: Config, channels: Channels) -> Result<Self, NodeError> {
        let saved = saved::load(&config.file, &config.trust_domain)?;
        let now = deps.clock.now();
        let mut node = Self {
            deps,
            config,
            channels,
            saved,
            term: None,
            standing: Standing::Unattested,
            was_agent: false,
            retry: Backoff::new(RETRY.0, RETRY.1),
            appeal: Backoff::new(APPEAL.0, APPEAL.1),
            retry_at: now,
            presented: None,
            store_at: None,
            store_again: Backoff::new(RETRY.0, RETRY.1),
            distrust: Distrust::new(now),
            bootstraps: 0,
            greeted: false,
        };
        node.trust();
        match node.saved.identity.clone() {
            Some(identity) if now <= identity.svid.not_after() => {
                info!(
                    spiffe_id = %identity.svid.spiffe_id(),
                    expires_at = clock::unix_seconds(identity.svid.not_after()),
                    "SVID loaded"
                );
                node.present(&identity);
            }
            Some(_) => info!("SVID has expired. Starting node attestation"),
            None => info!("SVID is not found. Starting node attestation"),
        }
        node.publish(None);
        Ok(node)
    }

    /// Does what has to be done, until told to stop.
    ///
    /// # Errors
    /// This node never was an agent, and the server refuses to make it one.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        let own = Arc::clone(&self.deps.clock);
        loop {
            let situation = Situation {
                standing: self.standing,
                svid: self.term,
                retry_at: self.retry_at,
                store_at: self.store_at,
                rebootstrap_at: self.rebootstrap_at(),
            };
            let next = plan::next(&situation, own.now());
            let wait = match next {
                Next::Wait(until) => until,
                Next::Expire
                | Next::Attest
                | Next::Rebootstrap
                | Next::Renew
                | Next::Appeal
                | Next::Store => own.now(),
            };
            let new_evidence = self.new_evidence();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(denial) = self.channels.denials.recv() => self.denied(denial).await,
                Ok(()) = self.channels.distrust.changed() => self.distrust_changed(),
                Ok(()) = self.channels.bundle.changed() => self.bundle_changed().await,
                () = new_evidence, if self.standing != Standing::Attested => {
                    self.present_at_once();
                }
                () = clock::sleep_until(&*own, wait) => tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    outcome = self.act(next) => outcome?,
                },
            }
        }
    }

    async fn act(&mut self, next: Next) -> Result<(), NodeError> {
        match next {
            Next::Wait(_) => Ok(()),
            Next::Expire => {
                self.expire();
                Ok(())
            }
            Next::Store => {
                self.store_again();
                Ok(())
            }
            Next::Attest => self.attest().await,
            Next::Rebootstrap => {
                self.rebootstrap().await;
                Ok(())
            }
            Next::Renew => self.renew().await,
            Next::Appeal => self.plead().await,
        }
    }

    async fn attest(&mut self) -> Result<(), NodeError> {
        if self.is_agent_again() {
            return Ok(());
        }
        self.presented = self.attestation().mark().await;
        match self.attestation().attest(&self.saved).await {
            Ok(attested) => {
                self.attested(attested);
                Ok(())
            }
            Err(failure) => {
                if failure.is_distrust() && !self.saved.trust.is_empty() {
                    self.heard_of(false);
                }
                self.attestation_failed(&failure).await
            }
        }
    }

    /// Takes up what an attestation has led to.
    fn attested(&mut self, (saved, bundle): (Saved, Bundle)) {
        let Some(identity) = saved.identity.clone() else { return };
        self.saved = saved;
        self.trust_bundle(&bundle);
        self.heard_of(true);
        self.become_agent(&identity);
        // What proved this node may be worth nothing any more: its SVID is used anyway.
        if let Err(error) = self.store() {
            self.not_stored(&error);
        }
        info!(
            spiffe_id = %identity.svid.spiffe_id(),
            expires_at = clock::unix_seconds(identity.svid.not_after()),
            trust_domain_id = %identity.svid.spiffe_id().trust_domain().id(),
            reattestable = identity.reattestable,
            "Node attestation was successful"
        );
    }

    /// Takes up the SVID that had expired, if the clock no longer says so.
    fn is_agent_again(&mut self) -> bool {
        let now = self.deps.clock.now();
        let expired = self.saved.identity.clone().filter(|_| self.term.is_none());
        let Some(identity) = expired.filter(|identity| now <= identity.svid.not_after()) else {
            return false;
        };
        warn!("the clock was set back, and the agent's SVID is valid again");
        self.become_agent(&identity);
        true
    }

    async fn renew(&mut self) -> Result<(), NodeError> {
        let Some(identity) = self.saved.identity.clone() else {
            return self.attest().await;
        };
        if identity.reattestable {
            return self.attest().await;
        }
        match self.attestation().renew(&identity, &self.saved).await {
            Ok(renewed) => {
                self.saved.identity = Some(renewed.clone());
                if let Err(error) = self.store() {
                    let patience = self.term.map(Term::patience);
                    if let Some(end) = patience.filter(|end| self.deps.clock.now() < *end) {
                        self.saved.identity = Some(identity);
                        self.wait(None);
                        self.retry_at = self.retry_at.min(end);
                        self.not_stored(&error);
                        return Ok(());
                    }
                    self.become_agent(&renewed);
                    self.not_stored(&error);
                } else {
                    self.become_agent(&renewed);
                }
                info!(
                    spiffe_id = %renewed.svid.spiffe_id(),
                    expires_at = clock::unix_seconds(renewed.svid.not_after()),
                    "SVID renewed"
                );
            }
            Err(failure) => {
                let after = match failure.verdict() {
                    Verdict::Retry(after) => after,
                    // The link has reported it, and the denial is dealt with next.
                    Verdict::Refused | Verdict::Banned => None,
                };
                let wait = self.wait(after);
                warn!(error = &failure as &dyn Error, retry_interval = ?wait, "SVID was not renewed");
                self.publish(Some(with_causes(&failure)));
            }
        }
        Ok(())
    }

    async fn bundle_changed(&mut self) {
        let said = self.channels.bundle.borrow_and_update().clone();
        // What the server of before said last is not to be believed any more.
        if said.as_ref().is_some_and(|said| said.bootstraps != self.bootstraps) {
            return;
        }
        // The first bundle says that the server is there and takes this node for an agent.
        if !self.greeted {
            self.greet().await;
        }
        let bundle = said.map(|said| said.bundle);
        if let Some(bundle) = &bundle {
            self.leave_abandoned(bundle);
        }
        let Some(bundle) = bundle.filter(|b| b.x509_authorities != self.saved.trust) else {
            return;
        };
        self.trust_bundle(&bundle);
        self.saved.trust = bundle.x509_authorities.clone();
        if let Err(error) = self.store() {
            warn!(error = &error as &dyn Error, "the trust bundle was not stored");
        }
    }

    /// Renews an SVID whose authority is not to be relied on any more as soon as possible.
    fn leave_abandoned(&mut self, bundle: &Bundle) {
        let now = self.deps.clock.now();
        let (Some(identity), Some(term)) = (&self.saved.identity, &mut self.term) else {
            return;
        };
        if now < term.renew_at && plan::is_abandoned(&identity.svid.issuer_key_ids(), bundle) {
            info!(
                spiffe_id = %identity.svid.spiffe_id(),
                "Agent SVID is tainted by a root authority, forcing rotation"
            );
            term.renew_at = now;
        }
    }

    fn expire(&mut self) {
        error!("the agent's SVID has expired");
        self.channels.material.send_replace(None);
        self.deps.contact.reconnect();
        self.term = None;
        // A refusal remains one.
        if self.standing == Standing::Attested {
            self.standing = Standing::Expired;
        }
        self.publish(Some("the agent's SVID has expired".into()));
    }

    async fn greet(&mut self) {
        self.greeted = true;
        if let Err(error) = self.deps.contact.agent().post_status(env!("CARGO_PKG_VERSION")).await {
            // It is a courtesy.
            debug!(error = &error as &dyn Error, "the server did not take our version");
        }
    }

    fn become_agent(&mut self, identity: &Identity) {
        self.present(identity);
        self.deps.contact.reconnect();
        // What was said of the SVID before is over.
        while self.channels.denials.try_recv().is_ok() {}
        self.reset();
        self.retry_at = self.deps.clock.now();
        self.publish(None);
    }

    fn present(&mut self, identity: &Identity) {
        match Material::new(identity.svid.chain(), identity.key.clone()) {
            Ok(material) => {
                self.channels.material.send_replace(Some(Arc::new(material)));
                let (not_before, not_after) =
                    (identity.svid.not_before(), identity.svid.not_after());
                let renew_at = plan::renew_at(not_before, not_after, random_fraction());
                self.term = Some(Term { renew_at, not_after });
                self.standing = Standing::Attested;
                self.was_agent = true;
            }
            Err(error) => {
                error!(error = &error as &dyn Error, "the stored SVID cannot be used");
                self.saved.identity = None;
            }
        }
    }

    fn trust(&self) {
        if let Some(bundle) = self.saved.bundle(&self.config.trust_domain) {
            self.trust_bundle(&bundle);
        }
    }

    fn trust_bundle(&self, bundle: &Bundle) {
        let own = self.config.trust_domain.clone();
        let anchors = AnchorSet::of(own, Anchors::from(bundle));
        self.channels.anchors.send_replace(Arc::new(anchors));
    }

    fn publish(&self, trouble: Option<String>) {
        let identity = self.saved.identity.as_ref();
        self.channels.status.send_replace(NodeStatus {
            standing: self.standing,
            spiffe_id: identity.map(|identity| identity.svid.spiffe_id().clone()),
            not_after: self.term.map(|term| term.not_after),
            bootstraps: self.bootstraps,
            trouble,
        });
    }

    fn attestation(&self) -> Attestation<'_> {
        Attestation { deps: &self.deps, config: &self.config }
    }

    fn reset(&mut self) {
        self.retry.reset();
        self.appeal.reset();
    }

    /// Lets some time pass before the next call, and no less than the server asked for.
    fn wait(&mut self, after: Option<Duration>) -> Duration {
        let wait = self.retry.wait(random_fraction()).max(after.unwrap_or_default());
        self.retry_at = self.deps.clock.now() + wait;
        wait
    }
}
