//! The log on real files: torn ends, full disks, killed writers, operators who move it away.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

const LINE: &str = "{\"time\":\"2026-01-02T03:04:05.678Z\",\"run\":\"0123456789abcdef\",\"sequence\":1,\
                    \"event\":\"x\"}\n";

fn open(path: &Path) -> Result<Audit, OpenError> {
    let config = Config { path: path.to_owned(), durability: Durability::Background };
    Audit::open(config, Arc::new(TokioClock::new(from_unix_seconds(NOW))))
}

/// The events of the log at `path`, each of which is a whole line.
fn events(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(path: &Path) -> Vec<String> {
    events(path).iter().map(|event| event["event"].as_str().unwrap().into()).collect()
}

#[tokio::test]
async fn a_log_is_private_and_an_existing_one_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(mode(), 0o640);
}

#[tokio::test]
async fn a_torn_end_is_cut_back_and_an_event_says_so() {
    let long = "y".repeat(200_000);
    let check = |content: &str, kept: &str, bytes_cut: Option<usize>| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        fs::write(&path, content).unwrap();
        drop(open(&path).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let added = text.strip_prefix(kept).unwrap();
        match bytes_cut {
            None => assert_eq!(added, ""),
            Some(bytes) => {
                assert_eq!(names(&path).last().unwrap(), "audit_repaired");
                assert!(added.contains(&format!("\"bytes_cut\":{bytes}}}")), "{added}");
                assert_eq!(added.lines().count(), 1);
            }
        }
    };
    check("", "", None);
    check(LINE, LINE, None);
    for torn in 1..LINE.len() - 1 {
        check(&LINE[..torn], "", Some(torn));
    }
    check(&format!("{LINE}{LINE}{{"), &format!("{LINE}{LINE}"), Some(1));
    check(&format!("{}{{", LINE.repeat(9000)), &LINE.repeat(9000), Some(1));
    check(&format!("{LINE}{{{long}"), LINE, Some(200_001));
    check(&format!("{}{long}", &LINE[..80]), "", Some(200_080));
    // A file system that had made room and not written when the power went.
    check(&format!("{LINE}\0\0\0"), LINE, Some(3));
    check("\0", "", Some(1));
    check(&"\0".repeat(200_000), "", Some(200_000));
    check(&format!("{}{}", &LINE[..20], "\0".repeat(200_000)), "", Some(200_020));
}

#[tokio::test]
async fn what_is_no_log_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let zeros = "\0".repeat(100_000);
    for content in [
        "root:x:0",
        "{\"a\":1}",
        "{\"a\":1}\n",
        "{\n  \"a\": 1\n}",
        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\"}\n",
        &LINE[1..],
        "\n",
        "\0\0x",
        &format!("{zeros}x"),
        &format!("{}{zeros}x", &LINE[..20]),
    ] {
        fs::write(&path, content).unwrap();
        assert!(matches!(open(&path), Err(OpenError::NotALog(_))), "{content}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    assert!(matches!(open(Path::new("/dev/null")), Err(OpenError::NotALog(_))));
    assert!(matches!(open(&directory.path().join("no/audit")), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn a_log_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(OpenError::InUse(_))));
    drop(first);
    open(&path).unwrap();
}

#[tokio::test]
async fn a_log_that_was_moved_away_goes_on_in_a_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("audit"), directory.path().join("audit.1"));
    let audit = open(&path).unwrap();
    try_record(&audit, started()).await.unwrap();
    audit.reopen().await.unwrap();
    fs::rename(&path, &moved).unwrap();
    try_record(&audit, started()).await.unwrap();
    audit.reopen().await.unwrap();
    try_record(&audit, Event::ServerStopped).await.unwrap();
    assert_eq!(names(&moved), ["server_started", "server_started"]);
    assert_eq!(names(&path), ["server_stopped"]);
    // Numbers go on, so that a missing file shows.
    assert_eq!(events(&path)[0]["sequence"], 3);
    assert_eq!(events(&path)[0]["run"], events(&moved)[0]["run"]);
}

#[tokio::test]
async fn a_log_that_is_copied_and_truncated_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let audit = open(&path).unwrap();
    try_record(&audit, started()).await.unwrap();
    fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    try_record(&audit, Event::ServerStopped).await.unwrap();
    assert_eq!(names(&path), ["server_stopped"]);
}

/// A file system of a few pages.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this process may not mount one.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k", "none"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmount.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_recovers_without_a_torn_line() {
    let Some(disk) = SmallDisk::mount() else {
        // Past the harness, which keeps what tests print for itself.
        let skipped = "skipped: a_full_disk_refuses_and_recovers needs to mount a small disk\n";
        io::stderr().write_all(skipped.as_bytes()).unwrap();
        assert!(std::env::var_os("CI").is_none(), "{skipped}");
        return;
    };
    let path = disk.0.path().join("audit");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, [0; 4096]).unwrap();
    let audit = Arc::new(open(&path).unwrap());
    let mut health = audit.health();
    let tasks = run(&audit);
    let mut recorded = 0;
    while try_record(&audit, started()).await.is_ok() {
        recorded += 1;
    }
    assert!(is_failing(&audit));
    assert!(recorded > 10);
    assert_eq!(events(&path).len(), recorded);

    fs::remove_file(&ballast).unwrap();
    until(&mut health, |health| *health == Health::Recording).await;
    try_record(&audit, Event::ServerStopped).await.unwrap();
    assert_eq!(names(&path)[recorded..], ["audit_recovered", "server_stopped"]);
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

/// Names the log that a child process writes to until it is killed.
const CHILD_LOG: &str = "STEEPLE_TEST_AUDIT_LOG";

/// Does nothing unless the test below starts it: records events, and acknowledges each in a file
/// beside the log with a byte.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(path) = std::env::var_os(CHILD_LOG) else { return };
    let path = Path::new(&path);
    let mut acknowledged = fs::File::create(path.with_extension("acknowledged")).unwrap();
    let audit = open(path).unwrap();
    let batch = vec![started(); 50];
    loop {
        audit.record(&Caller::Server, &batch).await.unwrap();
        acknowledged.write_all(&[1]).unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = directory.path().join(format!("audit-{round}"));
        let acknowledged = || {
            let length = fs::metadata(path.with_extension("acknowledged")).map(|file| file.len());
            usize::try_from(length.unwrap_or(0)).unwrap()
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::tests::files::child_that_is_killed"])
            .env(CHILD_LOG, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while acknowledged() < 20 + round {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();

        let before = acknowledged();
        drop(open(&path).unwrap());
        let events = events(&path);
        let written = events.iter().filter(|event| event["event"] == "server_started");
        assert!(written.count() >= 50 * before);
        assert!((1..).zip(&events).all(|(number, event)| {
            event["sequence"] == number || event["event"] == "audit_repaired"
        }));
    }
}
