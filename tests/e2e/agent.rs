//! What SPIRE's integration suites ask of an agent's command line and admin socket: the scenarios
//! `agent-cli`, `debug-endpoints` and `delegatedidentity`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use steeple_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_client::DelegatedIdentityClient;
use steeple_proto::spire::api::agent::delegatedidentity::v1::{
    FetchJwtsviDsRequest, SubscribeToJwtBundlesRequest, SubscribeToX509BundlesRequest,
    SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
};
use steeple_proto::spire::api::types;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::harness::process::command;
use crate::harness::{Deployment, Settings, bin, eventually, stderr, stdout};
use crate::spire_server_cli::shapes::shape;
use crate::workload_api::this_user;

/// A node whose agent has an admin socket, and one delegate.
fn with_admin_socket() -> Deployment {
    let agent = "admin_socket_path = \"{dir}/agent-admin/admin.sock\"\n\
                 authorized_delegates = [\"spiffe://example.org/delegate\"]";
    Deployment::with(Settings { agent, ..Settings::default() })
}

/// A process that ends with the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn admin_socket(node: &Deployment) -> PathBuf {
    node.dir.path("agent-admin/admin.sock")
}

/// Runs the agent's command line as SPIRE's users write it.
fn spire(node: &Deployment, words: &str) -> Output {
    let words = words.replace("{admin}", admin_socket(node).to_str().unwrap());
    node.workload(&words.split(' ').collect::<Vec<_>>())
}

#[track_caller]
fn prints(output: &Output, expected: &str) {
    assert!(output.status.success() && stdout(output).contains(expected), "{output:?}");
}

#[test]
fn an_agent_may_serve_delegates_and_administrators_alone() {
    let agent = "admin_socket_path = \"{dir}/agent-admin/admin.sock\"\n\
                 disable_workload_api = true";
    let node = Deployment::with(Settings { agent, ..Settings::default() });
    prints(&spire(&node, "healthcheck -socketPath {admin}"), "Agent is healthy.");
    assert!(!node.socket().exists());
}

/// Scenario agent-cli
#[test]
fn agent_cli_says_whether_the_agent_is_healthy_and_its_configuration_valid() {
    let node = Deployment::start();
    let healthy = eventually("a healthy agent", || {
        Some(spire(&node, "healthcheck")).filter(|checked| checked.status.success())
    });
    prints(&healthy, "Agent is healthy.");
    let nowhere = spire(&node, "healthcheck -socketPath /tmp/nowhere.sock");
    let said = stderr(&nowhere);
    assert!(said.starts_with("Error: Agent is unhealthy: unable to determine health: "), "{said}");
    assert!(!nowhere.status.success() && said.contains("/tmp/nowhere.sock"), "{said}");

    let config = node.dir.path("agent.toml");
    let good = spire(&node, &format!("validate -config {}", config.display()));
    prints(&good, "SPIRE agent configuration file is valid.");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("surprise = 1\n{text}")).unwrap();
    let bad = spire(&node, &format!("validate -config {}", config.display()));
    assert!(!bad.status.success() && stderr(&bad).contains("surprise"), "{bad:?}");
}

/// Scenario agent-cli
#[test]
fn agent_cli_watches_from_before_there_is_an_entry_through_every_rotation() {
    let node = Deployment::start();
    let shown = node.dir.path("shown");
    let mut watch = command(&bin::agent());
    watch.args(["api", "watch", "-socketPath"]).arg(node.socket());
    watch.stdout(File::create(&shown).unwrap()).stderr(Stdio::null());
    let mut watch = Beside(watch.spawn().unwrap());
    node.agent.wait_for("No identity issued");
    assert_eq!(fs::read_to_string(&shown).unwrap(), "");
    node.register_with("/web", &[&this_user()], &["--x509-svid-ttl", "6s"]);
    eventually("the first SVID and four rotations", || {
        assert_eq!(watch.0.try_wait().unwrap(), None);
        let text = fs::read_to_string(&shown).unwrap();
        (text.matches("Received 1 svid after ").count() > 4).then_some(())
    });
}

