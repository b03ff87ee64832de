//! What the kernel lets us see of a caller: each row of the table in `steeple_agent::peer`.

use std::error::Error;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use steeple_agent::attest::AttestorConfig;
use steeple_agent::attest::instance::InstanceId;
use steeple_agent::peer::proc::Namespace;
use steeple_agent::peer::process::Process;
use steeple_agent::peer::{Peer, PeerError};

use crate::puppet::{Puppet, Stage, assert_refused, attest, block_on, is_root, receive, selectors};

/// An ordinary user.
pub(crate) const NOBODY: u32 = 65_534;

#[test]
fn a_caller_is_the_process_that_connected() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    assert_eq!(peer.pid(), puppet.pid());
    assert_eq!(peer.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(peer.gid(), nix::unistd::getegid().as_raw());
    assert_eq!(peer.verify(), Ok(()));
    let attested = attest(&AttestorConfig::standard(), &peer);
    assert_eq!(attested.still_holds(), Ok(()));
    assert_eq!(*attested.instance().id(), InstanceId::Process(peer.process_id()));
    let path = format!("unix:path:{}", stage.program().display());
    assert!(selectors(&attested).contains(&path));
}

/// H050
#[test]
fn a_caller_that_exits_is_gone_at_once() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    let attested = attest(&AttestorConfig::standard(), &peer);
    // While somebody waits for it, not before and not after.
    block_on(async {
        let mut exited = std::pin::pin!(peer.exited());
        let early = tokio::time::timeout(Duration::ZERO, exited.as_mut()).await;
        assert!(early.is_err());
        let ended = attested.instance().ended();
        tokio::task::spawn_blocking(move || puppet.exits());
        tokio::join!(exited, ended, peer.exited());
    });
    assert!(!attested.instance().is_alive());
    assert_eq!(attested.still_holds(), Err(PeerError::Exited));
    assert_refused(&peer, PeerError::Exited);
    block_on(peer.exited());
}

/// H050
#[test]
fn a_caller_that_exited_before_it_was_accepted_is_refused() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    puppet.does("connect");
    puppet.exits();
    assert_eq!(Peer::of(&stage.accept()).unwrap_err(), PeerError::Exited);
}

#[test]
fn a_killed_caller_that_nobody_has_waited_for_is_gone() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    let pid = nix::unistd::Pid::from_raw(puppet.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    block_on(peer.exited());
    assert_eq!(peer.verify(), Err(PeerError::Exited));
    // Its number is taken still: it is a zombie.
    assert!(std::path::Path::new(&format!("/proc/{}", puppet.pid())).exists());
    assert_eq!(Process::open(puppet.pid()).unwrap_err(), PeerError::Exited);
}

/// H053
#[test]
fn a_caller_that_executes_another_program_keeps_nothing_of_the_old_connection() {
    let stage = Stage::new();
    let other = stage.copy("other");
    let mut puppet = stage.puppet();
    let unattested = stage.peer(&mut puppet);
    let peer = stage.peer(&mut puppet);
    let attested = attest(&AttestorConfig::standard(), &peer);
    assert_eq!(attested.still_holds(), Ok(()));

    puppet.does(&format!("execute {}", other.display()));
    assert_eq!(attested.still_holds(), Err(PeerError::ExecutableChanged));
    assert_refused(&peer, PeerError::ExecutableChanged);
    assert_refused(&unattested, PeerError::ExecutableChanged);
    // It lives, and is served as what it is now over a connection of its own.
    let anew = stage.peer(&mut puppet);
    assert_eq!(anew.process_id(), peer.process_id());
    let attested = attest(&AttestorConfig::standard(), &anew);
    assert!(selectors(&attested).contains(&format!("unix:path:{}", other.display())));
}

#[test]
fn a_caller_that_executes_the_same_program_is_entitled_to_the_same() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    let attested = attest(&AttestorConfig::standard(), &peer);
    puppet.does(&format!("execute {}", stage.program().display()));
    assert_eq!(attested.still_holds(), Ok(()));
}

#[test]
fn a_caller_whose_program_is_replaced_on_disk_stays_what_it_is() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    let before = selectors(&attest(&AttestorConfig::standard(), &peer));
    let new = stage.path("new");
    std::fs::write(&new, "another program").unwrap();
    std::fs::rename(&new, stage.program()).unwrap();
    assert_eq!(peer.verify(), Ok(()));
    assert_eq!(selectors(&attest(&AttestorConfig::standard(), &peer)), before);
}

#[test]
fn a_connection_shared_with_a_child_is_the_parents_and_ends_with_it() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let stream = stage.connection(&mut puppet);
    let peer = Peer::of(&stream).unwrap();
    puppet.does("let-children-have-it");
    puppet.does("start cat");
    assert_eq!(peer.pid(), puppet.pid());
    assert_eq!(peer.verify(), Ok(()));
    puppet.exits();
    assert_eq!(peer.verify(), Err(PeerError::Exited));
    assert_eq!(Peer::of(&stream).unwrap_err(), PeerError::Exited);
}

