//! Holds `conformance.txt` to the SPIFFE requirements: each has a test that cites it. (`spire`
//! and `words` hold tables more: what SPIRE's suites check, what is known to be wrong with SPIRE, and
//! what scripts look for in its output.)
//!
//! A requirement is a row of the compliance checklist (`X509-02`, `H031`, …), which restates the
//! SPIFFE specifications, the RFCs that they build on, and what released clients rely on. The table
//! says which test shows it. The tests here fail on a requirement without a line, on a line that
//! names something that is not there, and on a test that does not say what it shows.

#![expect(clippy::expect_used, reason = "a tree that cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[path = "conformance/spire.rs"]
mod spire;
#[path = "conformance/words.rs"]
mod words;

/// The requirements that have to have a line: of the standards all that are a MUST, of an RFC, or
/// needed by a released client; of the hostile inputs all. By prefix, numbers and ranges.
const DEMANDED: &[(&str, &str)] = &[
    ("SID-", "01..10 12..14 16 17"),
    ("X509-", "01..07 09..11 14..17 19..22 24..29"),
    ("JWT-", "01..04 06..09 11..13 15..19 21 22"),
    ("TDB-", "01 04..07 09 11..13"),
    ("WEP-", "01 03..07 09..14 17..19"),
    ("WAPI-", "01..05 07 11 12 15 20..27 29 33 36 40..42 44..47 49..53 60 61 64"),
    ("H", "001..055 060..078 080..114 120..148"),
];

/// The requirements that may have a line. The others are nobody's.
const KNOWN: &[(&str, &str)] = &[
    ("SID-", "01..18"),
    ("X509-", "01..29"),
    ("JWT-", "01..23"),
    ("TDB-", "01..15"),
    ("WEP-", "01..20"),
    ("WAPI-", "01..15 20..36 40..54 60..64"),
    ("H", "001..055 060..078 080..114 120..148 150..168"),
];

/// The identifiers that a list of prefixes and numbers stands for.
fn identifiers(list: &[(&str, &str)]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (prefix, numbers) in list {
        for range in numbers.split_whitespace() {
            let (first, last) = range.split_once("..").unwrap_or((range, range));
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let width = first.len();
            all.extend((number(first)..=number(last)).map(|n| format!("{prefix}{n:0width$}")));
        }
    }
    all
}

/// What the table says of one requirement.
#[derive(Debug, Eq, PartialEq)]
enum Proof<'a> {
    /// The tests that show it: a file, and a function in it.
    Tests(Vec<(&'a str, &'a str)>),
    /// Why it does not apply.
    Excuse(&'a str),
}

/// Reads a line of the table: the requirement, and either `PATH::FUNCTION …` or `- REASON`.
fn line(text: &str) -> Result<(&str, Proof<'_>), &'static str> {
    let (id, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err("says nothing of the requirement");
    }
    if let Some(reason) = rest.strip_prefix('-') {
        let reason = reason.trim();
        let long_enough = reason.split_whitespace().count() >= 3;
        return if long_enough { Ok((id, Proof::Excuse(reason))) } else { Err("has no reason") };
    }
    let tests = rest.split_whitespace().map(|test| test.split_once("::"));
    let tests = tests.collect::<Option<Vec<_>>>().ok_or("has a test without `PATH::FUNCTION`")?;
    Ok((id, Proof::Tests(tests)))
}

/// Everything that is wrong with a table, given how to read the files that it names.
fn complaints(table: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let (demanded, known) = (identifiers(DEMANDED), identifiers(KNOWN));
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    let mut files: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for text in table.lines().filter(|text| !text.is_empty() && !text.starts_with('#')) {
        let (id, proof) = match line(text) {
            Ok(parts) => parts,
            Err(what) => {
                complaints.push(format!("`{text}` {what}"));
                continue;
            }
        };
        if !known.contains(id) {
            complaints.push(format!("{id} is no requirement"));
        }
        if !seen.insert(id.to_owned()) {
            complaints.push(format!("{id} has two lines"));
        }
        let Proof::Tests(tests) = proof else { continue };
        for (path, name) in tests {
            let file = files.entry(path).or_insert_with(|| read(path));
            if let Some(what) = fault(file.as_deref(), name, id) {
                complaints.push(format!("{id}: {path}::{name} {what}"));
            }
        }
    }
    complaints.extend(demanded.difference(&seen).map(|id| format!("{id} has no line")));
    complaints
}

/// Why the function `name` of a file does not show the requirement `id`.
fn fault(file: Option<&str>, name: &str, id: &str) -> Option<&'static str> {
    let Some(file) = file else { return Some("is in a file that is not there") };
    let items = items(file);
    let Some(test) = items.iter().find(|item| item.name == name && item.is_test()) else {
        return Some("is no test");
    };
    let cites = |item: &Item| has_word(item.text, id);
    let called = |item: &&Item| item.name != name && has_word(test.text, item.name);
    let shown = cites(test) || items.iter().filter(|item| called(item)).any(cites);
    if shown { None } else { Some("does not cite it") }
}

/// A function, constant or static of a file, with the comments and attributes above it.
struct Item<'a> {
    name: &'a str,
    text: &'a str,
}