/// Scenario agent-cli
#[test]
fn agent_cli_switches_what_is_logged_and_back() {
    let node = with_admin_socket();
    node.register("/web", &[&this_user()]);
    let line = "Fetched JWT SVID";
    let fetch = |audience: &str| {
        eventually("a token", || {
            let fetched = spire(&node, &format!("api fetch jwt -audience {audience} -output json"));
            fetched.status.success().then_some(())
        });
    };
    let logged = || node.agent.log().iter().filter(|logged| logged.contains(line)).count();
    fetch("a");
    let level = "Logger Level : info\nLaunch Level : info";
    prints(&spire(&node, "logger get -socketPath {admin}"), level);
    assert_eq!(logged(), 0);
    let level = "Logger Level : debug\nLaunch Level : info";
    prints(&spire(&node, "logger set -level debug -socketPath {admin}"), level);
    fetch("b");
    assert!(node.agent.wait_for(line).contains("spiffe://example.org/web"));
    prints(&spire(&node, "logger reset -socketPath {admin} -output json"), "\"INFO\"");
    let before = logged();
    fetch("c");
    assert_eq!(logged(), before);
}

/// Scenario agent-cli
#[test]
fn agent_cli_writes_files_beside_json_and_goes_by_the_name_of_spires() {
    let node = Deployment::start();
    node.register("/web", &[&this_user()]);
    let files = node.dir.path("files");
    let name = node.dir.path("spire-agent");
    std::os::unix::fs::symlink(bin::agent(), &name).unwrap();
    let run = |words: &[&str]| {
        let mut command = command(&name);
        command.args(words).env("SPIRE_AGENT_PUBLIC_SOCKET", node.socket()).output().unwrap()
    };
    let fetched = eventually("an SVID", || {
        let fetched = run(&["api", "fetch", "-write", files.to_str().unwrap(), "-output", "json"]);
        fetched.status.success().then_some(fetched)
    });
    let json: Value = serde_json::from_str(&stdout(&fetched)).unwrap();
    assert_eq!(json["svids"][0]["spiffe_id"], "spiffe://example.org/web");
    for file in ["svid.0.pem", "svid.0.key", "bundle.0.pem"] {
        assert!(files.join(file).exists(), "{file}");
    }
    assert_eq!(run(&["healthcheck", "-nonsense"]).status.code(), Some(1));
    prints(&run(&["healthcheck", "-help"]), "Usage: spire-agent healthcheck");
    let nothing = run(&["healthcheck", "-instance", "a"]);
    assert!(stderr(&nothing).contains("SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE"), "{nothing:?}");
    let mut by_instance = command(&name);
    by_instance.args(["healthcheck", "-instance", "agent"]);
    by_instance.env("SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE", node.dir.path("%i/api.sock"));
    prints(&by_instance.output().unwrap(), "Agent is healthy.");
}

