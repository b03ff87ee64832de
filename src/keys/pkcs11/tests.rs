//! Keys in SoftHSM, a token in files.
//!
//! It looks once in a process where its tokens are, so that it has one of its own here, in which
//! one test follows the other.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;

/// Where systems have it.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// Says where the tokens are to those tests that have some.
const DIRECTORY: &str = "STEEPLE_TEST_TOKENS";

const PIN: &str = "a pin";

/// A token for each test.
const TOKENS: [&str; 9] =
    ["contract", "kinds", "restart", "half", "prefix", "away", "refused", "destroyed", "hung"];

#[test]
fn keys_live_in_a_token() {
    if module().is_none() || Command::new("softhsm2-util").arg("--version").output().is_err() {
        let what = "keys in a PKCS #11 token";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} was skipped");
        let why = "softhsm2 is not installed";
        io::stderr().write_all(format!("SKIPPED {what}: {why}\n").as_bytes()).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tokens, conf) = (directory.path().join("tokens"), directory.path().join("conf"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    for label in TOKENS {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", "secret", "--pin", PIN])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["keys::pkcs11::tests::inside", "--test-threads=1", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    let expected = format!("test result: ok. {} passed", TOKENS.len());
    assert!(printed.contains(&expected), "{printed}\n{}", String::from_utf8_lossy(&ran.stderr));
}

fn module() -> Option<&'static str> {
    MODULES.into_iter().find(|module| Path::new(module).exists())
}

/// A store in a token. There is none in the process that makes the tokens.
fn open(token: &str, prefix: &str) -> Option<Pkcs11KeyStore> {
    std::env::var_os(DIRECTORY)?;
    Some(try_open(TokenName::Label(token.into()), prefix, PIN).unwrap())
}

fn try_open(token: TokenName, prefix: &str, pin: &str) -> Result<Pkcs11KeyStore, Pkcs11Error> {
    let module = module().unwrap().into();
    let (pin, prefix) = (Pin::new(pin).unwrap(), prefix.parse().unwrap());
    Pkcs11KeyStore::open(Pkcs11Config { module, token, pin, prefix })
}

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

/// How many pairs the token has, whole or not, whosever they are.
fn count(store: &Pkcs11KeyStore) -> usize {
    store.0.token.with(|open| objects::pairs(open, None)).unwrap().len()
}

mod inside {
    use super::*;
    use crate::keys::tests::{keeps_contract, signs_in_every_scheme};
    use crate::keys::{KeyKind, SignError};

    #[tokio::test]
    async fn a_token_keeps_the_contract() {
        let Some(store) = open("contract", "example.org") else { return };
        keeps_contract(&store).await;
    }

    #[tokio::test]
    async fn every_kind_of_key_signs_in_every_scheme_from_many_threads() {
        let Some(store) = open("kinds", "example.org") else { return };
        for (algorithm, kind, messages) in [
            (KeyAlgorithm::EcP256, KeyKind::EcP256, 20),
            (KeyAlgorithm::EcP384, KeyKind::EcP384, 20),
            (KeyAlgorithm::Rsa2048, KeyKind::Rsa { bits: 2048 }, 1),
            (KeyAlgorithm::Rsa4096, KeyKind::Rsa { bits: 4096 }, 1),
        ] {
            let key = store.generate(&id("a"), algorithm).await.unwrap();
            assert_eq!(key.public_key().kind(), kind);
            signs_from_many_threads(&*key, messages);
        }
    }

    /// More than there are sessions.
    fn signs_from_many_threads(key: &dyn Signer, messages: u16) {
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| signs_in_every_scheme(key, messages));
            }
        });
    }

    #[tokio::test]
    async fn keys_outlive_the_process_and_what_was_replaced_goes() {
        let Some(store) = open("restart", "example.org") else { return };
        let first = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let second = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        assert_eq!(count(&store), 2, "the first is still held");
        drop(first);
        store.load(&id("a")).await.unwrap();
        assert_eq!(count(&store), 1);
        let third = store.generate(&id("a"), KeyAlgorithm::EcP384).await.unwrap();
        assert_eq!(count(&store), 2, "the second is still held");
        drop(store);

        let store = open("restart", "example.org").unwrap();
        let loaded = store.load(&id("a")).await.unwrap().unwrap();
        assert_eq!(loaded.public_key(), third.public_key());
        assert_eq!(count(&store), 1);
        assert_eq!(second.sign(Scheme::X509, b"m"), Err(SignError::Unavailable));
        store.remove(&id("a")).await.unwrap();
        assert!(loaded.sign(Scheme::X509, b"m").is_ok());
        assert_eq!(count(&store), 1, "it is still held");
        drop(loaded);
        store.remove(&id("a")).await.unwrap();
        assert_eq!(count(&store), 0);
    }

    #[tokio::test]
    async fn a_key_that_was_destroyed_is_no_loss_of_the_token() {
        let Some(store) = open("destroyed", "example.org") else { return };
        let epoch = || store.0.token.with(|open| Ok(open.epoch())).unwrap();
        let key = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let other = store.generate(&id("b"), KeyAlgorithm::EcP256).await.unwrap();
        let before = epoch();
        open("destroyed", "example.org").unwrap().remove(&id("a")).await.unwrap();
        assert_eq!(key.sign(Scheme::X509, b"m"), Err(SignError::Unavailable));
        assert!(other.sign(Scheme::X509, b"m").is_ok());
        assert_eq!(epoch(), before);
    }

    #[tokio::test]
    async fn a_generation_that_was_cut_off_leaves_the_old_key() {
        let Some(store) = open("half", "example.org") else { return };
        let first = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let second = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let destroyed = store.0.token.with(|open| {
            let newest = objects::pairs(open, None)?.pop().unwrap();
            objects::destroy(open, &Pair { public: None, ..newest })
        });
        destroyed.unwrap();
        drop((store, second));

        let store = open("half", "example.org").unwrap();
        let loaded = store.load(&id("a")).await.unwrap().unwrap();
        assert_eq!(loaded.public_key(), first.public_key());
        drop(loaded);
        assert_eq!(count(&store), 2);
        store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        assert_eq!(count(&store), 1);
    }

    #[tokio::test]
    async fn stores_with_other_prefixes_do_not_meet() {
        let Some(one) = open("prefix", "example.org") else { return };
        let other = open("prefix", "example").unwrap();
        let key = one.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        assert!(other.load(&id("a")).await.unwrap().is_none());
        assert_eq!(other.list().await.unwrap(), []);
        let others = other.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        other.generate(&id("b"), KeyAlgorithm::EcP256).await.unwrap();
        other.remove(&id("a")).await.unwrap();
        assert_eq!(one.list().await.unwrap(), [id("a")]);
        let loaded = one.load(&id("a")).await.unwrap().unwrap();
        assert_eq!(loaded.public_key(), key.public_key());
        assert_ne!(loaded.public_key(), others.public_key());
    }

    #[tokio::test]
    async fn a_token_that_was_away_is_found_again() {
        let Some(store) = open("away", "example.org") else { return };
        let key = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let directory = std::env::var(DIRECTORY).unwrap();
        let (tokens, away) = (format!("{directory}/tokens"), format!("{directory}/away"));
        fs::rename(&tokens, &away).unwrap();
        // That there is no key would be an answer, and a wrong one.
        assert!(store.load(&id("a")).await.is_err());
        assert!(store.list().await.is_err());
        assert!(store.generate(&id("a"), KeyAlgorithm::EcP256).await.is_err());
        assert_eq!(key.sign(Scheme::X509, b"m"), Err(SignError::Unavailable));
        fs::rename(&away, &tokens).unwrap();
        let signed = loop {
            match key.sign(Scheme::X509, b"m") {
                Ok(signature) => break signature,
                Err(error) => assert_eq!(error, SignError::Unavailable),
            }
            std::thread::park_timeout(Duration::from_millis(50));
        };
        assert!(key.public_key().verifies(Scheme::X509, b"m", &signed));
        let loaded = store.load(&id("a")).await.unwrap().unwrap();
        assert_eq!(loaded.public_key(), key.public_key());
    }

    /// A token in a file that does not answer before somebody writes to it.
    #[tokio::test]
    async fn a_module_that_hangs_keeps_only_one_waiting() {
        let Some(store) = open("hung", "example.org") else { return };
        let key = store.generate(&id("a"), KeyAlgorithm::EcP256).await.unwrap();
        let directory = std::env::var(DIRECTORY).unwrap();
        let (tokens, away) = (format!("{directory}/tokens"), format!("{directory}/away"));
        fs::rename(&tokens, &away).unwrap();
        assert!(key.sign(Scheme::X509, b"m").is_err());
        let file = format!("{tokens}/hangs/token.object");
        fs::create_dir_all(format!("{tokens}/hangs")).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        std::thread::park_timeout(Duration::from_secs(2));
        let (done, signs) = std::sync::mpsc::channel();
        let sign = |who: &'static str| {
            let (key, done) = (Arc::clone(&key), done.clone());
            std::thread::spawn(move || done.send((who, key.sign(Scheme::X509, b"m"))))
        };
        let first = sign("looks for the token");
        std::thread::park_timeout(Duration::from_secs(3));
        sign("waits");
        let waited = signs.recv_timeout(Duration::from_secs(60));
        while !first.is_finished() {
            let write = format!("timeout 1 sh -c ': > {file}'");
            Command::new("sh").args(["-c", &write]).status().unwrap();
        }
        fs::remove_dir_all(&tokens).unwrap();
        fs::rename(&away, &tokens).unwrap();
        assert_eq!(waited, Ok(("waits", Err(SignError::Unavailable))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let Some(store) = open("refused", "example.org") else { return };
        let slot = |store: &Pkcs11KeyStore| {
            store.0.token.with(|open| Ok(open.session().get_session_info()?.slot_id().id()))
        };
        let slot = slot(&store).unwrap();
        drop(store);
        let by_label = |label: &str, pin| {
            try_open(TokenName::Label(label.into()), "p", pin).unwrap_err().to_string()
        };
        assert!(try_open(TokenName::Slot(slot), "p", PIN).is_ok());
        assert_eq!(by_label("refused", "another"), "the token refuses the PIN");
        let none = by_label("none", PIN);
        assert!(none.starts_with("there is no token `none`; the module has `"), "{none}");
        assert!(none.contains(&format!("`refused` in slot {slot}")), "{none}");
        let error = try_open(TokenName::Slot(4_000_000_000), "p", PIN).unwrap_err().to_string();
        assert!(error.starts_with("there is no token in slot 4000000000; "), "{error}");
        for module in ["/nowhere/module.so", "/proc/self/exe"] {
            let (pin, prefix) = (Pin::new(PIN).unwrap(), "p".parse().unwrap());
            let token = TokenName::Label("refused".into());
            let opened =
                Pkcs11KeyStore::open(Pkcs11Config { module: module.into(), token, pin, prefix });
            let error = opened.unwrap_err().to_string();
            assert!(error.starts_with(&format!("the PKCS #11 module {module} cannot")), "{error}");
        }
    }
}

