//! The command line: what there is to say to an agent, and how it is printed.
//!
//! Results go to standard output, for people or as JSON; everything else to standard error. The
//! exit code is 0 only if all that was asked for was done.

mod address;
mod client;
mod fetch_jwt;
mod fetch_x509;
mod healthcheck;
mod output;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use steeple::config::HumanDuration;

use self::address::Address;
use self::client::Client;
use self::output::Output;
use crate::app;
use crate::config::{Config, Flags};

/// Where workloads look for an agent.
const SOCKET_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Attests the processes of this node and serves them SVIDs over the SPIFFE Workload API.
#[derive(Debug, Parser)]
#[command(name = "steeple-agent", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent
    Run(Flags),
    /// Look at a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Call the Workload API as a workload would
    #[command(subcommand)]
    Api(Api),
    /// Ask a running agent whether it is healthy
    Healthcheck(healthcheck::Healthcheck),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration, with the flags of `run`, without starting anything
    Check(Flags),
}

#[derive(Debug, Subcommand)]
enum Api {
    /// Fetch the SVIDs of this process
    #[command(subcommand)]
    Fetch(Fetch),
    /// Validate an SVID
    #[command(subcommand)]
    Validate(Validate),
    /// Print the X.509-SVIDs of this process now, and whenever they change
    Watch(watch::Watch),
}

#[derive(Debug, Subcommand)]
enum Fetch {
    /// Fetch X.509-SVIDs, and check them against the bundle
    X509(fetch_x509::FetchX509),
    /// Fetch JWT-SVIDs
    Jwt(fetch_jwt::FetchJwt),
}

#[derive(Debug, Subcommand)]
enum Validate {
    /// Validate a JWT-SVID for an audience
    Jwt(fetch_jwt::ValidateJwt),
}

/// Where the agent is, and how long to wait for it.
#[derive(Args, Clone, Debug)]
struct Connection {
    /// The agent's socket: a path, unix:///PATH or tcp://IP:PORT. Without it the environment
    /// variable SPIFFE_ENDPOINT_SOCKET says where it is, or else it is where an agent of this user
    /// listens
    #[arg(long, value_name = "SOCKET", value_parser = Address::of_flag)]
    socket: Option<Address>,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: HumanDuration,
}

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
struct Format {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Style::Pretty, ignore_case = true)]
    output: Style,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Style {
    /// For people
    Pretty,
    /// For programs
    Json,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let mut output = Output::standard();
    match run(Cli::parse(), &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &mut Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(flags) => app::run(Config::load(flags)?),
        Command::Config(ConfigCommand::Check(flags)) => {
            Config::load(flags)?;
            output.line("The configuration is valid.")
        }
        Command::Api(Api::Fetch(Fetch::X509(fetch))) => block_on(fetch.run(output)),
        Command::Api(Api::Fetch(Fetch::Jwt(fetch))) => block_on(fetch.run(output)),
        Command::Api(Api::Validate(Validate::Jwt(validate))) => block_on(validate.run(output)),
        Command::Api(Api::Watch(watch)) => block_on(watch.run(output)),
        Command::Healthcheck(healthcheck) => block_on(healthcheck.run(output)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "steeple-agent", &mut script);
            output.raw(&script)
        }
    }
}

fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

impl Connection {
    async fn connect(&self) -> anyhow::Result<Client> {
        let variable = std::env::var_os(SOCKET_VARIABLE);
        let address = Address::locate(self.socket.as_ref(), variable)
            .with_context(|| format!("{SOCKET_VARIABLE} does not say where an agent is"))?;
        Client::connect(&address, self.timeout.0).await
    }
}

impl Style {
    fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// The directory to write to, if one was given; made if it is not there.
fn directory(write: Option<&PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let Some(directory) = write else { return Ok(None) };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    Ok(Some(directory.clone()))
}

/// A duration for people: `1.204s`.
fn took(elapsed: Duration) -> String {
    format!("{:.3}s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests;
