//! The Workload API, over the real socket.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use nix::unistd::{Uid, getuid};
use serde_json::Value;
use steeple_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitsvidRequest, X509BundlesRequest,
    X509svidRequest,
};
use tonic::Code;

use crate::harness::process::command;
use crate::harness::workload::{connect, fetch, first_answer, next, request};
use crate::harness::{Deployment, Settings, bin, eventually, skipped, stderr, stdout};

const NOBODY: u32 = 65_534;

/// The selector of this very process.
pub(crate) fn this_user() -> String {
    format!("unix:uid:{}", getuid())
}

fn ids(svids: &[steeple_proto::workload::X509svid]) -> Vec<&str> {
    svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// What the agent's command line prints once it succeeds for this program.
fn until_fetched(node: &Deployment, arguments: &[&str]) -> Output {
    eventually("the workload is given what it asked for", || {
        Some(node.workload(arguments)).filter(|output| output.status.success())
    })
}

#[tokio::test]
async fn a_registered_process_gets_an_svid_with_a_key_and_a_bundle() {
    let node = Deployment::start();
    let refused = fetch(&node.socket()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied); // WAPI-30
    node.register("/web", &[&this_user()]);
    let (answer, _) = first_answer(&node.socket()).await;
    assert_eq!(ids(&answer.svids), ["spiffe://example.org/web"]);
    assert!(!answer.svids[0].bundle.is_empty() && !answer.svids[0].x509_svid_key.is_empty());
}

/// A verifier that only has to know whom to believe.
#[tokio::test]
async fn a_process_without_identity_may_be_given_the_own_bundle() {
    let agent = "allow_unauthenticated_verifiers = true\n";
    let node = Deployment::with(Settings { agent, ..Settings::default() });
    let refused = fetch(&node.socket()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut client = connect(&node.socket()).await;
    let own = ["spiffe://example.org"];
    let mut x509 =
        client.fetch_x509_bundles(request(X509BundlesRequest {})).await.unwrap().into_inner();
    let told = next(&mut x509).await.unwrap().bundles;
    assert!(told.keys().eq(own) && told.values().all(|bundle| !bundle.is_empty()), "{told:?}");
    let mut jwt =
        client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.unwrap().into_inner();
    let told = next(&mut jwt).await.unwrap().bundles;
    assert!(told.keys().eq(own) && told.values().all(|bundle| !bundle.is_empty()), "{told:?}");
}

#[test]
fn openssl_accepts_the_chain_and_the_files_have_the_modes_of_what_they_hold() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let files = node.dir.path("files");
    std::fs::create_dir(&files).unwrap();
    until_fetched(&node, &["api", "fetch", "x509", "--write", files.to_str().unwrap()]);
    let mode = |name: &str| files.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("svid.0.key"), mode("svid.0.pem")), (0o600, 0o644));

    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("checks by openssl", "it is not installed");
    }
    let verify = |bundle: &Path| {
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]).arg(bundle);
        openssl.arg("-untrusted").arg(files.join("svid.0.pem")).arg(files.join("svid.0.pem"));
        openssl.output().unwrap()
    };
    let good = verify(&files.join("bundle.0.pem"));
    assert!(good.status.success(), "{}", stderr(&good));
    let other = Deployment::start();
    let bad = verify(&other.dir.path("bundle.pem"));
    assert!(!bad.status.success(), "a chain of one server verified with the bundle of another");
}

#[test]
fn users_are_told_apart() {
    if !getuid().is_root() {
        return skipped("workloads of two users", "only root can be somebody else");
    }
    let node = Deployment::start();
    node.register("/root", &["unix:uid:0"]);
    node.register("/nobody", &[&format!("unix:uid:{NOBODY}")]);
    let program = node.dir.copy(&bin::agent(), "workload");
    let fetch_as = |uid: u32| {
        let mut command = command(&program);
        command.args(["api", "fetch", "x509", "--output", "json"]).uid(uid).gid(uid);
        command.env("SPIFFE_ENDPOINT_SOCKET", node.endpoint()).output().unwrap()
    };
    for (uid, expected) in
        [(0, "spiffe://example.org/root"), (NOBODY, "spiffe://example.org/nobody")]
    {
        let output =
            eventually("the SVID", || Some(fetch_as(uid)).filter(|output| output.status.success()));
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let ids: Vec<_> =
            answer["svids"].as_array().unwrap().iter().map(|s| &s["spiffe_id"]).collect();
        assert_eq!(ids, [expected]);
    }
    let refused = fetch_as(NOBODY - 1);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("no registration entry"), "{}", stderr(&refused));
}

#[tokio::test]
async fn the_oldest_entry_comes_first_and_hints_are_passed_on() {
    let node = Deployment::start();
    for (path, hint) in [("/z-first", "one"), ("/a-second", "two"), ("/m-third", "three")] {
        node.register_with(path, &[&this_user()], &["--hint", hint]);
    }
    let (mut answer, mut stream) = first_answer(&node.socket()).await;
    while answer.svids.len() < 3 {
        answer = next(&mut stream).await.unwrap();
    }
    let order: Vec<_> =
        answer.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    assert_eq!(
        order,
        [
            ("spiffe://example.org/z-first", "one"),
            ("spiffe://example.org/a-second", "two"),
            ("spiffe://example.org/m-third", "three"),
        ]
    );
}

