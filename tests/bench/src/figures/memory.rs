//! What agent and server hold in memory.

use std::time::Duration;

use super::agent::Site;
use super::server::sync_calls;
use crate::caller::Caller;
use crate::cli::progress;
use crate::kit::Kit;
use crate::meter::resident;
use crate::node::Node;
use crate::report::{Figure, Unit};
use crate::server::Server;
use crate::workload::{Agent, Holders};

const MIB: f64 = 1024.0;

/// How long a process is left alone before it is looked at.
const REST: Duration = Duration::from_secs(1);

pub(super) async fn figures(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    let mut figures = agent(kit).await?;
    figures.extend(server(kit).await?);
    Ok(figures)
}

async fn agent(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    progress("agent: memory");
    // An agent that has joined long ago, as most have.
    let Site { server, agent, .. } = Site::start(kit, "memory").await?;
    agent.stop()?;
    let mut agent = Agent::start(kit, &kit.path("memory"), &server)?;
    agent.ready().await?;
    let look = async |name, goal| {
        let memory = rested(agent.pid()).await? / MIB;
        Ok::<_, anyhow::Error>(Figure::number(name, Unit::MiB, goal, memory))
    };
    let mut figures = vec![look("agent: memory, idle", 15.0).await?];
    let [some, many] = kit.scale.holders;
    let mut holders = Holders::default();
    holders.grow(some, &agent.socket())?;
    figures.push(look("agent: memory, 100 processes on open streams", 20.0).await?);
    holders.grow(many, &agent.socket())?;
    figures.push(look("agent: memory, 1,000 processes on open streams", 60.0).await?);
    Ok(figures)
}

async fn server(kit: &Kit) -> anyhow::Result<Vec<Figure>> {
    progress("server: memory");
    let server = Server::start(kit, &kit.path("idle")).await?;
    let idle = rested(server.pid()).await?;
    let mut connected = Vec::new();
    for _ in 0..kit.scale.agents {
        let node = Node::join(&server).await?;
        let channel = node.connect(server.address(), &server.server_id()?).await?;
        let mut caller = Caller::new(channel);
        for call in sync_calls() {
            caller.call(&call).await?;
        }
        connected.push(caller);
    }
    let each = (rested(server.pid()).await? - idle) / connected.len() as f64;
    Ok(vec![
        Figure::number("server: memory, idle", Unit::MiB, 20.0, idle / MIB),
        Figure::number("server: memory, each connected agent", Unit::KiB, 50.0, each),
    ])
}

/// What a process holds, in KiB, once it has come to rest.
pub(super) async fn rested(pid: u32) -> anyhow::Result<f64> {
    tokio::time::sleep(REST).await;
    resident(pid)
}
