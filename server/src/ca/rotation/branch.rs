//! What a server does because another one stands above it: its keys are published there, and what
//! is vouched for there is vouched for here.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use steeple::bundle::JwtAuthority;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::RotationError;
use super::following::{Following, Known, Withdrawn, follow};
use super::keeper::Keeper;
use super::making::Made;
use super::vouched::root_id;
use crate::audit::Correlation;
use crate::audit::event::{AuthorityStep, Caller, Event};
use crate::ca::authorities::AuthorityId;
use crate::ca::control::{Above, Publication};
use crate::ca::slots::{Kind, Slot, Status};
use crate::ca::upstream::{Published, UpstreamAuthority, Vouched};
use crate::ca::{BundleChange, Ledger};

/// How long the publication of a key may hold up what else there is to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands above this server, and what was exchanged with it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) upstream: Arc<dyn UpstreamAuthority>,
    vouched: watch::Receiver<Option<Arc<Vouched>>>,
    /// What upstream said last, as far as the bundle follows it.
    said: Option<Arc<Vouched>>,
    /// The keys of this server that upstream knows, or does not want to.
    published: BTreeMap<AuthorityId, Publication>,
    /// The keys of this server that upstream knew once, in the life of this process.
    known_above: BTreeSet<AuthorityId>,
    /// The roots that no CA is taken from, by what upstream said last.
    distrusted: BTreeSet<AuthorityId>,
    /// Whether it was said that upstream does not take keys, or failed to.
    warned: bool,
}

impl Branch {
    pub(super) fn new(upstream: Arc<dyn UpstreamAuthority>) -> Self {
        let (vouched, said) = (upstream.vouched(), None);
        let [known_above, distrusted] = [(); 2].map(|()| BTreeSet::new());
        let published = BTreeMap::new();
        Self { upstream, vouched, said, published, known_above, distrusted, warned: false }
    }