/// Scenario agent-cli
#[test]
fn agent_cli_prints_what_scripts_look_for() {
    let node = with_admin_socket();
    node.register_with("/web", &[&this_user()], &["--hint", "first"]);
    let files = node.dir.path("files");
    let written = eventually("an SVID", || {
        let fetched = spire(&node, &format!("api fetch x509 -write {}", files.display()));
        fetched.status.success().then(|| stdout(&fetched))
    });
    let lines: Vec<_> = written.lines().collect();
    assert!(lines[0].starts_with("Received 1 svid after ") && lines[0].ends_with('s'), "{written}");
    assert_eq!(lines[1..4], ["", "SPIFFE ID:\t\tspiffe://example.org/web", "Hint:\t\t\tfirst"]);
    for (line, label) in lines[4..].iter().zip([
        "SVID Valid After:\t",
        "SVID Valid Until:\t",
        "CA #1 Valid After:\t",
        "CA #1 Valid Until:\t",
    ]) {
        assert!(line.starts_with(label) && line.ends_with(" +0000 UTC"), "{written}");
    }
    let file = |what: &str, name: &str| {
        format!("Writing {what} #0 to file {}.", files.join(name).display())
    };
    let expected =
        [file("SVID", "svid.0.pem"), file("key", "svid.0.key"), file("bundle", "bundle.0.pem")];
    assert_eq!(lines[lines.len() - 3..], expected);

    let fetched = stdout(&spire(&node, "api fetch jwt -audience a"));
    let lines: Vec<_> = fetched.lines().collect();
    assert_eq!(lines[0], "token(spiffe://example.org/web):");
    assert_eq!(lines[2..4], ["hint(spiffe://example.org/web):", "\tfirst"]);
    assert_eq!(lines[4], "bundle(spiffe://example.org):");
    assert!(lines[5].starts_with("\t{\"keys\":"), "{fetched}");
    let token = lines[1].trim();
    let valid = spire(&node, &format!("api validate jwt -audience a -svid {token}"));
    let head = "SVID is valid.\nSPIFFE ID : spiffe://example.org/web\nClaims    : {";
    assert!(stdout(&valid).starts_with(head), "{valid:?}");
    let invalid = spire(&node, &format!("api validate jwt -audience b -svid {token}"));
    assert!(stderr(&invalid).starts_with("Error: SVID is not valid: "), "{invalid:?}");
    assert_eq!(invalid.status.code(), Some(1));

    let info = stdout(&spire(&node, "debug getinfo -socketPath {admin}"));
    let head = "Agent Debug Info:\n  Uptime:                          ";
    assert!(info.starts_with(head), "{info}");
    let id = format!("  SVID Chain:\n    [0] SPIFFE ID:  {}\n", node.agent_id);
    assert!(info.contains(&id), "{info}");
    let set = stdout(&spire(&node, "logger set -level debug -socketPath {admin}"));
    assert_eq!(set, "Logger Level : debug\nLaunch Level : info\n\n");
}

/// Scenario agent-cli
#[test]
fn agent_cli_prints_json_with_the_names_that_scripts_look_for() {
    let node = with_admin_socket();
    node.register("/web", &[&this_user()]);
    eventually("an SVID", || spire(&node, "api fetch").status.success().then_some(()));
    let fetched = spire(&node, "api fetch jwt -audience a -format json");
    let token: Value = serde_json::from_str(&stdout(&fetched)).unwrap();
    assert!(token[1]["bundles"]["spiffe://example.org"].is_string(), "{token}");
    let token = token[0]["svids"][0]["svid"].as_str().unwrap();
    let validate = format!("api validate jwt -audience a -svid {token}");
    let level = json!({ "current_level": "text", "launch_level": "text" });
    for (command, expected) in [
        (
            "api fetch x509",
            json!({
                "svids": [{
                    "spiffe_id": "text", "x509_svid": "text", "x509_svid_key": "text",
                    "bundle": "text", "hint": "text",
                }],
                "crl": [], "federated_bundles": {},
            }),
        ),
        (
            "api fetch jwt -audience a",
            json!([{ "svids": [{ "spiffe_id": "text", "svid": "text", "hint": "text" }] }]),
        ),
        (
            &validate,
            json!({
                "spiffe_id": "text",
                "claims": { "aud": ["text"], "exp": "number", "iat": "number", "sub": "text" },
            }),
        ),
        ("logger get -socketPath {admin}", level.clone()),
        ("logger set -level info -socketPath {admin}", level.clone()),
        ("logger reset -socketPath {admin}", level),
    ] {
        let printed = stdout(&spire(&node, &format!("{command} -output json")));
        assert_eq!(printed.lines().count(), 1, "{command}: {printed}");
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(shape(&printed), expected, "{command}");
    }
}

