//! Servers below servers, each with an agent: one trust domain, and one root.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use steeple::id::TrustDomain;
use steeple::x509::verify::{AnchorSet, Anchors, PeerError, Role, verify_peer};
use steeple::x509::{Certificate, pem, split_certificates};
use steeple_proto::spire::api::server::localauthority::v1::GetJwtAuthorityStateRequest;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use steeple_proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest, X509svid};
use tonic::Code;

use crate::harness::process::command;
use crate::harness::workload::{self, connect, first_answer};
use crate::harness::{
    Deployment, Dir, PATIENCE, Settings, api, bin, eventually, launch_server, stderr, stdout,
};

#[path = "nested/force_rotation.rs"]
mod force_rotation;

/// The tiers below the root rotate while a test looks at them. A CA ends with that of the tier above,
/// in the last sixth of whose life the next one has to be made, and known for a sixth of its own.
const BELOW: &str = "ca_ttl = \"120s\"\ndefault_x509_svid_ttl = \"15s\"\n\
                     default_jwt_svid_ttl = \"15s\"\nratelimit = { signing = false }\n";

/// As long as a rotation of all tiers may take.
const ROTATION: Duration = Duration::from_secs(300);

/// As long as a key that is rotated in one branch may take to get into another one, by the scenario.
const TO_THE_OTHER_BRANCH: Duration = Duration::from_secs(20);

fn selector(program: &Path) -> String {
    format!("unix:path:{}", fs::canonicalize(program).unwrap().display())
}

/// What selects the process of this test, and no server.
fn this_process() -> String {
    selector(&std::env::current_exe().unwrap())
}

/// The settings of a server below that of `above`, which it is not yet allowed to be.
fn below_with(above: &Deployment, lines: &str) -> &'static str {
    let upstream = format!(
        "{lines}upstream_authority = {{ type = \"spire\", server_address = \"127.0.0.1\", \
         server_port = {}, workload_api_socket = \"{}\" }}\n",
        above.port(),
        above.socket().display()
    );
    Box::leak(upstream.into_boxed_str())
}

/// Lets servers be below that of `node`. The ID of the entry that says so.
fn downstream_entry(node: &Deployment) -> String {
    node.register_with("/nested", &[&selector(&bin::server())], &["--downstream"])
}

/// A server below that of `above`, and its agent.
fn branch(above: &Deployment) -> Deployment {
    Deployment::with(Settings { server: below_with(above, BELOW), ..Settings::default() })
}

/// The same, of a server that makes no tokens.
fn branch_without_tokens(above: &Deployment) -> Deployment {
    let lines = format!("disable_jwt_svids = true\n{BELOW}");
    Deployment::with(Settings { server: below_with(above, &lines), ..Settings::default() })
}

async fn svid(node: &Deployment) -> X509svid {
    workload::fetch(&node.socket()).await.unwrap().remove(0)
}

/// Whom an SVID names, if a bundle vouches for it.
fn verified(svid: &X509svid, bundle: &[u8]) -> Result<String, PeerError> {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    let roots = split_certificates(bundle, 10).unwrap();
    let own: TrustDomain = "example.org".parse().unwrap();
    let anchors = AnchorSet::of(own, Anchors::new(&roots));
    let now = steeple::clock::Clock::now(&steeple::clock::SystemClock);
    let peer = verify_peer(&chain, Role::Client, &anchors, now)?;
    Ok(peer.spiffe_id().to_string())
}

async fn token(node: &Deployment) -> String {
    let request = JwtsvidRequest { audience: vec!["db".into()], spiffe_id: String::new() };
    let mut client = connect(&node.socket()).await;
    let answer = client.fetch_jwtsvid(workload::request(request)).await.unwrap();
    answer.into_inner().svids.remove(0).svid
}

async fn validates(node: &Deployment, token: &str) -> bool {
    let request = ValidateJwtsvidRequest { audience: "db".into(), svid: token.into() };
    let mut client = connect(&node.socket()).await;
    client.validate_jwtsvid(workload::request(request)).await.is_ok()
}

