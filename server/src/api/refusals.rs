//! Records refusals, as many as the disk bears, and counts those that are left out.
//!
//! Whoever is let in nowhere must not be able to fill the disk, nor to hide among the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use steeple::clock::{Clock, unix_seconds};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::limits::{Limited, Limits, Source, network_of};
use crate::audit::Audit;
use crate::audit::event::{Caller, Event};

/// How long what was left out waits to be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many addresses are told apart meanwhile. All others are counted together.
const MAX_ADDRESSES: usize = 1_024;

/// Where refusals are recorded.
#[derive(Debug)]
pub struct Refusals {
    limits: Arc<Limits>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    tallies: Mutex<Tallies>,
    /// Told when something is left out.
    left_out: Notify,
}

/// What was left out, by the address of who was refused, and of all those that there was no room for.
#[derive(Debug, Default)]
struct Tallies(HashMap<Option<IpAddr>, Tally>);

/// How many, and when the first and the last of them were, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tally {
    count: u64,
    from: i64,
    until: i64,
}

impl Refusals {
    /// Nothing was left out yet.
    #[must_use]
    pub fn new(limits: Arc<Limits>, audit: Arc<Audit>, clock: Arc<dyn Clock>) -> Self {
        Self { limits, audit, clock, tallies: Mutex::default(), left_out: Notify::new() }
    }

    /// Records a refusal of somebody at `source`, or counts it if there were too many. What was
    /// refused is refused whether or not it can be recorded.
    pub async fn record(&self, source: Source, caller: &Caller, refusal: Event) {
        let now = Instant::now();
        let is_recorded = self.limits.charge(source, Limited::Refusals, 1, now).is_ok();
        let address = match source {
            Source::Local => None,
            Source::Address(address) => Some(network_of(address)),
        };
        if !is_recorded {
            let now = unix_seconds(self.clock.now());
            let tally = Tally { count: 1, from: now, until: now };
            self.with(|tallies| tallies.add(address, tally));
            return self.left_out.notify_one();
        }
        // In the order in which it happened.
        if let Some(tally) = address.and_then(|_| self.with(|tallies| tallies.0.remove(&address))) {
            self.tell(vec![(address, tally)]).await;
        }
        if let Err(error) = self.audit.record(caller, &[refusal]).await {
            warn!(error = &error as &dyn std::error::Error, "refusal not recorded");
        }
    }

    /// Tells of all that was left out by now.
    pub async fn flush(&self) {
        let left_out = self.with(|tallies| std::mem::take(&mut tallies.0));
        self.tell(left_out.into_iter().collect()).await;
    }

