//! How often one address may ask for what is expensive. Answers at once; nobody is made to wait.
//!
//! Each bucket is one instant, the moment at which it will be full again (the generic cell rate
//! algorithm), so that a bucket which is full need not be remembered.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

/// The most addresses that are told apart at one time. Beyond them all others share a bucket.
const MAX_BUCKETS: usize = 65_536;

/// What is limited. Each has buckets of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Limited {
    /// Attestation of nodes.
    Attestation,
    /// Signatures of X.509 certificates, whichever call asks for them.
    X509Signing,
    /// Signatures of JWT-SVIDs.
    JwtSigning,
    /// Reports of agents about themselves.
    PostStatus,
    /// Calls that are refused and recorded as such. Beyond the limit they are still refused.
    Refusals,
}

/// Which limits are in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Whether attestation is limited.
    pub attestation: bool,
    /// Whether signing is limited.
    pub signing: bool,
}

/// Where a call comes from, as far as limits go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// This machine, over the admin socket: never limited.
    Local,
    /// An address on the network.
    Address(IpAddr),
}

/// Why a call has to wait or is too large.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Exceeded {
    /// The bucket is empty.
    #[error("rate limit exceeded; try again in {} s", .0.as_secs_f64().ceil())]
    Wait(Duration),
    /// The call asks for more than the bucket holds.
    #[error("rate ({asked}) exceeds burst size ({burst})")]
    Burst {
        /// How much was asked for.
        asked: u32,
        /// How much can be had at once.
        burst: u32,
    },
}

/// The limits of a server, and how far each address has used them up.
#[derive(Debug)]
pub struct Limits {
    config: Config,
    buckets: Mutex<Buckets>,
}

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<Key, Instant>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key {
    Address(Limited, IpAddr),
    /// All addresses that came when the table was full.
    Others(Limited),
}

impl Limits {
    /// Full buckets.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, buckets: Mutex::default() }
    }

    /// Takes `cost` out of the bucket that `source` has for `limited`, or nothing and says why.
    pub fn charge(
        &self,
        source: Source,
        limited: Limited,
        cost: u32,
        now: Instant,
    ) -> Result<(), Exceeded> {
        let address = match source {
            Source::Local => return Ok(()),
            Source::Address(address) => network_of(address),
        };
        let Some(rate) = self.rate(limited) else { return Ok(()) };
        if cost > rate.burst {
            return Err(Exceeded::Burst { asked: cost, burst: rate.burst });
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.of(Key::Address(limited, address), now);
        *full_at = take(rate, *full_at, cost, now).map_err(Exceeded::Wait)?;
        Ok(())
    }

    /// The rate in force; `None` for no limit.
    fn rate(&self, limited: Limited) -> Option<Rate> {
        match limited {
            Limited::Attestation => {
                self.config.attestation.then_some(Rate { per_second: 1, burst: 1 })
            }
            Limited::X509Signing | Limited::JwtSigning => {
                self.config.signing.then_some(Rate { per_second: 500, burst: 500 })
            }
            Limited::PostStatus => Some(Rate { per_second: 10, burst: 10 }),
            Limited::Refusals => Some(Rate { per_second: 1, burst: 50 }),
        }
    }
}

impl Buckets {
    /// The moment at which the bucket is full again. A bucket that is not known is full.
    fn of(&mut self, key: Key, now: Instant) -> &mut Instant {
        let is_known = self.full_at.contains_key(&key);
        if !is_known && self.full_at.len() >= MAX_BUCKETS {
            self.sweep(now);
        }
        let key = match key {
            Key::Address(limited, _) if !is_known && self.full_at.len() >= MAX_BUCKETS => {
                Key::Others(limited)
            }
            Key::Address(..) | Key::Others(_) => key,
        };
        self.full_at.entry(key).or_insert(now)
    }

    /// Forgets the buckets that are full, at most once a second: a table that stays full must not
    /// cost a walk for each call.
    fn sweep(&mut self, now: Instant) {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= Duration::from_secs(1);
        if self.swept_at.is_none_or(is_due) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept_at = Some(now);
        }
    }
}

/// When the bucket will be full again after `cost` was taken out of it, or how long it takes until
/// that much is in it.
fn take(rate: Rate, full_at: Instant, cost: u32, now: Instant) -> Result<Instant, Duration> {
    let per_unit = Duration::from_secs(1) / rate.per_second;
    let full_after = full_at.max(now) + per_unit * cost;
    let missing = full_after.saturating_duration_since(now).saturating_sub(per_unit * rate.burst);
    if missing.is_zero() { Ok(full_after) } else { Err(missing) }
}

