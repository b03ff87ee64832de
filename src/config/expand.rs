//! Puts environment variables into a configuration, where its texts have `$NAME` or `${NAME}`.
//!
//! A file is read before that is done, so that what a variable holds is a text, or a part of one,
//! and never another key, whatever quotes and lines are in it. A variable that is not set is an
//! error: nothing in its place would be another configuration.

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

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
    let mut texts = texts.iter();
    for (key, value) in table.iter_mut() {
        fill_value::<T>(value, &Place::Key(&Place::Top, key), &mut texts);
    }
}

/// Where a value is.
enum Place<'a, 'i> {
    Top,
    Key(&'a Self, &'a Spanned<DeString<'i>>),
    Element(&'a Self),
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

fn fill_value<'i, T: DeserializeOwned>(
    value: &mut Spanned<DeValue<'i>>,
    place: &Place<'_, 'i>,
    texts: &mut std::slice::Iter<'i, String>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(string) if string.contains('$') => {
            let rest = string.strip_prefix('$').and_then(name).map(|(_, behind)| behind);
            let is_one_variable = rest == Some("");
            let Some(filled) = texts.next() else { return };
            *string = filled.as_str().into();
            if let Some(plain) = plain(filled).filter(|_| is_one_variable) {
                let plain = Spanned::new(span, plain);
                if !place.takes::<T>(value.clone()) && place.takes::<T>(plain.clone()) {
                    *value = plain;
                }
            }
        }
        DeValue::Array(array) => {
            for element in array.iter_mut() {
                fill_value::<T>(element, &Place::Element(place), texts);
            }
        }
        DeValue::Table(table) => {
            for (key, inner) in table.iter_mut() {
                fill_value::<T>(inner, &Place::Key(place, key), texts);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
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

impl<'i> Place<'_, 'i> {
    /// Whether this value is of the kind that `T` wants here, as far as that can be told without all
    /// the others.
    fn takes<T: DeserializeOwned>(&self, value: Spanned<DeValue<'i>>) -> bool {
        let span = value.span();
        let alone = self.alone(value);
        let whole = alone.span();
        let DeValue::Table(alone) = alone.into_inner() else { return true };
        let read = T::deserialize(Deserializer::from(Spanned::new(whole, alone)));
        read.err().is_none_or(|error| error.span() != Some(span))
    }

    /// A configuration with this value here, and nothing else.
    fn alone(&self, value: Spanned<DeValue<'i>>) -> Spanned<DeValue<'i>> {
        match self {
            Self::Top => value,
            Self::Key(outer, key) => {
                let span = value.span();
                let table = DeTable::from_iter([((*key).clone(), value)]);
                outer.alone(Spanned::new(span, DeValue::Table(table)))
            }
            Self::Element(outer) => {
                let span = value.span();
                outer.alone(Spanned::new(span, DeValue::Array([value].into_iter().collect())))
            }
        }
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
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;
    use crate::config::Source;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, ExpandError>) {
        let variable = |name: &str| (name == "TD_1").then(|| "example.org".to_owned());
        assert_eq!(expand(text, &variable), expected.map(str::to_owned));
    }

    #[test]
    fn variables_are_replaced_and_none_is_taken_for_nothing() {
        check("a = '$TD_1'", Ok("a = 'example.org'"));
        check("${TD_1}x$TD_1", Ok("example.orgxexample.org"));
        check("costs 5$ or $ 5, $", Ok("costs 5$ or $ 5, $"));
        check("a\n$TD_1x", Err(ExpandError::Unset { line: 2, name: "TD_1x".into() }));
        check("\n\n${}", Err(ExpandError::Brace { line: 3 }));
        check("${a b}", Err(ExpandError::Brace { line: 1 }));
        check("${TD_1", Err(ExpandError::Brace { line: 1 }));
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        name: String,
        port: Option<u16>,
        names: Vec<String>,
        numbers: Vec<i64>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        name: String,
        is_on: bool,
    }

    fn read(text: &str) -> Result<File, String> {
        let variables = |name: &str| {
            let value = match name {
                "NUMBER" => "8081",
                "LARGE" => "70000",
                "OCTAL" => "007",
                "TRUE" => "true",
                "HOSTILE" => "x\"\nport = 1\n[inner]\nis_on = true # '''",
                "MORE" => "$NUMBER",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let source = Source { text, path: Path::new("f"), variables: Some(&variables) };
        source.read().map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_a_text_whatever_is_in_it() {
        let hostile = "x\"\nport = 1\n[inner]\nis_on = true # '''";
        for quotes in ["\"", "'", "'''", "\"\"\""] {
            let file = read(&format!("name = {quotes}a${{HOSTILE}}b{quotes}")).unwrap();
            assert_eq!(file, File { name: format!("a{hostile}b"), ..File::default() });
        }
        let file = read("names = ['$HOSTILE', '1$MORE']\ninner = { name = '$HOSTILE' }").unwrap();
        let inner = Inner { name: hostile.into(), is_on: false };
        let names = vec![hostile.into(), "1$NUMBER".into()];
        assert_eq!(file, File { names, inner, ..File::default() });
        // Comments and keys are nobody's values.
        assert_eq!(read("# $NOTHING\n").unwrap(), File::default());
        assert!(read("'$NUMBER' = 1").unwrap_err().contains("unknown field `$NUMBER`"));
        assert!(read("$HOSTILE").unwrap_err().contains("TOML parse error at line 1"));
    }

    #[test]
    fn a_variable_alone_is_a_number_where_one_is_wanted() {
        let text = "port = '$NUMBER'\nname = '${NUMBER}'\nnumbers = ['$NUMBER']\nnames = ['$NUMBER']\n\
                    [inner]\nis_on = '$TRUE'\nname = '$TRUE'";
        let expected = File {
            name: "8081".into(),
            port: Some(8081),
            names: vec!["8081".into()],
            numbers: vec![8081],
            inner: Inner { name: "true".into(), is_on: true },
        };
        assert_eq!(read(text), Ok(expected));
        for text in ["port = '1$NUMBER'", "port = '8081'", "port = '$OCTAL'"] {
            assert!(read(text).unwrap_err().contains("expected u16"), "{text}");
        }
        assert!(read("port = '$LARGE'").unwrap_err().contains("line 1"));
    }

    #[test]
    fn an_error_names_the_variable_and_its_line_and_shows_no_value() {
        let unset = read("name = 'a'\nnames = ['',\n'$NOTHING']").unwrap_err();
        assert_eq!(unset, "f: line 3: the environment variable NOTHING is not set");
        assert!(read("name = 'a'\n\nport = '${'").unwrap_err().contains("f: line 3: `${`"));
        let unknown = read("name = ''\nsecret = '$NUMBER'").unwrap_err();
        assert!(unknown.contains("line 2") && unknown.contains("secret = '$NUMBER'"), "{unknown}");
    }
}