impl Item<'_> {
    fn is_test(&self) -> bool {
        let attributes = self.text.lines().map(str::trim).take_while(|line| !is_head(line));
        let mut attributes = attributes.filter(|line| line.starts_with("#["));
        attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
    }
}

fn is_head(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("//") && !line.starts_with("#[")
}

/// The items of a file that rustfmt has been over: an item ends where its indentation comes back.
fn items(file: &str) -> Vec<Item<'_>> {
    let mut starts = vec![0];
    starts.extend(file.match_indices('\n').map(|(at, _)| at + 1));
    let start = |index: usize| starts.get(index).copied().unwrap_or(file.len());
    let text = |index: usize| &file[start(index)..start(index + 1)];
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_above = |line: &str| ["//", "#["].iter().any(|head| line.trim_start().starts_with(head));

    let mut items = Vec::new();
    for index in 0..starts.len() {
        let Some(name) = named(text(index).trim_start()) else { continue };
        let mut first = index;
        while first > 0 && is_above(text(first - 1)) {
            first -= 1;
        }
        let closes = |line: &str| {
            indent(line) == indent(text(index)) && matches!(line.trim(), "}" | "};" | "];" | ");")
        };
        let mut last = index;
        if !text(index).trim_end().ends_with(['}', ';']) {
            last = (index + 1..starts.len()).find(|line| closes(text(*line))).unwrap_or(index);
        }
        items.push(Item { name, text: &file[start(first)..start(last + 1)] });
    }
    items
}

/// The name of the item that a line begins.
fn named(line: &str) -> Option<&str> {
    let line = match line.split_once(' ') {
        Some((visibility, rest)) if visibility.starts_with("pub") => rest,
        Some(_) | None => line,
    };
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = ["fn ", "const ", "static "].iter().find_map(|kind| line.strip_prefix(kind))?;
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

/// Whether `word` occurs in `text` by itself.
fn has_word(text: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}

#[test]
fn every_requirement_has_a_test_that_cites_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let table = read("tests/conformance.txt").expect("the table can be read");
    let found = complaints(&table, read);
    assert!(found.is_empty(), "{found:#?}");
}

/// A file with a test of each kind.
const SAMPLE: &str = r#"//! A sample.

const ROWS: &[&str] = &[
    "a", // H002
];

/// SID-01
#[test]
fn plain() {
    check("a"); // SID-02
}

mod tests {
    // SID-03
    #[tokio::test(start_paused = true)]
    async fn nested() {
        for row in ROWS {}
        helper();
    }

    fn helper() {
        // SID-04, and SID-051
    }
}
"#;

/// Checks what is said of `table`, besides of what it leaves out.
#[track_caller]
fn check(table: &str, expected: &[&str]) {
    let read = |path: &str| (path == "a.rs").then(|| SAMPLE.to_owned());
    let mut found = complaints(table, read);
    found.retain(|complaint| !complaint.ends_with("has no line"));
    let as_expected = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(as_expected, "{table}: expected {expected:?}, found {found:?}");
}

#[test]
fn a_test_cites_a_requirement_itself_or_in_what_it_calls() {
    for line in [
        "SID-01  a.rs::plain",
        "SID-02 a.rs::plain",
        "SID-03  a.rs::nested",
        "SID-04  a.rs::nested",
        "H002  a.rs::nested",
    ] {
        check(line, &[]);
    }
    check("SID-05  a.rs::nested", &["does not cite it"]);
    check("SID-03  a.rs::plain", &["does not cite it"]);
    check("H002  a.rs::plain", &["does not cite it"]);
    check("SID-03  a.rs::nested a.rs::plain", &["a.rs::plain does not cite it"]);
    check("SID-04  a.rs::helper", &["is no test"]);
    check("SID-01  a.rs::missing", &["is no test"]);
    check("SID-01  b.rs::plain", &["is in a file that is not there"]);
}

#[test]
fn a_line_is_a_known_requirement_with_tests_or_a_reason() {
    check("# A comment.\n\nSID-01  - needs what is not there yet", &[]);
    check("SID-01  -", &["has no reason"]);
    check("SID-01  - later", &["has no reason"]);
    check("SID-01", &["says nothing"]);
    check("SID-01  ", &["says nothing"]);
    check("SID-01  plain", &["without `PATH::FUNCTION`"]);
    check("SID-19  - needs what is not there yet", &["SID-19 is no requirement"]);
    check("SID-1  - needs what is not there yet", &["SID-1 is no requirement"]);
    check("SID-01  a.rs::plain\nSID-01  a.rs::plain", &["SID-01 has two lines"]);
}

#[test]
fn a_requirement_without_a_line_is_missed() {
    let found = complaints("SID-01  - needs what is not there yet", |_| None);
    assert!(!found.contains(&"SID-01 has no line".to_owned()));
    assert!(found.contains(&"SID-02 has no line".to_owned()));
    assert!(found.contains(&"H148 has no line".to_owned()));
    assert!(!found.iter().any(|complaint| complaint.starts_with("SID-11 ")), "no MUST");
    assert!(identifiers(DEMANDED).is_subset(&identifiers(KNOWN)));
    assert_eq!(identifiers(&[("H", "001 009..011")]).len(), 4);
}
