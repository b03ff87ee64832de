//! The diagnostic log: one subscriber, text for people or JSON for machines, on standard error or in a
//! file.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::signal::unix::{self, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, reload};

use self::file::LogFile;
use self::json::Json;

mod file;
mod json;

/// How much is logged.
///
/// Nothing is logged as `Panic` or `Fatal`: what ends a process is told on standard error by itself.
/// Both are there for those who know them from SPIRE, and keep the log silent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Panic,
    /// Nothing either.
    Fatal,
    /// What needs somebody now.
    Error,
    /// What will need somebody if it goes on.
    #[value(alias = "warning")]
    Warn,
    /// What happened.
    #[default]
    Info,
    /// What led to it.
    Debug,
    /// Everything.
    Trace,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with the keys of SPIRE's.
    Json,
}

/// What a process is told about its log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// How much is logged.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
    /// The file that it is appended to, in the place of standard error.
    pub file: Option<PathBuf>,
    /// Whether each line says where in the source it is written.
    pub source_location: bool,
}

/// The log of a process.
#[derive(Debug)]
pub struct Log {
    /// How much is logged.
    pub level: LogLevel,
    file: Option<LogFile>,
}

/// Opens the log file again whenever SIGUSR2 says so, as after a rotation of logs.
#[derive(Debug)]
pub struct Reopening {
    file: Option<LogFile>,
    told: unix::Signal,
}

/// The level of a running process, which can be looked at and changed. Clones share it.
#[derive(Clone)]
pub struct LogLevel(Arc<Switch>);

struct Switch {
    launch: Level,
    current: Mutex<Level>,
    /// What is switched; nothing where nothing was started.
    filter: Option<reload::Handle<Targets, Registry>>,
}

/// Why logging cannot start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The file cannot be written.
    #[error("`log.file` is {}, which cannot be opened for writing", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The process logs already.
    #[error("the log was set up twice")]
    Twice(#[source] TryInitError),
}

/// Keeps SIGUSR2 from ending this process, until [`Log::catch_signal`] is called on the same thread.
/// To be called before there are others, which hold it as well.
///
/// # Errors
/// The system refuses it.
pub fn hold_signal() -> io::Result<()> {
    Ok(rotation_signal().thread_block()?)
}

fn rotation_signal() -> SigSet {
    SigSet::from(Signal::SIGUSR2)
}

/// Starts the log of this process.
///
/// # Errors
/// The file cannot be opened, or the log was started before.
pub fn start(settings: &Settings) -> Result<Log, TelemetryError> {
    let Some(path) = &settings.file else {
        let ansi = io::stderr().is_terminal();
        let level = init(log_to(io::stderr, ansi, settings))?;
        return Ok(Log { level, file: None });
    };
    let file = LogFile::open(path)
        .map_err(|source| TelemetryError::File { path: path.clone(), source })?;
    let level = init(log_to(file.clone(), false, settings))?;
    Ok(Log { level, file: Some(file) })
}

/// Finds out whether the log could be started, and makes and changes nothing for that. The data
/// directory is made before a log file in it is.
///
/// # Errors
/// The file could not be opened.
pub fn check(settings: &Settings, data_dir: &Path) -> Result<(), TelemetryError> {
    let Some(path) = &settings.file else { return Ok(()) };
    check_file(path, data_dir).map_err(|source| TelemetryError::File { path: path.clone(), source })
}

/// The same of any file that is appended to.
///
/// # Errors
/// The file could not be opened.
pub fn check_file(path: &Path, data_dir: &Path) -> io::Result<()> {
    file::check(path, data_dir)
}

impl Log {
    /// Catches SIGUSR2, which would end the process otherwise, also one that was held until now.
    ///
    /// # Errors
    /// Signals cannot be caught, such as outside a runtime.
    pub fn catch_signal(&self) -> io::Result<Reopening> {
        let told = signal(SignalKind::user_defined2())?;
        rotation_signal().thread_unblock()?;
        Ok(Reopening { file: self.file.clone(), told })
    }
}

impl Reopening {
    /// Does that until it is dropped, and may be started again.
    pub async fn run(&mut self) -> Infallible {
        loop {
            self.told.recv().await;
            self.reopen();
        }
    }

