//! What a server with very many entries or agents takes, and an agent that has very many entries.

use std::time::{Duration, Instant};

use anyhow::ensure;
use prost::Message as _;
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple_proto::spire::api::server::entry::v1::{
    GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, ListEntriesRequest,
    ListEntriesResponse,
};
use steeple_proto::spire::api::types;

use super::memory::rested;
use super::{EchoCaller, Goal};
use crate::caller::{Call, Caller, Kind};
use crate::cli::progress;
use crate::echo::Echo;
use crate::kit::Kit;
use crate::meter::resident;
use crate::node::{Node, trust_domain};
use crate::place::Together;
use crate::report::{Figure, Sample, Unit};
use crate::server::{Server, entry};
use crate::workload::Agent;
use crate::{figures, sqlite};

/// How many entries are created in a call.
const BATCH: usize = 500;

/// How many entries are listed in a call.
const PAGE: usize = 1_000;

/// How many entries there are below each of two node aliases.
const ALIASED: usize = 300;

/// What the agents have that go by the alias, and what none has.
const SELECTOR: (&str, &str) = ("bench", "group:a");
const NOBODYS_SELECTOR: (&str, &str) = ("bench", "group:b");

pub(super) async fn figures(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    let mut figures = entries(kit).await?;
    figures.push(agents(kit).await?);
    Ok(figures)
}

/// A server that is filled by calls, listed, and then synchronised by one agent that may have all.
async fn entries(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    progress("server: creating very many entries");
    let count = kit.scale.many_entries;
    let server = Server::start(kit, &kit.path("large")).await?;
    let empty = rested(server.pid()).await?;
    let created = below(&id("/crowd")?, count)?;
    let started = Instant::now();
    for batch in created.chunks(BATCH) {
        server.create(batch.to_vec()).await?;
    }
    let filling = started.elapsed();
    drop(created);
    let each = (rested(server.pid()).await? - empty) / count as f64;
    let memory = Figure::number("server: memory, each of 100,000 entries", Unit::KiB, 1.0, each);
    let list = list(kit, &server).await?;

    let directory = kit.path("large-agent");
    let token = Agent::invite(&directory, &server).await?;
    let agent = id(&format!("/spire/agent/join_token/{token}"))?;
    let mut joined = Agent::start(kit, &directory, &server)?;
    joined.ready().await?;
    let idle = rested(joined.pid()).await?;
    joined.stop()?;
    let (database, home) = (server.database(), server.directory().to_owned());
    server.stop()?;
    let rows = sqlite::entries(&database).await?;
    ensure!(rows.len() == count, "{} rows where {count} are", rows.len());
    let raw = sqlite::insert(&kit.path("raw.sqlite"), &rows, BATCH).await?;
    drop(rows);
    let nanoseconds = |took: Duration| took.as_secs_f64() * 1e9 / count as f64;
    let sample = Sample { measured: nanoseconds(filling), limit: nanoseconds(raw) };
    let name = "server: BatchCreateEntry of 100,000, an entry";
    let filling = Figure::ratio(name, "raw SQLite", 10.0, &[sample]);

    sqlite::crowd(&database, agent.as_str(), &text(SELECTOR), 0).await?;
    let server = Server::start(kit, &home).await?;
    server.create(vec![alias("/crowd", SELECTOR)?]).await?;
    let mut figures = vec![filling, memory, list];
    figures.extend(sync(kit, &server, idle).await?);
    Ok(figures)
}

/// What it takes both ends when an agent may have everything.
async fn sync(kit: &Kit, server: &Server, idle: f64) -> anyhow::Result<Vec<Figure>> {
    progress("agent: very many entries");
    let count = kit.scale.many_entries;
    let before = rested(server.pid()).await?;
    let mut agent = Agent::start(kit, &kit.path("large-agent"), server)?;
    let took = agent.synced(count).await?.as_secs_f64() * 1e3;
    // Of few entries nothing may be seen.
    let each = |memory: f64| (memory / count as f64).max(f64::MIN_POSITIVE);
    let of_agent = each(rested(agent.pid()).await? - idle);
    let of_server = each(resident(server.pid())? - before);
    let name = "agent: start to having 100,000 entries under an alias";
    Ok(vec![
        Figure::number(name, Unit::Milliseconds, 10_000.0, took),
        Figure::number("agent: memory, each of 100,000 entries", Unit::KiB, 1.0, of_agent),
        Figure::number(
            "server: memory, each of 100,000 entries that an agent has",
            Unit::KiB,
            0.25,
            of_server,
        ),
    ])
}

