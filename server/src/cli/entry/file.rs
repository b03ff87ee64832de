//! Entries in a JSON file: in the form that SPIRE's tools read, and in the one that `entry show
//! --output json` writes, so that what was shown can be created or restored.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use serde::de::{self, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::Selector;

use super::draft::Draft;

mod yaml;

/// What is said of the fields of an entry that are named beside a file.
pub(super) const ALONE: &str =
    "Warning: the flags beside --data are ignored, as the file says all there is to say";

/// The entries of a file, or of standard input if it is `-`.
pub(super) fn entries(path: &Path) -> anyhow::Result<Vec<Draft>> {
    let file: Entries = parse(&read(path)?, path)?;
    Ok(file.entries.into_iter().map(|entry| entry.0).collect())
}

/// The same of a file that may also be YAML.
pub(super) fn entries_of_any_form(path: &Path) -> anyhow::Result<Vec<Draft>> {
    let text = read(path)?;
    let is_json = text.trim_start().starts_with('{');
    let file: Entries = if is_json { parse(&text, path)? } else { yaml::parse(&text, path)? };
    Ok(file.entries.into_iter().map(|entry| entry.0).collect())
}

/// The IDs of a file `{"ids": […]}`, or of standard input if it is `-`.
pub(super) fn ids(path: &Path) -> anyhow::Result<Vec<String>> {
    let file: Ids = parse(&read(path)?, path)?;
    Ok(file.ids)
}

/// The text of a file, or of standard input if it is `-`.
pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads the JSON that came from `path`. An error names the file, the field and the line.
pub(in crate::cli) fn parse<'a, T: Deserialize<'a>>(
    text: &'a str,
    path: &Path,
) -> anyhow::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| place(&error));
    let read = read.and_then(|read| deserializer.end().map(|()| read).map_err(Into::into));
    read.with_context(|| name(path))
}

/// An error with the field that it is about in front.
fn place<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> anyhow::Error {
    let (path, error) = (error.path().to_string(), error.inner());
    if path == "." { anyhow!("{error}") } else { anyhow!("{path}: {error}") }
}

