//! Holds the tree to its own rules: what a file looks like, and which part may know which.
//!
//! A rule is a row of a table or one function of (path, text); the tests below show for each rule a
//! file that breaks it, and at last that no file here does.

#![expect(clippy::expect_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines a file may have before its unit tests.
const MAX_BODY: usize = 400;

/// The most lines a `main.rs` may have.
const MAX_MAIN: usize = 40;

/// A room, and what its files must not mention.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("src", &["steeple_agent", "steeple_server", "sqlx"]),
    ("agent/src", &["steeple_server"]),
    ("agent/src/workload", &["crate::sync"]),
    ("agent/src/sync", &["crate::workload"]),
    ("server/src", &["steeple_agent"]),
    ("server/src/authz", IO),
    ("server/src/api/authz", IO),
    ("server/src/ca", &["crate::api", "crate::entries", "tonic", "steeple_proto"]),
    ("server/src/datastore", &["crate::api", "tonic"]),
    ("server/src/upstream", &["crate::api", "crate::registry", "crate::datastore"]),
];

/// What a decision that does no I/O has no use for.
const IO: &[&str] = &[
    "tokio",
    "tokio_stream",
    "tokio_util",
    "sqlx",
    "async",
    "std::fs",
    "std::net",
    "std::process",
];

/// A room, and the only rooms of its own crate that its files may mention.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("agent/src/attest", &["attest", "peer"]),
    ("agent/src/endpoint", &["endpoint", "complaints"]),
];

/// Something that only some rooms may mention. It binds the three crates, not their tests.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sqlx", &["server/src/datastore"]),
    ("SystemTime::now", &["src/clock"]),
    ("print!", CLI),
    ("println!", CLI),
    ("eprint!", CLI),
    ("eprintln!", CLI),
    ("toml::from_str", &["src/config", "agent/src/config", "server/src/config"]),
];

const CLI: &[&str] = &["agent/src/cli", "server/src/cli"];

/// A manifest, and the packages that it must not name.
const FORBIDDEN_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("agent/Cargo.toml", &["steeple-server", "sqlx"]),
    ("server/Cargo.toml", &["steeple-agent"]),
    ("proto/Cargo.toml", &["steeple", "steeple-agent", "steeple-server"]),
];

/// Folders whose code may not reach a user's machine, so that the rules on dependencies pass it by.
const BESIDE_THE_CRATES: &[&str] =
    &["tests", "agent/tests", "server/tests", "proto/tests", "deploy"];

/// Paths of the machine that something was written on.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];

/// Everything that is wrong with the file at `path`, which is relative to the root.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    match path.rsplit_once('.') {
        Some((_, "rs")) => {
            complaints.extend(shape(path, text));
            complaints.extend(layers(path, &Code::new(path, text)));
        }
        Some((_, "toml")) => {
            complaints.extend(dependencies(path, text));
            complaints.extend(machine_paths(text));
        }
        Some((_, "md" | "proto" | "service")) => complaints.extend(machine_paths(text)),
        Some(_) | None => {}
    }
    complaints
}

/// Rules on the looks of a Rust file.
fn shape(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    if !text.starts_with("//!") {
        complaints.push("does not open with `//!`".into());
    }
    if body(text).lines().count() > MAX_BODY {
        complaints.push(format!("has a body of more than {MAX_BODY} lines"));
    }
    if name == "mod.rs" {
        complaints.push("is a `mod.rs`: write `foo.rs` beside `foo/`".into());
    }
    if name == "lib.rs" && code_lines(text).any(|line| mentions(line, "fn")) {
        complaints.push("has logic in `lib.rs`".into());
    }
    if name == "main.rs" && text.lines().count() > MAX_MAIN {
        complaints.push(format!("has a `main.rs` of more than {MAX_MAIN} lines"));
    }
    if code_lines(text).any(|line| line.starts_with("pub use") && line.ends_with("::*;")) {
        complaints.push("exports with `pub use …::*`".into());
    }
    complaints
}

/// Rules on which part knows which.
fn layers(path: &str, code: &Code) -> Vec<String> {
    let mut complaints = Vec::new();
    for (room, forbidden) in FORBIDDEN.iter().filter(|(room, _)| is_in(path, room)) {
        for name in forbidden.iter().filter(|name| mentions(&code.0, name)) {
            complaints.push(format!("mentions `{name}`, which `{room}` must not"));
        }
    }
    for (room, known) in MAY_KNOW.iter().filter(|(room, _)| is_in(path, room)) {
        for name in code.rooms().iter().filter(|name| !known.contains(name)) {
            complaints.push(format!("mentions `crate::{name}`, which `{room}` must not"));
        }
    }
    if path.starts_with("proto/") || BESIDE_THE_CRATES.iter().any(|room| is_in(path, room)) {
        return complaints;
    }
    for (name, rooms) in ONLY_IN.iter().filter(|(name, _)| mentions(&code.0, name)) {
        if !rooms.iter().any(|room| is_in(path, room)) {
            complaints.push(format!("mentions `{name}`, which is for {rooms:?}"));
        }
    }
    complaints
}