#[test]
fn a_pin_is_one_line_that_nobody_else_reads_and_nothing_prints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pin");
    let read = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Pin::read(&path).map(|pin| {
            assert_eq!(format!("{pin:?}"), "Pin(redacted)");
            pin.expose().to_owned()
        })
    };
    assert_eq!(read("1234\n", 0o600).unwrap(), "1234");
    assert_eq!(read("1234", 0o400).unwrap(), "1234");
    assert_eq!(read(" 12 34 \r\n", 0o600).unwrap(), " 12 34 ");
    assert!(matches!(read("1234\n", 0o640), Err(PinError::Exposed(0o640))));
    for text in ["", "\n", "12\n34\n", &"1".repeat(1025)] {
        assert!(matches!(read(text, 0o600), Err(PinError::Malformed)), "{text:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(Pin::read(&path), Err(PinError::Read(_))));
}

#[test]
fn a_prefix_is_plain_text() {
    for good in ["example.org", "a_b-C.9", &"a".repeat(255)] {
        assert_eq!(good.parse::<KeyPrefix>().unwrap().as_str(), good);
    }
    for bad in ["", "a/b", "a b", "é", &"a".repeat(256)] {
        assert_eq!(bad.parse::<KeyPrefix>(), Err(KeyPrefixError), "{bad}");
    }
}
