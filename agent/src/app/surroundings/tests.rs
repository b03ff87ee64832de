//! Directories with agents that could start, and with some that could not.

use std::path::Path;
use std::time::Duration;

use steeple::jwk::pem;
use steeple::keys::{KeyAlgorithm, PrivateKey};

use super::*;
use crate::node::attestor::Mark;
use crate::node::testing::Authority;

/// A directory with a trust bundle, a join token, and a key and certificate of the node.
fn node() -> (tempfile::TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(SystemClock.now());
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let bundle = authority.bundle();
    let certificates = bundle.x509_authorities.iter().map(|authority| &authority.certificate);
    write("bundle.pem", &pem::write(certificates));
    write("token", "abc\n");
    let identity = authority.identity("spiffe://td/node", 600);
    let key = |key: &PrivateKey| steeple::x509::pem("PRIVATE KEY", key.pkcs8().unwrap().expose());
    write("key.pem", &key(&identity.key));
    write("other.pem", &key(&PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()));
    write("cert.pem", &identity.svid.chain().to_pem());
    write("junk", "junk");
    (directory, authority)
}

/// Makes an agent of the node, for so many seconds.
fn attest(directory: &Path, authority: &Authority, ttl: u64) {
    let saved = Saved {
        trust: authority.bundle().x509_authorities,
        spent: Some(Mark::of(b"abc")),
        identity: Some(authority.identity("spiffe://td/spire/agent/x", ttl)),
    };
    saved::store(&directory.join(AGENT_FILE), &"td".parse().unwrap(), &saved).unwrap();
}

/// What is found of a configuration with these lines: problems, and notes.
async fn look(directory: &Path, lines: &str) -> [Vec<String>; 2] {
    let text = format!("server = 'h:1'\ntrust_domain = 'td'\ndata_dir = '{}'\n{lines}", {
        directory.display()
    });
    let found = check(Config::parse(&text, Path::new("agent.toml")).unwrap()).await;
    [found.problems, found.notes]
        .map(|list| list.iter().map(|error| format!("{error:#}")).collect())
}

/// Each of these is a problem of a new node, and a note, if anything, of one that is an agent.
async fn wrong(lines: &str, expected: &str) {
    let (directory, authority) = node();
    let [problems, notes] = look(directory.path(), lines).await;
    assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    assert!(notes.is_empty(), "{notes:?}");
    attest(directory.path(), &authority, 600);
    let [problems, notes] = look(directory.path(), lines).await;
    assert!(problems.is_empty(), "{problems:?}");
    assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}");
}

fn x509pop(key: &str, certificate: &str) -> String {
    format!(
        "trust_bundle = 'bundle.pem'\n[node_attestor.x509pop]\nprivate_key_path = '{key}'\n\
         certificate_path = '{certificate}'"
    )
}

#[tokio::test]
async fn what_a_new_node_needs_is_there() {
    let (directory, _) = node();
    let token = "trust_bundle = 'bundle.pem'\njoin_token_file = 'token'";
    for lines in
        [token, &x509pop("key.pem", "cert.pem"), "trust_bundle = 'https://h/b'\njoin_token = 'a'"]
    {
        assert_eq!(look(directory.path(), lines).await, [Vec::<String>::new(), Vec::new()]);
    }
}

#[tokio::test]
async fn what_is_missing_or_junk_keeps_a_new_node_from_starting() {
    wrong("trust_bundle = 'no.pem'\njoin_token_file = 'token'", "cannot read the trust bundle")
        .await;
    wrong("trust_bundle = 'junk'\njoin_token_file = 'token'", "/junk").await;
    wrong("trust_bundle = 'bundle.pem'\njoin_token_file = 'no'", "/no").await;
    wrong("trust_bundle = 'bundle.pem'\njoin_token_file = '/dev/null'", "is not a join token")
        .await;
    wrong(&x509pop("no.pem", "cert.pem"), "no.pem").await;
    wrong(&x509pop("key.pem", "no.pem"), "no.pem").await;
    wrong(&x509pop("junk", "cert.pem"), "junk is not an unencrypted RSA or EC").await;
    wrong(&x509pop("other.pem", "cert.pem"), "is not for the key in").await;
}

#[tokio::test]
async fn a_token_may_be_given_when_the_agent_starts() {
    let (directory, authority) = node();
    let lines = "trust_bundle = 'bundle.pem'";
    let [problems, notes] = look(directory.path(), lines).await;
    assert!(problems.is_empty() && notes.len() == 1, "{problems:?} {notes:?}");
    assert!(notes[0].contains("--join-token-file"), "{notes:?}");
    attest(directory.path(), &authority, 600);
    assert_eq!(look(directory.path(), lines).await, [Vec::<String>::new(), Vec::new()]);
}

#[tokio::test]
async fn what_an_agent_has_kept_has_to_be_its_own_and_good() {
    let (directory, _) = node();
    let old = Authority::new(SystemClock.now() - Duration::from_secs(1_000));
    attest(directory.path(), &old, 600);
    let lines = "trust_bundle = 'no.pem'\njoin_token_file = 'no'";
    let [problems, notes] = look(directory.path(), lines).await;
    // Its SVID has expired, and not the server's authorities.
    assert!(problems.len() == 1 && problems[0].contains("/no"), "{problems:?}");
    assert!(notes.len() == 1 && notes[0].contains("no.pem"), "{notes:?}");
    std::fs::write(directory.path().join(AGENT_FILE), "{}").unwrap();
    let [problems, _] = look(directory.path(), "trust_bundle = 'bundle.pem'").await;
    assert!(problems.len() == 1 && problems[0].contains("is damaged"), "{problems:?}");
}
