//! What every datastore has to do, as tests that run over each of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::entry::{DnsName, Entry, EntryContent, EntryId, Hint};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::SelectorSet;

use super::memory::MemoryDatastore;
use super::{
    Change, Commit, Datastore, DatastoreError, Fact, Facts, JoinToken, NewSerial, Node, Revision,
    Stored, TokenHash,
};
use crate::federation::{EndpointUrl, Profile, Relationship};

/// Stores of one kind.
pub(super) trait Fixture {
    /// The kind.
    type Store: Datastore;

    /// An empty store.
    async fn open(&self) -> Self::Store;

    /// The same store after its server ended and was started again.
    async fn reopen(&self, store: Self::Store) -> Self::Store;
}

/// One test for each behaviour of a store, over the fixture that an expression makes.
macro_rules! tests {
    ($fixture:expr) => {
        crate::datastore::suite::tests! { $fixture =>
            every_kind_of_change_is_stored_and_taken_back
            changes_of_one_commit_apply_in_order
            a_commit_on_another_revision_changes_nothing
            the_log_tells_what_was_committed_until_it_is_pruned
            any_text_comes_back_as_it_was
            a_random_history_leads_to_the_same_state
            twenty_thousand_entries_come_back
        }
    };
    ($fixture:expr => $($behaviour:ident)*) => {
        $(#[tokio::test]
        async fn $behaviour() {
            crate::datastore::suite::$behaviour(&$fixture).await;
        })*
    };
}
pub(super) use tests;

pub(super) async fn every_kind_of_change_is_stored_and_taken_back(fixture: &impl Fixture) {
    let store = fixture.open().await;
    assert_eq!(store.load().await.unwrap(), Stored::default());

    let put = [
        Change::PutEntry(full_entry(2)),
        Change::PutEntry(plain_entry(1, 0)),
        Change::PutNode(node("/spire/agent/b", Some("b1"))),
        Change::PutNode(node("/spire/agent/a", None)),
        Change::PutBundle(bundle("td", 7)),
        Change::PutBundle(Arc::new(Bundle::empty(td("other")))),
        Change::PutRelationship(relationship("b.td", Some("/endpoint"))),
        Change::PutRelationship(relationship("a.td", None)),
        Change::PutJoinToken(token("t1", None)),
        Change::PutJoinToken(token("t2", Some("/node"))),
        Change::PutJournal(Arc::from(&b"journal\0\xff"[..])),
        Change::PutFact(Fact::TrustDomain(td("td"))),
        Change::PutFact(Fact::KeyOwner("0123456789abcdef".parse().unwrap())),
    ];
    assert_eq!(store.commit(Revision(0), &put).await.unwrap(), Revision(1));
    let mut expected = Stored {
        revision: Revision(1),
        entries: vec![plain_entry(1, 0), full_entry(2)],
        nodes: vec![node("/spire/agent/a", None), node("/spire/agent/b", Some("b1"))],
        bundles: vec![Arc::new(Bundle::empty(td("other"))), bundle("td", 7)],
        relationships: vec![relationship("a.td", None), relationship("b.td", Some("/endpoint"))],
        join_tokens: vec![token("t1", None), token("t2", Some("/node"))],
        journal: Some(Arc::from(&b"journal\0\xff"[..])),
        facts: facts("0123456789abcdef"),
    };
    expected.join_tokens.sort_by_key(|token| token.hash);
    assert_eq!(store.load().await.unwrap(), expected);
    let store = fixture.reopen(store).await;
    assert_eq!(store.load().await.unwrap(), expected);

    let replace = [
        Change::PutEntry(plain_entry(2, 1)),
        Change::PutNode(node("/spire/agent/a", Some("a2"))),
        Change::PutBundle(bundle("td", 8)),
        Change::PutRelationship(relationship("a.td", Some("/other"))),
        Change::PutJoinToken(token("t1", Some("/node"))),
        Change::PutJournal(Arc::from(&b""[..])),
        Change::PutFact(Fact::KeyOwner("00000000000000ff".parse().unwrap())),
    ];
    assert_eq!(store.commit(Revision(1), &replace).await.unwrap(), Revision(2));
    let found = store.load().await.unwrap();
    assert_eq!(found.entries, [plain_entry(1, 0), plain_entry(2, 1)]);
    assert_eq!(found.nodes[0], node("/spire/agent/a", Some("a2")));
    assert_eq!(found.bundles[1], bundle("td", 8));
    assert_eq!(found.relationships[0], relationship("a.td", Some("/other")));
    assert!(found.join_tokens.contains(&token("t1", Some("/node"))));
    assert_eq!(found.journal.as_deref(), Some(&b""[..]));
    assert_eq!(found.facts, facts("00000000000000ff"));

    assert_eq!(store.commit(Revision(2), &every_deletion()).await.unwrap(), Revision(3));
    let store = fixture.reopen(store).await;
    let (journal, facts) = (found.journal, found.facts);
    let left = Stored { revision: Revision(3), journal, facts, ..Stored::default() };
    assert_eq!(store.load().await.unwrap(), left);
}

