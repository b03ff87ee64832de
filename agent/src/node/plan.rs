//! Decides what a node does next to become or stay an agent; performs no I/O.

use std::time::{Duration, SystemTime};

use steeple::bundle::{Bundle, X509Authority};
use steeple::clock::end_of_wait;
use steeple::x509::Certificate;

use crate::server_api::node_api::AttestError;
use crate::server_api::{Denial, MAX_RETRY_AFTER, ServerError};

/// How far renewals of many agents are spread around half of an SVID's life, and first tries to
/// bootstrap anew behind their delay.
const SPREAD: f64 = 0.1;

/// What this node is to its server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It was not attested yet.
    Unattested,
    /// It is an agent, as far as it knows.
    Attested,
    /// The server does not take it for an agent any more. What was issued is served while it is
    /// valid.
    Refused(Denial),
    /// Its SVID has expired.
    Expired,
    /// An administrator has banned it: nothing that it had may be used.
    Banned,
}

/// What a decision depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Situation {
    /// What the node is to its server.
    pub standing: Standing,
    /// The SVID that it has.
    pub svid: Option<Term>,
    /// When the next call to the server may be made.
    pub retry_at: SystemTime,
    /// When to store again what could not be stored.
    pub store_at: Option<SystemTime>,
    /// When to believe once more what is configured.
    pub rebootstrap_at: Option<SystemTime>,
}

/// Whether what is configured is believed once more where whoever answers is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rebootstrap {
    /// Never.
    Never,
    /// When that has lasted for so long.
    After(Duration),
}

/// When an SVID is to be renewed, and when it is worth nothing any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Term {
    /// When to renew it.
    pub renew_at: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing before this time.
    Wait(SystemTime),
    /// Store what this node is.
    Store,
    /// Stop using the SVID.
    Expire,
    /// Attest the node.
    Attest,
    /// Attest it at the server that the configured trust bundle vouches for, and keep what it is
    /// until that has succeeded.
    Rebootstrap,
    /// Get a new SVID while the old one is valid.
    Renew,
    /// Attest if there is something new to present; else ask whether the refusal still stands.
    Appeal,
}

/// What a failed attestation means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Try again, not before this time has passed if the server said so.
    Retry(Option<Duration>),
    /// The same attempt will fail again.
    Refused,
    /// The node is banned.
    Banned,
}

impl Rebootstrap {
    /// The same up to a tenth later, so that not all nodes of a server that was lost come to the next
    /// one at once.
    #[must_use]
    pub fn spread(self, random: f64) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::After(delay) => {
                Self::After(delay + delay.mul_f64(SPREAD * random.clamp(0.0, 1.0)))
            }
        }
    }
}

impl Term {
    /// Until when an SVID that was to take the place of this one is not used if it cannot be
    /// stored, as after a restart this one would be all there is, and no longer accepted. A quarter
    /// of the time for renewal is left to use it all the same.
    #[must_use]
    pub fn patience(self) -> SystemTime {
        let left = self.not_after.duration_since(self.renew_at).unwrap_or(Duration::ZERO);
        self.not_after - left / 4
    }
}

/// What to do in this situation.
#[must_use]
pub fn next(situation: &Situation, now: SystemTime) -> Next {
    match (next_without_rebootstrap(situation, now), situation.rebootstrap_at) {
        // What has expired is not presented while that goes on.
        (Next::Expire, _) => Next::Expire,
        (_, Some(at)) if at <= now => Next::Rebootstrap,
        (Next::Wait(until), Some(at)) => Next::Wait(until.min(at)),
        (next, _) => next,
    }
}

/// When to believe once more what is configured, where whoever answers has not been believed
/// `since` then, and not before some time after the last try.
#[must_use]
pub fn rebootstrap_at(
    mode: Rebootstrap,
    since: Option<SystemTime>,
    not_before: SystemTime,
) -> Option<SystemTime> {
    match mode {
        Rebootstrap::Never => None,
        Rebootstrap::After(delay) => since.map(|since| (since + delay).max(not_before)),
    }
}

