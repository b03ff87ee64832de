//! The one task that owns what an instance holds: mints, renews, and drops all when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use steeple::backoff::random_fraction;
use steeple::clock::sleep_until;
use steeple::entry::{Entry, EntryId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::deps::Deps;
use super::holder::Ask;
use super::holdings::TokenKey;
use super::mint::Mint;
use super::plan::{Asked, Wanted, plan};
use super::{Holdings, JwtToken, MintFailure, Snapshot, X509Credential};
use crate::attest::instance::Instance;

/// The most tokens an instance holds at a time; beyond that the one that expires first goes.
const MAX_TOKENS: usize = 256;

/// How much is minted at a time before further asks have to wait.
const MAX_UNDER_WAY: usize = 32;

/// How long to sleep where nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// Everything one instance has, and all that is under way for it.
pub(super) struct Owner {
    deps: Deps,
    mint: Mint,
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    published: watch::Sender<Arc<Holdings>>,
    holdings: Holdings,
    changed: bool,
    asked: Asked,
    waiting: Vec<Waiting>,
    tokens: BTreeMap<TokenKey, Vec<oneshot::Sender<Result<JwtToken, MintFailure>>>>,
    failures: BTreeMap<EntryId, MintFailure>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// Who waits for X.509-SVIDs of some entries.
struct Waiting {
    entries: Vec<EntryId>,
    reply: oneshot::Sender<Result<(), MintFailure>>,
}

/// What has been minted, or not.
enum Done {
    X509(EntryId, Result<X509Credential, MintFailure>),
    Jwt(TokenKey, Result<JwtToken, MintFailure>),
}

impl Owner {
    pub(super) fn new(deps: Deps, mint: Mint, published: watch::Sender<Arc<Holdings>>) -> Self {
        Self {
            snapshot: deps.snapshot.clone(),
            deps,
            mint,
            published,
            holdings: Holdings::default(),
            changed: false,
            asked: Asked::default(),
            waiting: Vec::new(),
            tokens: BTreeMap::new(),
            failures: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// Lives until the instance ends or the agent stops. Dropping `self` wipes all keys that
    /// nobody is being served with at that moment.
    pub(super) async fn run(
        mut self,
        instance: Instance,
        mut asks: mpsc::Receiver<Ask>,
        stop: CancellationToken,
    ) {
        let clock = self.deps.clock.clone();
        loop {
            let now = clock.now();
            let wake = self.settle(now);
            tokio::select! {
                () = stop.cancelled() => return,
                () = instance.ended() => return,
                ask = asks.recv(), if self.under_way.len() < MAX_UNDER_WAY => match ask {
                    Some(ask) => self.take(ask),
                    None => return,
                },
                Some(done) = self.under_way.next() => self.finish(done, clock.now()),
                changed = self.snapshot.changed() => if changed.is_err() { return },
                () = sleep_until(&*clock, wake) => {}
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::X509 { entries, selectors, reply } => {
                let entries: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
                for id in &entries {
                    let new = || Wanted::new(selectors.clone());
                    let wanted = self.asked.entry(id.clone()).or_insert_with(new);
                    wanted.asked_by(selectors.clone());
                }
                self.waiting.push(Waiting { entries, reply });
            }
            Ask::Jwt { key, reply } => self.take_jwt(key, reply),
        }
    }

    fn take_jwt(&mut self, key: TokenKey, reply: oneshot::Sender<Result<JwtToken, MintFailure>>) {
        let snapshot = self.snapshot.borrow().clone();
        let Some(entry) = snapshot.as_ref().and_then(|snapshot| snapshot.entry(&key.entry)) else {
            let _gone = reply.send(Err(MintFailure::Refused("the entry is gone".into())));
            return;
        };
        let replies = self.tokens.entry(key.clone()).or_default();
        replies.push(reply);
        // A token that is to be unique is nobody else's.
        if replies.len() == 1 || entry.content.jwt_svid_include_jti {
            let (mint, entry) = (self.mint.clone(), entry.clone());
            self.under_way.push(Box::pin(async move {
                let result = mint.jwt(&entry, &key.audience).await;
                Done::Jwt(key, result)
            }));
        }
    }

    fn finish(&mut self, done: Done, now: SystemTime) {
        match done {
            Done::X509(id, result) => self.finish_x509(id, result, now),
            Done::Jwt(key, result) => self.finish_jwt(key, result, now),
        }
    }

    fn finish_x509(
        &mut self,
        id: EntryId,
        result: Result<X509Credential, MintFailure>,
        now: SystemTime,
    ) {
        let Some(wanted) = self.asked.get_mut(&id) else {
            return;
        };
        match result {
            Ok(credential) => {
                info!(
                    entry_id = %id,
                    spiffe_id = %credential.svid().spiffe_id(),
                    serial = %credential.svid().serial().to_hex(),
                    "X509-SVID minted"
                );
                let snapshot = self.snapshot.borrow().clone();
                let own = snapshot.as_deref().and_then(Snapshot::own_bundle);
                if own.is_some_and(|bundle| credential.is_tainted(bundle)) {
                    // The server goes on signing with what it has tainted: not again at once.
                    wanted.failed(now, random_fraction());
                } else {
                    wanted.succeeded();
                }
                self.failures.remove(&id);
                self.holdings.x509.insert(id, Arc::new(credential));
                self.changed = true;
            }
            Err(failure) => {
                warn!(entry_id = %id, error = %failure, "X509-SVID not minted");
                wanted.failed(now, random_fraction());
                self.failures.insert(id, failure);
            }
        }
    }

    fn finish_jwt(
        &mut self,
        key: TokenKey,
        result: Result<JwtToken, MintFailure>,
        now: SystemTime,
    ) {
        // While the server is away, what is still valid is better than nothing.
        let held = self.holdings.jwt.get(&key).filter(|token| now < token.expires_at);
        let unique = self.is_unique(&key.entry);
        let answer = match (result, held.filter(|_| !unique)) {
            (Err(MintFailure::Unavailable(_)), Some(token)) => Ok(token.clone()),
            (result, _) => result,
        };
        if let (Ok(token), false) = (&answer, unique) {
            self.holdings.jwt.insert(key.clone(), token.clone());
            self.changed = true;
        }
        if unique {
            let replies = self.tokens.get_mut(&key);
            if let Some(reply) = replies.and_then(|replies| replies.pop()) {
                let _gone = reply.send(answer);
            }
            self.tokens.retain(|_, replies| !replies.is_empty());
        } else {
            for reply in self.tokens.remove(&key).unwrap_or_default() {
                let _gone = reply.send(answer.clone());
            }
        }
    }

    fn is_unique(&self, id: &EntryId) -> bool {
        let snapshot = self.snapshot.borrow();
        let entry = snapshot.as_ref().and_then(|snapshot| snapshot.entry(id));
        entry.is_some_and(|entry| entry.content.jwt_svid_include_jti)
    }

    /// Brings everything into the state it should have now. Returns when to look again.
    fn settle(&mut self, now: SystemTime) -> SystemTime {
        let snapshot = self.snapshot.borrow_and_update().clone();
        let mut wake = now + IDLE;
        if let Some(snapshot) = snapshot {
            let plan = plan(&self.asked, &self.holdings, &snapshot, now);
            for id in &plan.wipe {
                self.holdings.x509.remove(id);
                self.changed = true;
            }
            for id in &plan.forget {
                self.asked.remove(id);
                self.failures.remove(id);
            }
            if plan.tainted > 0 {
                info!(
                    count = plan.tainted,
                    "Scheduled rotation for SVID entries due to tainted X.509 authorities"
                );
            }
            for id in plan.mint {
                self.start(&snapshot, id);
            }
            wake = plan.wake.map_or(wake, |at| at.min(wake));
            self.drop_tokens(&snapshot, now);
        }
        if std::mem::take(&mut self.changed) {
            self.published.send_replace(Arc::new(self.holdings.clone()));
        }
        self.answer(now);
        wake
    }

    fn start(&mut self, snapshot: &Snapshot, id: EntryId) {
        let (Some(entry), Some(wanted)) = (snapshot.entry(&id), self.asked.get_mut(&id)) else {
            return;
        };
        wanted.in_flight = true;
        let (mint, entry) = (self.mint.clone(), entry.clone());
        self.under_way.push(Box::pin(async move {
            let result = mint.x509(&entry).await;
            Done::X509(id, result)
        }));
    }

    /// Drops tokens that may not be served any more, and what is beyond the bound.
    fn drop_tokens(&mut self, snapshot: &Snapshot, now: SystemTime) {
        let keys = snapshot.own_bundle().map(|own| own.jwt_authorities());
        let before = self.holdings.jwt.len();
        let mut tainted = 0;
        self.holdings.jwt.retain(|key, token| {
            let current = |entry: &Arc<Entry>| entry.revision == token.revision;
            let is_tainted = keys.is_some_and(|keys| keys.is_tainted(&token.key_id));
            let is_revoked = keys.is_some_and(|keys| !keys.has(&token.key_id));
            tainted += usize::from(is_tainted);
            now < token.expires_at
                && snapshot.entry(&key.entry).is_some_and(current)
                && !is_tainted
                && !is_revoked
        });
        if tainted > 0 {
            info!(
                count = tainted,
                "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority"
            );
        }
        while self.holdings.jwt.len() > MAX_TOKENS {
            let first = self.holdings.jwt.iter().min_by_key(|(_, token)| token.expires_at);
            let Some(key) = first.map(|(key, _)| key.clone()) else { break };
            self.holdings.jwt.remove(&key);
        }
        self.changed |= self.holdings.jwt.len() != before;
    }

    /// Answers those who wait for nothing that is still under way.
    fn answer(&mut self, now: SystemTime) {
        let (asked, holdings, failures) = (&self.asked, &self.holdings, &self.failures);
        let pending = |id: &EntryId| {
            !holdings.x509.contains_key(id)
                && asked.get(id).is_some_and(|wanted| wanted.in_flight || !wanted.is_waiting(now))
        };
        let (still, ready): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.entries.iter().any(pending));
        self.waiting = still;
        for Waiting { entries, reply } in ready {
            let missing = entries.iter().find(|id| !holdings.x509.contains_key(*id));
            let answer = missing.map_or(Ok(()), |id| {
                let gone = || MintFailure::Refused("the entry is gone".into());
                Err(failures.get(id).cloned().unwrap_or_else(gone))
            });
            let _gone = reply.send(answer);
        }
    }
}
