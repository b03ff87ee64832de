//! What a client of a server was told, and what the server has to know for that after any end.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::x509::{Certificate, X509Svid};
use steeple_proto::spire::api::types::{self, Entry};

use super::audited::Told;
use crate::harness::api::chain;

/// What one client asked for and was told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<String, Known>,
    /// Paths of entries of which it is not known whether they were made.
    asked: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Until when there is something that an authority signed, by the authority's key ID.
    authorities: BTreeMap<String, i64>,
    pub(crate) told: Told,
    /// How many answers were heard, by all that share this.
    answers: Rc<Cell<u64>>,
}

/// An entry that was made.
#[derive(Debug)]
struct Known {
    hint: String,
    /// What it may say instead, or that it may be gone: nobody heard how it ended.
    pending: Option<Pending>,
}

#[derive(Debug)]
enum Pending {
    Hint(String),
    Deletion,
}

impl Ledger {
    pub(crate) fn counting(answers: Rc<Cell<u64>>) -> Self {
        Self { answers, ..Self::default() }
    }

    pub(crate) fn asks_to_create(&mut self, path: &str) {
        self.asked.insert(path.to_owned());
    }

    pub(crate) fn created(&mut self, entry: &Entry) {
        self.heard();
        self.asked.remove(&path(entry));
        self.told.created.push(entry.id.clone());
        self.learn(entry);
    }

    pub(crate) fn asks_to_update(&mut self, id: &str, hint: &str) {
        self.known(id).pending = Some(Pending::Hint(hint.to_owned()));
    }

    pub(crate) fn updated(&mut self, entry: &Entry) {
        self.heard();
        self.told.updated.push(entry.id.clone());
        self.learn(entry);
    }

    pub(crate) fn asks_to_delete(&mut self, id: &str) {
        self.known(id).pending = Some(Pending::Deletion);
    }

    pub(crate) fn deleted(&mut self, id: &str) {
        self.heard();
        self.entries.remove(id);
        self.told.deleted.push(id.to_owned());
        self.deleted.insert(id.to_owned());
    }

    /// Was given an X.509-SVID.
    pub(crate) fn signed(&mut self, svid: types::X509svid) {
        self.heard();
        let svid = X509Svid::new(chain(svid)).unwrap();
        self.told.serials.push(svid.serial().to_hex());
        let authority = svid.authority_key_id().unwrap().to_owned();
        let not_after = unix_seconds(svid.not_after());
        let last = self.authorities.entry(authority).or_insert(not_after);
        *last = not_after.max(*last);
    }

    /// Was given a token.
    pub(crate) fn signed_token(&mut self, token: &str) {
        self.heard();
        self.told.tokens.push(hash(token));
    }

    /// Whatever signed something that is valid still has to be vouched for.
    pub(crate) fn check_authorities(&self, bundle: &types::Bundle) {
        let vouched: BTreeSet<_> = bundle
            .x509_authorities
            .iter()
            .filter_map(|authority| {
                Certificate::parse(&authority.asn1).unwrap().subject_key_id_hex()
            })
            .collect();
        let now = unix_seconds(SystemClock.now());
        for (authority, not_after) in &self.authorities {
            assert!(*not_after < now || vouched.contains(authority), "{authority} {vouched:?}");
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The ID of one of its entries.
    pub(crate) fn entry(&self, at: u64) -> String {
        self.entries.keys().nth(at.try_into().unwrap()).unwrap().clone()
    }

    /// Takes what is this client's out of `found`, which has to be what the client was told.
    pub(crate) fn settle(&mut self, found: &mut BTreeMap<String, Entry>) {
        for id in &self.deleted {
            assert!(!found.contains_key(id), "{id} was deleted, and is there");
        }
        self.entries.retain(|id, known| {
            let Some(entry) = found.remove(id) else {
                let pending = matches!(known.pending, Some(Pending::Deletion));
                assert!(pending, "{id} was created, and is gone: {known:?}");
                return false;
            };
            let pending =
                matches!(&known.pending, Some(Pending::Hint(hint)) if *hint == entry.hint);
            assert!(entry.hint == known.hint || pending, "{known:?}, and it is {entry:?}");
            *known = Known { hint: entry.hint, pending: None };
            true
        });
        let made: Vec<_> =
            found.values().filter(|entry| self.asked.contains(&path(entry))).cloned().collect();
        for entry in made {
            found.remove(&entry.id);
            self.learn(&entry);
        }
        self.asked.clear();
    }

    fn heard(&self) {
        self.answers.set(self.answers.get() + 1);
    }

    fn learn(&mut self, entry: &Entry) {
        let known = Known { hint: entry.hint.clone(), pending: None };
        self.entries.insert(entry.id.clone(), known);
    }

    fn known(&mut self, id: &str) -> &mut Known {
        self.entries.get_mut(id).unwrap()
    }
}

/// How the audit log names a token.
pub(crate) fn hash(token: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(entry: &Entry) -> String {
    entry.spiffe_id.as_ref().unwrap().path.clone()
}