fn next_without_rebootstrap(situation: &Situation, now: SystemTime) -> Next {
    let store_at = situation.store_at.map(|at| end_of_wait(at, MAX_RETRY_AFTER, now));
    match (next_call(situation, now), store_at) {
        (Next::Wait(_), Some(at)) if at <= now => Next::Store,
        (Next::Wait(until), Some(at)) => Next::Wait(until.min(at)),
        (next, _) => next,
    }
}

fn next_call(situation: &Situation, now: SystemTime) -> Next {
    if let Some(term) = situation.svid
        && now > term.not_after
    {
        return Next::Expire;
    }
    let due = match situation.standing {
        Standing::Unattested | Standing::Expired => Next::Attest,
        Standing::Refused(_) | Standing::Banned => Next::Appeal,
        Standing::Attested => match situation.svid {
            Some(term) if now < term.renew_at => return Next::Wait(term.renew_at),
            Some(_) => Next::Renew,
            None => Next::Attest,
        },
    };
    let retry_at = end_of_wait(situation.retry_at, MAX_RETRY_AFTER, now);
    if now >= retry_at {
        return due;
    }
    // The SVID may expire before that; a second later it is no longer valid.
    let expired_at = situation.svid.map(|term| term.not_after + Duration::from_secs(1));
    Next::Wait(expired_at.map_or(retry_at, |at| at.min(retry_at)))
}

/// Whether an SVID that depends on authorities with these key IDs, the topmost last, is to be
/// replaced before it is time: one of them is tainted, or the topmost is no longer in the bundle.
#[must_use]
pub fn is_abandoned(issuers: &[String], bundle: &Bundle) -> bool {
    let id = |authority: &X509Authority| {
        Certificate::parse(&authority.certificate).ok()?.subject_key_id_hex()
    };
    let authorities = &bundle.x509_authorities;
    let mut tainted = authorities.iter().filter(|authority| authority.tainted).filter_map(id);
    let mut all = authorities.iter().filter_map(id);
    tainted.any(|id| issuers.contains(&id))
        || issuers.last().is_some_and(|top| !all.any(|id| id == *top))
}

/// When an SVID is to be renewed: at half of its life, give or take a tenth of that. `random` is
/// drawn once for each SVID, uniformly from `0.0..1.0`.
#[must_use]
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let half = not_after.duration_since(not_before).unwrap_or(Duration::ZERO) / 2;
    let factor = 1.0 + SPREAD * (2.0 * random.clamp(0.0, 1.0) - 1.0);
    not_before + half.mul_f64(factor)
}

/// What a denial makes of the standing of a node; `None` if nothing.
#[must_use]
pub fn denied(standing: Standing, denial: Denial) -> Option<Standing> {
    match (standing, denial) {
        // Whoever was never attested uses no SVID that could be denied.
        (Standing::Unattested | Standing::Expired | Standing::Banned, _) => None,
        (Standing::Attested | Standing::Refused(_), Denial::Banned) => Some(Standing::Banned),
        (
            Standing::Attested,
            Denial::Expired | Denial::NotActive | Denial::NotAttested | Denial::MustReattest,
        ) => Some(Standing::Refused(denial)),
        // Every failing call says it again.
        (
            Standing::Refused(_),
            Denial::Expired | Denial::NotActive | Denial::NotAttested | Denial::MustReattest,
        ) => None,
    }
}