    /// Waits until upstream vouches for something else.
    pub(super) async fn changed(branch: Option<&mut Self>) {
        let Some(branch) = branch else { return std::future::pending().await };
        if branch.vouched.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl<L: Ledger> Keeper<L> {
    /// Makes the own bundle follow what upstream vouches for, and moves off what upstream does not
    /// rely on any more.
    pub(super) async fn follow(&mut self) -> Result<(), RotationError> {
        let Some(branch) = &self.branch else { return Ok(()) };
        let says = branch.vouched.borrow().clone();
        let Some(says) = says.filter(|says| branch.said.as_ref() != Some(says)) else {
            return Ok(());
        };
        let bundle = self.bundle();
        let known =
            Known { journal: self.journal(), bundle: &bundle, said: branch.said.as_deref() };
        let following = follow(known, &says, self.seconds());
        if let Some(branch) = &mut self.branch {
            branch.distrusted = following.distrusted().into_iter().cloned().collect();
        }
        self.adopt(&following).await?;
        self.leave(&following).await?;
        self.withdraw_all(following.withdrawals).await?;
        self.note(says);
        Ok(())
    }

    /// Publishes the keys of this server that upstream does not know yet.
    pub(super) async fn publish_keys(&mut self) -> Result<(), RotationError> {
        // This ends: one that is refused makes room for another one only if it was taken before.
        while let Some(key) = self.unpublished().into_iter().next() {
            let id = AuthorityId::from(key.key_id.clone());
            let is_new_above = self.is_new_above(&id);
            let Some(branch) = &mut self.branch else { return Ok(()) };
            match timeout(PATIENCE, branch.upstream.publish_jwt_key(key)).await {
                Ok(Ok(Published::Keys(keys))) => {
                    branch.published.insert(id.clone(), Publication::At(Instant::now()));
                    branch.known_above.insert(id.clone());
                    branch.warned = false;
                    info!(key_id = %id, "JWT key published upstream");
                    self.add_keys(keys).await?;
                }
                Ok(Ok(Published::NotTaken)) => {
                    branch.published.insert(id, Publication::NotTaken);
                    if !std::mem::replace(&mut branch.warned, true) {
                        warn!(
                            "the upstream authority takes no JWT keys; the tokens of this \
                               server are valid where its own bundle is known"
                        );
                    }
                }
                Ok(Ok(Published::Revoked)) if !is_new_above => self.leave_key(id).await?,
                Ok(Ok(Published::Revoked)) => {
                    if !std::mem::replace(&mut branch.warned, true) {
                        warn!(key_id = %id, "JWT key not published upstream: it is said to be \
                            revoked there, where it never was");
                    }
                    return Ok(());
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut branch.warned, true) {
                        let error = &error as &dyn StdError;
                        warn!(key_id = %id, error, "JWT key not published upstream yet");
                    }
                    return Ok(());
                }
                Err(_elapsed) => {
                    if !std::mem::replace(&mut branch.warned, true) {
                        warn!(key_id = %id, "JWT key not published upstream in time");
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Vouches for what is new upstream.
    async fn adopt(&mut self, following: &Following) -> Result<(), RotationError> {
        if following.additions.is_empty() {
            return Ok(());
        }
        let count = following.additions.len();
        self.save(self.journal().clone(), following.additions.clone()).await?;
        info!(count, "authorities added that upstream vouches for");
        Ok(())
    }

    /// Signs with another CA if the active one depends on something that is not relied on any more.
    async fn leave(&mut self, following: &Following) -> Result<(), RotationError> {
        let distrusted = following.distrusted();
        if distrusted.is_empty() {
            return Ok(());
        }
        info!(subject_key_ids = %list(&distrusted), "New tainted X.509 authorities found");
        if !self.depends_on(Status::Active, &distrusted) {
            return Ok(());
        }
        info!("Current root CA is signed by a tainted upstream authority, preparing rotation");
        let prepared = self.slots(Kind::X509Ca).prepared(self.now());
        let prepared = prepared.filter(|_| !self.depends_on(Status::Prepared, &distrusted));
        let next = self.next(Kind::X509Ca, prepared).await;
        let slot = next.map_err(|error| still_below(&distrusted, error))?;
        let moved = self.activate(&Caller::Server, (Kind::X509Ca, slot), Vec::new()).await;
        moved.map_err(|error| still_below(&distrusted, error))?;
        info!("Successfully rotated X.509 CA");
        Ok(())
    }

    /// Signs with another key, as upstream has revoked the one that does, and no longer vouches for
    /// that. Nobody here was told of it at the time.
    async fn leave_key(&mut self, id: AuthorityId) -> Result<(), RotationError> {
        info!(key_id = %id, "JWT key was revoked upstream, forcing rotation");
        let kind = Kind::JwtKey;
        let is_active = self.journal().active(kind).is_some_and(|of| of.authority_id == id);
        let change = BundleChange::RemoveJwt(id.to_string());
        let withdrawals = vec![Withdrawn { kind, id, revoked: true, change: change.clone() }];
        if !is_active {
            return self.withdraw_all(withdrawals).await;
        }
        let slot = self.next(kind, self.slots(kind).prepared(self.now())).await?;
        let correlation = self.correlation();
        self.intend(correlation, &withdrawals).await?;
        // Both or neither: nobody would come back to a key that does not sign and is vouched for.
        self.activate(&Caller::Server, (kind, slot), vec![change]).await?;
        self.tell_withdrawn(correlation, withdrawals).await;
        Ok(())
    }

    /// Where the authority is that can sign next: that one, or a new one.
    async fn next(&mut self, kind: Kind, prepared: Option<Slot>) -> Result<Slot, RotationError> {
        if let Some(slot) = prepared {
            return Ok(slot);
        }
        let active = self.journal().active(kind).and_then(|active| active.slot);
        let slot = active.ok_or(RotationError::NotActive(kind))?.other();
        self.prepare_in_turn(kind, slot).await?;
        Ok(slot)
    }

    async fn withdraw_all(&mut self, withdrawals: Vec<Withdrawn>) -> Result<(), RotationError> {
        if withdrawals.is_empty() {
            return Ok(());
        }
        let correlation = self.correlation();
        self.intend(correlation, &withdrawals).await?;
        let revoked: Vec<_> = withdrawals
            .iter()
            .filter(|withdrawn| withdrawn.revoked && withdrawn.kind == Kind::X509Ca)
            .map(|w| w.id.clone())
            .collect();
        let journal = self.journal().without_dependents(&revoked);
        let changes: Vec<BundleChange> =
            withdrawals.iter().map(|withdrawn| withdrawn.change.clone()).collect();
        self.save(journal, changes).await?;
        self.tell_withdrawn(correlation, withdrawals).await;
        Ok(())
    }

    async fn intend(
        &self,
        correlation: Correlation,
        withdrawals: &[Withdrawn],
    ) -> Result<(), RotationError> {
        for Withdrawn { kind, id, revoked, .. } in withdrawals {
            let step = if *revoked { AuthorityStep::Revoke } else { AuthorityStep::Taint };
            let authority_id = Some(id.clone());
            let intent =
                Event::AuthorityIntent { correlation, step, kind: *kind, slot: None, authority_id };
            self.record(&Caller::Server, intent).await?;
        }
        Ok(())
    }

    async fn tell_withdrawn(&self, correlation: Correlation, withdrawals: Vec<Withdrawn>) {
        for Withdrawn { kind, id: authority_id, revoked, .. } in withdrawals {
            let event = if revoked {
                info!(%kind, %authority_id, "authority revoked, as upstream no longer vouches for it");
                Event::AuthorityRevoked { correlation, kind, authority_id }
            } else {
                info!(%kind, %authority_id, "authority tainted, as it is upstream");
                Event::AuthorityTainted { correlation, kind, authority_id }
            };
            self.tell(&Caller::Server, event).await;
        }
    }

    /// Takes what was revoked here out of what is to be published with a new authority, and refuses
    /// one that depends on it or on what is tainted: it could sign nothing that is worth anything.
    pub(super) fn admit(&self, made: &mut Made) -> Result<(), RotationError> {
        let bundle = self.bundle();
        let standing = |root: &AuthorityId| {
            let mut ours = bundle.x509_authorities.iter();
            let ours = ours.find(|ours| root_id(&ours.certificate).as_ref() == Some(root));
            ours.map(|ours| ours.tainted)
        };
        let is_revoked = |root: &AuthorityId| {
            // Whoever has put it back into the bundle by hand relies on it again.
            standing(root).is_none() && self.journal().is_revoked(Kind::X509Ca, root.as_str())
        };
        if let Some(root) = &made.record.upstream_authority_id {
            if is_revoked(root) {
                return Err(RotationError::UpstreamRevoked(root.clone()));
            }
            let left = self.branch.as_ref().is_some_and(|branch| branch.distrusted.contains(root));
            if left || standing(root) == Some(true) {
                return Err(RotationError::UpstreamTainted);
            }
        }
        made.changes.retain(|change| {
            let BundleChange::AddX509(root) = change else { return true };
            !root_id(root).is_some_and(|root| is_revoked(&root))
        });
        Ok(())
    }

    fn note(&mut self, says: Arc<Vouched>) {
        let records = self.journal().records().iter();
        let own: BTreeSet<_> = records.map(|record| record.authority_id.clone()).collect();
        let Some(branch) = &mut self.branch else { return };
        branch.known_above.retain(|id| own.contains(id));
        // What upstream has lost, it is told again.
        let is_known = |id: &AuthorityId| says.jwt_keys.iter().any(|key| key.key_id == id.as_str());
        branch.published.retain(|id, _| is_known(id));
        branch.said = Some(says);
    }

    /// Whether a CA of that status depends on one of these roots.
    fn depends_on(&self, status: Status, roots: &BTreeSet<&AuthorityId>) -> bool {
        let cas = self.journal().records().iter().filter(|record| record.kind == Kind::X509Ca);
        let of_status = cas.filter(|record| record.status == status);
        let mut above = of_status.filter_map(|record| record.upstream_authority_id.as_ref());
        above.any(|id| roots.contains(id))
    }

    /// Whether upstream cannot have had a key before: it was made by this process, and never taken.
    fn is_new_above(&self, id: &AuthorityId) -> bool {
        let was_taken = self.branch.as_ref().is_some_and(|branch| branch.known_above.contains(id));
        self.is_made_here(Kind::JwtKey, id) && !was_taken
    }

    /// What became of the keys of this server above.
    pub(super) fn above(&self) -> Above {
        self.branch.as_ref().map(|branch| branch.published.clone())
    }

    fn unpublished(&self) -> Vec<JwtAuthority> {
        let Some(branch) = &self.branch else { return Vec::new() };
        let bundle = self.bundle();
        let records = self.journal().records().iter();
        let in_use = records.filter(|r| r.kind == Kind::JwtKey && r.status != Status::Old);
        let missing = in_use.filter(|record| !branch.published.contains_key(&record.authority_id));
        let vouched = missing.filter_map(|record| {
            let id = record.authority_id.as_str();
            bundle.jwt_authorities.iter().find(|key| key.key_id == id && !key.tainted)
        });
        vouched.cloned().collect()
    }

    async fn add_keys(&mut self, keys: Vec<JwtAuthority>) -> Result<(), RotationError> {
        let bundle = self.bundle();
        let is_new = |key: &JwtAuthority| {
            let known = bundle.jwt_authorities.iter().any(|known| known.key_id == key.key_id);
            let said = self.branch.as_ref().and_then(|branch| branch.said.as_ref());
            let revoked = self.journal().is_revoked(Kind::JwtKey, &key.key_id)
                || said.is_some_and(|s| s.jwt_keys.iter().any(|k| k.key_id == key.key_id));
            !known && !revoked && !key.tainted
        };
        let new = keys.into_iter().filter(is_new);
        let changes: Vec<_> = new.map(BundleChange::AddJwt).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.save(self.journal().clone(), changes).await
    }
}

/// Why what is not relied on any more signs on. What was said a moment ago is not said again.
fn still_below(roots: &BTreeSet<&AuthorityId>, error: RotationError) -> RotationError {
    if matches!(error, RotationError::Waiting(_)) {
        return error;
    }
    RotationError::StillBelow { roots: list(roots), source: Box::new(error) }
}

fn list(ids: &BTreeSet<&AuthorityId>) -> String {
    ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
