//! A server that is away for longer than what it signed is valid.

use std::time::{Duration, SystemTime};

use steeple::clock::{Clock as _, SystemClock};
use steeple::x509::{Chain, X509Svid};
use steeple_proto::workload::{X509svid, X509svidResponse};
use tonic::{Code, Streaming};

use crate::harness::workload::{connect, fetch, first_answer, next, serial, watch};
use crate::harness::{Deployment, Joins, Settings, eventually, stderr};
use crate::workload_api::this_user;

/// A stall of this machine for half of it is none of what is looked at: the agent expires then.
const AGENT_TTL: &str = "agent_ttl = \"8s\"\n";

/// Between two tries of the same.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn an_agent_that_can_attest_again_comes_back_by_itself() {
    let settings =
        Settings { server: AGENT_TTL, joins: Joins::ByCertificate, ..Settings::default() };
    let mut node = Deployment::with(settings);
    let entry = node.register("/web", &[&this_user()]);
    let (first, mut stream) = first_answer(&node.socket()).await;
    let from = node.agent.log().len();
    node.server.kill();
    node.agent.wait_for_from(from, "the agent's SVID has expired");
    let health = node.workload(&["healthcheck"]);
    assert!(stderr(&health).contains("expired"), "{health:?}");
    let again = fetch(&node.socket()).await.unwrap();
    assert_eq!(serial(&again[0]), serial(&first.svids[0]));

    let from = node.agent.log().len();
    node.restart_server();
    node.agent.wait_for_from(from, "Node attestation was successful");
    node.admin(&["entry", "update", "--entry-id", &entry, "--hint", "after"]);
    // The stream of before goes on.
    assert_eq!(next(&mut stream).await.unwrap().svids[0].hint, "after");
    assert_eq!(node.admin_json(&["agent", "count"])["count"], 1);
    eventually("it is healthy again", || {
        node.workload(&["healthcheck"]).status.success().then_some(())
    });
}

#[tokio::test]
async fn an_agent_that_cannot_attest_again_serves_what_is_valid_and_says_what_helps() {
    let mut node = Deployment::with(Settings { server: AGENT_TTL, ..Settings::default() });
    node.register("/web", &[&this_user()]);
    let (first, _stream) = first_answer(&node.socket()).await;
    let from = node.agent.log().len();
    node.server.kill();
    node.agent.wait_for_from(from, "the agent's SVID has expired");
    let from = node.agent.log().len();
    node.restart_server();
    node.agent.wait_for_from(from, "node attestation was refused");
    let again = fetch(&node.socket()).await.unwrap();
    assert_eq!(serial(&again[0]), serial(&first.svids[0]));
    let health = stderr(&node.workload(&["healthcheck"]));
    assert!(health.contains("token"), "{health}");
}

#[tokio::test]
async fn what_has_expired_is_not_served() {
    let mut node = Deployment::start();
    node.register_with("/web", &[&this_user()], &["--x509-svid-ttl", "5"]);
    let (first, mut stream) = first_answer(&node.socket()).await;
    node.server.kill();
    assert_valid(&first.svids[0]);
    // Whoever holds a stream is told the same, and asks again.
    let ended = async {
        loop {
            match next(&mut stream).await {
                Ok(message) => message.svids.iter().for_each(assert_valid),
                Err(status) => return status,
            }
        }
    };
    let mut client = connect(&node.socket()).await;
    let refused = async {
        loop {
            let asked = SystemClock.now();
            let valid_then = |svid: &X509svid| assert_valid_at(svid, asked);
            match watch(&mut client).await {
                Ok((answer, _)) => answer.svids.iter().for_each(valid_then),
                Err(status) => return status,
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let (refused, ended) = tokio::join!(refused, ended);
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    node.restart_server();
    let (renewed, _stream) = eventually_served(&node).await;
    assert_valid(&renewed.svids[0]);
}

/// The first answer after some that put this process off.
async fn eventually_served(node: &Deployment) -> (X509svidResponse, Streaming<X509svidResponse>) {
    loop {
        match watch(&mut connect(&node.socket()).await).await {
            Ok(answer) => return answer,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// That an SVID is valid, or was when it was sent.
#[track_caller]
fn assert_valid(svid: &X509svid) {
    assert_valid_at(svid, SystemClock.now() - Duration::from_secs(1));
}

#[track_caller]
fn assert_valid_at(svid: &X509svid, time: SystemTime) {
    let svid = X509Svid::new(Chain::from_concatenated(&svid.x509_svid).unwrap()).unwrap();
    assert!(time <= svid.not_after(), "served after {:?}", svid.not_after());
}
