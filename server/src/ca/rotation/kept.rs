//! Which keys in a key store the records tell of.

use steeple::keys::{KeyId, KeyStore, KeyStoreError, Signer};
use steeple::x509::Certificate;

use super::making::key_id;
use crate::ca::journal::{Journal, Record};
use crate::ca::slots::{Kind, Slot, Status};

/// Where a key may be.
const PLACES: [(Kind, Slot); 4] = [
    (Kind::X509Ca, Slot::A),
    (Kind::X509Ca, Slot::B),
    (Kind::JwtKey, Slot::A),
    (Kind::JwtKey, Slot::B),
];

/// The keys of authorities that a key store has. Those of a slot of which the journal says that its
/// key may have no record are left out: somebody was stopped before there was one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kept {
    /// Those that some record is about, whether it holds the slot still or not.
    pub recorded: Vec<KeyId>,
    /// Those that nothing tells of.
    pub unknown: Vec<KeyId>,
}

/// Looks at the keys by what the journal says.
pub async fn kept(journal: &Journal, keys: &dyn KeyStore) -> Result<Kept, KeyStoreError> {
    let mut kept = Kept::default();
    for (kind, slot) in PLACES {
        let id = key_id(kind, slot);
        let is_old = journal.held(kind, slot).is_some_and(|record| record.status == Status::Old);
        let signer = match keys.load(&id).await {
            // It does not sign any more, and is only to be removed.
            Err(_damaged) if is_old => continue,
            loaded => loaded?,
        };
        let Some(signer) = signer else { continue };
        let mut of_kind = journal.records().iter().filter(|record| record.kind == kind);
        if of_kind.any(|record| belongs(record, &*signer)) {
            kept.recorded.push(id);
        } else if !journal.is_unrecorded(kind, slot) {
            kept.unknown.push(id);
        }
    }
    Ok(kept)
}

/// The journal with the knowledge that these keys may be there without a record.
#[must_use]
pub fn with_unrecorded(journal: &Journal, keys: &[KeyId]) -> Journal {
    let named = PLACES.iter().filter(|(kind, slot)| keys.contains(&key_id(*kind, *slot)));
    named.fold(journal.clone(), |journal, (kind, slot)| journal.with_unrecorded(*kind, *slot))
}

/// Whether the key is the one that the record is about.
pub(super) fn belongs(record: &Record, signer: &dyn Signer) -> bool {
    let spki = signer.public_key().spki_der();
    match record.kind {
        Kind::X509Ca => Certificate::parse(&record.public).is_ok_and(|ca| ca.spki_der() == spki),
        Kind::JwtKey => record.public == spki,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steeple::keys::KeyAlgorithm;

    use super::*;
    use crate::ca::testing::Bench;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    async fn look(bench: &Bench) -> Kept {
        let journal = Journal::decode(&bench.ledger.stored().unwrap()).unwrap();
        kept(&journal, &*bench.keys).await.unwrap()
    }

    fn names(keys: &[KeyId]) -> Vec<&str> {
        keys.iter().map(KeyId::as_str).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_stopped_before_there_was_a_record_knows_the_key_for_its_own() {
        let bench = Bench::new();
        // That a key is to be made is saved, and is known to be at the second try.
        for saves in [1, 0] {
            bench.ledger.fail_after(saves);
            bench.start(DAY).await.unwrap_err();
            assert_eq!(names(&bench.keys.list().await.unwrap()), ["x509-CA-A"]);
            assert_eq!(look(&bench).await, Kept::default());
        }
        bench.ledger.fail(false);
        drop(bench.start(DAY).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_known_by_their_records_and_others_by_none() {
        let bench = Bench::new();
        drop(bench.start(DAY).await.unwrap());
        let found = look(&bench).await;
        assert_eq!(names(&found.recorded), ["x509-CA-A", "JWT-Signer-A"]);
        assert_eq!(found.unknown, []);
        for id in ["x509-CA-A", "JWT-Signer-B"] {
            bench.keys.generate(&id.parse().unwrap(), KeyAlgorithm::EcP256).await.unwrap();
        }
        let found = look(&bench).await;
        assert_eq!(names(&found.recorded), ["JWT-Signer-A"]);
        assert_eq!(names(&found.unknown), ["x509-CA-A", "JWT-Signer-B"]);
        let journal = Journal::decode(&bench.ledger.stored().unwrap()).unwrap();
        let journal = with_unrecorded(&journal, &found.unknown);
        assert_eq!(kept(&journal, &*bench.keys).await.unwrap().unknown, []);
    }
}
