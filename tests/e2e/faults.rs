//! What is left of a promise when something breaks: processes, disks, networks.

#[path = "faults/agent_kills.rs"]
mod agent_kills;
#[path = "faults/audited.rs"]
mod audited;
#[path = "faults/away.rs"]
mod away;
#[path = "faults/crowd.rs"]
mod crowd;
#[path = "faults/full_disk.rs"]
mod full_disk;
#[path = "faults/ledger.rs"]
mod ledger;
#[path = "faults/pids.rs"]
mod pids;
#[path = "faults/server_kills.rs"]
mod server_kills;
#[path = "faults/siege.rs"]
mod siege;
