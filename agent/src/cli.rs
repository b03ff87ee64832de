//! The command line: what there is to say to an agent, and how it is printed.
//!
//! Results go to standard output, for people or as JSON; everything else to standard error. The
//! exit code is 0 only if all that was asked for was done.

mod address;
mod admin;
mod check;
mod client;
mod fetch_jwt;
mod fetch_x509;
mod healthcheck;
mod name;
mod output;
mod refused;
mod socket;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use steeple::config::HumanDuration;
use steeple::refused::Pipe;
use steeple::{spelling, telemetry};

use self::address::Address;
use self::client::Client;
use self::name::Name;
use self::output::Output;
use self::socket::Surroundings;
use crate::app;
use crate::config::{Config, Flags};

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
    Run(Told),
    /// Look at a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check a configuration as `config check` does, under SPIRE's name
    Validate(Told),
    /// Call the Workload API as a workload would
    #[command(subcommand)]
    Api(Api),
    /// Look at how much a running agent logs, and change it, on its admin socket
    #[command(subcommand)]
    Logger(admin::Logger),
    /// Look into a running agent, on its admin socket
    #[command(subcommand)]
    Debug(admin::Debug),
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
    /// Check a configuration, with the flags of `run`, and the files that it names, without starting
    /// anything
    Check(Told),
}

/// What `run` is told.
#[derive(Args, Debug)]
struct Told {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    _refused: refused::OfRun,
}

#[derive(Debug, Subcommand)]
enum Api {
    /// Fetch the SVIDs of this process: its X.509-SVIDs, if no kind is named
    Fetch(FetchAny),
    /// Validate an SVID
    #[command(subcommand)]
    Validate(Validate),
    /// Print the X.509-SVIDs of this process now, and whenever they change
    Watch(watch::Watch),
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct FetchAny {
    #[command(subcommand)]
    kind: Option<Fetch>,
    #[command(flatten)]
    x509: fetch_x509::FetchX509,
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
    /// The agent's socket: a path, unix:///PATH or tcp://IP:PORT; unless named, what --instance
    /// says, or the environment variable SPIFFE_ENDPOINT_SOCKET or SPIRE_AGENT_PUBLIC_SOCKET, or
    /// else where an agent of this user listens
    #[arg(long, value_name = "SOCKET", alias = "socketPath", value_parser = Address::of_flag)]
    socket: Option<Address>,
    /// One of several agents: its name in the place of %i in the environment variable
    /// SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    _refused: Pipe,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: HumanDuration,
}

/// Where the agent's admin socket is, and how long to wait for it.
#[derive(Args, Clone, Debug)]
struct AdminConnection {
    /// The agent's admin socket, which is there if admin_socket_path says so; unless named, the
    /// environment variable STEEPLE_AGENT_ADMIN_SOCKET says where, or else it is admin/admin.sock
    /// in the default data directory of this user
    #[arg(long, value_name = "SOCKET", alias = "socketPath", value_parser = Address::of_flag)]
    socket: Option<Address>,
    #[command(flatten)]
    _refused: Pipe,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: HumanDuration,
}

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
struct Format {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Style::Pretty, ignore_case = true, alias = "format")]
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
    // Before all else: a program that rotates logs does not know how far this one has come.
    if let Err(error) = telemetry::hold_signal() {
        output.error(&anyhow::Error::from(error).context("holding signals"));
        return ExitCode::FAILURE;
    }
    let arguments = spelling::with_two_dashes(std::env::args_os());
    let name = Name::of_this_process();
    let parsed = name.command(Cli::command()).try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return spelling::refuse(&error, name == Name::Spire),
    };
    match run(cli, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &mut Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(told) => app::run(Config::load(told.flags)?),
        Command::Config(ConfigCommand::Check(told)) => {
            block_on(check::run(&told.flags, output))?;
            output.line("The configuration is valid.")
        }
        Command::Validate(told) => {
            block_on(check::run(&told.flags, output))?;
            output.line("SPIRE agent configuration file is valid.")
        }
        Command::Api(Api::Fetch(FetchAny { kind: None, x509 })) => block_on(x509.run(output)),
        Command::Api(Api::Fetch(FetchAny { kind: Some(Fetch::X509(fetch)), .. })) => {
            block_on(fetch.run(output))
        }
        Command::Api(Api::Fetch(FetchAny { kind: Some(Fetch::Jwt(fetch)), .. })) => {
            block_on(fetch.run(output))
        }
        Command::Api(Api::Validate(Validate::Jwt(validate))) => block_on(validate.run(output)),
        Command::Api(Api::Watch(watch)) => block_on(watch.run(output)),
        Command::Logger(logger) => block_on(logger.run(output)),
        Command::Debug(debug) => block_on(debug.run(output)),
        Command::Healthcheck(healthcheck) => block_on(healthcheck.run(output)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let name = Name::of_this_process();
            let mut command = name.command(Cli::command());
            clap_complete::generate(shell, &mut command, name.as_str(), &mut script);
            output.raw(&script)
        }
    }
}

fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

impl Connection {
    async fn connect(&self) -> anyhow::Result<Client> {
        let address =
            surroundings(|around| around.workload(self.socket.as_ref(), self.instance.as_deref()))?;
        let hint = "--socket or SPIFFE_ENDPOINT_SOCKET says where it listens";
        Client::connect(&address, self.timeout.0, hint).await
    }
}

impl AdminConnection {
    async fn connect(&self) -> anyhow::Result<Client> {
        let address = surroundings(|around| around.admin(self.socket.as_ref()))?;
        let hint = "it has an admin socket if admin_socket_path of its configuration says so, and \
                    --socket says where";
        Client::connect(&address, self.timeout.0, hint).await
    }
}

/// Asks where something is for this process.
fn surroundings<T>(ask: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    ask(&Surroundings {
        name: Name::of_this_process(),
        variable: &|name| std::env::var_os(name),
        exists: &|path| path.exists(),
    })
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
