//! What commands print for people: the labels and sentences of SPIRE's, which scripts look for.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::Scenario;
use crate::harness::process::command;
use crate::harness::{Deployment, Dir, Settings, bin, eventually, start_server, stderr, stdout};
use crate::nested::{DISK, write_ca};

/// What is printed with what differs from run to run left out: `…` stands for it. It ends with a line,
/// or with one of these.
#[track_caller]
fn prints(printed: &str, expected: &[&str]) {
    let lines: Vec<_> = printed.lines().collect();
    let fits = |(line, expected): (&&str, &&str)| match expected.split_once('…') {
        Some((start, end)) => {
            line.len() > start.len() + end.len() && line.starts_with(start) && line.ends_with(end)
        }
        None => line == expected,
    };
    let all = lines.len() == expected.len() && lines.iter().zip(expected).all(fits);
    assert!(all, "{printed}");
}

const X509: [&str; 3] = [
    "  Authority ID: …",
    "  Expires at: … +0000 UTC",
    "  Upstream authority ID: No upstream authority",
];

const JWT: [&str; 2] = ["  Authority ID: …", "  Expires at: … +0000 UTC"];

/// The authorities of one kind through all their steps.
fn moved_by_hand(scenario: &Scenario, (kind, name): (&str, &str), block: &[&str]) {
    let title = |what: &str| format!("{what} {name} authority:");
    let none = |what: &str| format!("  No {what} {name} authority found");
    let shown = scenario.ok(&format!("localauthority {kind} show"));
    let (active, prepared, old) = (title("Active"), title("Prepared"), title("Old"));
    let (no_prepared, no_old) = (none("prepared"), none("old"));
    let mut expected = vec![active.as_str()];
    expected.extend(block);
    expected.extend(["", &prepared, &no_prepared, "", &old, &no_old]);
    prints(&shown, &expected);

    let id = |slot: &str| {
        let state = scenario.json(&format!("localauthority {kind} show"));
        state[slot]["authority_id"].as_str().unwrap().to_owned()
    };
    let step = |verb: &str, done: &str| {
        let printed = scenario.ok(&format!("localauthority {kind} {verb}"));
        let title = title(done);
        prints(&printed, &[&[title.as_str()], block].concat());
    };
    step("prepare", "Prepared");
    step(&format!("activate -authorityID {}", id("prepared")), "Activated");
    step(&format!("taint -authorityID {}", id("old")), "Tainted");
    step(&format!("revoke -authorityID {}", id("old")), "Revoked");
}

#[test]
fn authorities_are_printed_as_spire_prints_them() {
    let scenario = Scenario::start();
    moved_by_hand(&scenario, ("x509", "X.509"), &X509);
    moved_by_hand(&scenario, ("jwt", "JWT"), &JWT);
}

#[test]
fn upstream_authorities_are_printed_as_spire_prints_them() {
    let dir = Dir::new();
    let old = write_ca(&dir);
    let server = start_server(&dir, Settings { server: DISK, ..Settings::default() }, 0);
    let link = dir.path("spire-server");
    symlink(bin::server(), &link).unwrap();
    let scenario = Scenario { dir, _server: server, link };
    let shown = scenario.ok("localauthority x509 show");
    assert!(shown.contains(&format!("  Upstream authority Subject Key ID: {old}\n")), "{shown}");
    write_ca(&scenario.dir);
    scenario.ok("localauthority x509 prepare");
    let state = scenario.json("localauthority x509 show");
    let new = state["prepared"]["authority_id"].as_str().unwrap();
    scenario.ok(&format!("localauthority x509 activate -authorityID {new}"));
    for (verb, title) in [("taint", "Tainted"), ("revoke", "Revoked")] {
        let printed = scenario.ok(&format!("upstreamauthority {verb} -subjectKeyID {old}"));
        let expected = format!("{title} X.509 upstream authority:\n  Subject Key ID: {old}\n");
        assert_eq!(printed, expected);
    }
}