fn facts(owner: &str) -> Facts {
    Facts { trust_domain: Some(td("td")), key_owner: Some(owner.parse().unwrap()) }
}

fn every_deletion() -> Vec<Change> {
    vec![
        Change::DeleteEntry(entry_id(1)),
        Change::DeleteEntry(entry_id(2)),
        Change::DeleteEntry(entry_id(3)),
        Change::DeleteNode(id("/spire/agent/a")),
        Change::DeleteNode(id("/spire/agent/b")),
        Change::DeleteBundle(td("td")),
        Change::DeleteBundle(td("other")),
        Change::DeleteRelationship(td("a.td")),
        Change::DeleteRelationship(td("b.td")),
        Change::DeleteJoinToken(TokenHash::of("t1")),
        Change::DeleteJoinToken(TokenHash::of("t2")),
    ]
}

pub(super) async fn changes_of_one_commit_apply_in_order(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let changes = [
        Change::PutEntry(plain_entry(1, 0)),
        Change::PutEntry(plain_entry(1, 1)),
        Change::DeleteEntry(entry_id(1)),
        Change::PutEntry(plain_entry(1, 2)),
        Change::PutEntry(plain_entry(2, 0)),
        Change::DeleteEntry(entry_id(2)),
    ];
    store.commit(Revision(0), &changes).await.unwrap();
    assert_eq!(store.load().await.unwrap().entries, [plain_entry(1, 2)]);
}

pub(super) async fn a_commit_on_another_revision_changes_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    store.commit(Revision(0), &[Change::PutEntry(plain_entry(1, 0))]).await.unwrap();
    let before = store.load().await.unwrap();
    for base in [Revision(0), Revision(2), Revision(u64::MAX)] {
        let refused = store.commit(base, &[Change::DeleteEntry(entry_id(1))]).await;
        assert!(
            matches!(refused, Err(DatastoreError::Conflict { at: Revision(1) })),
            "{refused:?}"
        );
        assert_eq!(store.load().await.unwrap(), before);
    }
    let accepted = store.commit(Revision(1), &[Change::DeleteEntry(entry_id(1))]).await;
    assert_eq!(accepted.unwrap(), Revision(2));
}

pub(super) async fn the_log_tells_what_was_committed_until_it_is_pruned(fixture: &impl Fixture) {
    let store = fixture.open().await;
    assert_eq!(store.changes_since(Revision(0)).await.unwrap(), []);
    let first = vec![
        Change::PutEntry(full_entry(1)),
        Change::PutNode(node("/spire/agent/a", Some("1"))),
        Change::PutBundle(bundle("td", 1)),
        Change::PutRelationship(relationship("a.td", Some("/endpoint"))),
        Change::PutJoinToken(token("t", None)),
        Change::PutJournal(Arc::from(&b"j"[..])),
    ];
    let second = vec![
        Change::DeleteEntry(entry_id(1)),
        Change::DeleteNode(id("/spire/agent/a")),
        Change::DeleteBundle(td("td")),
        Change::DeleteRelationship(td("a.td")),
        Change::DeleteJoinToken(TokenHash::of("t")),
    ];
    store.commit(Revision(0), &first).await.unwrap();
    store.commit(Revision(1), &second).await.unwrap();
    let store = fixture.reopen(store).await;
    let commits = [
        Commit { revision: Revision(1), changes: first },
        Commit { revision: Revision(2), changes: second },
    ];
    assert_eq!(store.changes_since(Revision(0)).await.unwrap(), commits);
    assert_eq!(store.changes_since(Revision(1)).await.unwrap(), commits[1..]);
    assert_eq!(store.changes_since(Revision(2)).await.unwrap(), []);

    for revision in 2..1_010 {
        store.commit(Revision(revision), &[]).await.unwrap();
    }
    let store = fixture.reopen(store).await;
    store.commit(Revision(1_010), &[]).await.unwrap();
    let pruned = store.changes_since(Revision(2)).await;
    assert!(matches!(pruned, Err(DatastoreError::Pruned { oldest: Revision(11) })), "{pruned:?}");
    assert_eq!(store.changes_since(Revision(11)).await.unwrap().len(), 1_000);
}

