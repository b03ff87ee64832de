//! Authorities that rotate under workloads which talk to each other all the time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use crate::harness::process::command;
use crate::harness::workload::first_answer;
use crate::harness::{Deployment, Settings, bin};
use crate::workload_api::this_user;

#[path = "rotation/forced.rs"]
mod forced;
#[path = "rotation/peer.rs"]
mod peer;

/// Who talks to whom: each to all others.
const PEERS: usize = 4;

/// How often each calls another one.
const PACE: Duration = Duration::from_millis(100);

/// An authority lives for less than a minute, and what it signs for some seconds.
const SETTINGS: &str = "ca_ttl = \"45s\"\ndefault_x509_svid_ttl = \"15s\"\n\
                        default_jwt_svid_ttl = \"10s\"\nratelimit = { signing = false }\n";

/// A process that is a peer.
struct Peer {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    reported: Vec<String>,
}

impl Peer {
    fn start(node: &Deployment, pace: Duration) -> Self {
        let mut peer = command(&std::env::current_exe().unwrap());
        peer.args(["rotation::is_a_peer", "--exact", "--nocapture"]);
        peer.env(peer::PACE, pace.as_millis().to_string());
        peer.env(peer::SOCKET, node.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        peer.env("STEEPLE_BIN_DIR", bin::agent().parent().unwrap());
        let mut child = peer.spawn().unwrap();
        let (orders, reports) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, orders, reports: BufReader::new(reports), reported: Vec::new() }
    }

    /// Tells each of the others.
    fn introduce(peers: &mut [Self]) {
        let ports: Vec<_> = peers.iter_mut().map(|peer| peer.report("listens")).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            // Each begins with the next one, so that not all call the same one.
            let others = (1..ports.len()).map(|step| &*ports[(number + step) % ports.len()]);
            peer.order(&others.collect::<Vec<_>>().join(" "));
        }
    }

    /// Ends them, and what they did.
    fn outcomes(peers: &mut [Self]) -> Vec<peer::Outcome> {
        // Nobody may call who is not there any more.
        peers.iter_mut().for_each(|peer| peer.order("be quiet"));
        for peer in &mut *peers {
            peer.report("quiet");
        }
        let outcomes = peers.iter_mut().map(|peer| {
            peer.order("stop");
            serde_json::from_str(&peer.report("did")).unwrap()
        });
        outcomes.collect()
    }

    /// Waits until it has reported this line, now or before.
    fn has_reported(&mut self, line: &str) {
        if !self.reported.iter().any(|reported| reported == line) {
            self.report(line);
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// What it reports under this name.
    fn report(&mut self, name: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.reports.read_line(&mut line).unwrap() > 0, "it ended without {name}");
            self.reported.push(line.trim_end().to_owned());
            if let Some(rest) = line.trim_end().strip_prefix(name) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// SPIRE's scenario `rotation`, under more load than there.
#[tokio::test]
async fn no_handshake_and_no_token_fails_while_authorities_rotate() {
    let node = Deployment::with(Settings { server: SETTINGS, ..Settings::default() });
    node.register("/peer", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut peers: Vec<_> = (0..PEERS).map(|_| Peer::start(&node, PACE)).collect();
    Peer::introduce(&mut peers);

    // From the first pair of authorities to the second, until nobody vouches for the first.
    for (from, what) in [(1, "prepared"), (1, "activated"), (2, "prepared")] {
        for kind in ["X509 CA", "JWT key"] {
            node.server.wait_for_another(from, &format!("{kind} {what}"));
        }
    }
    node.server.wait_for("authority pruned kind=X.509 CA");
    node.server.wait_for("authority pruned kind=JWT key");

    for outcome in Peer::outcomes(&mut peers) {
        println!("{outcome:?}");
        assert_eq!(outcome.failures, [""; 0]);
        assert!(outcome.handshakes > 100 && outcome.tokens > 100);
        assert!(outcome.x509_authorities > 1 && outcome.jwt_authorities > 1);
    }
}

#[test]
fn is_a_peer() {
    if let Some(socket) = std::env::var_os(peer::SOCKET) {
        peer::run(socket.into());
    }
}
