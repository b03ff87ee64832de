//! What the attestor says of this very process.

use steeple::clock::SystemClock;

use super::*;

async fn attest(config: &UnixConfig, peer: &Peer) -> Vec<String> {
    let unix = Unix::new(config, Arc::new(SystemClock));
    let found = unix.attest(peer).await.unwrap();
    assert_eq!(found.gaps, [""; 0]);
    assert!(found.residence.is_none());
    found.selectors.iter().map(ToString::to_string).collect()
}

fn of_kind<'a>(selectors: &'a [String], kind: &str) -> Vec<&'a str> {
    let prefix = format!("unix:{kind}:");
    selectors.iter().filter_map(|selector| selector.strip_prefix(&prefix)).collect()
}

fn own_digest() -> String {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &program);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_process_has_ids_names_path_and_digest() {
    let peer = Peer::this_process();
    let selectors = attest(&UnixConfig::standard(), &peer).await;
    let uid = nix::unistd::geteuid();
    assert_eq!(of_kind(&selectors, "uid"), [uid.to_string()]);
    assert_eq!(of_kind(&selectors, "gid"), [nix::unistd::getegid().to_string()]);
    let user = nix::unistd::User::from_uid(uid).unwrap().map(|user| user.name);
    assert_eq!(of_kind(&selectors, "user"), Vec::from_iter(user.as_deref()));
    let groups: Vec<_> = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap()
        .split_whitespace()
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(of_kind(&selectors, "supplementary_gid"), groups);
    let program = std::env::current_exe().unwrap();
    assert_eq!(of_kind(&selectors, "path"), [program.to_str().unwrap()]);
    assert_eq!(of_kind(&selectors, "sha256"), [own_digest()]);
}

#[tokio::test]
async fn path_and_digest_can_each_be_switched_off() {
    let peer = Peer::this_process();
    let standard = UnixConfig::standard();
    let counts = async |config: UnixConfig| {
        let selectors = attest(&config, &peer).await;
        (of_kind(&selectors, "path").len(), of_kind(&selectors, "sha256").len())
    };
    assert_eq!(counts(standard.clone()).await, (1, 1));
    assert_eq!(counts(UnixConfig { path: false, ..standard.clone() }).await, (0, 1));
    assert_eq!(counts(UnixConfig { sha256: false, ..standard.clone() }).await, (1, 0));
    assert_eq!(counts(UnixConfig { workload_size_limit: -1, ..standard.clone() }).await, (1, 0));
    assert_eq!(counts(UnixConfig { workload_size_limit: 10, ..standard.clone() }).await, (1, 0));
    assert_eq!(counts(UnixConfig { workload_size_limit: 0, ..standard }).await, (1, 1));
}
