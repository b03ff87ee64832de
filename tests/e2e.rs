//! Steeple as its users meet it: the real binaries, real sockets, real processes and containers.
//!
//! Each test has a server and an agent of its own, in a directory of its own. Needs what
//! `tests/run.sh` provides where it can: `STEEPLE_BIN_DIR` (or cargo, to build the binaries),
//! `openssl`, and a Docker engine at `DOCKER_HOST`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what goes wrong here fails a test, and what is printed explains it"
)]

#[path = "e2e/admin.rs"]
mod admin;
#[path = "e2e/agent.rs"]
mod agent;
#[path = "e2e/apply.rs"]
mod apply;
#[path = "e2e/authorities.rs"]
mod authorities;
#[path = "e2e/containers.rs"]
mod containers;
#[path = "e2e/credentials.rs"]
mod credentials;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/identity.rs"]
mod identity;
#[path = "e2e/key_store.rs"]
mod key_store;
#[path = "e2e/log_file.rs"]
mod log_file;
#[path = "e2e/logs.rs"]
mod logs;
#[path = "e2e/nested.rs"]
mod nested;
#[path = "e2e/rebootstrap.rs"]
mod rebootstrap;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/scenarios.rs"]
mod scenarios;
#[path = "e2e/spire_server_cli.rs"]
mod spire_server_cli;
#[path = "e2e/units.rs"]
mod units;
#[path = "e2e/workload_api.rs"]
mod workload_api;
