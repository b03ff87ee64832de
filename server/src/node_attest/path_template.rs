//! The path of an agent's ID, made from what its node proved.
//!
//! The notation is that of SPIRE, of which this takes the part that cannot surprise: text, and
//! `{{ .Name }}` for one value. A value stands for one path segment or a part of one, so that no
//! node can choose where in the tree its identity lies.

use steeple::id::{ParseError, SpiffeId, TrustDomain};
use thiserror::Error;

/// What every agent's path starts with.
const PREFIX: &str = "/spire/agent";

/// A template such as `/x509pop/{{ .Fingerprint }}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathTemplate(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Value(String),
}

/// Why a text is not a template.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TemplateError {
    /// It does not start with a slash.
    #[error("an agent path template starts with a slash")]
    NoSlash,
    /// A `{{` has no `}}`, or the other way round.
    #[error("`{{{{` and `}}}}` are not in pairs")]
    Braces,
    /// Something other than the name of a value is in the braces.
    #[error("`{{{{{0}}}}}` is not `{{{{ .Name }}}}`; functions and conditions are not supported")]
    NotAName(String),
    /// There is no such value.
    #[error("`.{name}` is not one of {known:?}")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// What there is; a name that ends in a dot is followed by a key.
        known: &'static [&'static str],
    },
    /// The text around the values cannot stand in a path.
    #[error(
        "the path has a segment that is empty, `.` or `..`, or a character outside [A-Za-z0-9._-]"
    )]
    Path,
}

/// Why a template gives no path for a node.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RenderError {
    /// The node has no such value.
    #[error("the template asks for `.{0}`, which the node does not have")]
    Missing(String),
    /// The value has a slash, or is nothing.
    #[error("`.{0}` cannot be part of one path segment")]
    NotASegment(String),
    /// The result is not a path.
    #[error("the agent path is not valid: {0}")]
    Path(ParseError),
}

impl PathTemplate {
    /// Reads a template whose values are among `known`; a name there that ends in a dot stands for
    /// all names that start with it.
    pub fn new(text: &str, known: &'static [&'static str]) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        for part in &template.0 {
            let Part::Value(name) = part else { continue };
            let fits = |known: &&str| {
                if known.ends_with('.') {
                    name.len() > known.len() && name.starts_with(known)
                } else {
                    name == known
                }
            };
            if !known.iter().any(fits) {
                return Err(TemplateError::UnknownName { name: name.clone(), known });
            }
        }
        Ok(template)
    }

    /// The ID of the agent whose node has these values.
    pub fn render(
        &self,
        trust_domain: &TrustDomain,
        value: impl Fn(&str) -> Option<String>,
    ) -> Result<SpiffeId, RenderError> {
        let mut path = String::from(PREFIX);
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Value(name) => {
                    let value = value(name).ok_or_else(|| RenderError::Missing(name.clone()))?;
                    if value.is_empty() || value.contains('/') {
                        return Err(RenderError::NotASegment(name.clone()));
                    }
                    path.push_str(&value);
                }
            }
        }
        SpiffeId::new(trust_domain, &path).map_err(RenderError::Path)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::NoSlash);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or(TemplateError::Braces)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Value(name_in(inside)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(['{', '}']))) {
            return Err(TemplateError::Braces);
        }
        let template = Self(parts);
        // Whether some node could have a path by it.
        TrustDomain::parse("example.org")
            .ok()
            .and_then(|trust_domain| template.render(&trust_domain, |_| Some("x".into())).ok())
            .ok_or(TemplateError::Path)?;
        Ok(template)
    }
}

/// The name in ` .Name `.
fn name_in(inside: &str) -> Result<String, TemplateError> {
    let is_name = |name: &&str| {
        name.split('.').all(|part| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            !part.is_empty() && part.chars().all(allowed)
        })
    };
    inside
        .trim()
        .strip_prefix('.')
        .filter(is_name)
        .map(ToOwned::to_owned)
        .ok_or_else(|| TemplateError::NotAName(inside.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["Fingerprint", "Subject.CommonName", "URISanSelectors."];

    fn value(name: &str) -> Option<String> {
        match name {
            "Fingerprint" => Some("ab12".into()),
            "Subject.CommonName" => Some("../server".into()),
            "URISanSelectors.env" => Some("prod".into()),
            "URISanSelectors.empty" => Some(String::new()),
            "URISanSelectors.blank" => Some("a b".into()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(template: &str, expected: Result<&str, RenderError>) {
        let td = TrustDomain::parse("td").unwrap();
        let found = PathTemplate::new(template, KNOWN).unwrap().render(&td, value);
        assert_eq!(found.as_ref().map(SpiffeId::path), expected.as_ref().copied());
    }

    #[track_caller]
    fn check_error(template: &str, expected: TemplateError) {
        assert_eq!(PathTemplate::new(template, KNOWN), Err(expected));
    }

    #[test]
    fn a_template_is_text_and_values_below_the_agents_prefix() {
        check("/a/{{ .Fingerprint }}", Ok("/spire/agent/a/ab12"));
        check("/a/n-{{.Fingerprint}}.x/y", Ok("/spire/agent/a/n-ab12.x/y"));
        check("/{{ .URISanSelectors.env }}/{{ .Fingerprint }}", Ok("/spire/agent/prod/ab12"));
    }

    #[test]
    fn no_value_reaches_out_of_its_segment() {
        let name = |text: &str| text.to_owned();
        check(
            "/{{ .Subject.CommonName }}",
            Err(RenderError::NotASegment(name("Subject.CommonName"))),
        );
        check(
            "/a{{ .URISanSelectors.empty }}",
            Err(RenderError::NotASegment(name("URISanSelectors.empty"))),
        );
        check(
            "/{{ .URISanSelectors.none }}",
            Err(RenderError::Missing(name("URISanSelectors.none"))),
        );
        check("/{{ .URISanSelectors.blank }}", Err(RenderError::Path(ParseError::Path)));
    }

    #[test]
    fn what_is_not_a_template_is_refused_when_it_is_configured() {
        check_error("a/{{ .Fingerprint }}", TemplateError::NoSlash);
        check_error("", TemplateError::NoSlash);
        check_error("/a/{{ .Fingerprint }", TemplateError::Braces);
        check_error("/a/}}{{ .Fingerprint }}", TemplateError::Braces);
        check_error("/a/{{ Fingerprint }}", TemplateError::NotAName(" Fingerprint ".into()));
        check_error(
            "/a/{{ .Fingerprint | upper }}",
            TemplateError::NotAName(" .Fingerprint | upper ".into()),
        );
        check_error(
            "/a/{{ .Nothing }}",
            TemplateError::UnknownName { name: "Nothing".into(), known: KNOWN },
        );
        check_error(
            "/a/{{ .URISanSelectors }}",
            TemplateError::UnknownName { name: "URISanSelectors".into(), known: KNOWN },
        );
        check_error("/a//{{ .Fingerprint }}", TemplateError::Path);
        check_error("/a/../{{ .Fingerprint }}", TemplateError::Path);
        check_error("/", TemplateError::Path);
        check_error("/a b", TemplateError::Path);
    }
}