/// Rules on what a manifest depends on.
fn dependencies(path: &str, text: &str) -> Vec<String> {
    FORBIDDEN_DEPENDENCIES
        .iter()
        .filter(|(manifest, _)| *manifest == path)
        .flat_map(|(_, packages)| packages.iter())
        .filter(|package| {
            text.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(**package))
        })
        .map(|package| format!("depends on `{package}`"))
        .collect()
}

fn machine_paths(text: &str) -> Vec<String> {
    MACHINE_PATHS
        .iter()
        .filter(|path| text.contains(**path))
        .map(|path| format!("names `{path}`, a path of somebody's machine"))
        .collect()
}

/// Whether `path` is the file or lies in the folder of `room`.
fn is_in(path: &str, room: &str) -> bool {
    path.strip_prefix(room).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// What comes before the unit tests.
fn body(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").and_then(|end| text.get(..end)).unwrap_or(text)
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Whether `name` occurs in `text` as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + name.len()..].chars().next();
        !before.is_some_and(in_word) && (name.ends_with('!') || !after.is_some_and(in_word))
    })
}

/// The code of a file, without comments, with each import spelled out and with `crate::` for as many
/// `super::` as lead there.
struct Code(String);

impl Code {
    fn new(path: &str, text: &str) -> Self {
        let mut code: String = code_lines(text).flat_map(|line| [line, "\n"]).collect();
        let mut imports = Vec::new();
        for (start, _) in code.match_indices("use ") {
            if let Some((tree, _)) = code[start + 4..].split_once(';') {
                spell_out("", tree, &mut imports);
            }
        }
        code.push_str(&imports.join("\n"));
        Self(resolve_super(&code, depth(path)))
    }

    /// The modules at the root of the crate that the code mentions.
    fn rooms(&self) -> BTreeSet<&str> {
        let rooms = self.0.match_indices("crate::").filter_map(|(start, path)| {
            let rest = &self.0[start + path.len()..];
            rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
        });
        rooms.filter(|room| !room.is_empty()).collect()
    }
}

/// Appends the paths that the import `tree` stands for: two for `a::{b, c}`.
fn spell_out(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0_i32;
    let branches = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for branch in branches.filter(|branch| !branch.trim().is_empty()) {
        spell_out(&format!("{prefix}{head}"), branch, paths);
    }
}

/// Writes `crate::` for a chain of at least `depth` times `super::`.
fn resolve_super(code: &str, depth: usize) -> String {
    if depth == 0 {
        return code.into();
    }
    let mut resolved = code.replace(&"super::".repeat(depth), "crate::");
    while resolved.contains("super::crate::") {
        resolved = resolved.replace("super::crate::", "crate::");
    }
    resolved
}

/// How deep in its crate the module at `path` lies.
fn depth(path: &str) -> usize {
    let Some((_, module)) = path.split_once("src/") else { return 0 };
    if matches!(module, "lib.rs" | "main.rs") { 0 } else { module.split('/').count() }
}