/// Waits until a token that `from` gives is valid at `to`.
async fn check_validated(from: &Deployment, to: &Deployment) {
    let deadline = Instant::now() + PATIENCE;
    while !validates(to, &token(from).await).await {
        assert!(Instant::now() < deadline, "a key of {} is not known", from.agent_id);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Checks that a server makes no tokens and has no key for them, and says so to everybody.
async fn check_without_tokens(node: &Deployment) {
    let request = JwtsvidRequest { audience: vec!["db".into()], spiffe_id: String::new() };
    let mut client = connect(&node.socket()).await;
    let refused = client.fetch_jwtsvid(workload::request(request)).await.unwrap_err();
    assert!(refused.message().contains("JWT functionality is disabled"), "{refused:?}");
    let mut authorities = LocalAuthorityClient::new(api::admin(&node.dir));
    let state = authorities.get_jwt_authority_state(GetJwtAuthorityStateRequest {}).await;
    assert_eq!(state.unwrap_err().code(), Code::Unimplemented);
    for arguments in [
        &["localauthority", "jwt", "show"][..],
        &["jwt", "mint", "--spiffe-id", "spiffe://example.org/x", "--audience", "a"],
    ] {
        let refused = node.try_admin(arguments);
        assert!(!refused.status.success());
        let said = stderr(&refused);
        assert!(said.contains("JWT functionality is disabled"), "{arguments:?}: {said}");
    }
    assert_eq!(count(node, "JWT key"), 0);
    node.admin(&["healthcheck"]);
}

/// Prepares a JWT key that is not among those, and has it sign.
fn rotate_jwt_key(node: &Deployment, known: &[String]) -> String {
    loop {
        let prepared = node.admin_json(&["localauthority", "jwt", "prepare"]);
        let id = prepared["prepared_authority"]["authority_id"].as_str().unwrap().to_owned();
        node.admin(&["localauthority", "jwt", "activate", "--authority-id", &id]);
        if !known.contains(&id) {
            return id;
        }
    }
}

fn count(node: &Deployment, text: &str) -> usize {
    node.server.log().iter().filter(|line| line.contains(text)).count()
}

/// What openssl says of a leaf when it is told of the root alone.
fn openssl_verify(svid: &X509svid, dir: &Dir) -> Output {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    let (leaf, above) = chain.split_first().unwrap();
    let roots = split_certificates(&svid.bundle, 10).unwrap();
    let text = |der: &[u8]| pem("CERTIFICATE", der);
    fs::write(dir.path("leaf.pem"), text(leaf)).unwrap();
    fs::write(dir.path("above.pem"), above.iter().map(|der| text(der)).collect::<String>())
        .unwrap();
    fs::write(dir.path("roots.pem"), roots.iter().map(|der| text(der)).collect::<String>())
        .unwrap();
    let mut openssl = command(Path::new("openssl"));
    openssl.args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]);
    openssl.arg(dir.path("roots.pem")).arg("-untrusted").arg(dir.path("above.pem"));
    openssl.arg(dir.path("leaf.pem")).output().unwrap()
}