fn name(path: &Path) -> String {
    let is_stdin = path == Path::new("-");
    if is_stdin { "standard input".to_owned() } else { path.display().to_string() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object {\"entries\": […]}")]
struct Entries {
    entries: Vec<Entry>,
    #[serde(default, rename = "next_page_token")]
    _next_page_token: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object {\"ids\": […]}")]
struct Ids {
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(from = "Raw")]
struct Entry(Draft);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the fields of an entry")]
struct Raw {
    #[serde(alias = "id")]
    entry_id: Option<String>,
    spiffe_id: Option<Id>,
    parent_id: Option<Id>,
    selectors: Option<Vec<Fact>>,
    x509_svid_ttl: Option<Number<i32>>,
    jwt_svid_ttl: Option<Number<i32>>,
    federates_with: Option<Vec<String>>,
    admin: Option<bool>,
    downstream: Option<bool>,
    #[serde(rename = "entryExpiry", alias = "entry_expiry", alias = "expires_at")]
    entry_expiry: Option<Number<i64>>,
    dns_names: Option<Vec<String>>,
    store_svid: Option<bool>,
    hint: Option<String>,
    additional_attributes: Option<Attributes>,
    // The server's own: written by `entry show`, and never read.
    #[serde(rename = "revision_number")]
    _revision_number: Option<IgnoredAny>,
    #[serde(rename = "created_at")]
    _created_at: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object {\"type\": …, \"value\": …}")]
struct RawSelector {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

/// A selector, in parts or as a text.
struct Fact(Selector);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with attributes of an entry")]
struct Attributes {
    disable_x509_svid_prefetch: Option<bool>,
    jwt_svid_include_jti: Option<bool>,
}

/// A SPIFFE ID, as a text or in parts.
struct Id(SpiffeId);

/// A number, which protobuf's JSON writes as a text if it may be long.
struct Number<T>(T);

impl From<Raw> for Entry {
    fn from(raw: Raw) -> Self {
        let attributes = raw.additional_attributes.unwrap_or_default();
        Self(Draft {
            id: raw.entry_id.filter(|id| !id.is_empty()),
            spiffe_id: raw.spiffe_id.map(|id| id.0),
            parent_id: raw.parent_id.map(|id| id.0),
            selectors: raw
                .selectors
                .map(|selectors| selectors.into_iter().map(|selector| selector.0).collect()),
            x509_svid_ttl: raw.x509_svid_ttl.map(|ttl| ttl.0),
            jwt_svid_ttl: raw.jwt_svid_ttl.map(|ttl| ttl.0),
            federates_with: raw.federates_with,
            admin: raw.admin,
            downstream: raw.downstream,
            expires_at: raw.entry_expiry.map(|moment| moment.0),
            dns_names: raw.dns_names,
            store_svid: raw.store_svid,
            hint: raw.hint,
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            if_revision: None,
        })
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FactVisitor)
    }
}

struct FactVisitor;

impl<'de> Visitor<'de> for FactVisitor {
    type Value = Fact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a selector, as \"TYPE:VALUE\" or {\"type\": …, \"value\": …}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fact, E> {
        text.parse().map(Fact).map_err(|error| E::custom(format!("{text:?}: {error}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fact, A::Error> {
        let raw = RawSelector::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Selector::new(&raw.kind, &raw.value).map(Fact).map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SPIFFE ID, as \"spiffe://…\" or {\"trust_domain\": …, \"path\": …}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
        text.parse().map(Id).map_err(|error| E::custom(format!("{text:?}: {error}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Id, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts {
            trust_domain: String,
            path: String,
        }
        let parts = Parts::deserialize(de::value::MapAccessDeserializer::new(map))?;
        TrustDomain::parse(&parts.trust_domain)
            .and_then(|trust_domain| SpiffeId::new(&trust_domain, &parts.path))
            .map(Id)
            .map_err(A::Error::custom)
    }
}

impl<'de, T: FromStr + TryFrom<i64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a whole number")]
        enum Either {
            Number(i64),
            Text(String),
        }
        let number = match Either::deserialize(deserializer)? {
            Either::Number(number) => T::try_from(number).ok(),
            Either::Text(text) => text.parse().ok(),
        };
        number.map(Self).ok_or_else(|| D::Error::custom("the number is too large or none at all"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{json, testing};
    use super::*;

    fn drafts(text: &str) -> anyhow::Result<Vec<Draft>> {
        let file: Entries = parse(text, Path::new("f.json"))?;
        Ok(file.entries.into_iter().map(|entry| entry.0).collect())
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = format!("{:#}", drafts(text).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_in_the_form_of_spire_is_read() {
        let text = r#"{"entries": [{
            "entry_id": "e1",
            "spiffe_id": "spiffe://td/web",
            "parent_id": "spiffe://td/spire/agent/x",
            "selectors": [
                {"type": "unix", "value": "uid:1"}, {"type": "unix", "value": "user:a:b"}
            ],
            "x509_svid_ttl": 60,
            "jwt_svid_ttl": 30,
            "federates_with": ["other"],
            "admin": true,
            "downstream": true,
            "entryExpiry": 2000000000,
            "dns_names": ["a.b"],
            "store_svid": true,
            "hint": "h",
            "additional_attributes": {
                "disable_x509_svid_prefetch": true, "jwt_svid_include_jti": true
            }
        }]}"#;
        let mut read = drafts(text).unwrap();
        let draft = read.remove(0);
        draft.check_new().unwrap();
        let stored = testing::full_entry();
        let sent = draft.into_entry();
        assert_eq!(
            sent,
            steeple_proto::spire::api::types::Entry { revision_number: 0, created_at: 0, ..stored }
        );
    }

    #[test]
    fn what_was_shown_can_be_read_again() {
        let shown = format!(
            r#"{{"entries":[{}],"next_page_token":""}}"#,
            json::entry(&testing::full_entry())
        );
        let sent = drafts(&shown).unwrap().remove(0).into_entry();
        assert_eq!(
            sent,
            steeple_proto::spire::api::types::Entry {
                revision_number: 0,
                created_at: 0,
                ..testing::full_entry()
            }
        );
    }

    #[test]
    fn what_is_not_said_is_not_changed() {
        let draft = drafts(r#"{"entries":[{"id":"e","hint":"","admin":null}]}"#).unwrap().remove(0);
        let expected =
            Draft { id: Some("e".into()), hint: Some(String::new()), ..Draft::default() };
        assert_eq!(draft, expected);
    }

    #[test]
    fn a_refusal_says_what_and_where() {
        let entry = |fields: &str| format!("{{\"entries\": [\n{{{fields}}}]}}");
        check_refused(
            &entry(r#""spiffe_id": "spiffe://td/a", "ttl": 1"#),
            "f.json: entries[0].ttl: unknown field `ttl`, expected one of `entry_id`",
        );
        check_refused(&entry(r#""ttl": 1"#), "line 2 column 6");
        check_refused(r#"{"entrys": []}"#, "unknown field `entrys`, expected `entries`");
        check_refused("{}", "missing field `entries`");
        check_refused("[]", "expected an object {\"entries\": […]}");
        check_refused(&entry(r#""spiffe_id": "http://x""#), "\"http://x\": a SPIFFE ID starts");
        check_refused(&entry(r#""spiffe_id": 1"#), "expected a SPIFFE ID, as \"spiffe://…\"");
        check_refused(
            &entry(r#""parent_id": {"trust_domain": "TD", "path": "/a"}"#),
            "write it in lower case",
        );
        check_refused(&entry(r#""selectors": [{"type": "a"}]"#), "missing field `value`");
        check_refused(&entry(r#""selectors": [{"type": "", "value": "b"}]"#), "type is empty");
        check_refused(
            &entry(r#""selectors": ["unix"]"#),
            "entries[0].selectors[0]: \"unix\": a selec",
        );
        check_refused(
            &entry(r#""selectors": [1]"#),
            "as \"TYPE:VALUE\" or {\"type\": …, \"value\": …}",
        );
        check_refused(&entry(r#""x509_svid_ttl": "1h""#), "number");
        check_refused(&entry(r#""x509_svid_ttl": 3000000000"#), "too large");
        check_refused(&entry(r#""hint": "a", "hint": "b""#), "duplicate field `hint`");
        check_refused(&entry(r#""additional_attributes": {"jti": true}"#), "unknown field `jti`");
        check_refused("{\"entries\": [", "EOF");
        check_refused("{\"entries\": []} x", "trailing characters at line 1");
    }
}
