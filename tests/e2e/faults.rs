//! What is left of a promise when something breaks: processes, disks, networks.

#[path = "faults/audited.rs"]
mod audited;
#[path = "faults/ledger.rs"]
mod ledger;
#[path = "faults/server_kills.rs"]
mod server_kills;