/// The paths of all files of the repository, relative to its root.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be read") {
            let path = entry.expect("an entry of a folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_ours = !matches!(name, ".git" | "target" | "node_modules" | "corpus");
            if path.is_dir() && !path.is_symlink() && is_ours {
                folders.push(path);
            } else if path.is_file() {
                files.push(path.strip_prefix(root).expect("below the root").to_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_tree_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in files(root) {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        let path = path.to_str().expect("names of files are UTF-8");
        found.extend(complaints(path, &text).into_iter().map(|what| format!("{path} {what}")));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[track_caller]
fn check(path: &str, text: &str, complaint: Option<&str>) {
    let found = complaints(path, text);
    let as_expected = match (complaint, found.as_slice()) {
        (None, []) => true,
        (Some(part), [only]) => only.contains(part),
        (None | Some(_), _) => false,
    };
    assert!(as_expected, "{path}: expected {complaint:?}, found {found:?}");
}

#[test]
fn a_file_says_what_it_is_and_stays_small() {
    let lines = |count: usize| format!("//! One.\n{}", "const A: u8 = 0;\n".repeat(count - 1));
    check("src/id.rs", "//! One.\n", None);
    check("src/id.rs", "// One.\n", Some("does not open with"));
    check("src/id.rs", &lines(400), None);
    check("src/id.rs", &lines(401), Some("more than 400 lines"));
    check("src/id.rs", &format!("{}#[cfg(test)]\nmod tests {{}}\n", lines(400)), None);
    check("src/keys/mod.rs", "//! One.\n", Some("`mod.rs`"));
    check("src/lib.rs", "//! One.\npub mod keys;\n", None);
    check("src/lib.rs", "//! One.\npub fn f() {}\n", Some("logic in `lib.rs`"));
    check("agent/src/main.rs", &lines(41), Some("more than 40 lines"));
    check("src/id.rs", "//! One.\npub use keys::*;\n", Some("pub use"));
}

#[test]
fn no_part_mentions_what_it_must_not_know() {
    let with = |code| format!("//! One.\n{code}\n");
    let row = |path, code, complaint| check(path, &with(code), complaint);

    row("agent/src/workload/api.rs", "use crate::identity::View;", None);
    row("agent/src/workload/api.rs", "use crate::sync::Loop;", Some("`crate::sync`"));
    row("agent/src/workload.rs", "use crate::sync::Loop;", Some("`crate::sync`"));
    row("agent/src/workload/api.rs", "use crate::{peer::Peer, sync};", Some("`crate::sync`"));
    row("agent/src/workload/api.rs", "use super::super::sync;", Some("`crate::sync`"));
    row("agent/src/workload/api.rs", "// Not crate::sync.", None);
    row("agent/src/workload/api.rs", "use crate::synchrony;", None);
    row("agent/src/sync/plan.rs", "use crate::workload;", Some("`crate::workload`"));
    row("agent/src/attest/unix.rs", "use crate::{attest::Attestor, peer::Peer};", None);
    row("agent/src/attest/unix.rs", "use crate::{identity, peer};", Some("`crate::identity`"));
    row("agent/src/attest/unix.rs", "use super::super::node::N;", Some("`crate::node`"));
    row("agent/src/app.rs", "use steeple_server::app;", Some("`steeple_server`"));
    row("server/src/app.rs", "use steeple_agent::app;", Some("`steeple_agent`"));
    row("src/id.rs", "use steeple_agent::app;", Some("`steeple_agent`"));
    row("src/id.rs", "use steeple_server::app;", Some("`steeple_server`"));
    row("server/src/ca/slots.rs", "use crate::api::Caller;", Some("`crate::api`"));
    row("server/src/ca/slots.rs", "use crate::entries::Entries;", Some("`crate::entries`"));
    row("server/src/ca/slots.rs", "use tonic::Status;", Some("`tonic`"));
    row("server/src/authz.rs", "fn permits() {}", None);
    row("server/src/authz.rs", "use tokio::time;", Some("`tokio`"));
    row("server/src/authz.rs", "async fn permits() {}", Some("`async`"));
}

#[test]
fn some_things_belong_to_one_part_alone() {
    let row = |path, code, complaint| check(path, &format!("//! One.\n{code}\n"), complaint);

    row("server/src/datastore/sqlite.rs", "use sqlx::Pool;", None);
    row("server/src/entries.rs", "use sqlx::Pool;", Some("`sqlx`"));
    row("src/clock.rs", "let now = SystemTime::now();", None);
    row("src/jwt.rs", "let now = SystemTime::now();", Some("`SystemTime::now`"));
    row("agent/src/cli/api.rs", "println!();", None);
    row("agent/src/app.rs", "println!();", Some("`println!`"));
    row("agent/src/app.rs", "eprintln!();", Some("`eprintln!`"));
    row("tests/e2e.rs", "println!();", None);
    row("server/src/api.rs", "toml::from_str(text)", Some("`toml::from_str`"));
}

#[test]
fn manifests_and_documents_fit_every_machine() {
    check("agent/Cargo.toml", "steeple-proto.workspace = true\n", None);
    check("agent/Cargo.toml", "steeple-server.workspace = true\n", Some("`steeple-server`"));
    check("server/Cargo.toml", "steeple-agent = { path = \"x\" }\n", Some("`steeple-agent`"));
    check("README.md", "Run `deploy/quickstart.sh`.\n", None);
    for path in MACHINE_PATHS {
        check("README.md", &format!("Run `{path}x`.\n"), Some("somebody's machine"));
        check("Cargo.toml", &format!("# See {path}x.\n"), Some("somebody's machine"));
    }
}
