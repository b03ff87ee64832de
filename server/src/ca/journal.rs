//! What the server remembers of its authorities, as it is stored. Private keys are not in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::x509::Certificate;
use thiserror::Error;

use super::authorities::AuthorityId;
use super::slots::{Kind, Slot, Status};

const VERSION: u32 = 1;

/// All authorities of this server that are, or may be, in the bundle.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journal {
    records: Vec<Record>,
    revoked: Vec<Revoked>,
    /// Slots whose key may be in the key store without a record that is about it.
    unrecorded: Vec<(Kind, Slot)>,
}

/// An authority that was revoked here, and does not come back because somebody else still vouches
/// for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// What it signed.
    pub kind: Kind,
    /// Its name.
    pub authority_id: AuthorityId,
    /// Until when it would have been valid, in seconds since 1970.
    pub not_after: i64,
}

/// An authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it signs.
    pub kind: Kind,
    /// Where its key is; none once another authority has its slot.
    pub slot: Option<Slot>,
    /// Where in its life it is.
    pub status: Status,
    /// Its name.
    pub authority_id: AuthorityId,
    /// When it was made, in seconds since 1970.
    pub issued_at: i64,
    /// From when on what it signs is accepted, in seconds since 1970.
    pub not_before: i64,
    /// Until when what it signs is accepted, in seconds since 1970.
    pub not_after: i64,
    /// The certificate of a CA, the public key of a JWT key, in DER.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub public: Vec<u8>,
    /// The certificates above a CA in DER, from the one that signed it on; none where it signed
    /// itself.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "list_to_base64",
        deserialize_with = "list_from_base64"
    )]
    pub upstream_chain: Vec<Vec<u8>>,
    /// The subject key identifier, in lower-case hexadecimal, of the upstream authority that vouches
    /// for a CA; none where it signed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_authority_id: Option<AuthorityId>,
}

/// Why a stored journal cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum JournalError {
    /// It was written by a newer server.
    #[error("the journal of the authorities has version {0}, this server knows {VERSION}")]
    Version(u32),
    /// It cannot be read.
    #[error("the journal of the authorities is damaged: {0}")]
    Malformed(String),
    /// Two authorities of a kind are active, prepared, or in one slot.
    #[error("the journal of the authorities contradicts itself")]
    Contradiction,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    version: u32,
    authorities: Cow<'a, [Record]>,
    #[serde(default, skip_serializing_if = "<[Revoked]>::is_empty")]
    revoked: Cow<'a, [Revoked]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    unrecorded: Cow<'a, [(Kind, Slot)]>,
}

impl Journal {
    /// Reads what [`Self::encode`] wrote.
    pub fn decode(stored: &[u8]) -> Result<Self, JournalError> {
        let malformed = |error: serde_json::Error| JournalError::Malformed(error.to_string());
        let Version { version } = serde_json::from_slice(stored).map_err(malformed)?;
        if version != VERSION {
            return Err(JournalError::Version(version));
        }
        let Stored { authorities, revoked, unrecorded, .. } =
            serde_json::from_slice(stored).map_err(malformed)?;
        let journal = Self {
            records: authorities.into_owned(),
            revoked: revoked.into_owned(),
            unrecorded: unrecorded.into_owned(),
        };
        if journal.contradicts_itself() { Err(JournalError::Contradiction) } else { Ok(journal) }
    }

