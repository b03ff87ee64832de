//! The command line: measures, or is one of the processes that measuring takes.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::echo::{self, Place};
use crate::figures::{self, Group};
use crate::kit::{Kit, Scale};
use crate::{raw, workload};

/// Measures what Steeple's server and agent take of processor and memory, each figure beside its
/// limit, measured in the same run.
///
/// Limits: raw is the cryptography alone, by the same library; echo is a bare tonic server with
/// one prepared answer of equal length on the same kind of connection.
#[derive(Debug, Parser)]
#[command(name = "steeple-bench", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Args, Debug)]
struct Options {
    /// Where steeple-server and steeple-agent are; by default where this program is
    #[arg(long, value_name = "DIR", env = "STEEPLE_BIN_DIR")]
    bin_dir: Option<PathBuf>,
    /// Measure these alone
    #[arg(long, value_name = "GROUP")]
    only: Vec<Group>,
    /// Do little of everything, to see that it works; the numbers mean nothing
    #[arg(long)]
    quick: bool,
    /// How the figures are printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For a document
    Markdown,
    /// For machines
    Json,
}

/// What the copies of this program do that are started to measure, or to be measured.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    /// A bare server
    #[command(hide = true)]
    Echo {
        #[arg(long)]
        socket: Option<PathBuf>,
        #[arg(long)]
        tls: Option<PathBuf>,
        #[arg(long)]
        answer: usize,
    },
    /// Cryptography
    #[command(hide = true)]
    Raw,
    /// A workload that makes one call
    #[command(hide = true)]
    Call {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        echo: bool,
    },
    /// A workload that holds a stream
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        socket: PathBuf,
    },
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.part {
        None => measure(cli.options),
        Some(part) => part.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unheard = writeln!(io::stderr(), "steeple-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says one line at once.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// Tells whoever waits what is going on.
pub(crate) fn progress(what: &str) {
    let _unheard = writeln!(io::stderr(), "measuring {what}");
}

fn measure(options: Options) -> anyhow::Result<()> {
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let kit = Kit::new(options.bin_dir, scale)?;
    let report = single_threaded()?.block_on(figures::measure(&kit, &options.only))?;
    match options.output {
        Format::Table => say(&report.table())?,
        Format::Markdown => say(&report.markdown())?,
        Format::Json => say(&report.json()?)?,
    }
    Ok(())
}

impl Part {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Echo { socket: Some(path), answer, .. } => {
                echo::serve(Place::Socket(path), answer)
            }
            Self::Echo { tls: Some(directory), answer, .. } => {
                echo::serve(Place::Tls(directory), answer)
            }
            Self::Echo { .. } => anyhow::bail!("an echo needs a place"),
            Self::Raw => raw::serve(),
            Self::Call { socket, echo } => {
                single_threaded()?.block_on(workload::call(socket, echo))
            }
            Self::Hold { socket } => single_threaded()?.block_on(workload::hold(socket)),
        }
    }
}

fn single_threaded() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