/// Scenario nested-rotation, three tiers deep.
#[tokio::test]
async fn nested_rotation() {
    let root = Deployment::with(Settings { server: "ca_ttl = \"1h\"\n", ..Settings::default() });
    downstream_entry(&root);
    // The second one makes no tokens, and its leaf does.
    let mut middles = [branch(&root), branch_without_tokens(&root)];
    for middle in &middles {
        downstream_entry(middle);
    }
    let leaves = [branch(&middles[0]), branch(&middles[1])];
    for (node, path) in leaves.iter().chain(&middles).zip(["/a", "/b", "/middle-a", "/middle-b"]) {
        node.register(path, &[&this_process()]);
        first_answer(&node.socket()).await;
    }
    let deadline = Instant::now() + ROTATION;
    let mut rounds_after = 0;
    while rounds_after < 3 {
        assert!(Instant::now() < deadline, "not all authorities were replaced in time");
        let replaced = |node: &Deployment, kind: &str| count(node, kind) > 1;
        let cas = middles.iter().chain(&leaves).all(|node| replaced(node, "X509 CA activated"));
        let keys = middles.iter().take(1).chain(&leaves);
        let keys = keys.into_iter().all(|node| replaced(node, "JWT key activated"));
        rounds_after += usize::from(cas && keys);
        let svids = [svid(&leaves[0]).await, svid(&leaves[1]).await];
        // X.509-SVIDs of each branch verify with what is known in the other one.
        assert_eq!(verified(&svids[0], &svids[1].bundle).unwrap(), "spiffe://example.org/a");
        assert_eq!(verified(&svids[1], &svids[0].bundle).unwrap(), "spiffe://example.org/b");
        // The leaf, its CA and the one above; the root is in the bundle, and nothing else.
        assert_eq!(split_certificates(&svids[0].x509_svid, 10).unwrap().len(), 3);
        let roots = split_certificates(&svids[0].bundle, 10).unwrap();
        assert_eq!(roots.len(), 1);
        assert!(Certificate::parse(&roots[0]).unwrap().is_self_signed());
        let told = openssl_verify(&svids[0], &root.dir);
        assert!(told.status.success(), "{}{}", stdout(&told), stderr(&told));
        check_validated(&leaves[0], &leaves[1]).await;
        check_validated(&leaves[1], &leaves[0]).await;
        check_validated(&middles[0], &middles[1]).await;
        check_without_tokens(&middles[1]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // All keys of all tiers are known at the root.
    eventually("the root knows the keys of a leaf", || {
        let (of_leaf, known) = (jwt_keys(&leaves[0]), jwt_keys(&root));
        of_leaf.iter().all(|key| known.contains(key)).then_some(())
    });

    middles[1].restart_server();
    let key = rotate_jwt_key(&middles[0], &jwt_keys(&middles[1]));
    let deadline = Instant::now() + TO_THE_OTHER_BRANCH;
    while !jwt_keys(&middles[1]).contains(&key) {
        assert!(Instant::now() < deadline, "{key} did not get into the other branch");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    check_validated(&middles[0], &middles[1]).await;
    check_without_tokens(&middles[1]).await;
}

fn jwt_keys(node: &Deployment) -> Vec<String> {
    let bundle = node.admin_json(&["bundle", "show"]);
    let keys = bundle["jwt_authorities"].as_array().unwrap();
    keys.iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
}

/// Scenario downstream-endpoints: an entry alone makes a server a branch.
#[tokio::test]
async fn a_server_without_a_downstream_entry_is_told_what_it_needs() {
    let root = Deployment::start();
    root.register("/nested", &[&selector(&bin::server())]);
    let dir = Dir::new();
    let settings = Settings { server: below_with(&root, ""), ..Settings::default() };
    let mut server = launch_server(&dir, settings, 0);
    assert!(!server.wait().success());
    let said = server.last_words();
    assert!(
        said.contains("there has to be an entry for its SVID that is marked as downstream"),
        "{said}"
    );
    assert!(said.contains("authorization denied for method"), "{said}");
}

/// A CA in the files that the server of `dir` is told of.
pub(crate) fn write_ca(dir: &Dir) -> String {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::OrganizationName, "Upstream");
    let ca = ca.self_signed(&key).unwrap();
    fs::write(dir.path("upstream.pem"), ca.pem()).unwrap();
    fs::write(dir.path("upstream.key"), key.serialize_pem()).unwrap();
    Certificate::parse(ca.der()).unwrap().subject_key_id_hex().unwrap()
}

pub(crate) const DISK: &str = "upstream_authority = { type = \"disk\", cert_file_path = \"../upstream.pem\", \
                    key_file_path = \"../upstream.key\" }\n";

#[tokio::test]
async fn a_ca_in_files_signs_what_signs_and_openssl_believes_it() {
    let dir = Dir::new();
    let root = write_ca(&dir);
    let node = Deployment::inside(dir, Settings { server: DISK, ..Settings::default() });
    node.register("/web", &[&this_process()]);
    let svid = first_answer(&node.socket()).await.0.svids.remove(0);
    assert_eq!(verified(&svid, &svid.bundle).unwrap(), "spiffe://example.org/web");
    let told = openssl_verify(&svid, &node.dir);
    assert!(told.status.success(), "{}{}", stdout(&told), stderr(&told));
    let roots = split_certificates(&svid.bundle, 10).unwrap();
    let root_of_bundle = Certificate::parse(&roots[0]).unwrap().subject_key_id_hex();
    assert_eq!((roots.len(), root_of_bundle), (1, Some(root)));
    node.server.wait_for("takes no JWT keys");
}
