//! What the configuration of both binaries has in common: TOML files, durations, errors.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use toml::Table;
use toml::de::DeTable;

use self::expand::Variables;

pub mod expand;
pub mod log;
pub mod survey;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of another kind.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and which keys there are.
        message: String,
    },
    /// A value will not do.
    #[error("`{key}` is {found}; it must be {must_be}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What it is.
        found: String,
        /// What would do.
        must_be: &'static str,
    },
}

impl ConfigError {
    /// Whether it is about the value of this key.
    #[must_use]
    pub fn is_of(&self, wrong: &str) -> bool {
        match self {
            Self::Invalid { key, .. } => *key == wrong,
            Self::Read { .. } | Self::Parse { .. } => false,
        }
    }
}

/// A duration written for people: `90s`, `1h 30m`, `7d`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HumanDuration(pub Duration);

/// A configuration in TOML.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What is written.
    pub text: &'a str,
    /// Where.
    pub path: &'a Path,
    /// Where the variables are looked up that its texts name, if they are.
    pub variables: Option<Variables<'a>>,
}

/// The text of a configuration file.
///
/// # Errors
/// The file cannot be read.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// What is written in a file. With `expand_env` its texts may name environment variables.
    #[must_use]
    pub fn of((text, path): (&'a str, &'a Path), expand_env: bool) -> Self {
        let variables: Variables<'a> = &expand::environment;
        Self { text, path, variables: expand_env.then_some(variables) }
    }

    /// Reads it. Unknown keys are errors if `T` denies them, and it should.
    ///
    /// # Errors
    /// It is no TOML, does not fit `T`, or names a variable that is not set.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.read_as::<T, T>()
    }

    /// Reads it as it is, whatever the keys. Values of variables are of the kind that `T` wants.
    ///
    /// # Errors
    /// It is no TOML, or names a variable that is not set.
    pub fn plain<T: DeserializeOwned>(&self) -> Result<Table, ConfigError> {
        self.read_as::<T, Table>()
    }

    fn read_as<T: DeserializeOwned, U: DeserializeOwned>(&self) -> Result<U, ConfigError> {
        let parsed = DeTable::parse(self.text).map_err(|error| self.refused(&error))?;
        let texts = match self.variables {
            Some(variables) => expand::texts(parsed.get_ref(), (self.text, variables))
                .map_err(|error| self.message(error.to_string()))?,
            None => Vec::new(),
        };
        let mut table = parsed;
        if self.variables.is_some() {
            expand::fill::<T>(table.get_mut(), &texts);
        }
        U::deserialize(toml::Deserializer::from(table)).map_err(|mut error| {
            // As it is written, and not with the values of variables.
            error.set_input(Some(self.text));
            self.refused(&error)
        })
    }

    fn refused(&self, error: &toml::de::Error) -> ConfigError {
        if !is_spires(self.text) {
            return self.message(error.to_string().trim_end().to_owned());
        }
        self.message(format!(
            "this is a configuration of SPIRE's, and not TOML; `steeple-server config import {}` prints the one \
             that says the same here, for a server or an agent",
            self.path.display()
        ))
    }

    fn message(&self, message: String) -> ConfigError {
        ConfigError::Parse { path: self.path.to_owned(), message }
    }
}

/// A path of the command line is meant from where the command was given.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether a text that is no TOML looks like a file of SPIRE's, in HCL or JSON: one of its blocks.
fn is_spires(text: &str) -> bool {
    let is_json = text.trim_start().starts_with('{');
    let opens = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || "{\"".contains(c));
        ["server", "agent", "plugins"].iter().any(|block| {
            let rest =
                line.strip_prefix(block).map(|rest| rest.trim_start_matches('"').trim_start());
            let rest = rest.map(|rest| rest.trim_start_matches(['=', ':']).trim_start());
            rest.is_some_and(|rest| rest.starts_with('{') || (is_json && rest.starts_with('[')))
        })
    };
    text.lines().any(opens)
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl std::str::FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!("{text:?} is not a duration such as 90s, 1h 30m or 7d: {error}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        ttl: HumanDuration,
    }

    fn source(text: &str) -> Source<'_> {
        Source::of((text, Path::new("x.toml")), false)
    }

    #[track_caller]
    fn check(text: &str, expected: Result<Duration, &str>) {
        match (source(text).read::<Raw>(), expected) {
            (Ok(raw), Ok(duration)) => assert_eq!(raw.ttl.0, duration),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_refusal_names_file_key_and_what_would_do() {
        check("ttl = '1h 30m'", Ok(Duration::from_secs(5_400)));
        check("ttl = '1x'", Err("is not a duration such as 90s"));
        check("ttl = '1h'\nttll = 1", Err("unknown field `ttll`, expected `ttl`"));
        check("", Err("x.toml"));
        check("ttl = ", Err("x.toml"));
    }

    #[test]
    fn a_file_of_spires_is_told_with_what_to_do() {
        let import = "`steeple-server config import x.toml`";
        for text in [
            "server {\n    bind_port = 1\n}\n",
            "# c\n\nagent {}\n",
            "server = {\n  a = 1\n}\n",
            "plugins {\n}\n",
            "{\"server\": {\"bind_port\": 1}}",
            "{\n  \"agent\": [{}]\n}\n",
        ] {
            check(text, Err(import));
        }
        for text in ["server = \"h:1\"\n=\n", "[server]\n", "agents {\n", "# server {\nttl = \n"] {
            let error = source(text).read::<Raw>().unwrap_err().to_string();
            assert!(!error.contains("import"), "{text}: {error}");
        }
    }
}
