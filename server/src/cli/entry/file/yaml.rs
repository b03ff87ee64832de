//! The same in YAML, within bounds: aliases that multiply, and nesting, come to an end.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{Error, Options};

/// The most that aliases may add to a file, in what a parser sees of it.
const MAX_REPLAYED: usize = 1_000_000;

/// The most events of a parser, which is a million entries of some fields each.
const MAX_EVENTS: usize = 40_000_000;

/// Reads the YAML that came from `path`. An error names the file, the field and the line.
pub(super) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> anyhow::Result<T> {
    let mut place = String::from(".");
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            place = error.path().to_string();
            error.into_inner()
        })
    });
    let read = read.map_err(|error| match &*place {
        "." => describe(&error),
        place => anyhow!("{place}: {}", describe(&error)),
    });
    read.with_context(|| super::name(path))
}

/// The error on one line, with its place behind it as in JSON.
fn describe(error: &Error) -> anyhow::Error {
    anyhow!("{}", error.to_string().trim_end().replace('\n', " "))
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_events: MAX_EVENTS,
        max_nodes: MAX_EVENTS,
        max_documents: 1,
        // One name for the parent of all entries is what aliases are for.
        enforce_alias_anchor_ratio: false,
    };
    let aliases = serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED };
    serde_saphyr::options! {
        budget: budget,
        alias_limits: aliases,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entries, parse as parse_json};
    use super::*;

    #[track_caller]
    fn check(yaml: &str, json: &str) {
        let path = Path::new("f.yaml");
        let drafts = |file: Entries| file.entries.into_iter().map(|one| one.0).collect::<Vec<_>>();
        let yaml: Entries = parse(yaml, path).unwrap();
        let json: Entries = parse_json(json, path).unwrap();
        assert_eq!(drafts(yaml), drafts(json));
    }

    #[track_caller]
    fn check_refused(yaml: &str, expected: &str) {
        let read: anyhow::Result<Entries> = parse(yaml, Path::new("f.yaml"));
        let error = format!("{:#}", read.err().expect("it was read"));
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("f.yaml: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn yaml_says_what_json_says() {
        check(
            "entries:\n\
             - entry_id: e1   # the first\n\
             \x20 spiffe_id: spiffe://td/web\n\
             \x20 parent_id: &node spiffe://td/node\n\
             \x20 selectors: [unix:uid:1, {type: unix, value: gid:2}]\n\
             \x20 x509_svid_ttl: 60\n\
             \x20 admin: true\n\
             - spiffe_id: {trust_domain: td, path: /b}\n\
             \x20 parent_id: *node\n\
             \x20 hint: '1'\n",
            r#"{"entries": [
                {"entry_id": "e1", "spiffe_id": "spiffe://td/web", "parent_id": "spiffe://td/node",
                 "selectors": ["unix:uid:1", {"type": "unix", "value": "gid:2"}],
                 "x509_svid_ttl": 60, "admin": true},
                {"spiffe_id": "spiffe://td/b", "parent_id": "spiffe://td/node", "hint": "1"}
            ]}"#,
        );
        check("entries: []", r#"{"entries": []}"#);
    }

    #[test]
    fn a_refusal_says_what_and_where() {
        let entry = |fields: &str| format!("entries:\n- spiffe_id: spiffe://td/a\n  {fields}\n");
        check_refused(&entry("ttl: 1"), "entries[0].ttl: ");
        check_refused(&entry("ttl: 1"), "unknown field `ttl`");
        check_refused(&entry("ttl: 1"), "line 3");
        check_refused(&entry("spiffe_id: spiffe://td/b"), "duplicate");
        check_refused(&entry("x509_svid_ttl: soon"), "entries[0].x509_svid_ttl: ");
        check_refused(&entry("admin: yes"), "entries[0].admin: ");
        check_refused(&entry("parent_id: http://x"), "entries[0].parent_id: \"http://x\"");
        check_refused(&entry("selectors: [unix]"), "entries[0].selectors[0]: \"unix\"");
        check_refused("entries: [\n", "f.yaml: ");
        check_refused("- a\n", "expected mapping start at line 1");
        check_refused("entries: []\n---\nentries: []\n", "document");
        check_refused("", "f.yaml: ");
    }

    #[test]
    fn what_grows_without_bounds_comes_to_an_end() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [&*below; 10].join(", "));
        }
        bomb += "entries: *a11\n";
        check_refused(&bomb, "f.yaml: ");
        check_refused(&format!("entries: {}", "[".repeat(100_000)), "f.yaml: ");
        check_refused(&"{a: ".repeat(100_000), "f.yaml: ");
        check_refused("entries: &a [*a]\n", "f.yaml: ");
    }
}
