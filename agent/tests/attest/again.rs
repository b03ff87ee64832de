//! Later requests of one connection: what is remembered of a caller hides no change in it.

use std::sync::Arc;

use steeple::clock::{Clock, SystemClock};
use steeple_agent::attest::instance::InstanceId;
use steeple_agent::attest::{Attested, AttestorConfig, Attestors};
use steeple_agent::peer::Peer;

use crate::cgroups::{A, Cgroup, Engine};
use crate::peers::NOBODY;
use crate::puppet::{Puppet, Stage, block_on, docker, is_root, selectors};

/// A connection on which several requests were made, so that all is remembered that ever is.
struct Connection {
    attestors: Attestors,
    peer: Peer,
}

impl Connection {
    fn of(stage: &Stage, puppet: &mut Puppet, attestors: &[AttestorConfig]) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let attestors = Attestors::of_config(attestors, &clock);
        let connection = Self { attestors, peer: stage.peer(puppet) };
        let first = selectors(&connection.request().unwrap());
        for _ in 0..3 {
            assert_eq!(selectors(&connection.request().unwrap()), first);
        }
        connection
    }

    /// What the caller is found to be for one more request, or why it is refused.
    fn request(&self) -> Result<Attested, String> {
        let attested = block_on(self.attestors.attest(&self.peer));
        attested.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(&self) -> String {
        self.request().unwrap_err()
    }

    fn has(&self, selector: &str) -> bool {
        selectors(&self.request().unwrap()).iter().any(|found| found == selector)
    }
}

/// All that is asked of the kernel. A digest would be remembered only some time after the puppet's
/// program was made, and until then nothing is.
fn unix() -> AttestorConfig {
    serde_json::from_value(serde_json::json!({ "type": "unix", "sha256": false })).unwrap()
}

fn kernel() -> Vec<AttestorConfig> {
    vec![unix(), AttestorConfig::standard().remove(1)]
}

#[test]
fn a_later_request_of_who_has_exited_is_refused() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let connection = Connection::of(&stage, &mut puppet, &kernel());
    puppet.exits();
    assert_eq!(connection.refused(), "the process has exited");
}

#[test]
fn a_later_request_of_who_runs_another_program_is_refused() {
    let stage = Stage::new();
    let other = stage.copy("other");
    let mut puppet = stage.puppet();
    let connection = Connection::of(&stage, &mut puppet, &kernel());
    puppet.does(&format!("execute {}", other.display()));
    let changed = "the process runs another executable than when it connected";
    assert_eq!(connection.refused(), changed);
    // Once it runs the first again, that is what it is.
    puppet.does(&format!("execute {}", stage.program().display()));
    assert!(connection.has(&format!("unix:path:{}", stage.program().display())));
}

#[test]
fn a_later_request_of_who_became_another_user_is_refused() {
    if !is_root("a later request of who became another user") {
        return;
    }
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let connection = Connection::of(&stage, &mut puppet, &kernel());
    puppet.does(&format!("become {NOBODY}"));
    let changed = "the process has changed its user or group since it connected";
    assert_eq!(connection.refused(), changed);
}

#[test]
fn a_later_request_is_of_the_groups_that_the_caller_has_then() {
    if !is_root("a later request of who has other groups") {
        return;
    }
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let connection = Connection::of(&stage, &mut puppet, &kernel());
    for groups in [&[54_321, 54_322][..], &[54_322], &[], &[54_321]] {
        let list: Vec<_> = groups.iter().map(ToString::to_string).collect();
        puppet.does(&format!("join {}", list.join(" ")));
        for group in [54_321, 54_322] {
            let selector = format!("unix:supplementary_gid:{group}");
            assert_eq!(connection.has(&selector), groups.contains(&group), "{groups:?}");
        }
    }
}

#[test]
fn a_later_request_finds_the_program_where_it_is_then() {
    let stage = Stage::new();
    let mut puppet = stage.puppet();
    let connection = Connection::of(&stage, &mut puppet, &kernel());
    let (here, there) = (stage.program(), stage.path("moved"));
    let at = |path: &std::path::Path| connection.has(&format!("unix:path:{}", path.display()));
    assert!(at(&here));
    std::fs::rename(&here, &there).unwrap();
    assert!(at(&there) && !at(&here));
    std::fs::rename(&there, &here).unwrap();
    assert!(at(&here) && !at(&there));
    // By another link to the file.
    let link = stage.path("link");
    std::fs::hard_link(&here, &link).unwrap();
    puppet.does(&format!("execute {}", link.display()));
    assert!(at(&link) && !at(&here));
    puppet.does(&format!("execute {}", here.display()));
    assert!(at(&here) && !at(&link));
    // By the name of its directory, which leaves no trace at the file.
    let (directory, elsewhere) = (stage.path("a"), stage.path("b"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::rename(&here, directory.join("puppet")).unwrap();
    assert!(at(&directory.join("puppet")));
    std::fs::rename(&directory, &elsewhere).unwrap();
    assert!(at(&elsewhere.join("puppet")) && !at(&directory.join("puppet")));
}

#[test]
fn a_later_request_is_of_the_container_that_the_caller_is_in_then() {
    if !is_root("a later request of who has moved to another cgroup") {
        return;
    }
    let cgroup = Cgroup::new();
    let stage = Stage::new();
    let (mut init, mut puppet) = (stage.puppet(), stage.puppet());
    cgroup.take(A, &init);
    let engine = Engine::new(&stage, &[(A, init.pid())]);
    let attestors = [unix(), docker(&engine.socket, &[])];
    let connection = Connection::of(&stage, &mut puppet, &attestors);
    let is_in_container = || {
        let attested = connection.request().unwrap();
        let instance = matches!(attested.instance().id(), InstanceId::Container { .. });
        assert_eq!(selectors(&attested).contains(&"docker:label:is:a".to_owned()), instance);
        instance
    };
    assert!(!is_in_container());
    for _ in 0..2 {
        cgroup.take(A, &puppet);
        assert!((0..3).all(|_| is_in_container()));
        cgroup.take("elsewhere", &puppet);
        assert!((0..3).all(|_| !is_in_container()));
    }
    cgroup.take(A, &puppet);
    assert!(is_in_container());
    init.exits();
    assert!(!is_in_container());
}
