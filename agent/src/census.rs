//! Tells the server by which authorities what this node holds was signed, so that an administrator
//! sees how far a move from one to the next has come.
//!
//! It is a courtesy: a server that does not have the call is asked again after a while, and nothing
//! depends on the answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use steeple::tls::Material;
use steeple::x509::X509Svid;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::identity::{Holders, InUse, Snapshot};
use crate::server_api::{ServerApi, ServerError};

/// How often to look at what is held.
const LOOK: Duration = Duration::from_secs(1);

/// How often to report, unless the server says otherwise, and while no move is under way.
const CALM: Duration = Duration::from_secs(60);

/// After how long a server without the call is asked again.
const UNSUPPORTED: Duration = Duration::from_secs(600);

/// How many SVIDs depend on each authority.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Use {
    /// The sequence number of the bundle of this node.
    pub bundle_sequence: u64,
    /// SVIDs of workloads.
    pub held: InUse,
    /// The CAs that the agent's own SVID depends on.
    pub own: Vec<String>,
}

/// What is looked at, and who is told.
#[derive(Debug)]
pub struct Deps {
    /// The server.
    pub server: Arc<dyn ServerApi>,
    /// What workloads hold.
    pub holders: Holders,
    /// The bundle of this node.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The agent's own SVID.
    pub material: watch::Receiver<Option<Arc<Material>>>,
}

/// The last report.
#[derive(Debug)]
struct Told {
    what: Use,
    at: Instant,
    again_after: Duration,
}

/// Reports until told to stop.
pub async fn run(deps: Deps, stop: CancellationToken) {
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(now) = deps.look() else { continue };
        if !is_due(told.as_ref(), &now, Instant::now()) {
            continue;
        }
        let reported = tokio::select! {
            () = stop.cancelled() => return,
            reported = deps.server.report_use(&now) => reported,
        };
        let again_after = wait_after(&reported);
        told = Some(Told { what: now, at: Instant::now(), again_after });
    }
}

/// When to report again though nothing changes.
fn wait_after(reported: &Result<Duration, ServerError>) -> Duration {
    match reported {
        Ok(again_after) => (*again_after).clamp(LOOK, UNSUPPORTED),
        Err(ServerError::Unsupported(_)) => {
            info!("the server does not ask which authorities are in use");
            UNSUPPORTED
        }
        Err(error) => {
            debug!(error = error as &dyn Error, "the authorities in use were not reported");
            CALM
        }
    }
}

/// Whether it is time to report: at once what has changed while a move is under way, and all else
/// now and then.
fn is_due(told: Option<&Told>, now: &Use, moment: Instant) -> bool {
    let Some(told) = told else { return true };
    let passed = moment.duration_since(told.at);
    let changed = *now != told.what;
    let moves = now.moves_from(&told.what) && told.again_after < UNSUPPORTED;
    passed >= told.again_after || (changed && (moves || passed >= CALM.min(told.again_after)))
}

impl Use {
    /// Whether authorities change, and not only how much is held.
    fn moves_from(&self, former: &Self) -> bool {
        let (held, held_before) = (&self.held, &former.held);
        // A chain names several CAs at any time, of which only the leaf's issuer is moved off.
        held.x509_issuers.len() > 1
            || held.jwt.len() > 1
            || self.bundle_sequence != former.bundle_sequence
            || self.own != former.own
            || !held.x509.keys().eq(held_before.x509.keys())
            || !held.jwt.keys().eq(held_before.jwt.keys())
    }
}

impl Deps {
    /// What is held now, unless this node is not an agent yet.
    fn look(&self) -> Option<Use> {
        let material = self.material.borrow().clone()?;
        let svid = X509Svid::new(material.chain().clone()).ok()?;
        let snapshot = self.snapshot.borrow().clone()?;
        let held = self.holders.authorities_in_use();
        let bundle_sequence = snapshot.own_bundle()?.bundle().sequence;
        Some(Use { bundle_sequence, held, own: svid.issuer_key_ids() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(x509: &[(&str, u32)]) -> Use {
        let issuers: Vec<_> = x509.iter().map(|(id, _)| *id).collect();
        held_under(&issuers, x509)
    }

    /// What depends on these, and was signed by those.
    fn held_under(issuers: &[&str], x509: &[(&str, u32)]) -> Use {
        let held = InUse {
            x509: x509.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect(),
            x509_issuers: issuers.iter().map(ToString::to_string).collect(),
            ..InUse::default()
        };
        Use { bundle_sequence: 1, held, ..Use::default() }
    }

    #[test]
    fn a_move_is_reported_at_once_and_everything_else_now_and_then() {
        let at = Instant::now();
        let minute = Duration::from_secs(60);
        let check = |again_after, before: &Use, now: &Use, seconds, expected| {
            let told = Told { what: before.clone(), at, again_after };
            let moment = at + Duration::from_secs(seconds);
            assert_eq!(is_due(Some(&told), now, moment), expected, "{now:?} {seconds}");
        };
        let calm = held(&[("a", 1)]);
        assert!(is_due(None, &calm, at));
        check(minute, &calm, &calm, 59, false);
        check(minute, &calm, &calm, 60, true);
        // A process more or less is nothing to hurry for.
        check(minute, &calm, &held(&[("a", 2)]), 59, false);
        check(minute * 5, &calm, &held(&[("a", 2)]), 60, true);
        check(minute, &calm, &held(&[("a", 1), ("b", 1)]), 1, true);
        check(minute, &held(&[("a", 1), ("b", 1)]), &held(&[("b", 2)]), 1, true);
        check(minute, &calm, &held(&[]), 1, true);
        check(minute, &calm, &Use { bundle_sequence: 2, ..calm.clone() }, 1, true);
        check(minute, &calm, &Use { own: vec!["b".into()], ..calm.clone() }, 1, true);
        // An intermediate CA and its root are no move; from one intermediate CA to another is.
        let tiers = held_under(&["a"], &[("a", 1), ("root", 1)]);
        check(minute, &tiers, &held_under(&["a"], &[("a", 2), ("root", 2)]), 59, false);
        let half = held_under(&["a", "b"], &[("a", 1), ("b", 1), ("root", 2)]);
        check(minute, &tiers, &half, 1, true);
        check(minute, &half, &held_under(&["a", "b"], &[("a", 1), ("b", 2), ("root", 3)]), 1, true);
        // Whoever does not have the call is left alone.
        check(UNSUPPORTED, &calm, &held(&[("b", 1)]), 59, false);
    }

    #[test]
    fn a_server_says_when_it_wants_to_be_told_again() {
        let check = |reported, seconds| {
            assert_eq!(wait_after(&reported), Duration::from_secs(seconds));
        };
        check(Ok(Duration::from_secs(30)), 30);
        check(Ok(Duration::ZERO), 1);
        check(Ok(Duration::from_secs(1_000_000)), 600);
        check(Err(ServerError::Unsupported(String::new())), 600);
        check(Err(ServerError::Timeout), 60);
    }
}
