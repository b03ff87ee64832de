//! All that is wrong with a configuration, and not only what is found first.
//!
//! What is wrong is left out, and the rest is looked at again, until nothing is wrong with it.

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

use super::{ConfigError, Source};

/// The most problems that are worth telling at once.
const MAX_PROBLEMS: usize = 50;

/// What a configuration says, without what is wrong with it.
#[derive(Debug)]
pub struct Survey<C> {
    /// What is left; `None` if nothing can be made of it.
    pub config: Option<C>,
    /// What is wrong.
    pub problems: Vec<ConfigError>,
}

/// A configuration has this many problems.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the configuration has {}", match .0 { 1 => "a problem".to_owned(), n => format!("{n} problems") })]
pub struct Invalid(usize);

impl<C> Survey<C> {
    /// Of a file that cannot be read.
    #[must_use]
    pub fn of_nothing(why: ConfigError) -> Self {
        Self { config: None, problems: vec![why] }
    }

    /// Looks at what is written as `R`, of which `check` makes settings. It is given the keys that
    /// are known to be wrong, whose values it leaves out wherever they come from: what is needed
    /// there, it makes up.
    pub fn of<R: DeserializeOwned>(
        source: &Source<'_>,
        check: impl Fn(R, &[&'static str]) -> Result<C, ConfigError>,
    ) -> Self {
        let mut table = match source.plain::<R>() {
            Ok(table) => table,
            Err(error) => return Self::of_nothing(error),
        };
        let mut problems = Vec::new();
        leave_out_misfits::<R>(&mut table, source, &mut problems);
        let mut wrong = Vec::new();
        while problems.len() < MAX_PROBLEMS {
            let Ok(raw) = table.clone().try_into::<R>() else { break };
            let error = match check(raw, &wrong) {
                Ok(config) => return Self { config: Some(config), problems },
                Err(error) => error,
            };
            let ConfigError::Invalid { key, .. } = error else {
                problems.push(error);
                break;
            };
            problems.push(error);
            let is_new = !wrong.contains(&key);
            if !remove(&mut table, key) && !is_new {
                break;
            }
            wrong.push(key);
            table.retain(|key, value| alone::<R>(key, value).is_ok());
        }
        Self { config: None, problems }
    }
}

/// What there is to say after so many problems were named.
///
/// # Errors
/// There were some.
pub fn verdict(problems: usize) -> Result<(), Invalid> {
    match problems {
        0 => Ok(()),
        count => Err(Invalid(count)),
    }
}

/// Leaves out what has no place in a configuration: unknown keys and values of another kind.
fn leave_out_misfits<R: DeserializeOwned>(
    table: &mut Table,
    source: &Source<'_>,
    problems: &mut Vec<ConfigError>,
) {
    // The first one is known with its place in the file.
    let Err(first) = source.read::<R>() else { return };
    let first_text = first.to_string();
    problems.push(first);
    let keys: Vec<String> = table.keys().cloned().collect();
    for key in keys {
        let Some(value) = table.get(&key) else { continue };
        if let Err(error) = alone::<R>(&key, value) {
            if !first_text.contains(error.message()) {
                let message = format!("`{key}`: {}", error.message());
                problems.push(ConfigError::Parse { path: source.path.to_owned(), message });
            }
            table.remove(&key);
        }
    }
}

/// A configuration of one key.
fn alone<R: DeserializeOwned>(key: &str, value: &Value) -> Result<R, toml::de::Error> {
    Table::from_iter([(key.to_owned(), value.clone())]).try_into()
}

/// Removes what `key` names, or the nearest thing around it. Whether there was something.
fn remove(table: &mut Table, key: &str) -> bool {
    let Some((first, rest)) = key.split_once('.') else { return table.remove(key).is_some() };
    let removed_inside = match table.get_mut(first) {
        Some(Value::Table(inner)) => remove(inner, rest),
        Some(_) | None => false,
    };
    removed_inside || table.remove(first).is_some()
}