pub(super) async fn any_text_comes_back_as_it_was(fixture: &impl Fixture) {
    let texts =
        ["\"", "\\", "'; DROP TABLE entries; --", "a\nb\0c", "\u{1f512}é", "$.x", "%_", " ", "?1"];
    let selectors: SelectorSet =
        texts.iter().map(|text| format!("t:{text}").parse().unwrap()).collect();
    let mut entry = Entry::clone(&plain_entry(1, 0));
    entry.content.selectors = selectors.clone();
    entry.content.hint = Hint::new("\"\\ é\u{1f512}").unwrap();
    let mut agent = Node::clone(&node("/spire/agent/a", Some("\"")));
    agent.selectors = selectors;
    agent.agent_version = texts.concat();
    agent.attestation_type = texts.concat();
    let (entry, agent) = (Arc::new(entry), Arc::new(agent));

    let store = fixture.open().await;
    let changes = [Change::PutEntry(Arc::clone(&entry)), Change::PutNode(Arc::clone(&agent))];
    store.commit(Revision(0), &changes).await.unwrap();
    let store = fixture.reopen(store).await;
    let found = store.load().await.unwrap();
    assert_eq!((found.entries, found.nodes), (vec![entry], vec![agent]));
    assert_eq!(store.changes_since(Revision(0)).await.unwrap()[0].changes, changes);
}

pub(super) async fn a_random_history_leads_to_the_same_state(fixture: &impl Fixture) {
    let model = MemoryDatastore::new();
    let mut store = fixture.open().await;
    let mut random = Random(0x5eed);
    for round in 0..120 {
        let base = Revision(round);
        let count = if random.below(10) == 0 { 700 } else { random.below(12) };
        let changes: Vec<_> = (0..count).map(|_| random.change()).collect();
        model.commit(base, &changes).await.unwrap();
        assert_eq!(store.commit(base, &changes).await.unwrap(), base.next());
        if round % 20 == 19 {
            store = fixture.reopen(store).await;
        }
        if round % 5 == 4 {
            assert_eq!(store.load().await.unwrap(), model.load().await.unwrap(), "{round}");
        }
    }
    let since = Revision(100);
    let expected = model.changes_since(since).await.unwrap();
    assert_eq!(store.changes_since(since).await.unwrap(), expected);
}

pub(super) async fn twenty_thousand_entries_come_back(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let entries: Vec<_> = (0..20_000).map(|n| plain_entry(n, 0)).collect();
    for (batch, entries) in entries.chunks(500).enumerate() {
        let changes: Vec<_> = entries.iter().cloned().map(Change::PutEntry).collect();
        store.commit(Revision(batch as u64), &changes).await.unwrap();
    }
    let store = fixture.reopen(store).await;
    assert!(store.load().await.unwrap().entries == entries);
}

