//! The servers below this one, by the bundle that each of them fetched last.
//!
//! They do not report: SPIRE's have nothing to do so by. What one fetches is in its own bundle a
//! moment later, and then comes round among its agents and the servers below it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steeple::id::SpiffeId;
use tokio::time::Instant;

/// How long it takes until what a server publishes or has fetched is known to its agents and, a tier
/// further, to those of servers below it: two polls and two syncs, each of 5 s.
pub(super) const COMES_ROUND: Duration = Duration::from_secs(20);

/// For how long a server counts that does not ask any more. It asks every 5 s, and every minute while
/// it gets no answer.
const COUNTS: Duration = Duration::from_secs(90);

/// The most servers that are remembered.
const MOST: usize = 1_000;

/// What the servers below fetched last.
#[derive(Debug, Default)]
pub struct ServersBelow(Mutex<HashMap<Server, Fetched>>);

/// A server, as far as one can be told from another: several may have one SPIFFE ID.
type Server = (SpiffeId, IpAddr);

#[derive(Clone, Copy, Debug)]
struct Fetched {
    sequence: u64,
    /// When it fetched this for the first time.
    since: Instant,
    /// When it fetched it last.
    last: Instant,
}

/// How many servers there are below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Count {
    pub(super) all: u32,
    /// Those that have had the bundle of now for so long that it has come round below them.
    pub(super) up_to_date: u32,
}

impl ServersBelow {
    /// Notes that a server fetches the bundle.
    pub(in crate::api) fn fetched(&self, server: Server, sequence: u64, now: Instant) {
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(&server) {
            prune(&mut known, now);
            if known.len() >= MOST {
                return;
            }
        }
        let first = Fetched { sequence, since: now, last: now };
        let fetched = known.entry(server).or_insert(first);
        let is_same = fetched.sequence == sequence && now.duration_since(fetched.last) < COUNTS;
        *fetched = if is_same { Fetched { last: now, ..*fetched } } else { first };
    }

    /// How many ask, and how many of them have the bundle with this number.
    pub(super) fn count(&self, sequence: u64, now: Instant) -> Count {
        let mut known = self.lock();
        prune(&mut known, now);
        let is_up_to_date = |fetched: &&Fetched| {
            fetched.sequence == sequence && now.duration_since(fetched.since) >= COMES_ROUND
        };
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Count {
            all: number(known.len()),
            up_to_date: number(known.values().filter(is_up_to_date).count()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Fetched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prune(known: &mut HashMap<Server, Fetched>, now: Instant) {
    known.retain(|_, fetched| now.duration_since(fetched.last) < COUNTS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u16) -> Server {
        let [high, low] = number.to_be_bytes();
        ("spiffe://td/down".parse().unwrap(), IpAddr::from([10, 0, high, low]))
    }

    #[test]
    fn a_server_has_a_bundle_once_that_has_come_round_below_it() {
        let (below, start) = (ServersBelow::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let check = |sequence, seconds, all, up_to_date| {
            assert_eq!(below.count(sequence, at(seconds)), Count { all, up_to_date }, "{seconds}");
        };
        check(1, 0, 0, 0);
        for seconds in [0, 5, 10, 15] {
            below.fetched(server(1), 1, at(seconds));
            below.fetched(server(2), 1, at(seconds));
        }
        check(1, 19, 2, 0);
        check(1, 20, 2, 2);
        below.fetched(server(1), 2, at(21));
        check(2, 40, 2, 0);
        check(2, 41, 2, 1);
        // Who stays away does not count, and begins anew.
        check(1, 106, 1, 0);
        check(2, 111, 0, 0);
        below.fetched(server(1), 2, at(112));
        check(2, 112, 1, 0);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let (below, start) = (ServersBelow::default(), Instant::now());
        let most = u16::try_from(MOST).unwrap();
        for number in 0..2 * most {
            below.fetched(server(number), 1, start);
        }
        below.fetched(server(0), 1, start + COMES_ROUND);
        let all = u32::from(most);
        assert_eq!(below.count(1, start + COMES_ROUND), Count { all, up_to_date: all });
        below.fetched(server(most), 1, start + COUNTS);
        assert_eq!(below.count(1, start + COUNTS), Count { all: 2, up_to_date: 1 });
    }
}