/// What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that its owner
/// cannot choose.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Config = Config { attestation: true, signing: true };
    const OFF: Config = Config { attestation: false, signing: false };

    fn address(text: &str) -> Source {
        Source::Address(text.parse().unwrap())
    }

    #[test]
    fn a_bucket_empties_refuses_and_fills_again() {
        let (limits, now, one) = (Limits::new(ON), Instant::now(), address("192.0.2.1"));
        let charge = |limited, cost, after: u64| {
            limits.charge(one, limited, cost, now + Duration::from_millis(after))
        };
        assert_eq!(charge(Limited::Attestation, 1, 0), Ok(()));
        let wait = |millis| Err(Exceeded::Wait(Duration::from_millis(millis)));
        assert_eq!(charge(Limited::Attestation, 1, 400), wait(600));
        assert_eq!(charge(Limited::Attestation, 1, 999), wait(1));
        assert_eq!(charge(Limited::Attestation, 1, 1_000), Ok(()));

        assert_eq!(charge(Limited::X509Signing, 499, 0), Ok(()));
        assert_eq!(charge(Limited::X509Signing, 2, 0), wait(2)); // nothing is taken by a refusal
        assert_eq!(charge(Limited::X509Signing, 1, 0), Ok(()));
        assert_eq!(charge(Limited::JwtSigning, 500, 0), Ok(())); // a bucket of its own
        assert_eq!(charge(Limited::X509Signing, 500, 1_000), Ok(()));
        assert_eq!(charge(Limited::X509Signing, 500, 9_000), Ok(())); // never more than the burst
        assert_eq!(charge(Limited::X509Signing, 1, 9_000), wait(2));
    }

    #[test]
    fn a_call_larger_than_the_burst_never_succeeds() {
        let (limits, now) = (Limits::new(ON), Instant::now());
        let found = limits.charge(address("192.0.2.1"), Limited::X509Signing, 501, now);
        assert_eq!(found, Err(Exceeded::Burst { asked: 501, burst: 500 }));
        assert_eq!(found.unwrap_err().to_string(), "rate (501) exceeds burst size (500)");
    }

    #[test]
    fn the_hint_is_rounded_up_to_seconds() {
        let text = |millis| Exceeded::Wait(Duration::from_millis(millis)).to_string();
        assert_eq!(text(1), "rate limit exceeded; try again in 1 s");
        assert_eq!(text(1_001), "rate limit exceeded; try again in 2 s");
    }

    #[test]
    fn sources_have_their_own_buckets_and_the_admin_socket_has_none() {
        let (limits, now) = (Limits::new(ON), Instant::now());
        let charge = |source| limits.charge(source, Limited::Attestation, 1, now).is_ok();
        assert!(charge(address("192.0.2.1")));
        assert!(charge(address("192.0.2.2")));
        assert!(!charge(address("192.0.2.1")));
        assert!(!charge(address("::ffff:192.0.2.1"))); // the same address in other clothes
        assert!(charge(address("2001:db8::1")));
        assert!(!charge(address("2001:db8::2"))); // its owner has the whole /64
        assert!(charge(address("2001:db8:0:1::1")));
        assert!((0..100).all(|_| charge(Source::Local)));
    }

    #[test]
    fn limits_can_be_switched_off_save_that_on_status_reports() {
        let (limits, now, one) = (Limits::new(OFF), Instant::now(), address("192.0.2.1"));
        let charge = |limited, cost| limits.charge(one, limited, cost, now).is_ok();
        assert!((0..10).all(|_| charge(Limited::Attestation, 1)));
        assert!(charge(Limited::X509Signing, 5_000));
        assert!(charge(Limited::PostStatus, 10));
        assert!(!charge(Limited::PostStatus, 1));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_full_buckets_first() {
        let (limits, now) = (Limits::new(ON), Instant::now());
        let nth = |n: u32| Source::Address(IpAddr::V4((0x0a00_0000 + n).into()));
        let charge = |n, after| limits.charge(nth(n), Limited::Attestation, 1, now + after).is_ok();
        let none = Duration::ZERO;
        assert!((0..u32::try_from(MAX_BUCKETS).unwrap()).all(|n| charge(n, none)));
        assert!(charge(100_000, none)); // the first of all others
        assert!(!charge(100_001, none)); // which share a bucket
        assert!(!charge(7, none));
        let later = Duration::from_secs(5);
        assert!(charge(100_001, later));
        assert!(charge(100_002, later));
        assert!(limits.buckets.lock().unwrap().full_at.len() < 10);
    }
}