    /// What is stored.
    pub fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let (authorities, revoked) = (Cow::from(&self.records), Cow::from(&self.revoked));
        let unrecorded = Cow::from(&self.unrecorded);
        let stored = Stored { version: VERSION, authorities, revoked, unrecorded };
        serde_json::to_vec(&stored).map_err(|error| JournalError::Malformed(error.to_string()))
    }

    /// All authorities, oldest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The trust domain that the CAs are of, if there is one that says so: the active one first, as an
    /// old one may be of a name that was a mistake.
    #[must_use]
    pub fn trust_domain(&self) -> Option<TrustDomain> {
        let named = |record: &Record| {
            let certificate = Certificate::parse(&record.public).ok()?;
            let id: SpiffeId =
                std::str::from_utf8(certificate.uris().first()?).ok()?.parse().ok()?;
            Some(id.trust_domain().clone())
        };
        let cas = self.records.iter().filter(|record| record.kind == Kind::X509Ca);
        self.active(Kind::X509Ca).into_iter().chain(cas).find_map(named)
    }

    /// The authority in a slot.
    #[must_use]
    pub fn held(&self, kind: Kind, slot: Slot) -> Option<&Record> {
        self.records.iter().find(|record| record.kind == kind && record.slot == Some(slot))
    }

    /// The authority that signs.
    #[must_use]
    pub fn active(&self, kind: Kind) -> Option<&Record> {
        self.records.iter().find(|r| r.kind == kind && r.status == Status::Active)
    }

    /// The authority that is published and does not sign yet.
    #[must_use]
    pub fn prepared(&self, kind: Kind) -> Option<&Record> {
        self.records.iter().find(|r| r.kind == kind && r.status == Status::Prepared)
    }

    /// The authority that signed last before the one that does.
    #[must_use]
    pub fn old(&self, kind: Kind) -> Option<&Record> {
        self.records.iter().rfind(|r| r.kind == kind && r.status == Status::Old)
    }

    /// The authority of that name.
    #[must_use]
    pub fn named(&self, kind: Kind, id: &str) -> Option<&Record> {
        self.records.iter().find(|r| r.kind == kind && r.authority_id.as_str() == id)
    }

    /// What was revoked here and would be valid still.
    pub(super) fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }

    /// Whether the authority of that name was revoked here.
    pub(super) fn is_revoked(&self, kind: Kind, id: &str) -> bool {
        self.revoked.iter().any(|r| r.kind == kind && r.authority_id.as_str() == id)
    }

    /// Whether a slot's key may be there without a record that is about it.
    pub(super) fn is_unrecorded(&self, kind: Kind, slot: Slot) -> bool {
        self.unrecorded.contains(&(kind, slot))
    }

    /// This journal with the knowledge that a slot's key may be there without a record, as when it is
    /// about to be made.
    pub(super) fn with_unrecorded(&self, kind: Kind, slot: Slot) -> Self {
        let mut journal = self.clone();
        journal.unrecorded.push((kind, slot));
        journal.unrecorded.sort_unstable();
        journal.unrecorded.dedup();
        journal
    }

    /// This journal without that authority, and with the memory that it was revoked.
    pub(super) fn with_revoked(&self, revoked: Revoked) -> Self {
        let Revoked { kind, authority_id, .. } = &revoked;
        let mut journal = self.without(&[(*kind, authority_id.clone())]);
        journal.revoked.push(revoked);
        journal
    }

    /// This journal with a prepared authority in its slot, the former holder of which has none.
    pub(super) fn with_prepared(&self, prepared: Record) -> Self {
        let mut records = self.records.clone();
        let place = prepared.slot.map(|slot| (prepared.kind, slot));
        for record in &mut records {
            if record.kind == prepared.kind && record.slot == prepared.slot {
                record.slot = None;
                record.status = Status::Old;
            }
        }
        records.push(prepared);
        let mut journal = self.with(records);
        journal.unrecorded.retain(|unrecorded| Some(*unrecorded) != place);
        journal
    }

    /// This journal with the holder of a slot active, and no other one of its kind.
    pub(super) fn with_active(&self, kind: Kind, slot: Slot) -> Self {
        let mut records = self.records.clone();
        for record in records.iter_mut().filter(|record| record.kind == kind) {
            if record.slot == Some(slot) {
                record.status = Status::Active;
            } else if record.status == Status::Active {
                record.status = Status::Old;
            }
        }
        self.with(records)
    }

    /// This journal with no authority of that kind that signs, or is to.
    pub(super) fn with_retired(&self, kind: Kind) -> Self {
        let mut records = self.records.clone();
        records.iter_mut().filter(|r| r.kind == kind).for_each(|r| r.status = Status::Old);
        self.with(records)
    }

    /// This journal without those authorities, as if there had never been any of those names.
    pub(super) fn without(&self, names: &[(Kind, AuthorityId)]) -> Self {
        let is_kept = |kind: Kind, id: &AuthorityId| {
            !names.iter().any(|(other, name)| *other == kind && name == id)
        };
        let kept = |record: &&Record| is_kept(record.kind, &record.authority_id);
        let mut journal = self.with(self.records.iter().filter(kept).cloned().collect());
        journal.revoked.retain(|revoked| is_kept(revoked.kind, &revoked.authority_id));
        journal
    }

    /// This journal without those CAs that signed before and that these roots vouched for.
    pub(super) fn without_dependents(&self, roots: &[AuthorityId]) -> Self {
        let kept = |record: &&Record| {
            let root = record.upstream_authority_id.as_ref();
            record.status != Status::Old || !root.is_some_and(|root| roots.contains(root))
        };
        self.with(self.records.iter().filter(kept).cloned().collect())
    }

    /// This journal with these records. The key of one that is left out may be there still.
    fn with(&self, records: Vec<Record>) -> Self {
        let is_held = |place| records.iter().any(|record| record.place() == Some(place));
        let places = self.records.iter().filter_map(Record::place);
        let left: Vec<_> = places.filter(|place| !is_held(*place)).collect();
        let journal =
            Self { records, revoked: self.revoked.clone(), unrecorded: self.unrecorded.clone() };
        left.iter().fold(journal, |journal, (kind, slot)| journal.with_unrecorded(*kind, *slot))
    }

    fn contradicts_itself(&self) -> bool {
        let clash = |a: &Record, b: &Record| {
            let same_status = a.status == b.status && a.status != Status::Old;
            let same_slot = a.slot.is_some() && a.slot == b.slot;
            a.kind == b.kind && (same_status || same_slot)
        };
        let mut rest = self.records.iter();
        let mut clashes = false;
        while let Some(record) = rest.next() {
            // One that is not old has its key in a slot.
            clashes |= record.status != Status::Old && record.slot.is_none();
            clashes |= rest.clone().any(|other| clash(record, other));
        }
        clashes
    }
}

