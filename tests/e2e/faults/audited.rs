//! What has to be in the audit log, since somebody was told that it was done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// IDs, serial numbers and hashes of what clients were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) created: Vec<String>,
    pub(crate) updated: Vec<String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) serials: Vec<String>,
    pub(crate) tokens: Vec<String>,
}

impl Told {
    pub(crate) fn add(&mut self, other: Self) {
        self.created.extend(other.created);
        self.updated.extend(other.updated);
        self.deleted.extend(other.deleted);
        self.serials.extend(other.serials);
        self.tokens.extend(other.tokens);
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} entries created, {} updated, {} deleted, {} SVIDs and {} tokens issued",
            self.created.len(),
            self.updated.len(),
            self.deleted.len(),
            self.serials.len(),
            self.tokens.len(),
        )
    }

    /// All of it is in the log, and nothing that was signed was not intended before.
    pub(crate) fn check(&self, log: &[Value]) {
        check(log, "entry_created", "/entry/id", &self.created);
        check(log, "entry_updated", "/entry/id", &self.updated);
        check(log, "entry_deleted", "/entry_id", &self.deleted);
        check(log, "x509_intent", "/serial", &self.serials);
        check(log, "x509_issued", "/serial", &self.serials);
        check(log, "jwt_issued", "/token_sha256", &self.tokens);
        let mut intended = BTreeSet::new();
        for record in log {
            let correlation = record["correlation"].to_string();
            match record["event"].as_str().unwrap() {
                "x509_intent" | "jwt_intent" => assert!(intended.insert(correlation), "{record}"),
                "x509_issued" | "jwt_issued" => assert!(intended.remove(&correlation), "{record}"),
                _ => {}
            }
        }
    }
}

/// Each of `told` is in `field` of as many records of this event as it was told of.
#[track_caller]
fn check(log: &[Value], event: &str, field: &str, told: &[String]) {
    let mut recorded: BTreeMap<&str, usize> = BTreeMap::new();
    for record in log.iter().filter(|record| record["event"] == event) {
        *recorded.entry(record.pointer(field).unwrap().as_str().unwrap()).or_default() += 1;
    }
    for told in told {
        let left = recorded.get_mut(told.as_str()).filter(|left| **left > 0);
        *left.unwrap_or_else(|| panic!("{event} of {told} is not in the audit log")) -= 1;
    }
}
