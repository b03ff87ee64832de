//! What the server takes for the calls of an agent.

use std::path::Path;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use prost::Message as _;
use steeple_proto::spire::api::server::bundle::v1::GetBundleRequest;
use steeple_proto::spire::api::server::entry::v1::{
    SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
};
use steeple_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, BatchNewX509svidResponse, NewJwtsvidRequest, NewX509svidParams,
};
use steeple_proto::spire::api::types;

use super::{EchoCaller, Goal, Pair};
use crate::caller::{Call, Caller, Kind};
use crate::echo::Echo;
use crate::kit::Kit;
use crate::node::{Node, key_and_request};
use crate::raw::{Raw, Work};
use crate::report::{Figure, Sample};
use crate::server::{Server, entry};

/// The entries of the agent.
const ENTRIES: usize = 50;

/// How many SVIDs an agent asks for at once if it asks for many.
const MANY: usize = 100;

struct Site {
    server: Server,
    node: Node,
    entries: Vec<String>,
}

pub(super) async fn figures(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start(kit, &kit.path("server")).await?;
    let node = Node::join(&server).await?;
    let entries = (0..ENTRIES).map(|n| entry(&node.id, n, u32::try_from(n)?));
    let entries = server.create(entries.collect::<Result<_, _>>()?).await?;
    Node::mint(&server, "/echo", &kit.path("echo")).await?;
    let site = Site { server, node, entries };
    Ok(vec![
        one_x509(kit, &site).await?,
        many_x509(kit, &site).await?,
        jwt(kit, &site).await?,
        sync(kit, &site).await?,
    ])
}

impl Site {
    /// A connection to the server, and another to an echo whose answers are as long.
    async fn pair(&self, kit: &Kit, call: Call) -> anyhow::Result<Pair> {
        let (pair, answer) = pair(&self.server, &self.node, &kit.path("echo"), call).await?;
        check(&pair.call, &answer)?;
        Ok(pair)
    }

    fn new_x509(&self, count: usize) -> anyhow::Result<Call> {
        let ids = self.entries.iter().cycle().take(count);
        let params = ids.map(|id| {
            let csr = key_and_request(None)?.1;
            Ok(NewX509svidParams { entry_id: id.clone(), csr })
        });
        let request = BatchNewX509svidRequest { params: params.collect::<anyhow::Result<_>>()? };
        let path = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";
        Ok(Call::new(Kind::Unary, path, &request))
    }
}

/// A connection of a node to a server, and another to an echo whose answers are as long as the
/// first one, which comes with it. The echo is who [`Node::mint`] wrote into that directory.
pub(super) async fn pair(
    server: &Server,
    node: &Node,
    echo: &Path,
    call: Call,
) -> anyhow::Result<(Pair, Bytes)> {
    let channel = node.connect(server.address(), &server.server_id()?).await?;
    let mut caller = Caller::new(channel);
    let answer = caller.call(&call).await.context("the first call")?;
    let id = Node::load(echo)?.id;
    let echo = Echo::tls(echo, answer.len())?;
    let channel = node.connect(echo.address(), &id).await?;
    let echo = EchoCaller::new(echo, Caller::new(channel), &call);
    Ok((Pair { call, caller, meter: server.meter(), echo }, answer))
}

/// Refuses to measure what is not an answer.
fn check(call: &Call, answer: &[u8]) -> anyhow::Result<()> {
    if call.path.path().ends_with("/BatchNewX509SVID") {
        let answer = BatchNewX509svidResponse::decode(answer)?;
        ensure!(answer.results.iter().all(|result| result.svid.is_some()), "no SVID was signed");
    }
    if call.path.path().ends_with("/SyncAuthorizedEntries") {
        let answer = SyncAuthorizedEntriesResponse::decode(answer)?;
        // A server sends entries as they are if they fit one page.
        let count = answer.entries.len() + answer.entry_revisions.len();
        ensure!(count == ENTRIES && !answer.more, "{count} entries where {ENTRIES} are");
    }
    Ok(())
}

async fn one_x509(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let (mut raw, calls) = (Raw::start()?, kit.scale.calls);
    let mut pair = site.pair(kit, site.new_x509(1)?).await?;
    let goal = Goal {
        name: "server: BatchNewX509SVID, one at a time",
        of: "(raw verify + raw sign + echo)",
        at_most: 1.6,
    };
    let round = async || {
        let raw = raw.each(Work::Verify, calls).await? + raw.each(Work::Sign, calls).await?;
        let limit = raw + pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

async fn many_x509(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let (mut raw, calls) = (Raw::start()?, kit.scale.calls);
    let mut pair = site.pair(kit, site.new_x509(MANY)?).await?;
    let goal = Goal {
        name: "server: BatchNewX509SVID, each of a hundred at a time",
        of: "(raw verify + raw sign)",
        at_most: 1.4,
    };
    let round = async || {
        let limit = raw.each(Work::Verify, calls).await? + raw.each(Work::Sign, calls).await?;
        let measured = pair.each(kit.scale.long_calls).await? / MANY as f64;
        Ok(Sample { measured, limit })
    };
    goal.measure(kit, round).await
}

async fn jwt(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let (mut raw, calls) = (Raw::start()?, kit.scale.calls);
    let entry_id = site.entries.first().cloned().unwrap_or_default();
    let request = NewJwtsvidRequest { entry_id, audience: vec!["audience".into()] };
    let call = Call::new(Kind::Unary, "/spire.api.server.svid.v1.SVID/NewJWTSVID", &request);
    let mut pair = site.pair(kit, call).await?;
    let goal = Goal { name: "server: NewJWTSVID", of: "(raw sign + echo)", at_most: 1.6 };
    let round = async || {
        let limit = raw.each(Work::Sign, calls).await? + pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

async fn sync(kit: &Kit, site: &Site) -> anyhow::Result<Figure> {
    let calls = kit.scale.calls;
    let [entries, bundle] = sync_calls();
    let mut entries = site.pair(kit, entries).await?;
    let mut bundle = site.pair(kit, bundle).await?;
    let goal = Goal {
        name: "server: sync of 50 entries, nothing changed",
        of: "two echoes",
        at_most: 3.0,
    };
    let round = async || {
        let limit = entries.echo.each(calls).await? + bundle.echo.each(calls).await?;
        let measured = entries.each(calls).await? + bundle.each(calls).await?;
        Ok(Sample { measured, limit })
    };
    goal.measure(kit, round).await
}

/// What an agent asks every few seconds.
pub(super) fn sync_calls() -> [Call; 2] {
    let output_mask = types::EntryMask {
        x509_svid_ttl: false,
        dns_names: false,
        jwt_svid_ttl: false,
        ..steeple::convert::all_entry_fields()
    };
    let entries = SyncAuthorizedEntriesRequest { output_mask: Some(output_mask), ids: Vec::new() };
    let bundle = GetBundleRequest { output_mask: None };
    [
        Call::new(
            Kind::Exchange,
            "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",
            &entries,
        ),
        Call::new(Kind::Unary, "/spire.api.server.bundle.v1.Bundle/GetBundle", &bundle),
    ]
}
