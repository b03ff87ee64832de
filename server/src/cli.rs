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
mod entry;
mod healthcheck;
mod json;
mod mint_jwt;
mod mint_x509;
mod output;
mod pretty;
mod spelling;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use steeple::config::HumanDuration;

use self::client::Client;
use self::output::Output;
use crate::app;
use crate::config::{default_data_dir, socket_in};

/// The variable of SPIRE's tools that says where the admin socket is.
const SPIRE_SOCKET: &str = "SPIRE_SERVER_PRIVATE_SOCKET";

/// Decides who may have which identity, signs and rotates; and administers a running server.
#[derive(Debug, Parser)]
#[command(name = "steeple-server", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, which lives as long as the program")]
enum Command {
    /// Run the server
    ///
    /// Without a configuration it serves the trust domain example.org on port 8081, with its data
    /// in /var/lib/steeple/server, or below the state directory of a user who is not root.
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    #[command(flatten)]
    Admin(Admin),
    /// Look at a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
    /// Have X.509-SVIDs signed without an entry
    #[command(subcommand)]
    X509(mint_x509::X509),
    /// Have JWT-SVIDs signed without an entry
    #[command(subcommand)]
    Jwt(mint_jwt::Jwt),
    /// Ask a running server whether it is healthy
    Healthcheck(healthcheck::Healthcheck),
}

/// Where the server is, and how long to wait for it.
#[derive(Args, Clone, Debug)]
struct Connection {
    /// The server's admin socket; unless named, the one in the default data directory of this user
    #[arg(long, value_name = "PATH", env = "STEEPLE_SERVER_SOCKET", alias = "socketPath")]
    socket: Option<PathBuf>,
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
    let cli = Cli::parse_from(spelling::with_two_dashes(std::env::args_os()));
    match run(cli, &mut output).and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &mut Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Admin(admin) => block_on(admin.run(output)),
        Command::Run { config } => app::run(config.as_deref()),
        Command::Config(config) => config.run(output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "steeple-server", &mut script);
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
            Self::X509(x509) => x509.run(output).await,
            Self::Jwt(jwt) => jwt.run(output).await,
            Self::Healthcheck(healthcheck) => healthcheck.run(output).await,
        }
    }
}

impl Connection {
    async fn connect(&self, output: &Output) -> anyhow::Result<Client> {
        let socket = self.socket.clone().or_else(default_socket).context(
            "there is no default data directory without $HOME; say with --socket where the \
             server's admin socket is",
        )?;
        Client::connect(&socket, self.timeout.0, output.terminal()).await
    }
}

/// The socket of the server of this user.
fn default_socket() -> Option<PathBuf> {
    let named = std::env::var_os(SPIRE_SOCKET).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(socket_in(&default_data_dir()?)))
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
