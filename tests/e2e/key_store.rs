//! Keys that the server itself does not have: in a PKCS #11 token, of SoftHSM.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::harness::process::command;
use crate::harness::{
    Deployment, Dir, PATIENCE, Settings, bin, eventually, skipped, stderr, stdout,
};
use crate::workload_api::this_user;

/// Where systems have the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A token called `steeple` with its PIN in a file, all in this directory.
fn token(dir: &Dir) -> Option<Settings> {
    let module = MODULES.into_iter().find(|module| Path::new(module).exists());
    let Some(module) = module else {
        skipped("keys in a PKCS #11 token", "softhsm2 is not installed");
        return None;
    };
    let (conf, tokens, pin) = (dir.path("softhsm.conf"), dir.path("tokens"), dir.path("pin"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    fs::write(&pin, "correct horse\n").unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let mut init = Command::new("softhsm2-util");
    init.args(["--init-token", "--free", "--label", "steeple", "--so-pin", "battery staple"]);
    let init = init.args(["--pin", "correct horse"]).env("SOFTHSM2_CONF", &conf).output().unwrap();
    assert!(init.status.success(), "{}", stderr(&init));
    let server = format!(
        "ca_ttl = \"40s\"\nratelimit = {{ signing = false }}\nkey_store = {{ type = \"pkcs11\", \
         module = \"{module}\", token_label = \"steeple\", pin_file = \"{}\" }}\n",
        pin.display()
    );
    let conf = conf.display().to_string().leak();
    let environment: &[_] = vec![("SOFTHSM2_CONF", &*conf)].leak();
    Some(Settings { server: server.leak(), environment, ..Settings::default() })
}

/// The authority that this line of the log is about.
fn authority(line: &str) -> String {
    let (_, rest) = line.split_once("authority_id=").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn verifies(node: &Deployment, name: &str) {
    let written = node.dir.path(name);
    let fetch = ["api", "fetch", "x509", "--write", written.to_str().unwrap()];
    eventually("the workload has its SVID", || {
        Some(node.workload(&fetch)).filter(|output| output.status.success())
    });
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-CAfile"]).arg(written.join("bundle.0.pem"));
    let verified = verify.arg(written.join("svid.0.pem")).output();
    let Ok(verified) = verified else { return skipped("a check by openssl", "it is missing") };
    assert!(verified.status.success(), "{}", stderr(&verified));
}

/// All files below a directory.
fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn authorities_in_a_token_outlive_a_kill_and_are_nowhere_else() {
    let dir = Dir::new();
    let Some(settings) = token(&dir) else { return };
    let mut node = Deployment::inside(dir, settings);
    node.register("/web", &[&this_user()]);
    verifies(&node, "before");
    let prepared = ["X509 CA", "JWT key"]
        .map(|kind| authority(&node.server.wait_for_another(1, &format!("{kind} prepared"))));
    let bundle = |node: &Deployment| {
        let bundle = node.admin_json(&["bundle", "show"]);
        ["x509_authorities", "jwt_authorities"].map(|kind| bundle[kind].clone())
    };
    let known = bundle(&node);

    node.restart_server();
    assert_eq!(bundle(&node), known);
    verifies(&node, "after");
    // Those that were prepared before the kill take over after it, with the keys that they had.
    for (kind, prepared) in ["X509 CA", "JWT key"].into_iter().zip(prepared) {
        assert_eq!(authority(&node.server.wait_for(&format!("{kind} activated"))), prepared);
    }
    verifies(&node, "activated");
    let token = ["api", "fetch", "jwt", "--audience", "db", "--output", "json"];
    let token = node.workload(&token);
    assert!(token.status.success(), "{}", stderr(&token));

    let mut found = Vec::new();
    files(&node.dir.path("server"), &mut found);
    assert!(!found.is_empty());
    for path in found {
        assert!(path.extension().is_none_or(|extension| extension != "key"), "{}", path.display());
        let Ok(content) = fs::read(&path) else { continue };
        let has = |text: &[u8]| content.windows(text.len()).any(|bytes| bytes == text);
        assert!(!has(b"PRIVATE KEY") && !has(b"correct horse"), "{}", path.display());
    }
    let log = node.server.log().join("\n");
    assert!(!log.contains("correct horse"));
}

/// Two servers of one trust domain share a token, and neither is told of the other.
#[test]
fn a_server_leaves_the_keys_of_another_one_alone() {
    let dir = Dir::new();
    let Some(settings) = token(&dir) else { return };
    let mut one = Deployment::inside(dir, settings);
    let mut other = Deployment::with(settings);
    for (node, path) in [(&mut one, "/one"), (&mut other, "/other")] {
        node.restart_server();
        let log = node.server.log().join("\n");
        assert!(!log.contains("the key of an authority is gone"), "{log}");
        node.register(path, &[&this_user()]);
        verifies(node, "svid");
    }
}

/// Whoever asks while an authority takes over from another one gets what they asked for.
#[test]
fn no_mint_fails_while_keys_in_a_token_take_turns() {
    let dir = Dir::new();
    let Some(settings) = token(&dir) else { return };
    let node = Deployment::inside(dir, settings);
    let (turned, since) = (AtomicBool::new(false), Instant::now());
    let minted: usize = thread::scope(|scope| {
        let mint = || {
            let mut minted = 0;
            while !turned.load(Ordering::Relaxed) && since.elapsed() < 3 * PATIENCE {
                let id = "spiffe://example.org/web";
                node.admin(&["jwt", "mint", "--spiffe-id", id, "--audience", "db"]);
                minted += 1;
            }
            minted
        };
        let minting: Vec<_> = (0..4).map(|_| scope.spawn(mint)).collect();
        for kind in ["X509 CA", "JWT key"] {
            node.server.wait_for_another(1, &format!("{kind} activated"));
        }
        turned.store(true, Ordering::Relaxed);
        minting.into_iter().map(|minting| minting.join().unwrap()).sum()
    });
    assert!(minted > 0, "nobody minted");
    let log = node.server.log().join("\n");
    assert!(!log.contains("token out of reach") && !log.contains("was not removed"), "{log}");
}

#[test]
fn a_check_says_what_is_wrong_with_a_token() {
    let dir = Dir::new();
    let Some(settings) = token(&dir) else { return };
    let check = |server: &str| {
        let path = dir.path("check.toml");
        let data_dir = dir.path("data");
        fs::write(&path, format!("{server}\ndata_dir = \"{}\"\n", data_dir.display())).unwrap();
        let mut check = command(&bin::server());
        check.envs(settings.environment.iter().copied());
        check.args(["config", "check", "--config"]).arg(path).output().unwrap()
    };
    let good = check(settings.server);
    assert!(good.status.success() && stdout(&good).contains("valid"), "{}", stderr(&good));
    let bad = |from: &str, to: &str, expected: &str| {
        let output = check(&settings.server.replace(from, to));
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert!(!said.contains("correct horse"), "{said}");
    };
    bad("\"steeple\"", "\"other\"", "there is no token `other`; the module has `steeple` in slot ");
    bad("libsofthsm2", "libnone", "libnone.so cannot be loaded");
    bad("/pin\"", "/softhsm.conf\"", "`key_store.pin_file`");
    fs::write(dir.path("pin"), "battery staple\n").unwrap();
    bad("", "", "the token refuses the PIN");
    fs::set_permissions(dir.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    bad("", "", "may be read by others (mode 644)");
}