#[test]
fn tokens_and_minted_svids_are_printed_as_spire_prints_them() {
    let scenario = Scenario::start();
    let generated = scenario.run_with("token generate", "");
    prints(&stdout(&generated), &["Token: …"]);
    assert!(stderr(&generated).starts_with("Warning: Missing SPIFFE ID."), "{generated:?}");
    let named = scenario.run_with("token generate -spiffeID spiffe://example.org/a -ttl 60", "");
    prints(&stdout(&named), &["Token: …"]);
    assert_eq!(stderr(&named), "");

    let minted = scenario.ok("x509 mint -spiffeID spiffe://example.org/m");
    let titles = [
        "X509-SVID:\n-----BEGIN CERTIFICATE-----\n",
        "\nPrivate key:\n-----BEGIN PRIVATE KEY-----\n",
    ];
    assert!(minted.starts_with(titles[0]) && minted.contains(titles[1]), "{minted}");
    assert!(minted.contains("\nRoot CAs:\n-----BEGIN CERTIFICATE-----\n"), "{minted}");
    let files = scenario.dir.path("minted");
    let command = format!("x509 mint -spiffeID spiffe://example.org/m -write {}", files.display());
    let written = scenario.ok(&command);
    for (what, name) in
        [("X509-SVID", "svid.pem"), ("Private key", "key.pem"), ("Root CAs", "bundle.pem")]
    {
        let line = format!("{what} written to {}\n", files.join(name).display());
        assert!(written.contains(&line), "{written}");
    }
    let key = files.join("key.pem").metadata().unwrap().permissions().mode();
    assert_eq!(key & 0o777, 0o600);
    let capped = scenario.run_with("x509 mint -spiffeID spiffe://example.org/m -ttl 9000h", "");
    let told = "X509-SVID lifetime was capped shorter than specified ttl; expires ";
    assert!(stderr(&capped).starts_with(told), "{capped:?}");

    let token = scenario.dir.path("token");
    let jwt =
        format!("jwt mint -spiffeID spiffe://example.org/m -audience a -write {}", token.display());
    assert_eq!(scenario.ok(&jwt), format!("JWT-SVID written to {}\n", token.display()));
}

#[test]
fn what_a_server_says_of_itself_is_printed_as_spire_prints_it() {
    let scenario = Scenario::start();
    let expected = [
        "Server Debug Info:",
        "  Uptime:                  …s",
        "  Registered Agents:       0",
        "  Registration Entries:    0",
        "  Federated Bundles:       1",
        "  SVID Chain:",
        "    [0] SPIFFE ID:  spiffe://example.org/spire/server",
        "        Subject:    …",
        "        Expires At: …Z",
        "    [1] SPIFFE ID:  spiffe://example.org",
        "        Subject:    …",
        "        Expires At: …Z",
    ];
    prints(&scenario.ok("debug getinfo"), &expected);
    let level = "Logger Level : info\nLaunch Level : info\n\n";
    assert_eq!(scenario.ok("logger get"), level);
    assert_eq!(
        scenario.ok("healthcheck -verbose"),
        "Checking server health...\nServer is healthy.\n"
    );
}

#[test]
fn agents_that_are_purged_and_entries_that_are_refused_are_named() {
    let node = Deployment::start();
    let link = node.dir.path("spire-server");
    symlink(bin::server(), &link).unwrap();
    let run = |arguments: &str| {
        let mut command = command(&link);
        command.args(arguments.split(' '));
        command.env("SPIRE_SERVER_PRIVATE_SOCKET", node.dir.path("server/admin/api.sock"));
        command.output().unwrap()
    };
    assert_eq!(stdout(&run("agent purge")), "No agents to purge.\n");
    let id = &node.agent_id;
    let shown = eventually("the agent has said which version it is", || {
        let shown = stdout(&run(&format!("agent show -spiffeID {id}")));
        shown.contains("Agent version").then_some(shown)
    });
    let fields = [
        "Found an attested agent given its SPIFFE ID",
        "",
        "SPIFFE ID         : …",
        "Attestation type  : join_token",
        "Expiration time   : … +0000 UTC",
        "Serial number     : …",
        "Can re-attest     : false",
        "Agent version     : …",
        "",
    ];
    prints(&shown, &fields);

    let create =
        format!("entry create -spiffeID spiffe://example.org/a -parentID {id} -selector a:b");
    assert!(run(&create).status.success());
    let again = run(&create);
    let said = stderr(&again);
    let failed = "Failed to create the following entry (code: AlreadyExists, msg: \"";
    assert!(said.starts_with(failed) && said.contains("\nEntry ID                : "), "{said}");
    assert_eq!(again.status.code(), Some(1));
    let update = create.replace("entry create", "entry update -entryID none");
    let said = stderr(&run(&update));
    let failed = "Failed to update the following entry (code: NotFound, msg: \"";
    assert!(said.starts_with(failed) && said.contains(": spiffe://example.org/a\n"), "{said}");
    let said = stderr(&run("entry delete -entryID none"));
    assert!(
        said.starts_with("Failed to delete entry with ID none (code: NotFound, msg: \""),
        "{said}"
    );
}

/// Whoever calls the program by its own name is told a mistake in a command from one in its work.
#[test]
fn every_mistake_has_the_exit_code_of_spires() {
    let scenario = Scenario::start();
    for words in ["entry nonsense", "entry show -nonsense", "agent show", "bundle show -output xml"]
    {
        let refused = scenario.run_with(words, "");
        assert_eq!(refused.status.code(), Some(1), "{words}");
        assert!(stderr(&refused).starts_with("Error: "), "{words}: {refused:?}");
        let mut own = command(&bin::server());
        assert_eq!(own.args(words.split(' ')).output().unwrap().status.code(), Some(2), "{words}");
    }
    for words in ["-h", "--help", "-version", "--version", "entry show -h"] {
        assert_eq!(scenario.run_with(words, "").status.code(), Some(0), "{words}");
    }
}
