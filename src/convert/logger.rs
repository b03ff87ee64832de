//! The log level on the wire, which server and agent speak alike.

use super::ConvertError;
use crate::telemetry::{Level, LogLevel};
use steeple_proto::spire::api::types;

/// Reads the level that a process is to log at.
///
/// # Errors
/// It is unspecified or unknown.
pub fn log_level_from_proto(level: i32) -> Result<Level, ConvertError> {
    match types::LogLevel::try_from(level) {
        Ok(types::LogLevel::Panic) => Ok(Level::Panic),
        Ok(types::LogLevel::Fatal) => Ok(Level::Fatal),
        Ok(types::LogLevel::Error) => Ok(Level::Error),
        Ok(types::LogLevel::Warn) => Ok(Level::Warn),
        Ok(types::LogLevel::Info) => Ok(Level::Info),
        Ok(types::LogLevel::Debug) => Ok(Level::Debug),
        Ok(types::LogLevel::Trace) => Ok(Level::Trace),
        Ok(types::LogLevel::Unspecified) | Err(_) => Err(ConvertError::LogLevel),
    }
}

/// Writes at which level a process logs, and at which it was started.
#[must_use]
pub fn logger_to_proto(level: &LogLevel) -> types::Logger {
    types::Logger {
        current_level: log_level_to_proto(level.current()).into(),
        launch_level: log_level_to_proto(level.launch()).into(),
    }
}

/// Writes a level.
#[must_use]
pub fn log_level_to_proto(level: Level) -> types::LogLevel {
    match level {
        Level::Panic => types::LogLevel::Panic,
        Level::Fatal => types::LogLevel::Fatal,
        Level::Error => types::LogLevel::Error,
        Level::Warn => types::LogLevel::Warn,
        Level::Info => types::LogLevel::Info,
        Level::Debug => types::LogLevel::Debug,
        Level::Trace => types::LogLevel::Trace,
    }
}

/// The name of a level as SPIRE prints it.
#[must_use]
pub fn log_level_name(level: types::LogLevel) -> String {
    if level == types::LogLevel::Warn {
        return "warning".to_owned();
    }
    level.as_str_name().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_printed_as_spire_prints_them() {
        assert_eq!(log_level_name(types::LogLevel::Warn), "warning");
        assert_eq!(log_level_name(types::LogLevel::Debug), "debug");
    }

    #[test]
    fn every_level_travels_both_ways_and_no_other_number_does() {
        let log = LogLevel::unattached(Level::Info);
        for number in 1..=7 {
            log.set(log_level_from_proto(number).unwrap());
            let launch_level = types::LogLevel::Info.into();
            let expected = types::Logger { current_level: number, launch_level };
            assert_eq!(logger_to_proto(&log), expected);
        }
        for number in [i32::MIN, -1, 0, 8] {
            assert_eq!(log_level_from_proto(number), Err(ConvertError::LogLevel));
        }
    }
}
