//! A thousand processes that ask for an identity at the same moment.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Child;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::process::command;
use crate::harness::{Deployment, bin, eventually};
use crate::workload_api::this_user;

const CROWD: usize = 1_000;

/// A process that watches its SVIDs, and writes them to a file.
struct Watcher(Child);

impl Watcher {
    fn start(node: &Deployment, number: usize) -> Self {
        let mut watcher = command(&bin::agent());
        watcher.args(["api", "watch", "--output", "json", "--timeout", "10m"]);
        watcher.env("SPIFFE_ENDPOINT_SOCKET", node.endpoint());
        watcher.stdout(File::create(node.dir.path(&number.to_string())).unwrap());
        let complaints = File::create(node.dir.path(&format!("{number}.err"))).unwrap();
        Self(watcher.stderr(complaints).spawn().unwrap())
    }

    /// Whether none of its threads has anything to do.
    fn waits(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, stat)| stat.starts_with('S'))
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn a_thousand_processes_at_once_get_an_svid_and_a_key_each() {
    // The server signs 500 a second. Nobody is told to come back: a watcher complains if it is.
    let node = Deployment::start();
    let entry = node.register("/web", &[&this_user()]);
    node.agent.wait_for("synced entries=1");
    // All are at the door when it is opened.
    node.agent.signal(Signal::SIGSTOP);
    let mut crowd: Vec<_> = (0..CROWD).map(|number| Watcher::start(&node, number)).collect();
    eventually("all have connected", || (connections(&node) >= CROWD).then_some(()));
    // Whoever is slow to ask once it is served is cut off.
    let all_wait = || crowd.iter().all(Watcher::waits);
    eventually("all have asked", || (all_wait() && all_wait()).then_some(()));
    node.agent.signal(Signal::SIGCONT);

    let keys: BTreeSet<_> = (0..CROWD).map(|number| key(&node, number, &mut crowd)).collect();
    assert_eq!(keys.len(), CROWD, "processes share a key");
    let complaints = (0..CROWD).map(|number| complaints(&node, number));
    let complaints: Vec<_> = complaints.filter(|complaints| !complaints.is_empty()).collect();
    assert_eq!(complaints, [""; 0], "they were not served at the first try");
    let issued = node.audit().iter().filter(|record| is_issued(record, &entry)).count();
    assert_eq!(issued, CROWD, "one mint for each process");
    println!("{CROWD} processes, {} KiB in the agent", resident_kib(&node));
}

/// The key of the first SVID that a process got, which is that of the entry.
fn key(node: &Deployment, number: usize, crowd: &mut [Watcher]) -> String {
    let line = eventually("an SVID", || {
        assert_eq!(crowd[number].0.try_wait().unwrap(), None, "{number} has ended");
        let text = fs::read_to_string(node.dir.path(&number.to_string())).unwrap();
        text.lines().next().filter(|_| text.ends_with('\n')).map(ToOwned::to_owned)
    });
    let svid = &serde_json::from_str::<Value>(&line).unwrap()["svids"][0];
    assert_eq!(svid["spiffe_id"], "spiffe://example.org/web");
    svid["x509_svid_key"].as_str().unwrap().to_owned()
}

fn complaints(node: &Deployment, number: usize) -> String {
    fs::read_to_string(node.dir.path(&format!("{number}.err"))).unwrap()
}

fn is_issued(record: &Value, entry: &str) -> bool {
    record["event"] == "x509_issued" && record["entry_id"] == entry
}

/// How many connections to the agent there are, accepted or not.
fn connections(node: &Deployment) -> usize {
    // The kernel knows it by the name that it had before it was ready.
    let directory = node.dir.path("agent/").display().to_string();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    // One of them listens.
    sockets.lines().filter(|line| line.contains(&directory)).count().saturating_sub(1)
}

fn resident_kib(node: &Deployment) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", node.agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").to_owned()
}
