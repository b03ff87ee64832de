//! The diagnostic log: one subscriber, text for people or JSON for machines, on standard error.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, reload};

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
    /// One JSON object a line.
    Json,
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
    /// The process logs already.
    #[error("the log was set up twice")]
    Twice(#[source] TryInitError),
}

/// Starts the log of this process.
///
/// # Errors
/// It was started before.
pub fn start(level: Level, format: Format) -> Result<LogLevel, TelemetryError> {
    let ansi = std::io::stderr().is_terminal();
    let (subscriber, level) = log_to(std::io::stderr, ansi, level, format);
    subscriber.try_init().map_err(TelemetryError::Twice)?;
    Ok(level)
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

fn log_to<W>(
    writer: W,
    ansi: bool,
    level: Level,
    format: Format,
) -> (impl Subscriber + Send + Sync, LogLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
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
    use super::*;

    /// A log that can be read.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_can_be_changed_while_the_process_runs_and_changed_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, level) = log_to(move || writer.clone(), false, Level::Info, Format::Text);
        // What is logged at each level, in the order of levels.
        let logged = || {
            lines.0.lock().unwrap().clear();
            tracing::error!("error");
            tracing::warn!("warn");
            tracing::info!("info");
            tracing::debug!("debug");
            tracing::trace!("trace");
            String::from_utf8(lines.0.lock().unwrap().clone()).unwrap().lines().count()
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
}
