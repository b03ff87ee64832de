//! What is hashed, how often, and what never is.

use std::fs;
use std::path::Path;

use steeple::clock::TokioClock;

use super::*;

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Digests that see files as this much older than they are.
fn digests(limit: i64, age: Duration) -> Digests {
    let clock = steeple::clock::SystemClock.now() + age;
    Digests::new(SizeLimit::of(limit).unwrap(), Arc::new(TokioClock::new(clock)))
}

async fn digest(digests: &Digests, path: &Path) -> Result<Digest, DigestError> {
    digests.of(0, Executable::of_path(path)).await
}

fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    fs::write(&path, content).unwrap();
    (directory, path)
}

#[tokio::test]
async fn a_settled_file_is_hashed_once() {
    let (_directory, path) = file(b"abc");
    let digests = digests(0, Duration::from_secs(60));
    let first = digest(&digests, &path).await.unwrap();
    assert_eq!(&*first, ABC);
    assert!(Arc::ptr_eq(&first, &digest(&digests, &path).await.unwrap()));
}

#[tokio::test]
async fn a_file_that_changed_just_now_is_hashed_each_time() {
    let (_directory, path) = file(b"abc");
    for age in [Duration::ZERO, SETTLED / 2] {
        let digests = digests(0, age);
        let first = digest(&digests, &path).await.unwrap();
        let second = digest(&digests, &path).await.unwrap();
        assert_eq!(first, second);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(lock(&digests.slots).is_empty());
    }
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_hashing() {
    let (_directory, path) = file(&vec![7; 3 * CHUNK + 1]);
    // Settled, so that who asks only after it was hashed shares it as well.
    let digests = digests(0, Duration::from_secs(60));
    let asked = futures_util::future::join_all((0..20).map(|_| digest(&digests, &path))).await;
    let first = asked[0].as_ref().unwrap();
    assert!(asked.iter().all(|other| Arc::ptr_eq(first, other.as_ref().unwrap())));
}

#[tokio::test]
async fn another_content_has_another_digest_though_size_and_times_are_kept() {
    let (_directory, path) = file(b"abc");
    let digests = digests(0, Duration::from_secs(60));
    let first = digest(&digests, &path).await.unwrap();
    let before = Executable::of_path(&path).stamp();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    // Until the file system's clock has moved on: a moment that `SETTLED` covers.
    while Executable::of_path(&path).stamp().changed == before.changed {
        fs::write(&path, b"xyz").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    let after = Executable::of_path(&path).stamp();
    assert_eq!((after.size, after.modified), (before.size, before.modified));
    assert_ne!(digest(&digests, &path).await.unwrap(), first);
}

#[tokio::test]
async fn a_file_that_changes_under_the_reader_has_no_digest() {
    let (_directory, path) = file(b"abc");
    let digests = digests(0, Duration::from_secs(60));
    let executable = Executable::of_path(&path);
    fs::write(&path, b"longer").unwrap();
    assert_eq!(digests.of(0, executable).await, Err(DigestError::Changed));
}

#[tokio::test]
async fn a_file_over_the_limit_is_not_read() {
    let (_directory, path) = file(b"abc");
    let age = Duration::from_secs(60);
    assert_eq!(digest(&digests(2, age), &path).await, Err(DigestError::TooLarge(3)));
    assert_eq!(digest(&digests(3, age), &path).await.as_deref(), Ok(ABC));
    assert_eq!(digest(&digests(0, age), &path).await.as_deref(), Ok(ABC)); // no limit
    assert_eq!(SizeLimit::of(-1), None);
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_hashing_to_the_next() {
    let (_directory, path) = file(b"abc");
    let digests = digests(0, Duration::from_secs(60));
    let asked = std::pin::pin!(digest(&digests, &path));
    assert!(futures_util::poll!(asked).is_pending());
    assert_eq!(digest(&digests, &path).await.as_deref(), Ok(ABC));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_error_and_leaves_no_slot() {
    let directory = tempfile::tempdir().unwrap();
    let digests = digests(0, Duration::from_secs(60));
    assert_eq!(digest(&digests, directory.path()).await, Err(DigestError::Read(Errno::ISDIR)));
    assert!(lock(&digests.slots).is_empty());
}

#[tokio::test]
async fn the_number_of_digests_is_bounded() {
    let (directory, path) = file(b"abc");
    let digests = digests(0, Duration::from_secs(60));
    let known = digest(&digests, &path).await.unwrap();
    let stamp = Executable::of_path(&path).stamp();
    for size in 0..MAX_DIGESTS as u64 {
        let stamp = FileStamp { size: size + 1_000_000, ..stamp };
        lock(&digests.slots).insert(stamp, Slot::Known(known.clone()));
    }
    for name in ["a", "b", "c"] {
        let path = directory.path().join(name);
        fs::write(&path, name).unwrap();
        digest(&digests, &path).await.unwrap();
    }
    assert!(lock(&digests.slots).len() <= MAX_DIGESTS + 1);
}

#[tokio::test]
async fn who_runs_many_large_files_holds_up_nobody_else() {
    let (_directory, path) = file(b"abc");
    let digests = digests(0, Duration::ZERO);
    let mut held = Vec::new();
    for _ in 0..HASHINGS_OF_USER {
        held.push((digests.turns.take(1).await, digests.hashings.acquire().await.unwrap()));
    }
    let of = |user| digests.of(user, Executable::of_path(&path));
    assert!(tokio::time::timeout(Duration::ZERO, of(1)).await.is_err());
    assert_eq!(&*of(2).await.unwrap(), ABC);
}