impl Record {
    fn place(&self) -> Option<(Kind, Slot)> {
        self.slot.map(|slot| (self.kind, slot))
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn list_to_base64<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|bytes| STANDARD.encode(bytes)))
}

fn list_from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let decode = |text: String| STANDARD.decode(text).map_err(serde::de::Error::custom);
    list.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, slot: Option<Slot>, status: Status) -> Record {
        Record {
            kind: Kind::X509Ca,
            slot,
            status,
            authority_id: id.to_owned().into(),
            issued_at: 1,
            not_before: i64::MIN,
            not_after: i64::MAX,
            public: vec![0, 255],
            upstream_chain: Vec::new(),
            upstream_authority_id: None,
        }
    }

    fn journal(records: &[Record]) -> Journal {
        Journal { records: records.to_vec(), ..Journal::default() }
    }

    fn revoked(kind: Kind, id: &str) -> Revoked {
        Revoked { kind, authority_id: id.to_owned().into(), not_after: 5 }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let journal = journal(&[
            record("old", None, Status::Old),
            record("active", Some(Slot::A), Status::Active),
            Record { kind: Kind::JwtKey, ..record("other", Some(Slot::A), Status::Prepared) },
            Record {
                upstream_chain: vec![vec![1], vec![2, 3]],
                upstream_authority_id: Some("up".to_owned().into()),
                ..record("below", Some(Slot::B), Status::Prepared)
            },
        ]);
        let journal = journal.with_revoked(revoked(Kind::X509Ca, "gone"));
        assert_eq!(Journal::decode(&journal.encode().unwrap()), Ok(journal));
    }

    #[test]
    fn what_was_revoked_is_known_by_kind_and_name_whatever_comes_next() {
        let active = record("id", Some(Slot::A), Status::Active);
        let key = Record { kind: Kind::JwtKey, ..active.clone() };
        let journal = journal(&[active.clone(), key]);
        let journal = journal.with_revoked(revoked(Kind::JwtKey, "id"));
        assert_eq!(journal.records(), [active]);
        let next = Record { slot: Some(Slot::B), ..record("next", None, Status::Prepared) };
        let next = journal.with_prepared(next).with_active(Kind::X509Ca, Slot::B);
        for journal in [&journal, &next, &next.without_dependents(&["id".to_owned().into()])] {
            assert!(journal.is_revoked(Kind::JwtKey, "id"));
            assert!(!journal.is_revoked(Kind::X509Ca, "id"));
        }
        let other = next.without(&[(Kind::X509Ca, "id".to_owned().into())]);
        assert!(other.is_revoked(Kind::JwtKey, "id") && other.records().len() == 1);
        let pruned = other.without(&[(Kind::JwtKey, "id".to_owned().into())]);
        assert_eq!(pruned.revoked(), []);
    }

    #[test]
    fn what_was_stored_before_there_were_upstream_authorities_is_read_and_written_alike() {
        let stored = r#"{"version":1,"authorities":[{"kind":"x509_ca","slot":"A","status":"active","authority_id":"a","issued_at":1,"not_before":-9223372036854775808,"not_after":9223372036854775807,"public":"AP8="}]}"#;
        let journal = Journal::decode(stored.as_bytes()).unwrap();
        assert_eq!(journal.records(), [record("a", Some(Slot::A), Status::Active)]);
        assert_eq!(journal.encode().unwrap(), stored.as_bytes());
    }

    #[test]
    fn a_slot_is_unrecorded_from_when_its_key_is_made_until_its_record_is_there() {
        let active = record("a", Some(Slot::A), Status::Active);
        let old = record("b", Some(Slot::B), Status::Old);
        let journal = journal(&[active, old]);
        let check = |journal: &Journal, expected: bool| {
            assert_eq!(journal.is_unrecorded(Kind::X509Ca, Slot::B), expected, "{journal:?}");
            assert!(!journal.is_unrecorded(Kind::JwtKey, Slot::B));
            assert_eq!(Journal::decode(&journal.encode().unwrap()).as_ref(), Ok(journal));
        };
        check(&journal, false);
        let making = journal.with_unrecorded(Kind::X509Ca, Slot::B);
        check(&making, true);
        // Whatever else changes meanwhile.
        check(&making.with_active(Kind::X509Ca, Slot::A), true);
        let made = record("c", Some(Slot::B), Status::Prepared);
        check(&making.with_prepared(made.clone()), false);
        let elsewhere = Record { kind: Kind::JwtKey, ..made };
        check(&making.with_prepared(elsewhere), true);
        // The key of what is forgotten or revoked may be there still.
        check(&journal.without(&[(Kind::X509Ca, "b".to_owned().into())]), true);
        check(&journal.with_revoked(revoked(Kind::X509Ca, "b")), true);
        check(&journal.with_revoked(revoked(Kind::X509Ca, "x")), false);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |stored: &str, expected: Result<(), JournalError>| {
            let decoded = Journal::decode(stored.as_bytes()).map(drop);
            assert_eq!(std::mem::discriminant(&decoded), std::mem::discriminant(&expected));
            if let Err(JournalError::Malformed(_)) = expected {
                assert!(matches!(decoded, Err(JournalError::Malformed(_))), "{stored}");
            } else {
                assert_eq!(decoded, expected, "{stored}");
            }
        };
        let malformed = || Err(JournalError::Malformed(String::new()));
        check(r#"{"version":1,"authorities":[]}"#, Ok(()));
        check(r#"{"version":2,"kinds":[]}"#, Err(JournalError::Version(2)));
        check(r#"{"version":1}"#, malformed());
        check(r#"{"version":1,"authorities":[],"more":1}"#, malformed());
        check(r#"{"version":1,"authorities":[{}]}"#, malformed());
        check(r#"{"authorities":[]}"#, malformed());
        check("", malformed());
    }

    #[test]
    fn a_slot_and_a_status_belong_to_one_authority() {
        let check = |records: &[Record], expected: Result<(), JournalError>| {
            let decoded = Journal::decode(&journal(records).encode().unwrap());
            assert_eq!(decoded.map(drop), expected, "{records:?}");
        };
        let active = record("a", Some(Slot::A), Status::Active);
        let jwt = Record { kind: Kind::JwtKey, ..active.clone() };
        check(&[active.clone(), record("b", Some(Slot::B), Status::Old), jwt], Ok(()));
        check(&[active.clone(), record("b", None, Status::Old)], Ok(()));
        let bad = Err(JournalError::Contradiction);
        check(&[active.clone(), record("b", Some(Slot::A), Status::Old)], bad.clone());
        check(&[active.clone(), record("b", Some(Slot::B), Status::Active)], bad.clone());
        check(&[active, record("b", None, Status::Prepared)], bad);
    }

    #[test]
    fn preparing_takes_a_slot_and_activating_hands_over() {
        let first = Journal::default()
            .with_prepared(record("1", Some(Slot::A), Status::Prepared))
            .with_active(Kind::X509Ca, Slot::A)
            .with_prepared(record("2", Some(Slot::B), Status::Prepared))
            .with_active(Kind::X509Ca, Slot::B);
        let third = first.with_prepared(record("3", Some(Slot::A), Status::Prepared));
        assert_eq!(
            third.records(),
            [
                record("1", None, Status::Old),
                record("2", Some(Slot::B), Status::Active),
                record("3", Some(Slot::A), Status::Prepared),
            ]
        );
        assert_eq!(third.active(Kind::X509Ca).unwrap().authority_id.as_str(), "2");
        assert_eq!(third.active(Kind::JwtKey), None);
        let pruned = third.without(&[(Kind::X509Ca, "1".to_owned().into())]);
        assert_eq!(pruned.records(), &third.records()[1..]);
    }
}
