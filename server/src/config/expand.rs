//! Puts environment variables into the text of a configuration: `$NAME` and `${NAME}`.
//!
//! A variable that is not set is an error: nothing in its place would be another configuration.

use thiserror::Error;

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

/// The text with the values of the variables that it names. A dollar sign before anything else
/// stays.
pub fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let line = 1 + text.len().checked_sub(after.len()).map_or(0, |at| lines(text, at));
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

/// The name behind a dollar sign, empty if there is none, and what comes after it.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = text.strip_prefix('{') {
        let (name, behind) = braced.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_name)).then_some((name, behind));
    }
    Some(text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())))
}

/// How many lines end before this byte.
fn lines(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
