//! The diagnostic log: one subscriber, text for people or JSON for machines, on standard error.

use std::error::Error;
use std::io::IsTerminal as _;

use serde::Deserialize;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, reload};

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What needs somebody now.
    Error,
    /// What will need somebody if it goes on.
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

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<Targets, Registry>);

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
    let (filter, handle) = reload::Layer::new(targets(level));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(TelemetryError::Twice)?;
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Logs at `level` from now on.
    pub fn set(&self, level: Level) {
        // The only failure is that the subscriber is gone, and then nothing is logged anyway.
        let _gone = self.0.reload(targets(level));
    }
}

/// Ours at `level`; of the libraries below only what somebody has to know.
fn targets(level: Level) -> Targets {
    let ours = match level {
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