/// All pages, beside as many echoes of the first.
async fn list(kit: &Kit, server: &Server) -> anyhow::Result<Figure> {
    let (count, first) = (kit.scale.many_entries, page(String::new())?);
    let mut caller = Caller::connect(server.admin_socket()).await?;
    let answer = caller.call(&first).await?;
    let echo = Echo::local(kit.new_path(), answer.len())?;
    let echo_caller = Caller::connect(echo.address().into()).await?;
    let mut echo = EchoCaller::new(echo, echo_caller, &first);
    let (mut meter, pages) = (server.meter(), u32::try_from(count.div_ceil(PAGE))?);
    let goal =
        Goal { name: "server: ListEntries of 100,000, 1,000 a page", of: "echoes", at_most: 30.0 };
    let round = async || {
        let limit = echo.each(pages).await? * f64::from(pages);
        let all = async |_| list_all(&mut caller, count).await;
        let _together = Together::with(meter.pid())?;
        Ok(Sample { measured: meter.each(1, all).await?, limit })
    };
    goal.measure(kit, round).await
}

async fn list_all(caller: &mut Caller, count: usize) -> anyhow::Result<()> {
    let (mut token, mut found) = (String::new(), 0);
    loop {
        let answer = caller.call(&page(token)?).await?;
        let answer = ListEntriesResponse::decode(answer)?;
        found += answer.entries.len();
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    ensure!(found == count, "{found} entries where {count} are");
    Ok(())
}

fn page(page_token: String) -> anyhow::Result<Call> {
    let page_size = i32::try_from(PAGE)?;
    let request = ListEntriesRequest { page_size, page_token, ..Default::default() };
    Ok(Call::new(Kind::Unary, "/spire.api.server.entry.v1.Entry/ListEntries", &request))
}

/// SPIRE's own fixture: one agent of very many, all of which go by one alias.
async fn agents(kit: &Kit) -> anyhow::Result<Figure> {
    progress("server: very many agents");
    let home = kit.path("crowd");
    let server = Server::start(kit, &home).await?;
    let node = Node::join(&server).await?;
    let database = server.database();
    server.stop()?;
    sqlite::crowd(&database, node.id.as_str(), &text(SELECTOR), kit.scale.many_agents).await?;
    let server = Server::start(kit, &home).await?;
    server.create(vec![alias("/a", SELECTOR)?, alias("/b", NOBODYS_SELECTOR)?]).await?;
    for parent in ["/a", "/b"] {
        server.create(below(&id(parent)?, ALIASED)?).await?;
    }
    let echo = kit.path("crowd-echo");
    Node::mint(&server, "/echo", &echo).await?;
    let path = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
    let call = Call::new(Kind::Unary, path, &GetAuthorizedEntriesRequest { output_mask: None });
    let (mut pair, answer) = figures::server::pair(&server, &node, &echo, call).await?;
    let found = GetAuthorizedEntriesResponse::decode(answer)?.entries.len();
    ensure!(found == ALIASED, "{found} entries where {ALIASED} are");
    let calls = kit.scale.long_calls * 5;
    let goal = Goal {
        name: "server: GetAuthorizedEntries, 300 under an alias, 50,000 agents",
        of: "echo",
        at_most: 4.0,
    };
    let round = async || {
        let limit = pair.echo.each(calls).await?;
        Ok(Sample { measured: pair.each(calls).await?, limit })
    };
    goal.measure(kit, round).await
}

fn id(path: &str) -> anyhow::Result<SpiffeId> {
    Ok(SpiffeId::new(&trust_domain()?, path)?)
}

fn text((kind, value): (&str, &str)) -> String {
    format!("{kind}:{value}")
}

/// So many entries below this parent.
fn below(parent: &SpiffeId, count: usize) -> anyhow::Result<Vec<types::Entry>> {
    (0..count).map(|n| entry(parent, n, 10_000 + u32::try_from(n)?)).collect()
}

/// A name for all nodes with this selector.
fn alias(path: &str, (kind, value): (&str, &str)) -> anyhow::Result<types::Entry> {
    let selector = types::Selector { r#type: kind.into(), value: value.into() };
    Ok(types::Entry {
        spiffe_id: Some(id_to_proto(&id(path)?)),
        parent_id: Some(id_to_proto(&trust_domain()?.server_id())),
        selectors: vec![selector],
        ..Default::default()
    })
}
