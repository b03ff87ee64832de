//! The RPCs that tell how far a move from one authority to the next has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple::bundle::Bundle;
use steeple::clock::unix_seconds;
use steeple::x509::Certificate;
use steeple_proto::steeple::authority::v1 as pb;
use steeple_proto::steeple::authority::v1::authority_use_server;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::below::COMES_ROUND;
use self::reports::{REPORT_AGAIN, Report, Sum};
use super::Deps;
use super::error::ApiError;
use crate::ca::authorities::AuthorityId;
use crate::ca::control::{Publication, Standing, State};
use crate::ca::rotation::Health;
use crate::ca::slots::Kind;
use crate::registry::nodes::NodeFilter;

pub mod below;
pub mod reports;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct AuthorityUseService(pub(super) Arc<Deps>);

/// An authority, as the bundle and the server's memory have it.
#[derive(Debug)]
struct Known {
    status: &'static str,
    tainted: bool,
    expires_at: i64,
}

#[tonic::async_trait]
impl authority_use_server::AuthorityUse for AuthorityUseService {
    async fn report_use(
        &self,
        request: Request<pb::ReportUseRequest>,
    ) -> Result<Response<pb::ReportUseResponse>, Status> {
        let agent = self.0.agent(&request).await?.id.clone();
        let report = Report::try_from(request.into_inner())?;
        self.0.reports.put(agent, report, Instant::now());
        let report_again_after = u32::try_from(REPORT_AGAIN.as_secs()).unwrap_or(u32::MAX);
        Ok(Response::new(pb::ReportUseResponse { report_again_after }))
    }

    async fn get_use(
        &self,
        request: Request<pb::GetUseRequest>,
    ) -> Result<Response<pb::GetUseResponse>, Status> {
        let kind = match request.get_ref().kind() {
            pb::Kind::X509 => Kind::X509Ca,
            pb::Kind::Jwt => Kind::JwtKey,
            pb::Kind::Unspecified => {
                let expected = "KIND_X509 or KIND_JWT is needed";
                return Err(ApiError::Invalid { field: "kind", expected }.into());
            }
        };
        let (bundle, now) = (self.0.registry.own_bundle(), unix_seconds(self.0.clock.now()));
        let is_agent = |id: &_| {
            let node = self.0.registry.node(id);
            node.is_some_and(|node| !node.is_banned() && now <= node.not_after)
        };
        let sum = self.0.reports.sum(kind, is_agent, bundle.sequence, Instant::now());
        let authorities = self.known(kind, &bundle).into_iter();
        let authorities =
            authorities.map(|(id, known)| self.use_of(kind, &id, &known, &sum)).collect();
        let below = self.0.servers_below.count(bundle.sequence, Instant::now());
        let (failing_since, failing_because) = match self.0.authorities.health() {
            Health::Rotating => (0, String::new()),
            Health::Failing { since, why } => (unix_seconds(since), why),
        };
        Ok(Response::new(pb::GetUseResponse {
            counting_since: self.0.ca.tally().since(),
            agents: self.agents(now),
            agents_reporting: sum.reporting,
            agents_up_to_date: sum.up_to_date,
            authorities,
            failing_since,
            failing_because,
            servers_below: below.all,
            servers_below_up_to_date: below.up_to_date,
        }))
    }
}

impl AuthorityUseService {
    /// How many agents may call.
    fn agents(&self, now: i64) -> u32 {
        let unbanned = NodeFilter { banned: Some(false), ..NodeFilter::default() };
        let expired = NodeFilter { expires_before: Some(now), ..unbanned.clone() };
        let count = |filter| self.0.registry.count_nodes(filter);
        let count = count(&unbanned).saturating_sub(count(&expired));
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn known(&self, kind: Kind, bundle: &Bundle) -> BTreeMap<AuthorityId, Known> {
        let mut known = vouched(kind, bundle);
        let named = match self.0.authorities.state(kind) {
            Ok(State { active, prepared, old }) => {
                vec![("active", Some(active)), ("prepared", prepared), ("old", old)]
            }
            // None signs, and what did may be there still.
            Err(_) => Vec::new(),
        };
        for (status, standing) in named {
            let Some(Standing { id, expires_at, .. }) = standing else { continue };
            let expires_at = expires_at.unwrap_or_default();
            let entry = known.entry(id).or_insert(Known { status, tainted: false, expires_at });
            entry.status = status;
        }
        for id in self.0.authorities.old(kind) {
            known.entry(id).and_modify(|known| known.status = "old");
        }
        known
    }

    /// Whether a key that signs or is to sign is known above.
    fn above(&self, kind: Kind, id: &AuthorityId, status: &str) -> &'static str {
        if kind != Kind::JwtKey || !matches!(status, "active" | "prepared") {
            return "";
        }
        match self.0.authorities.publication(id) {
            None | Some(Publication::NotTaken) => "",
            Some(Publication::Missing) => "unknown",
            Some(Publication::At(then)) if then.elapsed() < COMES_ROUND => "new",
            Some(Publication::At(_)) => "known",
        }
    }

    fn use_of(&self, kind: Kind, id: &AuthorityId, known: &Known, sum: &Sum) -> pb::Use {
        let now = unix_seconds(self.0.clock.now());
        let (live, cas) = (self.0.ca.tally().live(id, now), self.0.ca.tally_of_cas().live(id, now));
        let held = sum.of(id.as_str());
        pb::Use {
            authority_id: id.to_string(),
            status: known.status.into(),
            tainted: known.tainted,
            expires_at: known.expires_at,
            signed: live.count,
            last_expires_at: live.last.unwrap_or_default(),
            held: held.svids,
            held_by_agents: held.agents,
            agent_svids: held.agent_svids,
            signed_cas: cas.count,
            last_ca_expires_at: cas.last.unwrap_or_default(),
            above: self.above(kind, id, known.status).into(),
        }
    }
}

/// The authorities of a kind that the bundle has.
fn vouched(kind: Kind, bundle: &Bundle) -> BTreeMap<AuthorityId, Known> {
    let status = "foreign";
    match kind {
        Kind::X509Ca => {
            let authorities = bundle.x509_authorities.iter().filter_map(|authority| {
                let certificate = Certificate::parse(&authority.certificate).ok()?;
                let expires_at = unix_seconds(certificate.not_after());
                let known = Known { status, tainted: authority.tainted, expires_at };
                Some((certificate.subject_key_id_hex()?.into(), known))
            });
            authorities.collect()
        }
        Kind::JwtKey => {
            let keys = bundle.jwt_authorities.iter().map(|key| {
                let expires_at = key.expires_at.unwrap_or_default();
                let known = Known { status, tainted: key.tainted, expires_at };
                (key.key_id.clone().into(), known)
            });
            keys.collect()
        }
    }
}
