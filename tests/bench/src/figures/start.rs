//! How long agent and server take to start, and the server to be filled.

use std::time::Instant;

use super::agent::Site;
use crate::cli::progress;
use crate::kit::Kit;
use crate::node::trust_domain;
use crate::report::{Figure, Unit, median};
use crate::server::{Server, entry};
use crate::workload::Agent;

/// How many entries are created in a call.
const BATCH: usize = 500;

pub(super) async fn figures(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    let agent = agent(kit).await?;
    let (filling, server) = server(kit).await?;
    Ok(vec![agent, server, filling])
}

async fn agent(kit: &Kit) -> anyhow::Result<Figure> {
    progress("agent: start");
    let Site { server, mut agent, .. } = Site::start(kit, "start").await?;
    let mut took = Vec::new();
    for _ in 0..kit.scale.starts {
        agent.stop()?;
        agent = Agent::start(kit, &kit.path("start"), &server)?;
        took.push(agent.first_svid().await?.as_secs_f64() * 1e3);
    }
    let name = "agent: start to first SVID, already attested";
    Ok(Figure::number(name, Unit::Milliseconds, 300.0, median(took)))
}

/// Filling it, and starting it when it is full.
async fn server(kit: &Kit) -> anyhow::Result<(Figure, Figure)> {
    progress("server: start, and creating entries");
    let mut server = Server::start(kit, &kit.path("full")).await?;
    let parent = |n: usize| {
        steeple::id::SpiffeId::new(&trust_domain()?, &format!("/spire/agent/x509pop/{}", n % 100))
            .map_err(anyhow::Error::from)
    };
    let entries: Vec<_> = (0..kit.scale.entries)
        .map(|n| entry(&parent(n)?, n, 10_000 + u32::try_from(n)?))
        .collect::<Result<_, _>>()?;
    let started = Instant::now();
    for batch in entries.chunks(BATCH) {
        server.create(batch.to_vec()).await?;
    }
    let rate = entries.len() as f64 / started.elapsed().as_secs_f64();
    let mut took = Vec::new();
    for _ in 0..kit.scale.starts {
        let directory = server.directory().to_owned();
        server.stop()?;
        server = Server::start(kit, &directory).await?;
        took.push(server.started_in().as_secs_f64() * 1e3);
    }
    let filling = "server: BatchCreateEntry, 500 a call, SQLite";
    let start = "server: start to first answer, 20,000 entries";
    Ok((
        Figure::number(filling, Unit::PerSecond, 10_000.0, rate),
        Figure::number(start, Unit::Milliseconds, 500.0, median(took)),
    ))
}