/// A generator of changes that is the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        (high % u64::from(limit)) as u32
    }

    fn change(&mut self) -> Change {
        let n = self.below(60);
        let path = format!("/spire/agent/{n}");
        let name = ["td", "a.td", "b.td"][n as usize % 3];
        match self.below(12) {
            0..=3 => Change::PutEntry(plain_entry(n, i64::from(self.below(5)))),
            4 => Change::PutEntry(full_entry(n)),
            5 => Change::DeleteEntry(entry_id(n)),
            6 => Change::PutNode(node(&path, (n > 8).then_some("1"))),
            7 => Change::DeleteNode(id(&path)),
            8 => Change::PutBundle(bundle(name, u64::from(self.below(9)))),
            9 => Change::DeleteBundle(td(name)),
            10 => Change::PutJoinToken(token(&path, None)),
            _ => match self.below(4) {
                0 => Change::DeleteJoinToken(TokenHash::of(&path)),
                1 => Change::PutRelationship(relationship(name, (n > 30).then_some("/e"))),
                2 => Change::DeleteRelationship(td(name)),
                _ => Change::PutJournal(path.as_bytes().into()),
            },
        }
    }
}

fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&td("td"), path).unwrap()
}

fn entry_id(n: u32) -> EntryId {
    EntryId::new(&format!("entry-{n:06}")).unwrap()
}

pub(crate) fn plain_entry(n: u32, revision: i64) -> Arc<Entry> {
    let selectors = [format!("unix:uid:{n}"), "unix:gid:7".into()];
    Arc::new(Entry {
        id: entry_id(n),
        revision,
        created_at: 1_700_000_000 + i64::from(n),
        content: EntryContent {
            spiffe_id: id(&format!("/workload/{n}")),
            parent_id: id("/spire/agent/join_token/x"),
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: None,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        },
    })
}

fn full_entry(n: u32) -> Arc<Entry> {
    let mut entry = Entry::clone(&plain_entry(n, i64::MAX));
    entry.created_at = i64::MIN;
    entry.content = EntryContent {
        x509_svid_ttl: Some(Duration::from_secs(3_600)),
        jwt_svid_ttl: Some(Duration::from_secs(300)),
        federates_with: ["a.td", "b.td"].map(td).into(),
        admin: true,
        downstream: true,
        expires_at: Some(1_800_000_000),
        dns_names: ["z.example.org", "*.a.example.org"].map(|n| DnsName::new(n).unwrap()).into(),
        store_svid: true,
        hint: Hint::new("internal").unwrap(),
        disable_x509_svid_prefetch: true,
        jwt_svid_include_jti: true,
        ..entry.content
    };
    Arc::new(entry)
}

fn node(path: &str, serial: Option<&str>) -> Arc<Node> {
    Arc::new(Node {
        id: id(path),
        attestation_type: "x509pop".into(),
        serial: serial.map(Into::into),
        not_after: 1_800_000_000,
        new_serial: serial
            .map(|serial| NewSerial { serial: format!("{serial}1"), not_after: 1_800_000_001 }),
        selectors: ["x509pop:subject:cn:a", "a:1"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .collect(),
        can_reattest: serial.is_some(),
        agent_version: "1.0".into(),
    })
}

fn bundle(name: &str, sequence: u64) -> Arc<Bundle> {
    let x509 = |byte: u8, tainted| X509Authority { certificate: vec![byte; 40].into(), tainted };
    let jwt = |key_id: &str, expires_at| JwtAuthority {
        key_id: key_id.into(),
        public_key: vec![0, 1, 2, 255],
        expires_at,
        tainted: expires_at.is_none(),
    };
    Arc::new(Bundle {
        trust_domain: td(name),
        x509_authorities: vec![x509(9, false), x509(1, true)],
        jwt_authorities: vec![jwt("z", Some(1_800_000_000)), jwt("a", None)],
        refresh_hint: Some(Duration::from_secs(300)),
        sequence,
    })
}

fn relationship(name: &str, endpoint: Option<&str>) -> Arc<Relationship> {
    let endpoint_url = EndpointUrl::new(&format!("https://{name}:8443/bundle?a=b")).unwrap();
    let profile = match endpoint {
        None => Profile::HttpsWeb,
        Some(path) => Profile::HttpsSpiffe { endpoint_id: id(path) },
    };
    Arc::new(Relationship { trust_domain: td(name), endpoint_url, profile })
}

fn token(text: &str, agent_id: Option<&str>) -> JoinToken {
    JoinToken { hash: TokenHash::of(text), expires_at: 1_800_000_000, agent_id: agent_id.map(id) }
}
