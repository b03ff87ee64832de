//! What the agent takes for the calls of workloads.

use anyhow::Context as _;
use prost::Message as _;
use steeple::id::SpiffeId;
use steeple_proto::spire::api::types;
use steeple_proto::workload::{JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest};

use super::{EchoCaller, Goal, Pair};
use crate::caller::{Call, Caller, Kind};
use crate::cli::progress;
use crate::echo::Echo;
use crate::kit::Kit;
use crate::raw::{Raw, Work};
use crate::report::{Figure, Sample};
use crate::server::{Server, entry, own_uid};
use crate::workload::{Agent, call_once, fetch_x509};

/// The entries of the agent, one of which is for this process.
const ENTRIES: usize = 50;

const AUDIENCE: &str = "audience";

/// A server and an agent that serves this process one identity.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) server: Server,
    pub(super) agent: Agent,
    /// The agent's identity.
    parent: SpiffeId,
}

pub(super) async fn figures(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    let mut site = Site::start(kit, "agent").await?;
    let mut figures = vec![
        warm(kit, &site).await?,
        jwt(kit, &site, "agent: cached FetchJWTSVID").await?,
        first_call(kit, &site).await?,
        validate(kit, &site).await?,
    ];
    site.ask_for_everything().await?;
    figures.push(jwt(kit, &site, "agent: cached FetchJWTSVID, all selectors named").await?);
    Ok(figures)
}

impl Site {
    pub(super) async fn start(kit: &Kit, name: &str) -> anyhow::Result<Self> {
        let server = Server::start(kit, &kit.path(&format!("{name}-server"))).await?;
        let directory = kit.path(name);
        let token = Agent::invite(&directory, &server).await?;
        let parent = format!("/spire/agent/join_token/{token}");
        let parent = SpiffeId::new(&crate::node::trust_domain()?, &parent)?;
        let others = (1..ENTRIES).map(|n| entry(&parent, n, own_uid() + u32::try_from(n)?));
        let entries = std::iter::once(entry(&parent, 0, own_uid())).chain(others);
        server.create(entries.collect::<Result<_, _>>()?).await?;
        let mut agent = Agent::start(kit, &directory, &server)?;
        agent.ready().await?;
        Ok(Self { server, agent, parent })
    }

    /// Adds entries for others, by which the agent has to know of a caller whatever it can.
    async fn ask_for_everything(&mut self) -> anyhow::Result<()> {
        let selectors = [
            ("unix", "supplementary_gid:99999"),
            ("unix", "path:/nowhere"),
            ("docker", "label:nobody:nothing"),
        ];
        let entries = selectors.into_iter().enumerate().map(|(n, (r#type, value))| {
            let selector = types::Selector { r#type: r#type.into(), value: value.into() };
            let entry = entry(&self.parent, ENTRIES + n, own_uid())?;
            Ok(types::Entry { selectors: vec![selector], ..entry })
        });
        self.server.create(entries.collect::<anyhow::Result<_>>()?).await?;
        self.agent.synced(ENTRIES + selectors.len()).await?;
        Ok(())
    }

    /// A connection to the agent, and another to an echo whose answers are as long.
    async fn pair(&self, kit: &Kit, call: Call) -> anyhow::Result<(Pair, bytes::Bytes)> {
        let mut caller = Caller::connect(self.agent.socket()).await?;
        let answer = caller.call(&call).await.context("the first call")?;
        let echo = Echo::local(kit.new_path(), answer.len())?;
        let echo_caller = Caller::connect(echo.address().into()).await?;
        let echo = EchoCaller::new(echo, echo_caller, &call);
        Ok((Pair { call, caller, meter: self.agent.meter(), echo }, answer))
    }
}

async fn warm(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let calls = kit.scale.calls;
    let (mut pair, _) = site.pair(kit, fetch_x509()).await?;
    let goal = Goal { name: "agent: warm FetchX509SVID", of: "echo", at_most: 2.0 };
    let round = async || {
        let limit = pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

async fn jwt(kit: &Kit, site: &Site, name: &'static str) -> anyhow::Result<Figure> {
    let calls = kit.scale.calls;
    let (mut pair, _) = site.pair(kit, fetch_jwt()).await?;
    let goal = Goal { name, of: "echo", at_most: 2.0 };
    let round = async || {
        let limit = pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

async fn first_call(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let count = kit.scale.processes;
    let (pair, _) = site.pair(kit, fetch_x509()).await?;
    let (mut meter, socket) = (pair.meter, site.agent.socket());
    let mut echo = pair.echo;
    let echo_socket: std::path::PathBuf = echo.address().into();
    let goal = Goal {
        name: "agent: first call of a new process",
        of: "echo with a new connection",
        at_most: 2.5,
    };
    let round = async || {
        let limit = echo.meter.each(count, async |_| call_once(&echo_socket, true)).await?;
        let measured = meter.each(count, async |_| call_once(&socket, false)).await?;
        Ok(Sample { measured, limit })
    };
    goal.measure(kit, round).await
}

async fn validate(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let (mut raw, calls) = (Raw::start()?, kit.scale.calls);
    progress("a token to validate");
    let token = Caller::connect(site.agent.socket()).await?.call(&fetch_jwt()).await?;
    let token = JwtsvidResponse::decode(token)?.svids.into_iter().next().context("no token")?;
    let request = ValidateJwtsvidRequest { audience: AUDIENCE.into(), svid: token.svid };
    let call = Call::new(Kind::Unary, "/SpiffeWorkloadAPI/ValidateJWTSVID", &request);
    let (mut pair, _) = site.pair(kit, call).await?;
    let goal = Goal { name: "agent: ValidateJWTSVID", of: "(raw verify + echo)", at_most: 1.6 };
    let round = async || {
        let limit = raw.each(Work::VerifyKnown, calls).await? + pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

fn fetch_jwt() -> Call {
    let request = JwtsvidRequest { audience: vec![AUDIENCE.into()], spiffe_id: String::new() };
    Call::new(Kind::Unary, "/SpiffeWorkloadAPI/FetchJWTSVID", &request)
}