    /// Tells of what is left out a few seconds later, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    self.left_out.notified().await;
                    tokio::time::sleep(PATIENCE).await;
                } => self.flush().await,
            }
        }
    }

    /// Records it, or keeps it for later if that fails.
    async fn tell(&self, left_out: Vec<(Option<IpAddr>, Tally)>) {
        if left_out.is_empty() {
            return;
        }
        let event = |(address, tally): &(Option<IpAddr>, Tally)| {
            let Tally { count, from, until } = *tally;
            Event::RefusalsLeftOut { address: address.map(shown), count, from, until }
        };
        let events: Vec<_> = left_out.iter().map(event).collect();
        if let Err(error) = self.audit.record(&Caller::Server, &events).await {
            warn!(error = &error as &dyn std::error::Error, "the number of refusals not recorded");
            self.with(|tallies| {
                left_out.into_iter().for_each(|(address, tally)| tallies.add(address, tally));
            });
            self.left_out.notify_one();
        }
    }

    /// Whether nothing is left out that was not told.
    #[cfg(test)]
    pub(crate) fn is_all_told(&self) -> bool {
        self.with(|tallies| tallies.0.is_empty())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tallies) -> T) -> T {
        act(&mut self.tallies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tallies {
    fn add(&mut self, address: Option<IpAddr>, tally: Tally) {
        let has_room = self.0.len() < MAX_ADDRESSES || self.0.contains_key(&address);
        let known = self
            .0
            .entry(if has_room { address } else { None })
            .or_insert(Tally { count: 0, ..tally });
        *known = Tally {
            count: known.count.saturating_add(tally.count),
            from: known.from.min(tally.from),
            until: known.until.max(tally.until),
        };
    }
}

/// What was counted as one address.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::Config;
    use crate::ca::testing::{Bench, NOW};

    const METHOD: &str = "/a/B";

    fn refusals(bench: &Bench) -> Arc<Refusals> {
        let limits = Arc::new(Limits::new(Config { attestation: true, signing: true }));
        Arc::new(Refusals::new(limits, bench.audit.clone(), bench.clock.clone()))
    }

    async fn refuse(refusals: &Refusals, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let caller = Caller::Anonymous { address: (address, 1).into() };
        let refusal = Event::CallRefused { method: METHOD, why: "x".into() };
        refusals.record(Source::Address(address), &caller, refusal).await;
    }

    /// Each record as `recorded`, or as what it says of those that were left out.
    fn told(bench: &Bench) -> Vec<String> {
        let told = |event: &serde_json::Value| match event["event"].as_str().unwrap() {
            "call_refused" => "recorded".to_owned(),
            _ => format!(
                "{} {} {} {}",
                event["address"], event["count"], event["from"], event["until"]
            )
            .replace('"', ""),
        };
        bench.events().iter().map(told).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_counted_before_the_next_that_is_not() {
        let bench = Bench::new();
        let refusals = refusals(&bench);
        for _ in 0..80 {
            refuse(&refusals, "192.0.2.1").await;
        }
        refuse(&refusals, "192.0.2.2").await;
        assert_eq!(told(&bench), vec!["recorded"; 51]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        refuse(&refusals, "192.0.2.1").await;
        let counted = format!("192.0.2.1 30 {NOW} {NOW}");
        assert_eq!(told(&bench)[51..], [&counted, "recorded"]);
        refusals.flush().await;
        assert_eq!(told(&bench).len(), 53);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_told_in_seconds_though_nobody_comes_again() {
        let bench = Bench::new();
        let refusals = refusals(&bench);
        let tasks = steeple::tasks::Tasks::new();
        let running = Arc::clone(&refusals);
        tasks.spawn(tracing::Span::none(), |stop| running.run(stop));
        for _ in 0..51 {
            refuse(&refusals, "2001:db8::1").await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        refuse(&refusals, "2001:db8::2").await;
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(told(&bench)[50..], [format!("2001:db8::/64 2 {NOW} {NOW}")]);
        // Once, and again for what is left out later.
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(told(&bench).len(), 51);
        for _ in 0..60 {
            refuse(&refusals, "2001:db8::1").await;
        }
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert!(told(&bench).last().unwrap().starts_with("2001:db8::/64 "));
        tasks.shutdown(PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_kept_and_bounded() {
        let mut tallies = Tallies::default();
        let tally = |from, until| Tally { count: 1, from, until };
        let nth = |n: u32| Some(IpAddr::V4((0x0a00_0000 + n).into()));
        let many = u32::try_from(MAX_ADDRESSES).unwrap();
        (0..many).for_each(|n| tallies.add(nth(n), tally(5, 5)));
        tallies.add(nth(0), tally(7, 9));
        assert_eq!(tallies.0[&nth(0)], Tally { count: 2, from: 5, until: 9 });
        tallies.add(nth(many), tally(8, 8));
        tallies.add(nth(many + 1), tally(6, 6));
        assert_eq!(tallies.0.len(), MAX_ADDRESSES + 1);
        assert_eq!(tallies.0[&None], Tally { count: 2, from: 6, until: 8 });

        let bench = Bench::new();
        let refusals = Refusals {
            audit: Arc::new(crate::audit::tests::full_after(0, 1)),
            ..Arc::into_inner(refusals(&bench)).unwrap()
        };
        refusals.with(|kept| kept.add(nth(1), tally(5, 5)));
        refusals.flush().await;
        assert_eq!(refusals.with(|kept| kept.0.clone()), [(nth(1), tally(5, 5))].into());
    }
}
