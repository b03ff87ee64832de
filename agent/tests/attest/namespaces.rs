//! Callers in other namespaces, and agents that may not see all.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;

use steeple_agent::attest::AttestorConfig;
use steeple_agent::peer::PeerError;

use crate::peers::NOBODY;
use crate::puppet::{Stage, attest, is_root, selectors};

fn has(selectors: &[String], kind: &str) -> bool {
    selectors.iter().any(|selector| selector.starts_with(&format!("unix:{kind}:")))
}

#[test]
fn a_caller_in_a_foreign_pid_namespace_is_refused() {
    // H051: the agent is in a namespace of its own, and cannot see who connects from outside.
    if !is_root("a caller in a foreign PID namespace") {
        return;
    }
    let stage = Stage::new();
    let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut agent = stage.puppet_under(&prefix, |_| {});
    let socket = stage.path("agent");
    assert_eq!(agent.does(&format!("accept {}", socket.display())), "listening");
    let _connection = UnixStream::connect(&socket).unwrap();
    assert_eq!(agent.report(), PeerError::ForeignPidNamespace.to_string());
}

#[test]
fn a_proc_that_shows_another_pid_namespace_is_not_believed() {
    if !is_root("a /proc of another PID namespace") {
        return;
    }
    let stage = Stage::new();
    // Without a /proc of its own.
    let mut agent = stage.puppet_under(&["unshare", "--pid", "--fork", "--kill-child"], |_| {});
    let order = format!("connect-to-itself {}", stage.path("agent").display());
    assert_eq!(agent.does(&order), PeerError::ProcOfAnother.to_string());
    // It is the mount that makes the difference.
    let stage = Stage::new();
    let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut agent = stage.puppet_under(&prefix, |_| {});
    let order = format!("connect-to-itself {}", stage.path("agent").display());
    assert!(agent.does(&order).contains("unix:uid:0"));
}

#[test]
fn a_caller_in_a_pid_namespace_below_is_served_by_the_number_it_has_here() {
    if !is_root("a caller in a PID namespace below") {
        return;
    }
    let stage = Stage::new();
    let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut caller = stage.puppet_under(&prefix, |_| {});
    let peer = stage.peer(&mut caller);
    assert!(peer.pid() > caller.pid());
    assert!(has(&selectors(&attest(&AttestorConfig::standard(), &peer)), "path"));
}

#[test]
fn a_caller_in_a_user_namespace_has_its_true_user_and_no_executable() {
    if !is_root("a caller in a user namespace") {
        return;
    }
    let stage = Stage::new();
    let as_nobody = |command: &mut std::process::Command| {
        command.uid(NOBODY).gid(NOBODY);
    };
    let mut plain = stage.puppet_under(&[], as_nobody);
    let peer = stage.peer(&mut plain);
    let found = selectors(&attest(&AttestorConfig::standard(), &peer));
    assert!(has(&found, "path") && has(&found, "sha256"));

    // The same user and program, and root in a namespace of its own.
    let prefix = ["unshare", "--user", "--map-root-user", "--mount"];
    let mut lying = stage.puppet_under(&prefix, as_nobody);
    let peer = stage.peer(&mut lying);
    let found = selectors(&attest(&AttestorConfig::standard(), &peer));
    assert!(found.contains(&format!("unix:uid:{NOBODY}")), "{found:?}");
    assert!(!has(&found, "path") && !has(&found, "sha256"), "{found:?}");
}

#[test]
fn an_agent_that_may_not_read_an_executable_still_knows_the_user_and_group() {
    if !is_root("an agent that may not read an executable") {
        return;
    }
    let stage = Stage::new();
    let mut agent = stage.puppet();
    let socket = stage.path("agent");
    std::fs::set_permissions(
        stage.directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    agent.does(&format!("become {NOBODY}"));
    assert_eq!(agent.does(&format!("accept {}", socket.display())), "listening");
    let _connection = UnixStream::connect(&socket).unwrap();
    let found: Vec<_> = agent.report().split(' ').map(ToOwned::to_owned).collect();
    for selector in ["unix:uid:0", "unix:gid:0", "unix:user:root", "unix:group:root"] {
        assert!(found.iter().any(|found| found == selector), "{found:?}");
    }
    assert!(!has(&found, "path") && !has(&found, "sha256"), "{found:?}");
}