    fn reopen(&self) {
        let Some(file) = &self.file else {
            info!("SIGUSR2 is for a log file, and the log goes to standard error");
            return;
        };
        let path = file.path().display();
        match file.reopen() {
            Ok(()) => info!(%path, "log file opened again"),
            Err(error) => error!(
                %path,
                error = &error as &dyn Error,
                "the log file was not opened again: that of before is written on"
            ),
        }
    }
}

impl LogLevel {
    /// A level of a process that does not log.
    #[must_use]
    pub fn unattached(level: Level) -> Self {
        Self(Arc::new(Switch { launch: level, current: Mutex::new(level), filter: None }))
    }

    /// Logs at `level` from now on.
    pub fn set(&self, level: Level) {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = level;
        if let Some(filter) = &self.0.filter {
            // The only failure is that the subscriber is gone, and then nothing is logged anyway.
            let _gone = filter.reload(targets(level));
        }
    }

    /// Logs as when the process was started.
    pub fn reset(&self) {
        self.set(self.0.launch);
    }

    /// The level at present.
    #[must_use]
    pub fn current(&self) -> Level {
        *self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The level that the process was started with.
    #[must_use]
    pub fn launch(&self) -> Level {
        self.0.launch
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (current, launch) = (self.current(), self.launch());
        f.debug_struct("LogLevel").field("current", &current).field("launch", &launch).finish()
    }
}

fn init(
    (subscriber, level): (impl Subscriber + Send + Sync, LogLevel),
) -> Result<LogLevel, TelemetryError> {
    subscriber.try_init().map_err(TelemetryError::Twice)?;
    Ok(level)
}

fn log_to<W>(
    writer: W,
    ansi: bool,
    settings: &Settings,
) -> (impl Subscriber + Send + Sync + use<W>, LogLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let Settings { level, format, source_location, .. } = *settings;
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match format {
        Format::Text => lines.with_file(source_location).with_line_number(source_location).boxed(),
        Format::Json => {
            lines.fmt_fields(JsonFields::new()).event_format(Json { source_location }).boxed()
        }
    };
    let switch = Switch { launch: level, current: Mutex::new(level), filter: Some(handle) };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    (subscriber, LogLevel(Arc::new(switch)))
}

/// Ours at `level`; of the libraries below only what somebody has to know.
fn targets(level: Level) -> Targets {
    let ours = match level {
        Level::Panic | Level::Fatal => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Targets are prefixes: this one covers the library and both binaries.
    Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target("steeple", ours)
}

/// An error and all that led to it, in one line.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A log that can be read.
    #[derive(Clone, Default)]
    pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// What was logged since this was last asked.
        pub(super) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_can_be_changed_while_the_process_runs_and_changed_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = Settings::default();
        let (subscriber, level) = log_to(move || writer.clone(), false, &settings);
        // What is logged at each level, in the order of levels.
        let logged = || {
            tracing::error!("error");
            tracing::warn!("warn");
            tracing::info!("info");
            tracing::debug!("debug");
            tracing::trace!("trace");
            lines.take().lines().count()
        };
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(logged(), 3);
            for (set, expected) in [
                (Level::Trace, 5),
                (Level::Debug, 4),
                (Level::Info, 3),
                (Level::Warn, 2),
                (Level::Error, 1),
                (Level::Fatal, 0),
                (Level::Panic, 0),
            ] {
                level.set(set);
                assert_eq!(
                    (logged(), level.current(), level.launch()),
                    (expected, set, Level::Info)
                );
            }
            level.reset();
            assert_eq!((logged(), level.current()), (3, Level::Info));
        });
    }

    #[test]
    fn a_signal_before_there_is_a_runtime_is_kept_until_it_is_caught() {
        hold_signal().unwrap();
        // To this thread alone.
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let settings = Settings::default();
            let (_, level) = log_to(io::sink, false, &settings);
            let log = Log { level, file: None };
            let mut reopening = log.catch_signal().unwrap();
            let told = tokio::time::timeout(Duration::from_secs(60), reopening.told.recv());
            assert_eq!(told.await.unwrap(), Some(()));
        });
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGUSR2));
    }
}
