//! The command line: what there is to say to a server, and how it is printed.
//!
//! Results go to standard output, for people or as JSON; everything else to standard error. The
//! exit code is 0 only if all that was asked for was done.

mod agent;
mod args;
mod batch;
mod bundle;
mod client;
mod config;
mod debug;
mod entry;
mod federation;
mod healthcheck;
mod json;
mod local_authority;
mod logger;
mod mint_jwt;
mod mint_x509;
mod name;
mod output;
mod pretty;
mod refused;
mod socket;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token;
mod upstream_authority;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use steeple::config::HumanDuration;
use steeple::refused::Pipe;
use steeple::{spelling, telemetry};

use self::client::Client;
use self::name::Name;
use self::output::Output;
use self::socket::Surroundings;
use crate::app;
use crate::config::Config;
use crate::config::flags::Flags;

/// Decides who may have which identity, signs and rotates; and administers a running server.
#[derive(Debug, Parser)]
#[command(name = "steeple-server", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    ///
    /// Without a configuration it serves the trust domain example.org on port 8081, with its data
    /// in /var/lib/steeple/server, or below the state directory of a user who is not root.
    Run {
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        _refused: Pipe,
    },
    #[command(flatten)]
    Admin(Admin),
    /// Look at a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check a configuration: SPIRE's name of `config check`
    Validate(config::Check),
    #[command(hide = true)]
    Wit(refused::Wit),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What is asked of a running server.
#[derive(Debug, Subcommand)]
enum Admin {
    /// Make tokens that nodes can join with
    #[command(subcommand)]
    Token(token::Token),
    /// Administer registration entries: who may have which identity
    #[command(subcommand)]
    Entry(entry::Entry),
    /// Administer agents: the nodes that are attested
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Administer bundles: the keys of this trust domain and of foreign ones
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// Administer federation: where the bundles of foreign trust domains come from
    #[command(subcommand)]
    Federation(federation::Federation),
    /// Administer the server's own authorities: replace, taint and revoke them
    #[command(subcommand, name = "localauthority")]
    LocalAuthority(local_authority::LocalAuthority),
    /// Administer the authorities above the server's own: taint and revoke them
    #[command(subcommand, name = "upstreamauthority")]
    UpstreamAuthority(upstream_authority::UpstreamAuthority),
    /// Have X.509-SVIDs signed without an entry
    #[command(subcommand)]
    X509(mint_x509::X509),
    /// Have JWT-SVIDs signed without an entry
    #[command(subcommand)]
    Jwt(mint_jwt::Jwt),
    /// Look at how much a running server logs, and change it
    #[command(subcommand)]
    Logger(logger::Logger),
    /// Look into a running server
    #[command(subcommand)]
    Debug(debug::Debug),
    /// Ask a running server whether it is healthy
    Healthcheck(healthcheck::Healthcheck),
}

/// Where the server is, and how long to wait for it.
#[derive(Args, Clone, Debug)]
struct Connection {
    /// The server's admin socket; unless named, what --instance says, or the environment variable
    /// STEEPLE_SERVER_SOCKET or SPIRE_SERVER_PRIVATE_SOCKET, or else the one in the default data
    /// directory of this user
    #[arg(long, value_name = "PATH", alias = "socketPath")]
    socket: Option<PathBuf>,
    /// One of several servers: its name in the place of %i in the environment variable
    /// SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    _refused: Pipe,
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: HumanDuration,
}

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
struct Format {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Style::Pretty, ignore_case = true)]
    output: Style,
}

/// How lists are printed.
#[derive(Args, Clone, Copy, Debug)]
struct ListFormat {
    /// How to print the list: a table on a terminal and pretty elsewhere, unless said otherwise
    #[arg(long, value_enum, ignore_case = true)]
    output: Option<ListStyle>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Style {
    /// For people
    Pretty,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ListStyle {
    /// All that is known, a block for each
    Pretty,
    /// For programs
    Json,
    /// A line for each
    Table,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let mut output = Output::standard();
    // Before all else: a program that rotates logs does not know how far this one has come.
    if let Err(error) = telemetry::hold_signal() {
        output.error(&anyhow::Error::from(error).context("holding signals"));
        return ExitCode::FAILURE;
    }
    let name = Name::of_this_process();
    let cli = match parse(name, std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => return spelling::refuse(&error, name == Name::Spire),
    };
    match run(cli, &mut output).and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line of a program that was called by that name.
fn parse(name: Name, arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let command = name.command(Cli::command());
    let is_spires = name == Name::Spire || spelling::is_spires(&arguments);
    let command = if is_spires { name::tolerant(command) } else { command };
    let arguments = spelling::with_two_dashes(arguments.into_iter());
    Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

fn run(cli: Cli, output: &mut Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Admin(admin) => block_on(admin.run(output)),
        Command::Run { flags, .. } => app::run(&Config::load(&flags)?),
        Command::Config(config) => config.run(output),
        Command::Validate(check) => {
            check.run(output)?;
            output.line("SPIRE server configuration file is valid.")
        }
        Command::Wit(wit) => wit.run(),
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

impl Admin {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Token(token) => token.run(output).await,
            Self::Entry(entry) => entry.run(output).await,
            Self::Agent(agent) => agent.run(output).await,
            Self::Bundle(bundle) => bundle.run(output).await,
            Self::Federation(federation) => federation.run(output).await,
            Self::LocalAuthority(authority) => authority.run(output).await,
            Self::UpstreamAuthority(authority) => authority.run(output).await,
            Self::X509(x509) => x509.run(output).await,
            Self::Jwt(jwt) => jwt.run(output).await,
            Self::Logger(logger) => logger.run(output).await,
            Self::Debug(debug) => debug.run(output).await,
            Self::Healthcheck(healthcheck) => healthcheck.run(output).await,
        }
    }
}

impl Connection {
    async fn connect(&self, output: &Output) -> anyhow::Result<Client> {
        Client::connect(&self.path()?, self.timeout.0, output.terminal()).await
    }

    /// Where the socket is.
    fn path(&self) -> Result<PathBuf, socket::SocketError> {
        let around = Surroundings {
            name: Name::of_this_process(),
            variable: &|name| std::env::var_os(name),
            exists: &|path| path.exists(),
        };
        socket::locate(self.socket.as_deref(), self.instance.as_deref(), &around)
    }
}

impl Style {
    fn is_json(self) -> bool {
        self == Self::Json
    }
}

impl ListFormat {
    /// The style unless one is named.
    fn default(self, output: &Output) -> ListStyle {
        if output.terminal().width.is_some() { ListStyle::Table } else { ListStyle::Pretty }
    }
}
