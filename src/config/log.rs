//! What both programs are told about their log, by a file and by flags.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;

use crate::telemetry::{Format, Level, Settings};

/// The table `[log]` of a configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTable {
    level: Option<Level>,
    format: Option<Format>,
    file: Option<PathBuf>,
    source_location: Option<bool>,
}

/// The same by flags, in our spelling and in SPIRE's.
#[derive(Args, Clone, Debug, Default)]
pub struct LogFlags {
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", alias = "logLevel", value_parser = named::<Level>)]
    pub log_level: Option<Level>,
    /// How a line of the log looks: text or json
    #[arg(long, value_name = "FORMAT", alias = "logFormat", value_parser = named::<Format>)]
    pub log_format: Option<Format>,
    /// A file to append the log to, in the place of standard error; SIGUSR2 opens it again
    #[arg(long, value_name = "FILE", alias = "logFile")]
    pub log_file: Option<PathBuf>,
    /// Say with each line of the log where in the source it is written
    #[arg(long, alias = "logSourceLocation")]
    pub log_source_location: bool,
}

impl LogFlags {
    /// The file's settings with the flags in their places.
    #[must_use]
    pub fn over(&self, file: Option<LogTable>) -> LogTable {
        let file = file.unwrap_or_default();
        LogTable {
            level: self.log_level.or(file.level),
            format: self.log_format.or(file.format),
            file: self.log_file.as_deref().map(super::absolute).or(file.file),
            source_location: self.log_source_location.then_some(true).or(file.source_location),
        }
    }
}

impl LogTable {
    /// The settings that it stands for, of a program with this data directory.
    #[must_use]
    pub fn settings(self, data_dir: &Path) -> Settings {
        Settings {
            level: self.level.unwrap_or_default(),
            format: self.format.unwrap_or_default(),
            file: self.file.map(|file| data_dir.join(file)),
            source_location: self.source_location.unwrap_or(false),
        }
    }
}

/// Reads what the configuration file has a name for, in any case, as SPIRE does.
fn named<'de, T: Deserialize<'de>>(text: &str) -> Result<T, String> {
    let name = text.to_ascii_lowercase();
    let name = if name == "warning" { "warn".to_owned() } else { name };
    T::deserialize(name.into_deserializer()).map_err(|error: Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_same_setting_of_the_file() {
        let file: LogTable =
            toml::from_str("level = 'warn'\nformat = 'json'\nfile = 'l'\nsource_location = true")
                .unwrap();
        let untold = LogFlags::default().over(Some(file.clone())).settings(Path::new("/d"));
        let expected = Settings {
            level: Level::Warn,
            format: Format::Json,
            file: Some("/d/l".into()),
            source_location: true,
        };
        assert_eq!(untold, expected);
        let flags = LogFlags {
            log_level: Some(Level::Debug),
            log_format: Some(Format::Text),
            log_file: Some("/f".into()),
            log_source_location: false,
        };
        let told = flags.over(Some(file)).settings(Path::new("/d"));
        let file = Some("/f".into());
        assert_eq!(told, Settings { level: Level::Debug, format: Format::Text, file, ..expected });
        assert_eq!(LogFlags::default().over(None).settings(Path::new("/d")), Settings::default());
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(named("WARNING"), Ok(Level::Warn));
        assert_eq!(named("Json"), Ok(Format::Json));
        let error = named::<Level>("loud").unwrap_err();
        assert!(error.contains("`loud`") && error.contains("`debug`"), "{error}");
    }
}
