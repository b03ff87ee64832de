//! Holds two tables to what is known of SPIRE. `scenarios.txt` says which test re-creates a scenario
//! of its integration suites; `defects.txt` says of each of its known defects which test shows that
//! Steeple does not have it, or in which words `deploy/DIFFERENCES.md` says that it was kept.
//!
//! The tests here fail on a scenario or defect without a line, and on a line that names a test or
//! words that are not there. Tests may be in Rust, Go or Python.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{has_word, identifiers, items, line};

/// The scenarios that have to be there, by the names of SPIRE's suites.
const SCENARIOS: &[&str] = &[
    "admin-endpoints",
    "agent-cli",
    "debug-endpoints",
    "delegatedidentity",
    "downstream-endpoints",
    "entries",
    "evict-agent",
    "fetch-jwt-svids",
    "fetch-x509-svids",
    "force-rotation-jwt-authority",
    "force-rotation-self-signed",
    "force-rotation-upstream-authority",
    "join-token",
    "nested-rotation",
    "node-attestation",
    "node-re-attestation",
    "rotation",
    "spire-server-cli",
    "sync-authorized-entries",
];

/// The defects, by their numbers.
const DEFECTS: &[(&str, &str)] = &[("", "1..52")];

const DIFFERENCES: &str = "deploy/DIFFERENCES.md";

/// What a table is about.
struct Table<'a> {
    /// The lines that it has to have.
    demanded: BTreeSet<String>,
    /// Whether a test has to say what it shows, as a scenario.
    is_named: bool,
    text: &'a str,
}

/// Everything that is wrong with a table, given how to read the files that it names.
fn complaints(table: &Table<'_>, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for text in table.text.lines().filter(|text| !text.is_empty() && !text.starts_with('#')) {
        let (id, rest) = text.split_once(' ').unwrap_or((text, ""));
        if !table.demanded.contains(id) {
            complaints.push(format!("{id} is none"));
        }
        if !seen.insert(id.to_owned()) {
            complaints.push(format!("{id} has two lines"));
        }
        if let Some(words) = rest.trim().strip_prefix('=') {
            let document = read(DIFFERENCES).map(|text| words_of(&text));
            if !document.is_some_and(|document| document.contains(&words_of(words))) {
                complaints.push(format!("{id}: {DIFFERENCES} does not say: {}", words.trim()));
            }
            continue;
        }
        match line(text) {
            Err(what) => complaints.push(format!("`{text}` {what}")),
            Ok((_, crate::Proof::Excuse(_))) => {}
            Ok((_, crate::Proof::Tests(tests))) => {
                let scenario = table.is_named.then_some(id);
                for (path, name) in tests {
                    if let Some(what) = fault(path, name, read(path).as_deref(), scenario) {
                        complaints.push(format!("{id}: {path}::{name} {what}"));
                    }
                }
            }
        }
    }
    complaints.extend(table.demanded.difference(&seen).map(|id| format!("{id} has no line")));
    complaints
}

/// A text whose lines may be broken anywhere.
fn words_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why the test `name` of a file does not show what it is named for.
fn fault(
    path: &str,
    name: &str,
    file: Option<&str>,
    scenario: Option<&str>,
) -> Option<&'static str> {
    let Some(file) = file else { return Some("is in a file that is not there") };
    let Some(text) = test(path, name, file) else { return Some("is no test") };
    let head =
        file.lines().take_while(|line| line.starts_with("//!") || line.starts_with("\"\"\""));
    let head = head.collect::<Vec<_>>().join("\n");
    match scenario {
        Some(id) if !names(text, id) && !names(&head, id) => Some("does not name the scenario"),
        Some(_) | None => None,
    }
}

/// Whether a text speaks of the scenario of this name.
fn names(text: &str, scenario: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '-';
    let is_there = text.match_indices(scenario).any(|(start, _)| {
        let after = text[start + scenario.len()..].chars().next();
        !text[..start].ends_with(in_name) && !after.is_some_and(in_name)
    });
    is_there && (text.contains("SPIRE") || text.to_lowercase().contains("scenario"))
}