#[tokio::test]
async fn a_stream_is_told_of_each_change_and_ends_when_nothing_is_left() {
    let node = Deployment::start();
    let first = node.register("/one", &[&this_user()]);
    let (_, mut stream) = first_answer(&node.socket()).await;

    let second = node.register("/two", &[&this_user()]);
    let both = next(&mut stream).await.unwrap();
    assert_eq!(ids(&both.svids), ["spiffe://example.org/one", "spiffe://example.org/two"]);

    node.admin(&["entry", "delete", "--entry-id", &first]);
    let left = next(&mut stream).await.unwrap();
    assert_eq!(ids(&left.svids), ["spiffe://example.org/two"]);

    node.admin(&["entry", "delete", "--entry-id", &second]);
    let end = next(&mut stream).await.unwrap_err();
    assert_eq!(end.code(), Code::PermissionDenied); // WAPI-07
}

#[tokio::test]
async fn a_token_is_for_its_audience_and_no_other() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut client = connect(&node.socket()).await;
    let wanted = JwtsvidRequest { audience: vec!["billing".into()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(request(wanted)).await.unwrap().into_inner().svids.remove(0);
    assert_eq!(token.spiffe_id, "spiffe://example.org/web");

    let mut validate = async |audience: &str| {
        let asked = ValidateJwtsvidRequest { audience: audience.into(), svid: token.svid.clone() };
        client.validate_jwtsvid(request(asked)).await
    };
    let valid = validate("billing").await.unwrap().into_inner();
    assert_eq!(valid.spiffe_id, "spiffe://example.org/web");
    assert_eq!(validate("shipping").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn bundles_are_those_of_the_server_and_of_foreign_domains_that_an_entry_names() {
    let node = Deployment::start();
    let foreign = Deployment::start();
    let bundle = foreign.dir.path("bundle.pem");
    node.admin(&[
        "bundle",
        "set",
        "--id",
        "spiffe://other.example",
        "--path",
        bundle.to_str().unwrap(),
    ]);
    let federates = ["--federates-with", "spiffe://other.example"];
    node.register_with("/web", &[&this_user()], &federates);
    let (mut answer, mut stream) = first_answer(&node.socket()).await;
    while answer.federated_bundles.is_empty() {
        answer = next(&mut stream).await.unwrap();
    }
    assert!(answer.federated_bundles.contains_key("spiffe://other.example"));

    let mut client = connect(&node.socket()).await;
    let mut x509 =
        client.fetch_x509_bundles(request(X509BundlesRequest {})).await.unwrap().into_inner();
    let x509 = next(&mut x509).await.unwrap().bundles;
    let mut names: Vec<_> = x509.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["spiffe://example.org", "spiffe://other.example"]);
    assert_eq!(x509["spiffe://example.org"], answer.svids[0].bundle);

    let mut jwt =
        client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.unwrap().into_inner();
    let jwt = next(&mut jwt).await.unwrap().bundles;
    let keys: Value = serde_json::from_slice(&jwt["spiffe://example.org"]).unwrap();
    assert!(keys["keys"][0]["kid"].is_string(), "{keys}");
}

#[tokio::test]
async fn what_is_no_call_of_a_workload_is_refused_as_the_standard_says() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    first_answer(&node.socket()).await;
    let mut client = connect(&node.socket()).await;
    let without_header = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(without_header.code(), Code::InvalidArgument); // WEP-04
    let wit = client.fetch_witsvid(request(WitsvidRequest::default())).await.unwrap_err();
    assert_eq!(wit.code(), Code::Unimplemented);
    let no_audience = JwtsvidRequest { audience: Vec::new(), spiffe_id: String::new() };
    let no_audience = client.fetch_jwtsvid(request(no_audience)).await.unwrap_err();
    assert_eq!(no_audience.code(), Code::InvalidArgument); // WAPI-40
    assert!(fetch(&node.socket()).await.is_ok());
}

#[tokio::test]
async fn an_agent_stops_while_streams_are_open() {
    let mut node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let (_, mut stream) = first_answer(&node.socket()).await;
    node.agent.signal(Signal::SIGTERM);
    let end = next(&mut stream).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert!(node.agent.wait().success());
    assert!(!node.socket().exists(), "the socket is left behind");
}

#[test]
fn a_second_agent_on_a_live_socket_is_refused_and_a_stale_one_replaced() {
    let mut node = Deployment::start();
    let config = node.dir.path("agent.toml");
    let mut second = command(&bin::agent());
    second.args(["run", "--config"]).arg(&config).arg("--data-dir").arg(node.dir.path("second"));
    let refused = second.output().unwrap();
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("api.sock"), "{}", stderr(&refused));

    // Killed, it leaves its socket behind; the next one takes its place.
    node.restart_agent();
    assert!(
        Uid::from_raw(std::os::unix::fs::MetadataExt::uid(&node.socket().metadata().unwrap()))
            == getuid()
    );
    let health = eventually("the agent is healthy again", || {
        Some(node.workload(&["healthcheck"])).filter(|output| output.status.success())
    });
    let said = stdout(&health);
    let (first, detail) = said.split_once('\n').unwrap();
    assert_eq!(first, "Agent is healthy.");
    assert!(detail.starts_with("attested until ") && detail.contains("; synced "), "{detail}");
}
