//! What is measured, and in which order.

use clap::ValueEnum;

use crate::caller::{Call, Caller};
use crate::cli::progress;
use crate::echo::Echo;
use crate::kit::Kit;
use crate::meter::Meter;
use crate::place::Together;
use crate::report::{Figure, Report, Sample};

mod agent;
mod large;
mod memory;
mod server;
mod start;

/// Figures that are measured together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Group {
    /// Calls of the server
    Server,
    /// Calls of the agent
    Agent,
    /// Memory of both
    Memory,
    /// Starts of both, and filling the server
    Start,
    /// What a server with very many entries or agents takes, and an agent with as many entries
    Large,
}

/// Measures these groups, or all.
pub(crate) async fn measure(kit: &Kit, only: &[Group]) -> anyhow::Result<Report> {
    let mut report = Report::new(load());
    for group in Group::value_variants() {
        if !only.is_empty() && !only.contains(group) {
            continue;
        }
        report.add(match group {
            Group::Server => server::figures(kit).await?,
            Group::Agent => agent::figures(kit).await?,
            Group::Memory => memory::figures(kit).await?,
            Group::Start => start::figures(kit).await?,
            Group::Large => large::figures(kit).await?,
        });
    }
    report.end(load());
    Ok(report)
}

/// A figure, and the limit that it is beside.
#[derive(Clone, Copy, Debug)]
struct Goal {
    name: &'static str,
    of: &'static str,
    at_most: f64,
}

/// A call that is measured, and the same call of an echo.
#[derive(Debug)]
struct Pair {
    call: Call,
    caller: Caller,
    meter: Meter,
    echo: EchoCaller,
}

/// An echo, and a connection to it.
#[derive(Debug)]
struct EchoCaller {
    call: Call,
    caller: Caller,
    meter: Meter,
    echo: Echo,
}

impl Goal {
    /// Measures limit and figure in turns.
    async fn measure(
        self,
        kit: &Kit,
        mut round: impl AsyncFnMut() -> anyhow::Result<Sample>,
    ) -> anyhow::Result<Figure> {
        progress(self.name);
        let mut samples = Vec::new();
        // The first fills caches, and does not count.
        for _ in 0..=kit.scale.rounds {
            samples.push(round().await?);
        }
        let counted = samples.get(1..).unwrap_or_default();
        Ok(Figure::ratio(self.name, self.of, self.at_most, counted))
    }
}

impl Pair {
    /// What one call takes, of the process that answers it, in nanoseconds.
    async fn each(&mut self, calls: u32) -> anyhow::Result<f64> {
        each(&mut self.meter, &mut self.caller, &self.call, calls).await
    }
}

impl EchoCaller {
    fn new(echo: Echo, caller: Caller, call: &Call) -> Self {
        Self { call: call.to_echo(), caller, meter: echo.meter(), echo }
    }

    async fn each(&mut self, calls: u32) -> anyhow::Result<f64> {
        each(&mut self.meter, &mut self.caller, &self.call, calls).await
    }

    fn address(&self) -> &str {
        self.echo.address()
    }
}

async fn each(
    meter: &mut Meter,
    caller: &mut Caller,
    call: &Call,
    calls: u32,
) -> anyhow::Result<f64> {
    let _together = Together::with(meter.pid())?;
    meter.each(calls, async |_| Ok(caller.call(call).await.map(drop)?)).await
}

/// How many processes wanted to run in the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}
