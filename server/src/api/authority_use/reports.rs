//! What agents say they hold, by the authority that signed it: the last word of each, for a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steeple::id::SpiffeId;
use steeple_proto::steeple::authority::v1 as pb;
use tokio::time::Instant;

use crate::api::error::ApiError;
use crate::ca::slots::Kind;

/// After how long an agent reports again, though nothing changed. A server that was started anew
/// knows nothing before.
pub(super) const REPORT_AGAIN: Duration = Duration::from_secs(15);

/// For how long a report counts.
const COUNTS: Duration = Duration::from_secs(60);

/// The most authorities of a kind that a report names.
const MAX_AUTHORITIES: usize = 32;

/// The most authorities that an agent's own SVID depends on.
const MAX_OWN: usize = 8;

/// The longest ID.
const MAX_ID: usize = 255;

/// The last report of each agent.
#[derive(Debug, Default)]
pub struct Reports(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    of_agents: HashMap<SpiffeId, (Report, Instant)>,
    /// When those that no longer count were last forgotten.
    pruned_at: Option<Instant>,
}

/// What an agent holds: the number of SVIDs by authority.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Report {
    bundle_sequence: u64,
    x509: BTreeMap<String, u32>,
    jwt: BTreeMap<String, u32>,
    own: Vec<String>,
}

/// What all agents hold of one kind.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// How many have reported lately.
    pub(super) reporting: u32,
    /// How many of them have the bundle of now.
    pub(super) up_to_date: u32,
    held: BTreeMap<String, Held>,
}

/// What agents hold of one authority.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Held {
    /// SVIDs for workloads.
    pub(super) svids: u64,
    /// Agents that have some.
    pub(super) agents: u32,
    /// Agents whose own SVID is one.
    pub(super) agent_svids: u32,
}

impl Reports {
    /// Takes the place of what the agent said before.
    pub(super) fn put(&self, agent: SpiffeId, report: Report, now: Instant) {
        let mut kept = self.lock();
        // To look at all for each would cost the more the more there are; what is kept too long is
        // no more than what was reported in the meantime.
        if kept.pruned_at.is_none_or(|at| now.duration_since(at) >= COUNTS) {
            kept.prune(now);
        }
        kept.of_agents.insert(agent, (report, now));
    }

    /// Forgets what an agent said that is none any more.
    pub(in crate::api) fn forget(&self, agent: &SpiffeId) {
        self.lock().of_agents.remove(agent);
    }

    /// The sum of what agents that still are some said lately. Others are forgotten.
    pub(super) fn sum(
        &self,
        kind: Kind,
        is_agent: impl Fn(&SpiffeId) -> bool,
        sequence: u64,
        now: Instant,
    ) -> Sum {
        let mut kept = self.lock();
        kept.prune(now);
        kept.of_agents.retain(|agent, _| is_agent(agent));
        let mut sum = Sum::default();
        for (report, _) in kept.of_agents.values() {
            sum.add(report, kind, sequence);
        }
        sum
    }

    /// Of how many agents there are reports.
    #[cfg(test)]
    pub(in crate::api) fn count(&self) -> usize {
        self.lock().of_agents.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn prune(&mut self, now: Instant) {
        self.pruned_at = Some(now);
        self.of_agents.retain(|_, (_, at)| now.duration_since(*at) < COUNTS);
    }
}

impl Sum {
    /// What is held of an authority.
    pub(super) fn of(&self, id: &str) -> Held {
        self.held.get(id).copied().unwrap_or_default()
    }

    fn add(&mut self, report: &Report, kind: Kind, sequence: u64) {
        self.reporting += 1;
        self.up_to_date += u32::from(report.bundle_sequence == sequence);
        let (of_kind, own): (_, &[String]) = match kind {
            Kind::X509Ca => (&report.x509, &report.own),
            Kind::JwtKey => (&report.jwt, &[]),
        };
        for (id, svids) in of_kind.iter().filter(|(_, svids)| **svids > 0) {
            let held = self.held.entry(id.clone()).or_default();
            held.svids += u64::from(*svids);
            held.agents += 1;
        }
        for id in own {
            self.held.entry(id.clone()).or_default().agent_svids += 1;
        }
    }
}

impl TryFrom<pb::ReportUseRequest> for Report {
    type Error = ApiError;

