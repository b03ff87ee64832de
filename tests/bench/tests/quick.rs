//! The measurement works: every figure comes out of a quick run with the real binaries.

#![expect(clippy::unwrap_used, reason = "what cannot be built or run fails the test")]

use std::path::PathBuf;
use std::process::Command;

/// Where the binaries are: `STEEPLE_BIN_DIR`, or where cargo builds them.
fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("STEEPLE_BIN_DIR") {
        return directory.into();
    }
    let build = ["build", "--package", "steeple-agent", "--package", "steeple-server", "--bins"];
    assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    PathBuf::from(env!("CARGO_BIN_EXE_steeple-bench")).parent().unwrap().to_owned()
}

#[test]
fn a_quick_run_has_every_figure() {
    let output = Command::new(env!("CARGO_BIN_EXE_steeple-bench"))
        .args(["--quick", "--output", "json", "--bin-dir"])
        .arg(binaries())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let names: Vec<_> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    let expected = [
        "server: BatchNewX509SVID, one at a time",
        "server: BatchNewX509SVID, each of a hundred at a time",
        "server: NewJWTSVID",
        "server: sync of 50 entries, nothing changed",
        "agent: warm FetchX509SVID",
        "agent: cached FetchJWTSVID",
        "agent: first call of a new process",
        "agent: ValidateJWTSVID",
        "agent: cached FetchJWTSVID, all selectors named",
        "agent: memory, idle",
        "agent: memory, 100 processes on open streams",
        "agent: memory, 1,000 processes on open streams",
        "server: memory, idle",
        "server: memory, each connected agent",
        "agent: start to first SVID, already attested",
        "server: start to first answer, 20,000 entries",
        "server: BatchCreateEntry, 500 a call, SQLite",
        "server: BatchCreateEntry of 100,000, an entry",
        "server: memory, each of 100,000 entries",
        "server: ListEntries of 100,000, 1,000 a page",
        "agent: start to having 100,000 entries under an alias",
        "agent: memory, each of 100,000 entries",
        "server: memory, each of 100,000 entries that an agent has",
        "server: GetAuthorizedEntries, 300 under an alias, 50,000 agents",
    ];
    assert_eq!(names, expected);
    for figure in figures {
        assert!(figure["measured"].as_f64().is_some_and(|measured| measured > 0.0), "{figure}");
    }
}
