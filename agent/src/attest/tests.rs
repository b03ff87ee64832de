//! What comes of several attestors, well and ill.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// An attestor that does as its name says.
#[derive(Debug)]
struct Fake(&'static str);

#[tonic::async_trait]
impl WorkloadAttestor for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn attest(&self, _: &Peer) -> Result<Findings, AttestError> {
        match self.0 {
            "hangs" => std::future::pending().await,
            "panics" => panic!("as asked"),
            "fails" => {
                Err(AttestError::Locate(container::LocateError::Cgroup(cgroup::CgroupError {
                    line: 1,
                })))
            }
            "knows nothing" => Ok(Findings::default()),
            name => Ok(Findings {
                selectors: vec![Selector::new("fake", name).unwrap()],
                ..Findings::default()
            }),
        }
    }
}

async fn attest(names: &[&'static str]) -> Result<Attested, AttestError> {
    let deadline = Duration::from_secs(5);
    let fakes =
        names.iter().map(|name| (Arc::new(Fake(name)) as Arc<dyn WorkloadAttestor>, deadline));
    Attestors::new(fakes.collect()).attest(&Peer::this_process()).await
}

/// The names of attestors, the selectors and the gaps that come of them.
#[track_caller]
fn check(attested: Result<Attested, AttestError>, selectors: &[&str], gaps: &[&str]) {
    let attested = attested.unwrap();
    let found: Vec<_> = attested.selectors().iter().map(Selector::as_str).collect();
    assert_eq!(found, selectors);
    assert_eq!(attested.gaps(), gaps);
    assert_eq!(attested.still_holds(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn answers_are_put_together_and_failures_take_nothing_from_them() {
    check(attest(&["a"]).await, &["fake:a"], &[]);
    check(attest(&["b", "a", "b"]).await, &["fake:a", "fake:b"], &[]);
    check(attest(&["knows nothing"]).await, &[], &[]);
    check(attest(&[]).await, &[], &[]);
    let ill = &["hangs", "panics", "fails"];
    check(attest(&["hangs", "a", "panics", "fails"]).await, &["fake:a"], ill);
    check(attest(&["knows nothing", "fails"]).await, &[], &["fails"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_an_error_if_every_attestor_fails() {
    for names in [&["fails"][..], &["hangs"], &["panics"], &["fails", "hangs", "panics"]] {
        assert!(matches!(attest(names).await, Err(AttestError::Nobody)), "{names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_are_asked_at_once() {
    let started = tokio::time::Instant::now();
    attest(&["hangs", "hangs", "a", "hangs"]).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

/// An attestor that can tell whether it would find the same again, and counts how often it is asked.
#[derive(Debug, Default)]
struct Sure {
    would_find_other: AtomicBool,
    asked: AtomicUsize,
}

#[tonic::async_trait]
impl WorkloadAttestor for Sure {
    fn name(&self) -> &'static str {
        "sure"
    }

    async fn attest(&self, _: &Peer) -> Result<Findings, AttestError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let cgroup = Vec::new();
        let grounds = Some(Grounds::Docker(docker::Facts::NoContainer { cgroup }));
        Ok(Findings { grounds, ..Findings::default() })
    }

    fn still_finds(&self, _: &Peer, grounds: &Grounds, interest: Interest) -> bool {
        let same = !interest.container || !self.would_find_other.load(Ordering::SeqCst);
        matches!(grounds, Grounds::Docker(_)) && same
    }
}

#[tokio::test]
async fn an_attestor_is_asked_again_only_where_it_might_find_something_else() {
    let [one, other] = [(); 2].map(|()| Arc::new(Sure::default()));
    let attestors = |named: &[Arc<dyn WorkloadAttestor>]| {
        let deadline = |attestor: &Arc<dyn WorkloadAttestor>| (attestor.clone(), Duration::MAX);
        Attestors::new(named.iter().map(deadline).collect())
    };
    let both = attestors(&[one.clone(), other.clone()]);
    let peer = Peer::this_process();
    let asked = async |attestors: &Attestors, peer: &Peer| {
        attestors.attest(peer).await.unwrap();
        [&one, &other].map(|sure| sure.asked.swap(0, Ordering::SeqCst))
    };
    assert_eq!(asked(&both, &peer).await, [1, 1]);
    assert_eq!(asked(&both, &peer).await, [0, 0]);
    // One that might is enough to ask them all, unless nobody wants to know.
    other.would_find_other.store(true, Ordering::SeqCst);
    let known = both.attest_for(&peer, Interest::default()).await.unwrap();
    assert_eq!(known.interest(), Interest::default());
    assert_eq!(asked(&both, &peer).await, [1, 1]);
    other.would_find_other.store(false, Ordering::SeqCst);
    assert_eq!(asked(&both, &peer).await, [0, 0]);
    // Of another connection, or by other attestors, nothing is known.
    assert_eq!(asked(&both, &Peer::this_process()).await, [1, 1]);
    let alone: Arc<dyn WorkloadAttestor> = one.clone();
    assert_eq!(asked(&attestors(&[alone]), &peer).await, [1, 0]);
    let unsure: Arc<dyn WorkloadAttestor> = Arc::new(Fake("a"));
    let mixed = attestors(&[one.clone(), unsure]);
    assert_eq!(asked(&mixed, &peer).await, [1, 0]);
    assert_eq!(asked(&mixed, &peer).await, [1, 0]);
}

#[tokio::test]
async fn a_process_outside_of_containers_is_its_own_instance() {
    let attested = attest(&["a"]).await.unwrap();
    let instance = attested.instance();
    assert_eq!(*instance.id(), instance::InstanceId::Process(attested.peer().process_id()));
    assert!(instance.is_alive());
}

#[test]
fn configuration_is_read_and_what_is_unknown_in_it_refused() {
    let read = |text: &str| serde_json::from_str::<AttestorConfig>(text);
    let standard = [r#"{"type": "unix"}"#, r#"{"type": "docker"}"#].map(|text| read(text).unwrap());
    assert_eq!(standard.to_vec(), AttestorConfig::standard());
    let text = r#"{"type": "docker", "socket_path": "/s", "env": ["A"], "deadline_seconds": 3}"#;
    let expected =
        DockerConfig { socket_path: "/s".into(), env: vec!["A".to_owned()], deadline_seconds: 3 };
    assert_eq!(read(text).unwrap(), AttestorConfig::Docker(expected));
    for unknown in [
        r#"{"type": "podman"}"#,
        r#"{"type": "unix", "socket_path": "/s"}"#,
        r#"{"type": "docker", "path": true}"#,
        "{}",
    ] {
        assert!(read(unknown).is_err(), "{unknown}");
    }
}
