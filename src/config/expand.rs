//! Puts environment variables into a configuration, where its texts have `$NAME` or `${NAME}`.
//!
//! A file is read before that is done, so that what a variable holds is a text, or a part of one,
//! and never another key, whatever quotes and lines are in it. A variable that is not set is an
//! error: nothing in its place would be another configuration.

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// Where variables are looked up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text cannot be completed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ExpandError {
    /// There is no such variable.
    #[error("line {line}: the environment variable {name} is not set")]
    Unset {
        /// Where it is named.
        line: usize,
        /// Its name.
        name: String,
    },
    /// A brace is not closed, or there is no name in it.
    #[error("line {line}: `${{` is not followed by the name of a variable and `}}`")]
    Brace {
        /// Where it is.
        line: usize,
    },
}

/// The variable of this name in the environment of this process.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text with the values of the variables that it names, as SPIRE does it with a whole file. A
/// dollar sign before anything else stays.
///
/// # Errors
/// A variable is not set, or not named as it has to be.
pub fn expand(text: &str, variable: Variables<'_>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let line = line(text, text.len() - after.len());
        let (name, behind) = name(after).ok_or(ExpandError::Brace { line })?;
        match name {
            "" => expanded.push('$'),
            name => expanded.push_str(
                &variable(name).ok_or_else(|| ExpandError::Unset { line, name: name.into() })?,
            ),
        }
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What becomes of the texts of a table that was read of `text`, those that have a dollar sign, in the
/// order of the table.
pub(super) fn texts(
    table: &DeTable<'_>,
    (text, variable): (&str, Variables<'_>),
) -> Result<Vec<String>, ExpandError> {
    let mut texts = Vec::new();
    for value in table.values() {
        texts_in(value, (text, variable), &mut texts)?;
    }
    Ok(texts)
}

/// Puts them in their places. Where a text is a variable and no more, and `T` wants a number or a
/// truth value, it becomes one.
pub(super) fn fill<'i, T: DeserializeOwned>(table: &mut DeTable<'i>, texts: &'i [String]) {
    let mut filling = Filling { texts: texts.iter(), perhaps: Vec::new() };
    for (_, value) in table.iter_mut() {
        filling.fill(value);
    }
    let mut perhaps = filling.perhaps;
    // Each that finds its kind may let the next be reached.
    loop {
        let before = perhaps.len();
        perhaps.retain(|(at, plain)| {
            let is_other = wants_no_text::<T>(table, *at);
            if is_other && let Some(value) = table.iter_mut().find_map(|(_, v)| scalar(v, *at)) {
                *value.get_mut() = plain.clone();
            }
            !is_other
        });
        if perhaps.len() == before {
            return;
        }
    }
}

/// A text that is nobody's, to see in an error which text it speaks of.
const MARK: &str = "the text in question";

/// Texts on the way to their places.
struct Filling<'i> {
    texts: std::slice::Iter<'i, String>,
    /// Where a text could be a number or a truth value, by its first byte, and which.
    perhaps: Vec<(usize, DeValue<'i>)>,
}

fn texts_in(
    value: &Spanned<DeValue<'_>>,
    (text, variable): (&str, Variables<'_>),
    texts: &mut Vec<String>,
) -> Result<(), ExpandError> {
    let line = line(text, value.span().start);
    match value.get_ref() {
        DeValue::String(string) if string.contains('$') => {
            texts.push(expand(string, variable).map_err(|error| error.at(line))?);
        }
        DeValue::Array(array) => {
            for element in array {
                texts_in(element, (text, variable), texts)?;
            }
        }
        DeValue::Table(table) => {
            for inner in table.values() {
                texts_in(inner, (text, variable), texts)?;
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
    Ok(())
}

impl<'i> Filling<'i> {
    fn fill(&mut self, value: &mut Spanned<DeValue<'i>>) {
        let at = value.span().start;
        match value.get_mut() {
            DeValue::String(string) if string.contains('$') => {
                let rest = string.strip_prefix('$').and_then(name).map(|(_, behind)| behind);
                let is_one_variable = rest == Some("");
                let Some(filled) = self.texts.next() else { return };
                *string = filled.as_str().into();
                let plain = plain(filled).filter(|_| is_one_variable);
                self.perhaps.extend(plain.map(|plain| (at, plain)));
            }
            DeValue::Array(array) => array.iter_mut().for_each(|element| self.fill(element)),
            DeValue::Table(table) => table.iter_mut().for_each(|(_, inner)| self.fill(inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// The number or truth value that a text is.
fn plain(text: &str) -> Option<DeValue<'_>> {
    if let Ok(truth) = text.parse() {
        return Some(DeValue::Boolean(truth));
    }
    // Not all that TOML has a number for: `1_000` and `0x10` are texts.
    let is_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    DeValue::parse(text).ok().filter(|_| is_number).map(Spanned::into_inner)
}

/// Whether `T` refuses any text here for being one.
///
/// A tagged table tells only with its other keys there, and an error elsewhere in a file hides what
/// comes behind it: the answer is looked for with all of the file, with less and less around the
/// place, with nothing else, and with each text beside it alone, one of which may be the tag.
fn wants_no_text<T: DeserializeOwned>(table: &DeTable<'_>, at: usize) -> bool {
    let refused = format!("invalid type: string {MARK:?}");
    let deepest = table.values().find_map(|value| depth(value, at)).unwrap_or_default() + 1;
    let mut tags = Vec::new();
    table.values().for_each(|value| starts(value, at, &mut tags));
    let beside = tags.into_iter().map(Around::Text);
    (0..=deepest).map(Around::Within).chain(beside).any(|kept| {
        let mut table = table.clone();
        prune(&mut table, at, kept);
        if let Some(value) = table.iter_mut().find_map(|(_, value)| scalar(value, at)) {
            *value.get_mut() = DeValue::String(MARK.into());
        }
        let read = T::deserialize(Deserializer::from(Spanned::new(0..0, table)));
        read.err().is_some_and(|error| error.message().starts_with(&refused))
    })
}

/// What is left around a place.
#[derive(Clone, Copy)]
enum Around {
    /// All that is as many levels further in.
    Within(usize),
    /// The text that begins at this byte, if a table around the place has it.
    Text(usize),
}

impl Around {
    fn further_in(self) -> Self {
        match self {
            Self::Within(levels) => Self::Within(levels.saturating_sub(1)),
            Self::Text(_) => self,
        }
    }
}

/// Leaves nothing else beside this place.
fn prune(table: &mut DeTable<'_>, at: usize, kept: Around) {
    let is_kept = |value: &Spanned<DeValue<'_>>| match kept {
        Around::Within(levels) => levels == 0,
        Around::Text(start) => depth(value, start) == Some(0),
    };
    let all = std::mem::replace(table, DeTable::new()).into_iter();
    *table = all.filter(|(_, value)| is_kept(value) || depth(value, at).is_some()).collect();
    for (_, value) in table.iter_mut() {
        prune_value(value, at, kept.further_in());
    }
}

fn prune_value(value: &mut Spanned<DeValue<'_>>, at: usize, kept: Around) {
    if depth(value, at).is_none() {
        return;
    }
    match value.get_mut() {
        DeValue::Table(table) => prune(table, at, kept),
        DeValue::Array(array) => {
            let elements = std::mem::replace(array, DeArray::new()).into_iter();
            let is_kept = matches!(kept, Around::Within(0));
            *array = elements.filter(|one| is_kept || depth(one, at).is_some()).collect();
            for element in array.iter_mut() {
                prune_value(element, at, kept.further_in());
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

/// Where the texts begin that are in the tables around a place: no other tells what kind these are.
fn starts(value: &Spanned<DeValue<'_>>, at: usize, found: &mut Vec<usize>) {
    let is_around = |value: &Spanned<DeValue<'_>>| depth(value, at).is_some();
    match value.get_ref() {
        DeValue::String(_) => found.push(value.span().start),
        DeValue::Table(table) if is_around(value) => {
            table.values().for_each(|inner| starts(inner, at, found));
        }
        DeValue::Array(array) => {
            let around = array.iter().filter(|element| is_around(element));
            around.for_each(|element| starts(element, at, found));
        }
        DeValue::Table(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

/// How deep in this value the one is that begins at this byte, if it is there.
fn depth(value: &Spanned<DeValue<'_>>, at: usize) -> Option<usize> {
    let inner = match value.get_ref() {
        DeValue::Array(array) => array.iter().find_map(|element| depth(element, at)),
        DeValue::Table(table) => table.values().find_map(|inner| depth(inner, at)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => return (value.span().start == at).then_some(0),
    };
    inner.map(|depth| depth + 1)
}

/// The value that begins at this byte and has no others in it.
fn scalar<'a, 'i>(
    value: &'a mut Spanned<DeValue<'i>>,
    at: usize,
) -> Option<&'a mut Spanned<DeValue<'i>>> {
    if !matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_)) {
        return (value.span().start == at).then_some(value);
    }
    match value.get_mut() {
        DeValue::Array(array) => array.iter_mut().find_map(|element| scalar(element, at)),
        DeValue::Table(table) => table.iter_mut().find_map(|(_, inner)| scalar(inner, at)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}

impl ExpandError {
    /// The same on another line.
    fn at(self, line: usize) -> Self {
        match self {
            Self::Unset { name, .. } => Self::Unset { line, name },
            Self::Brace { .. } => Self::Brace { line },
        }
    }
}

/// The name behind a dollar sign, empty if there is none, and what comes after it.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = text.strip_prefix('{') {
        let (name, behind) = braced.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_name)).then_some((name, behind));
    }
    Some(text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())))
}

/// The line of this byte.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests;