/// What a failed attestation means.
#[must_use]
pub fn verdict(error: &AttestError) -> Verdict {
    let error = match error {
        AttestError::Server(error) => error,
        AttestError::Challenge(_) => return Verdict::Refused,
    };
    match error {
        ServerError::Unavailable(_)
        | ServerError::Untrusted(_)
        | ServerError::Timeout
        | ServerError::Failed(_)
        | ServerError::Answer(_) => Verdict::Retry(None),
        ServerError::Busy { retry_after } => Verdict::Retry(*retry_after),
        ServerError::Denied(Denial::Banned) => Verdict::Banned,
        // SPIRE's words; it has no other way to say it here.
        ServerError::Forbidden(message) if message.contains("banned") => Verdict::Banned,
        ServerError::Denied(
            Denial::Expired | Denial::NotAttested | Denial::NotActive | Denial::MustReattest,
        )
        | ServerError::Forbidden(_)
        | ServerError::Invalid(_)
        | ServerError::TooLarge(_)
        | ServerError::Unsupported(_) => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use steeple::clock::from_unix_seconds as at;

    use super::*;
    use crate::server_api::node_api::ChallengeError;

    /// An SVID that is to be renewed at 100 and valid until 200.
    fn situation(standing: Standing, retry_at: i64) -> Situation {
        let svid = Some(Term { renew_at: at(100), not_after: at(200) });
        let (store_at, rebootstrap_at) = (None, None);
        Situation { standing, svid, retry_at: at(retry_at), store_at, rebootstrap_at }
    }

    #[track_caller]
    fn check(situation: Situation, now: i64, expected: Next) {
        assert_eq!(next(&situation, at(now)), expected);
    }

    #[test]
    fn an_agent_renews_in_time_and_drops_what_has_expired() {
        let attested = |retry_at| situation(Standing::Attested, retry_at);
        check(attested(0), 50, Next::Wait(at(100)));
        check(attested(0), 100, Next::Renew);
        check(attested(150), 120, Next::Wait(at(150)));
        check(attested(150), 150, Next::Renew);
        check(attested(300), 120, Next::Wait(at(201)));
        check(attested(0), 200, Next::Renew);
        check(attested(300), 201, Next::Expire);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_off_no_retry() {
        let term = Some(Term { renew_at: at(10_000), not_after: at(20_000) });
        let attested =
            |retry_at| Situation { svid: term, ..situation(Standing::Attested, retry_at) };
        check(attested(10_700), 10_100, Next::Wait(at(10_700)));
        check(attested(10_701), 10_100, Next::Renew);
        let unattested = Situation { svid: None, ..situation(Standing::Unattested, 40_000) };
        check(unattested, 100, Next::Attest);
    }

    #[test]
    fn a_node_without_an_svid_is_attested() {
        let bare = |standing| Situation { svid: None, ..situation(standing, 50) };
        for standing in [Standing::Unattested, Standing::Expired, Standing::Attested] {
            check(bare(standing), 50, Next::Attest);
            check(bare(standing), 49, Next::Wait(at(50)));
        }
    }

    #[test]
    fn a_refused_node_appeals_and_keeps_its_svid_while_it_is_valid() {
        let refused = Standing::Refused(Denial::NotAttested);
        check(situation(refused, 50), 49, Next::Wait(at(50)));
        check(situation(refused, 50), 50, Next::Appeal);
        check(situation(refused, 50), 120, Next::Appeal);
        check(situation(refused, 50), 201, Next::Expire);
        check(Situation { svid: None, ..situation(Standing::Banned, 50) }, 50, Next::Appeal);
    }

    #[test]
    fn what_could_not_be_stored_is_stored_when_nothing_else_is_to_be_done() {
        let unstored = |at| Situation { store_at: Some(at), ..situation(Standing::Attested, 0) };
        check(unstored(at(60)), 50, Next::Wait(at(60)));
        check(unstored(at(60)), 60, Next::Store);
        check(unstored(at(300)), 50, Next::Wait(at(100)));
        check(unstored(at(60)), 100, Next::Renew);
        check(unstored(at(60)), 201, Next::Expire);
        let svid = Some(Term { renew_at: at(10_000), not_after: at(20_000) });
        let set_back = Situation { svid, ..unstored(at(5_000)) };
        check(set_back, 100, Next::Store);
    }

    #[test]
    fn what_is_configured_is_believed_once_more_where_that_is_wanted_and_after_a_while() {
        let ten = Rebootstrap::After(Duration::from_secs(10));
        assert_eq!(rebootstrap_at(Rebootstrap::Never, Some(at(0)), at(0)), None);
        assert_eq!(rebootstrap_at(ten, None, at(0)), None);
        assert_eq!(rebootstrap_at(ten, Some(at(50)), at(0)), Some(at(60)));
        assert_eq!(rebootstrap_at(ten, Some(at(50)), at(70)), Some(at(70)));
        assert_eq!(rebootstrap_at(ten.spread(0.0), Some(at(50)), at(0)), Some(at(60)));
        assert_eq!(rebootstrap_at(ten.spread(1.0), Some(at(50)), at(0)), Some(at(61)));
        let others = [Standing::Unattested, Standing::Refused(Denial::Expired), Standing::Banned];
        for standing in others.into_iter().chain([Standing::Attested, Standing::Expired]) {
            let due = Situation { rebootstrap_at: Some(at(60)), ..situation(standing, 150) };
            check(due, 59, Next::Wait(at(60)));
            check(due, 60, Next::Rebootstrap);
            // What has expired is dropped first.
            check(due, 201, Next::Expire);
            check(Situation { rebootstrap_at: Some(at(170)), ..due }, 120, Next::Wait(at(150)));
        }
    }

    #[test]
    fn a_successor_that_is_not_stored_is_used_when_the_end_is_near() {
        let term = Term { renew_at: at(100), not_after: at(200) };
        assert_eq!(term.patience(), at(175));
    }

    #[test]
    fn renewal_is_spread_around_half_of_life() {
        let renew = |random| renew_at(at(1_000), at(3_000), random);
        assert_eq!(renew(0.0), at(1_900));
        assert_eq!(renew(0.5), at(2_000));
        assert_eq!(renew(1.0), at(2_100));
        assert_eq!(renew_at(at(5), at(3), 0.5), at(5));
    }

    #[test]
    fn a_denial_changes_what_the_node_is() {
        let others =
            [Denial::Expired, Denial::NotActive, Denial::NotAttested, Denial::MustReattest];
        for denial in others {
            assert_eq!(denied(Standing::Attested, denial), Some(Standing::Refused(denial)));
            assert_eq!(denied(Standing::Refused(Denial::Expired), denial), None);
            assert_eq!(denied(Standing::Unattested, denial), None);
            assert_eq!(denied(Standing::Banned, denial), None);
        }
        assert_eq!(denied(Standing::Attested, Denial::Banned), Some(Standing::Banned));
        let refused = Standing::Refused(Denial::Expired);
        assert_eq!(denied(refused, Denial::Banned), Some(Standing::Banned));
        assert_eq!(denied(Standing::Banned, Denial::Banned), None);
    }

    #[test]
    fn a_failed_attestation_is_tried_again_only_where_that_helps() {
        let text = String::new;
        let soon = Some(Duration::from_secs(3));
        let rows = [
            (ServerError::Unavailable(text()), Verdict::Retry(None)),
            (ServerError::Untrusted(text()), Verdict::Retry(None)),
            (ServerError::Timeout, Verdict::Retry(None)),
            (ServerError::Failed(text()), Verdict::Retry(None)),
            (ServerError::Answer(text()), Verdict::Retry(None)),
            (ServerError::Busy { retry_after: soon }, Verdict::Retry(soon)),
            (ServerError::Denied(Denial::Banned), Verdict::Banned),
            (ServerError::Forbidden("agent is banned".into()), Verdict::Banned),
            (ServerError::Forbidden(text()), Verdict::Refused),
            (ServerError::Denied(Denial::NotAttested), Verdict::Refused),
            (ServerError::Invalid("join token expired".into()), Verdict::Refused),
            (ServerError::Unsupported("no".into()), Verdict::Refused),
        ];
        for (error, expected) in rows {
            assert_eq!(verdict(&error.into()), expected);
        }
        assert_eq!(verdict(&ChallengeError::Unexpected.into()), Verdict::Refused);
    }
}