    fn try_from(request: pb::ReportUseRequest) -> Result<Self, Self::Error> {
        let mut own = request.agent_authority_ids;
        if own.len() > MAX_OWN || !own.iter().all(|id| is_id(id)) {
            let expected = "at most 8, each of 1 to 255 visible ASCII characters";
            return Err(ApiError::Invalid { field: "agent_authority_ids", expected });
        }
        own.sort_unstable();
        own.dedup();
        Ok(Self {
            bundle_sequence: request.bundle_sequence,
            x509: holdings(request.x509, "x509")?,
            jwt: holdings(request.jwt, "jwt")?,
            own,
        })
    }
}

fn holdings(
    holdings: Vec<pb::Holding>,
    field: &'static str,
) -> Result<BTreeMap<String, u32>, ApiError> {
    let fits = holdings.len() <= MAX_AUTHORITIES;
    if !fits || !holdings.iter().all(|holding| is_id(&holding.authority_id)) {
        let expected = "at most 32, each with an ID of 1 to 255 visible ASCII characters";
        return Err(ApiError::Invalid { field, expected });
    }
    Ok(holdings.into_iter().map(|holding| (holding.authority_id, holding.svids)).collect())
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(id: &str, svids: u32) -> pb::Holding {
        pb::Holding { authority_id: id.into(), svids }
    }

    fn report(sequence: u64, x509: &[(&str, u32)], own: &str) -> Report {
        let request = pb::ReportUseRequest {
            bundle_sequence: sequence,
            x509: x509.iter().map(|(id, svids)| holding(id, *svids)).collect(),
            jwt: vec![holding("k", 1)],
            agent_authority_ids: vec![own.into()],
        };
        request.try_into().unwrap()
    }

    fn agent(name: &str) -> SpiffeId {
        format!("spiffe://td/spire/agent/{name}").parse().unwrap()
    }

    #[test]
    fn what_agents_said_lately_is_summed() {
        let (reports, start) = (Reports::default(), Instant::now());
        reports.put(agent("a"), report(1, &[("old", 9)], "old"), start);
        reports.put(agent("a"), report(2, &[("old", 2), ("new", 3), ("none", 0)], "new"), start);
        reports.put(agent("b"), report(1, &[("old", 5)], "old"), start);
        reports.put(agent("gone"), report(2, &[("old", 7)], "old"), start);
        let is_agent = |id: &SpiffeId| *id != agent("gone");
        let sum = reports.sum(Kind::X509Ca, is_agent, 2, start);
        assert_eq!((sum.reporting, sum.up_to_date), (2, 1));
        assert_eq!(sum.of("old"), Held { svids: 7, agents: 2, agent_svids: 1 });
        assert_eq!(sum.of("new"), Held { svids: 3, agents: 1, agent_svids: 1 });
        assert_eq!(sum.of("none"), Held::default());
        let jwt = reports.sum(Kind::JwtKey, is_agent, 2, start);
        assert_eq!(jwt.of("k"), Held { svids: 2, agents: 2, agent_svids: 0 });

        let later = start + COUNTS;
        reports.put(agent("b"), report(2, &[], "new"), later);
        let sum = reports.sum(Kind::X509Ca, is_agent, 2, later);
        assert_eq!((sum.reporting, sum.of("old")), (1, Held::default()));
    }

    #[test]
    fn what_is_kept_is_of_those_that_report_whether_anybody_asks_or_not() {
        let (reports, start) = (Reports::default(), Instant::now());
        let names = || {
            let mut names: Vec<_> = reports.lock().of_agents.keys().cloned().collect();
            names.sort_unstable();
            names
        };
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            reports.put(agent(&second.to_string()), report(1, &[], "a"), now);
            reports.put(agent("stays"), report(1, &[], "a"), now);
            assert!(names().len() <= 121, "{second}: {}", names().len());
        }
        let later = start + Duration::from_secs(700);
        reports.put(agent("stays"), report(1, &[], "a"), later);
        reports.put(agent("banned"), report(1, &[], "a"), later);
        assert_eq!(names(), [agent("banned"), agent("stays")]);
        reports.forget(&agent("banned"));
        assert_eq!(names(), [agent("stays")]);
    }

    #[test]
    fn a_report_that_says_too_much_is_refused() {
        let check = |request: pb::ReportUseRequest, field: Option<&str>| {
            let refused = match Report::try_from(request) {
                Ok(_) => None,
                Err(ApiError::Invalid { field, .. }) => Some(field),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(refused, field);
        };
        let many = |count: usize| (0..count).map(|n| holding(&n.to_string(), 1)).collect();
        let empty = pb::ReportUseRequest::default;
        check(empty(), None);
        check(pb::ReportUseRequest { x509: many(32), jwt: many(32), ..empty() }, None);
        check(pb::ReportUseRequest { x509: many(33), ..empty() }, Some("x509"));
        check(pb::ReportUseRequest { jwt: many(33), ..empty() }, Some("jwt"));
        for id in ["", "a b", "\n", "ü", &"x".repeat(256)] {
            let holdings = vec![holding(id, 1)];
            check(pb::ReportUseRequest { x509: holdings, ..empty() }, Some("x509"));
            let own = vec![id.to_owned()];
            let request = pb::ReportUseRequest { agent_authority_ids: own, ..empty() };
            check(request, Some("agent_authority_ids"));
        }
        let own = vec!["x".to_owned(); 9];
        let request = pb::ReportUseRequest { agent_authority_ids: own, ..empty() };
        check(request, Some("agent_authority_ids"));
    }
}