/// Scenario debug-endpoints
#[test]
fn debug_endpoints_of_the_agent_are_on_its_admin_socket_alone() {
    let node = with_admin_socket();
    node.register("/web", &[&this_user()]);
    eventually("an SVID", || {
        spire(&node, "api fetch jwt -audience a").status.success().then_some(())
    });
    let info = || {
        let info = spire(&node, "debug getinfo -socketPath {admin} -output json");
        serde_json::from_str::<Value>(&stdout(&info)).unwrap()
    };
    eventually("the keys go with whoever fetched them", || {
        (info()["cached_jwt_svids_count"] == 0).then_some(())
    });
    for _ in 0..10 {
        let info = info();
        let path = info["svid_chain"][0]["id"]["path"].as_str().unwrap();
        assert_eq!(format!("spiffe://example.org{path}"), node.agent_id);
        let synced = info["last_sync_success"].as_str().unwrap().parse::<u64>().unwrap();
        assert!(synced > 1_000_000_000);
    }
    let public = format!("debug getinfo -socketPath {}", node.socket().display());
    assert!(!spire(&node, &public).status.success());
}

fn selectors(path: &str) -> Vec<types::Selector> {
    let (kind, value) = path.split_once(':').unwrap();
    vec![types::Selector { r#type: kind.into(), value: value.into() }]
}

fn api(node: &Deployment) -> DelegatedIdentityClient<Channel> {
    let path = admin_socket(node);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://agent");
    DelegatedIdentityClient::new(endpoint.connect_with_connector_lazy(connector))
}

async fn subscribe(
    node: &Deployment,
    request: &SubscribeToX509sviDsRequest,
) -> Result<Streaming<SubscribeToX509sviDsResponse>, Status> {
    Ok(api(node).subscribe_to_x509svi_ds(request.clone()).await?.into_inner())
}

/// The paths of the SVIDs in the next message.
async fn paths(stream: &mut Streaming<SubscribeToX509sviDsResponse>) -> Vec<String> {
    let message = stream.message().await.unwrap().unwrap();
    let ids = message.x509_svids.into_iter().map(|svid| svid.x509_svid.unwrap().id.unwrap().path);
    ids.collect()
}

/// Scenario delegatedidentity
#[tokio::test]
async fn delegatedidentity_is_for_authorized_delegates_and_their_subjects() {
    let node = with_admin_socket();
    let program = node.dir.copy("/bin/sleep".as_ref(), "db");
    let is_db = format!("unix:path:{}", program.display());
    let is_this = format!("unix:path:{}", std::env::current_exe().unwrap().display());
    node.register("/db", &[&is_db]);
    node.register("/other", &[&is_this]);
    let by_selectors = SubscribeToX509sviDsRequest { selectors: selectors(&is_db), pid: 0 };

    // Neither who has no identity may ask, nor who has another.
    let words = "caller not configured as an authorized delegate";
    let refused = loop {
        let refused = subscribe(&node, &by_selectors).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        if refused.message() != "no identity issued" {
            break refused;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(refused.message(), words);

    node.register("/delegate", &[&is_this]);
    let mut stream = loop {
        match subscribe(&node, &by_selectors).await {
            Ok(stream) => break stream,
            Err(refused) => assert_eq!(refused.message(), words),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(paths(&mut stream).await, ["/db"]);

    let db = Beside(Command::new(&program).arg("600").spawn().unwrap());
    let pid = db.0.id().try_into().unwrap();
    let by_pid = SubscribeToX509sviDsRequest { selectors: Vec::new(), pid };
    let mut of_process = subscribe(&node, &by_pid).await.unwrap();
    assert_eq!(paths(&mut of_process).await, ["/db"]);

    let audience = vec!["a".to_owned()];
    let tokens = FetchJwtsviDsRequest { audience, selectors: Vec::new(), pid };
    let tokens = api(&node).fetch_jwtsvi_ds(tokens).await.unwrap().into_inner().svids;
    assert_eq!(tokens[0].id.as_ref().unwrap().path, "/db");
    let own = ["spiffe://example.org".to_owned()];
    let bundles = api(&node).subscribe_to_x509_bundles(SubscribeToX509BundlesRequest {}).await;
    let bundles = bundles.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(bundles.ca_certificates.into_keys().collect::<Vec<_>>(), own);
    let bundles = api(&node).subscribe_to_jwt_bundles(SubscribeToJwtBundlesRequest {}).await;
    let bundles = bundles.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(bundles.bundles.into_keys().collect::<Vec<_>>(), own);

    drop(db);
    assert_eq!(of_process.message().await.unwrap_err().code(), Code::NotFound);
}
