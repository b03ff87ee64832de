//! The binaries as they ship: those in `STEEPLE_BIN_DIR`, or built by cargo.
//!
//! `cargo test` would build them with the features of its tests switched on.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub(crate) fn server() -> PathBuf {
    directory().join("steeple-server")
}

pub(crate) fn agent() -> PathBuf {
    directory().join("steeple-agent")
}

fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match env::var_os("STEEPLE_BIN_DIR") {
        Some(directory) => directory.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let root = env!("CARGO_MANIFEST_DIR");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", "steeple-agent", "-p", "steeple-server", "--bins"])
        .current_dir(root)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the binaries do not build");
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| PathBuf::from(root).join("target")).join("debug")
}
