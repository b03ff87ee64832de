//! The keys of a server are not replaced by another one, nor by itself when it has forgotten them.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::datastore::sqlite::tests::forget_facts;

/// What is in a key directory, without the lock.
fn keys(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory.join("keys")).unwrap().map(|file| file.unwrap());
    let files = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
    let files = files.filter(|(name, _)| name != "keys.lock");
    files.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

async fn refusal(config: &Config) -> String {
    format!("{:#}", Server::start(config, process()).await.unwrap_err())
}

/// A server that has stopped, and its keys.
async fn stopped() -> (tempfile::TempDir, BTreeMap<String, Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).await.unwrap().stop().await;
    let made = keys(directory.path());
    let names: Vec<_> = made.keys().map(String::as_str).collect();
    assert_eq!(names, ["JWT-Signer-A.key", "owner", "x509-CA-A.key"]);
    (directory, made)
}

async fn starts_with(directory: &Path, expected: &BTreeMap<String, Vec<u8>>) {
    start(directory).await.unwrap().stop().await;
    assert_eq!(keys(directory), *expected);
}

#[tokio::test]
async fn the_keys_of_a_server_are_not_those_of_another_one() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = start(one.path()).await.unwrap();
    let made = keys(one.path());
    let mut second = config(other.path());
    second.key_store = config(one.path()).key_store;
    let running = refusal(&second).await;
    assert!(running.contains(&format!("process {}", std::process::id())), "{running}");
    assert!(running.contains("keys is in use by another server"), "{running}");
    server.stop().await;

    let check = |refused: &str, what: &str| {
        let mut names = vec![one.path().join("keys"), other.path().join("datastore.sqlite")];
        names.retain(|name| !refused.contains(name.to_str().unwrap()));
        assert!(names.is_empty() && refused.contains(what), "{refused}");
        assert_eq!(keys(one.path()), made);
    };
    check(&refusal(&second).await, "does not know (x509-CA-A, JWT-Signer-A)");
    start(other.path()).await.unwrap().stop().await;
    check(&refusal(&second).await, "belong to another database (");
    starts_with(one.path(), &made).await;
}

#[tokio::test]
async fn a_server_that_forgot_its_keys_does_not_replace_them() {
    let (directory, made) = stopped().await;
    let mut forgetful = config(directory.path());
    forgetful.datastore = DatastoreConfig::Sqlite(directory.path().join("new.sqlite"));
    let refused = refusal(&forgetful).await;
    assert!(refused.contains("does not know (x509-CA-A, JWT-Signer-A)"), "{refused}");
    assert_eq!(keys(directory.path()), made);
    starts_with(directory.path(), &made).await;

    // Somebody else's key, in a slot or beside those of this server.
    for name in ["x509-CA-A.key", "x509-CA-B.key"] {
        let (directory, _) = stopped().await;
        let path = directory.path().join("keys").join(name);
        fs::copy(directory.path().join("keys/JWT-Signer-A.key"), &path).unwrap();
        let with = keys(directory.path());
        let refused = refusal(&config(directory.path())).await;
        let named = format!("does not know ({})", name.strip_suffix(".key").unwrap());
        assert!(refused.contains(&named), "{refused}");
        assert_eq!(keys(directory.path()), with);
        // As the error says.
        fs::remove_file(&path).unwrap();
        start(directory.path()).await.unwrap().stop().await;
    }
}

#[tokio::test]
async fn a_database_stays_in_its_trust_domain() {
    let (directory, made) = stopped().await;
    let mut other = config(directory.path());
    other.trust_domain = "dt".parse().unwrap();
    let database = directory.path().join("datastore.sqlite");
    let told = format!("`trust_domain` is dt, and {} is of td", database.display());
    let refused = refusal(&other).await;
    assert!(refused.contains(&told), "{refused}");
    starts_with(directory.path(), &made).await;

    // One of before knows it by its authorities.
    forget_facts(&database).await;
    let refused = refusal(&other).await;
    assert!(refused.contains(&told), "{refused}");
    start(directory.path()).await.unwrap().stop().await;
    let refused = refusal(&other).await;
    assert!(refused.contains(&told), "{refused}");
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_named_with_its_file_once() {
    let (directory, _) = stopped().await;
    let path = directory.path().join("keys/x509-CA-A.key");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let refused = refusal(&config(directory.path())).await;
    let told = format!("{} cannot be read: ", path.display());
    assert!(refused.starts_with(&told), "{refused}");
}

#[tokio::test]
async fn keys_from_before_they_had_an_owner_are_taken_over() {
    let (directory, mut made) = stopped().await;
    let before = async || {
        fs::remove_file(directory.path().join("keys/owner")).unwrap();
        forget_facts(&directory.path().join("datastore.sqlite")).await;
    };
    before().await;
    start(directory.path()).await.unwrap().stop().await;
    made.remove("owner");
    let mut found = keys(directory.path());
    assert!(found.remove("owner").is_some());
    assert_eq!(found, made);

    // A key that was made just before the server was stopped is in the way of nothing.
    before().await;
    let keys_path = directory.path().join("keys");
    fs::copy(keys_path.join("x509-CA-A.key"), keys_path.join("JWT-Signer-B.key")).unwrap();
    for _ in 0..2 {
        start(directory.path()).await.unwrap().stop().await;
    }
    // An owner that only the database remembers, or only the directory.
    let owned = keys(directory.path());
    fs::remove_file(keys_path.join("owner")).unwrap();
    starts_with(directory.path(), &owned).await;
}
