//! What the `unix` attestor says of real processes.

use std::os::unix::process::CommandExt as _;

use steeple_agent::attest::AttestorConfig;

use crate::peers::NOBODY;
use crate::puppet::{Stage, attest, is_root, selectors};

#[test]
fn a_process_has_the_user_groups_and_digest_that_it_was_started_with() {
    if !is_root("a process of another user") {
        return;
    }
    let stage = Stage::new();
    let prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--groups=1,2,54321"];
    let mut puppet = stage.puppet_under(&prefix, |_| {});
    let found = selectors(&attest(&AttestorConfig::standard(), &stage.peer(&mut puppet)));
    let digest = std::process::Command::new("sha256sum").arg(stage.program()).output().unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    let digest = digest.split_whitespace().next().unwrap();
    let user = nix::unistd::User::from_uid(NOBODY.into()).unwrap().unwrap().name;
    let group = |gid: u32| nix::unistd::Group::from_gid(gid.into()).unwrap().unwrap().name;
    let mut expected = vec![
        format!("unix:uid:{NOBODY}"),
        format!("unix:user:{user}"),
        format!("unix:gid:{NOBODY}"),
        format!("unix:group:{}", group(NOBODY)),
        "unix:supplementary_gid:1".to_owned(),
        format!("unix:supplementary_group:{}", group(1)),
        "unix:supplementary_gid:2".to_owned(),
        format!("unix:supplementary_group:{}", group(2)),
        "unix:supplementary_gid:54321".to_owned(), // a group without a name
        format!("unix:path:{}", stage.program().display()),
        format!("unix:sha256:{digest}"),
    ];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_process_keeps_the_path_of_a_program_that_was_removed() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    std::fs::remove_file(stage.program()).unwrap();
    let found = selectors(&attest(&AttestorConfig::standard(), &stage.peer(&mut puppet)));
    assert!(found.contains(&format!("unix:path:{}", stage.program().display())), "{found:?}");
}

#[test]
fn a_process_of_another_name_for_the_same_file_has_the_name_it_was_started_by() {
    let stage = Stage::new();
    let link = stage.path("link");
    std::fs::hard_link(stage.program(), &link).unwrap();
    // What it calls itself does not count.
    let mut puppet = stage.puppet_under(&[], |command| {
        command.arg0("/usr/bin/somebody-else");
    });
    let found = selectors(&attest(&AttestorConfig::standard(), &stage.peer(&mut puppet)));
    assert!(found.contains(&format!("unix:path:{}", stage.program().display())), "{found:?}");
    puppet.does(&format!("execute {}", link.display()));
    let found = selectors(&attest(&AttestorConfig::standard(), &stage.peer(&mut puppet)));
    assert!(found.contains(&format!("unix:path:{}", link.display())), "{found:?}");
}