/// H052
#[test]
fn a_connection_handed_to_another_process_is_of_who_connected() {
    let stage = Stage::new();
    let handed = UnixListener::bind(stage.path("handed")).unwrap();
    let mut puppet = stage.puppet();
    let stream = stage.connection(&mut puppet);
    let peer = Peer::of(&stream).unwrap();
    puppet.does(&format!("hand-over {}", stage.path("handed").display()));
    let mut held = receive(&handed);
    // This process can use the connection, and is not its peer.
    held.write_all(b"x").unwrap();
    assert_eq!(peer.pid(), puppet.pid());
    assert_eq!(Peer::of(&stream).unwrap().process_id(), peer.process_id());
    assert_eq!(peer.verify(), Ok(()));
    puppet.exits();
    // The connection is open still.
    held.write_all(b"x").unwrap();
    assert_refused(&peer, PeerError::Exited);
}

#[test]
fn a_caller_that_changes_its_user_is_refused_until_it_connects_anew() {
    if !is_root("a caller that changes its user") {
        return;
    }
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let peer = stage.peer(&mut puppet);
    let attested = attest(&AttestorConfig::standard(), &peer);
    puppet.does(&format!("become {NOBODY}"));
    assert_eq!(attested.still_holds(), Err(PeerError::CredentialsChanged));
    assert_refused(&peer, PeerError::CredentialsChanged);
    let anew = stage.peer(&mut puppet);
    let selectors = selectors(&attest(&AttestorConfig::standard(), &anew));
    assert!(selectors.contains(&format!("unix:uid:{NOBODY}")));
}

#[test]
fn a_caller_that_executes_a_set_user_id_program_does_not_become_its_owner() {
    if !is_root("a caller that executes a set-user-ID program") {
        return;
    }
    let stage = Stage::new();
    let owned = stage.copy("owned-by-root");
    std::fs::set_permissions(&owned, PermissionsExt::from_mode(0o4755)).unwrap();
    let mut puppet = stage.puppet();
    puppet.does(&format!("become {NOBODY}"));
    let stream = stage.connection(&mut puppet);
    let pinned = Peer::of(&stream).unwrap();
    puppet.does(&format!("execute {}", owned.display()));
    assert_refused(&pinned, PeerError::CredentialsChanged);
    // Though the program runs already when the connection is accepted.
    assert_eq!(Peer::of(&stream).unwrap_err(), PeerError::CredentialsChanged);
}

/// H050
#[test]
fn a_number_that_is_given_to_another_process_changes_nothing() {
    if !is_root("PID reuse") {
        return;
    }
    let stage = Stage::new();
    let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut puppet = stage.puppet_under(&prefix, |_| {});
    let report = puppet.does(&format!("run {}", stage.path("inner").display()));
    assert_eq!(report, "as it should be");
}

/// Runs as the first process of a small PID namespace, where numbers can be chosen.
pub(crate) fn inside(_: &str) -> Result<String, Box<dyn Error>> {
    let stage = Stage::new();
    let mut first = stage.puppet();
    let pid = first.pid();
    let peer = Peer::of(&stage.connection(&mut first))?;
    // Several requests, so that all is kept open that ever is.
    let mut instance = attest(&AttestorConfig::standard(), &peer);
    for _ in 0..3 {
        instance = attest(&AttestorConfig::standard(), &peer);
    }
    first.does("connect");
    first.exits();
    let second = with_number(&stage, pid)?;

    // The number is taken, by another.
    let other = Process::open(pid)?;
    assert_eq!(second.pid(), pid);
    assert_ne!(other.id(), peer.process_id());
    assert!(other.is_alive());
    // What was pinned is the first, which is gone, and nothing can be read of the second.
    assert_refused(&peer, PeerError::Exited);
    assert_eq!(instance.still_holds(), Err(PeerError::Exited));
    for file in [c"stat", c"status", c"cgroup", c"mountinfo"] {
        assert_eq!(peer.process().read(file), Err(PeerError::Exited));
    }
    for _ in 0..3 {
        assert_eq!(peer.process().status(<[u8]>::len), Err(PeerError::Exited));
        assert_eq!(peer.process().cgroup(<[u8]>::len), Err(PeerError::Exited));
    }
    assert_eq!(peer.process().namespace(Namespace::User), None);
    // A connection that the first made, and that is accepted only now.
    assert_eq!(Peer::of(&stage.accept()).unwrap_err(), PeerError::Exited);
    Ok("as it should be".to_owned())
}

/// A puppet with this number.
fn with_number(stage: &Stage, pid: u32) -> Result<Puppet, Box<dyn Error>> {
    for _ in 0..100 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let puppet = stage.puppet();
        if puppet.pid() == pid {
            return Ok(puppet);
        }
    }
    Err("the number was not to be had".into())
}
