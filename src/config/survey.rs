//! All that is wrong with a configuration, and not only what is found first.
//!
//! What is wrong is left out, and the rest is looked at again, until nothing is wrong with it.

use std::path::Path;

use steeple::config::{ConfigError, Source};
use toml::{Table, Value};

use super::flags::Flags;
use super::{Config, raw};

/// The most problems that are worth telling at once.
const MAX_PROBLEMS: usize = 50;

/// What a configuration says, without what is wrong with it.
#[derive(Debug)]
pub struct Survey {
    /// What is left; `None` if nothing can be made of it.
    pub config: Option<Config>,
    /// What is wrong.
    pub problems: Vec<ConfigError>,
}

/// Looks at the settings of a file with this text under the flags.
pub(super) fn survey(text: &str, path: &Path, flags: &Flags) -> Survey {
    let mut problems = Vec::new();
    let source = Source::of((text, path), flags.expand_env);
    let mut table = match source.plain::<raw::Config>() {
        Ok(table) => table,
        Err(error) => return Survey { config: None, problems: vec![error] },
    };
    leave_out_misfits(&mut table, &source, &mut problems);
    while problems.len() < MAX_PROBLEMS {
        let Ok(raw) = table.clone().try_into::<raw::Config>() else { break };
        match flags.over(raw).check() {
            Ok(config) => return Survey { config: Some(config), problems },
            Err(error) => {
                let is_left_out = matches!(&error, ConfigError::Invalid { key, .. }
                    if remove(&mut table, key));
                problems.push(error);
                if !is_left_out {
                    break;
                }
                table.retain(|key, value| alone(key, value).is_ok());
            }
        }
    }
    Survey { config: None, problems }
}

/// Leaves out what has no place in a configuration: unknown keys and values of another kind.
fn leave_out_misfits(table: &mut Table, source: &Source<'_>, problems: &mut Vec<ConfigError>) {
    // The first one is known with its place in the file.
    let Err(first) = source.read::<raw::Config>() else { return };
    let first_text = first.to_string();
    problems.push(first);
    let keys: Vec<String> = table.keys().cloned().collect();
    for key in keys {
        let Some(value) = table.get(&key) else { continue };
        if let Err(error) = alone(&key, value) {
            if !first_text.contains(error.message()) {
                let message = format!("`{key}`: {}", error.message());
                problems.push(ConfigError::Parse { path: source.path.to_owned(), message });
            }
            table.remove(&key);
        }
    }
}

/// A configuration of one key.
fn alone(key: &str, value: &Value) -> Result<raw::Config, toml::de::Error> {
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
