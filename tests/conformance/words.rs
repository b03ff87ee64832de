//! Holds two tables to what is there. `words.txt` says which test finds what scripts look for in the
//! output and in the logs of SPIRE's programs; `commands.txt` lists the flags of SPIRE's programs, of
//! which those that are refused have to be named in `deploy/DIFFERENCES.md`.

use std::fs;
use std::path::Path;

use crate::{Item, Proof, has_word, items, line};

const DIFFERENCES: &str = "deploy/DIFFERENCES.md";

/// Everything that is wrong with a table of words, given how to read the files that it names.
fn complaints(table: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in table.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
        let proof = row.rsplit_once("  ").filter(|(words, _)| !words.trim().is_empty());
        let Some((words, proof)) = proof else {
            complaints.push(format!("`{row}` has no words, or no test"));
            continue;
        };
        match line(&format!("words {proof}")) {
            Err(what) => complaints.push(format!("`{words}` {what}")),
            Ok((_, Proof::Excuse(_))) => {}
            Ok((_, Proof::Tests(tests))) => {
                for (path, name) in tests {
                    if let Some(what) = fault(words.trim(), name, read(path).as_deref()) {
                        complaints.push(format!("`{words}`: {path}::{name} {what}"));
                    }
                }
            }
        }
    }
    complaints
}

/// Why a test does not look for these words, itself or in what it uses.
fn fault(words: &str, name: &str, file: Option<&str>) -> Option<&'static str> {
    let Some(file) = file else { return Some("is in a file that is not there") };
    let items = items(file);
    let Some(test) = items.iter().find(|item| item.name == name && item.is_test()) else {
        return Some("is no test");
    };
    let words = words_of(words);
    let looks = |item: &Item<'_>| words_of(item.text).contains(&words);
    let used = |item: &&Item<'_>| item.name != name && has_word(test.text, item.name);
    let found = looks(test) || items.iter().filter(used).any(looks);
    if found { None } else { Some("does not look for it") }
}

/// A text whose lines may be broken anywhere, in Rust behind a backslash.
fn words_of(text: &str) -> String {
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The flags that the table of commands says are refused, and which a document does not name.
fn unnamed<'a>(commands: &'a str, document: &str) -> Vec<&'a str> {
    let refused = commands.lines().filter_map(|line| line.trim().strip_prefix("! "));
    let names = refused.filter_map(|refused| refused.split_whitespace().next());
    names.filter(|name| !document.contains(name)).collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn every_word_that_scripts_look_for_is_found_by_a_test() {
    let table = read("tests/words.txt").expect("the table can be read");
    let found = complaints(&table, read);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_flag_that_is_refused_is_documented() {
    let commands = read("tests/commands.txt").expect("the table can be read");
    let document = read(DIFFERENCES).expect("the document can be read");
    assert_eq!(unnamed(&commands, &document), [""; 0]);
}

const RUST: &str = "\
const DONE: &str = \"It is \\
                    done.\";

#[test]
fn one() {
    prints(\"Started\", DONE);
}

fn helper() {
    prints(\"Helped\");
}
";

#[track_caller]
fn check(row: &str, expected: &[&str]) {
    let read = |path: &str| (path == "a.rs").then(|| RUST.to_owned());
    let found = complaints(row, read);
    let as_expected = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(as_expected, "{row}: expected {expected:?}, found {found:?}");
}

#[test]
fn words_are_in_a_test_or_in_what_it_uses() {
    check("Started  a.rs::one", &[]);
    check("It is done.  a.rs::one", &[]);
    check("Bundle refreshed  - nothing fetches bundles yet", &[]);
    check("Ended  a.rs::one", &["does not look for it"]);
    check("Helped  a.rs::one", &["does not look for it"]);
    check("Helped  a.rs::helper", &["is no test"]);
    check("Started  b.rs::one", &["is in a file that is not there"]);
    check("Started  a.rs", &["has a test without"]);
    check("Started", &["has no words, or no test"]);
}

#[test]
fn a_refused_flag_has_to_be_named() {
    let commands = "p get\n    -a b\n    ! -c d  it is not there\n";
    assert_eq!(unnamed(commands, "There is no `-c`."), [""; 0]);
    assert_eq!(unnamed(commands, "There is no `-a`."), ["-c"]);
}