/// The text of a test, with the comments above it.
fn test<'a>(path: &str, name: &str, file: &'a str) -> Option<&'a str> {
    let (head, comment) = match path.rsplit_once('.') {
        Some((_, "rs")) => {
            let items = items(file);
            return items
                .into_iter()
                .find(|item| item.name == name && item.is_test())
                .map(|item| item.text);
        }
        Some((_, "go")) => (format!("func {name}(t *testing.T)"), "//"),
        Some((_, "py")) => (format!("def {name}("), "#"),
        Some(_) | None => return None,
    };
    let is_test = ["Test", "test_"].iter().any(|prefix| name.starts_with(prefix));
    let at = file.match_indices(&head).map(|(at, _)| at);
    let at =
        at.into_iter().find(|at| *at == 0 || file[..*at].ends_with('\n')).filter(|_| is_test)?;
    let above = file[..at].rsplit_terminator('\n').take_while(|line| line.starts_with(comment));
    let start = at - above.map(|line| line.len() + 1).sum::<usize>();
    // It goes on for as long as lines are indented or empty.
    let ends = |line: &&str| !line.trim().is_empty() && !line.starts_with([' ', '\t', '}', ')']);
    let body = file[at..].split_inclusive('\n').skip(1).take_while(|line| !ends(line));
    let end = at + head.len() + body.map(str::len).sum::<usize>();
    file.get(start..end.min(file.len()))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn scenarios(text: &str) -> Table<'_> {
    let demanded = SCENARIOS.iter().map(|name| (*name).to_owned()).collect();
    Table { demanded, is_named: true, text }
}

fn defects(text: &str) -> Table<'_> {
    Table { demanded: identifiers(DEFECTS), is_named: false, text }
}

#[test]
fn every_scenario_has_a_test_that_names_it() {
    let table = read("tests/scenarios.txt").expect("the table can be read");
    let found = complaints(&scenarios(&table), read);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_defect_has_a_test_or_is_documented() {
    let table = read("tests/defects.txt").expect("the table can be read");
    let found = complaints(&defects(&table), read);
    assert!(found.is_empty(), "{found:#?}");
}

const GO: &str = "package sdk

// SPIRE's scenario `rotation`.
func TestOne(t *testing.T) {
\tuse()

\tmore()
}

func TestTwo(t *testing.T) {
\t// And scenario entries, beside join-tokens.
}

func helper() {}
";

const PYTHON: &str = "def test_one(deploy):
    \"\"\"Scenario `join-token`\"\"\"

    assert True


def helper():
    \"\"\"`evict-agent`\"\"\"
";

const RUST: &str = "/// Scenario agent-cli\n#[test]\nfn one() {}\n";

/// Checks what is said of a table, besides of what it leaves out.
#[track_caller]
fn check(table: &Table<'_>, expected: &[&str]) {
    let read = |path: &str| match path {
        "a.go" => Some(GO.to_owned()),
        "a.py" => Some(PYTHON.to_owned()),
        "a.rs" => Some(RUST.to_owned()),
        DIFFERENCES => Some("What we\nkept as it is.".to_owned()),
        _ => None,
    };
    let mut found = complaints(table, read);
    found.retain(|complaint| !complaint.ends_with("has no line"));
    let as_expected = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, part)| has_word(found, part));
    assert!(as_expected, "{}: expected {expected:?}, found {found:?}", table.text);
}

#[test]
fn a_scenario_is_named_by_its_test_in_any_of_three_languages() {
    for line in [
        "rotation  a.go::TestOne",
        "entries  a.go::TestTwo",
        "join-token  a.py::test_one",
        "agent-cli  a.rs::one",
    ] {
        check(&scenarios(line), &[]);
    }
    check(&scenarios("rotation  a.go::TestTwo"), &["does not name the scenario"]);
    check(&scenarios("entries  a.go::TestOne"), &["does not name the scenario"]);
    check(&scenarios("join-token  a.go::TestTwo"), &["does not name the scenario"]);
    check(&scenarios("evict-agent  a.py::test_one"), &["does not name the scenario"]);
    check(&scenarios("evict-agent  a.py::helper"), &["is no test"]);
    check(&scenarios("rotation  a.go::TestThree"), &["is no test"]);
    check(&scenarios("rotation  b.go::TestOne"), &["is in a file that is not there"]);
    check(&scenarios("unheard-of  a.go::TestOne"), &["unheard-of is none", "does not name"]);
}

#[test]
fn a_defect_has_a_test_or_words_that_are_there() {
    check(&defects("7  a.go::TestOne"), &[]);
    check(&defects("7  = we kept as it is"), &[]);
    check(&defects("7  - nobody has built this yet"), &[]);
    check(&defects("7  = we changed it"), &["does not say: we changed it"]);
    check(&defects("7  -"), &["has no reason"]);
    check(&defects("7"), &["says nothing"]);
    check(&defects("53  a.go::TestOne"), &["53 is none"]);
    check(&defects("7  a.rs::one\n7  a.rs::one"), &["7 has two lines"]);
    let missed = complaints(&defects("7  - nobody has built this yet"), |_| None);
    assert!(missed.contains(&"8 has no line".to_owned()));
    assert!(!missed.contains(&"7 has no line".to_owned()));
}
