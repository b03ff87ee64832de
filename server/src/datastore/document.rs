//! What is stored as rows of (table, key, document): the document is JSON that says everything but
//! the key. An unknown member is refused, never ignored.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use steeple::bundle::Bundle;
use steeple::entry::Entry;
use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;
use thiserror::Error;

use super::{Change, Fact, JoinToken, Node, TokenHash};
use crate::federation::{Profile, Relationship};

pub(super) mod reader;

/// Where a row is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Table {
    Entries,
    Nodes,
    Bundles,
    Relationships,
    JoinTokens,
    Journals,
    Facts,
}

/// A change as it is stored: what stands under a key from now on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) table: Table,
    pub(super) key: String,
    /// `None` if nothing does any more.
    pub(super) document: Option<String>,
}

/// A row that this version cannot have written.
#[derive(Debug, Error)]
#[error("{table:?} {key:?}: {what}")]
pub(super) struct RowError {
    table: Table,
    key: String,
    what: String,
}

/// The one journal that there is.
const JOURNAL: &str = "authorities";

/// The facts that there are.
const TRUST_DOMAIN: &str = "trust_domain";
const KEY_OWNER: &str = "key_owner";

/// A text that is borrowed from the document if it can be.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EntryDocument<'a> {
    #[serde(borrow)]
    spiffe_id: Text<'a>,
    #[serde(borrow)]
    parent_id: Text<'a>,
    #[serde(borrow)]
    selectors: Vec<Text<'a>>,
    revision: i64,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x509_svid_ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwt_svid_ttl: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    federates_with: Vec<Text<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    admin: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    downstream: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    dns_names: Vec<Text<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    store_svid: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    hint: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    disable_x509_svid_prefetch: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    jwt_svid_include_jti: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NodeDocument<'a> {
    #[serde(borrow)]
    attestation_type: Text<'a>,
    serial: Option<String>,
    not_after: i64,
    new_serial: Option<String>,
    new_not_after: Option<i64>,
    #[serde(borrow)]
    selectors: Vec<Text<'a>>,
    can_reattest: bool,
    #[serde(borrow)]
    agent_version: Text<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BundleDocument {
    sequence: u64,
    refresh_hint: Option<u64>,
    x509_authorities: Vec<X509Document>,
    jwt_authorities: Vec<JwtDocument>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct X509Document {
    certificate: String,
    tainted: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JwtDocument {
    key_id: String,
    public_key: String,
    expires_at: Option<i64>,
    tainted: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RelationshipDocument {
    endpoint_url: String,
    profile: ProfileDocument,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum ProfileDocument {
    HttpsWeb {},
    HttpsSpiffe { endpoint_id: SpiffeId },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JoinTokenDocument {
    expires_at: i64,
    agent_id: Option<SpiffeId>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JournalDocument {
    journal: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FactDocument<'a> {
    #[serde(borrow)]
    value: Text<'a>,
}

impl Row {
    /// The row that a change leads to.
    pub(super) fn of(change: &Change) -> Result<Self, RowError> {
        let put = |table, key: &str, document: serde_json::Result<String>| match document {
            Ok(document) => Ok(Self { table, key: key.into(), document: Some(document) }),
            Err(error) => Err(RowError { table, key: key.into(), what: error.to_string() }),
        };
        let delete = |table, key: &str| Ok(Self { table, key: key.into(), document: None });
        match change {
            Change::PutEntry(entry) => put(Table::Entries, entry.id.as_str(), write_entry(entry)),
            Change::DeleteEntry(id) => delete(Table::Entries, id.as_str()),
            Change::PutNode(node) => put(Table::Nodes, node.id.as_str(), write_node(node)),
            Change::DeleteNode(id) => delete(Table::Nodes, id.as_str()),
            Change::PutBundle(bundle) => {
                put(Table::Bundles, bundle.trust_domain.as_str(), write_bundle(bundle))
            }
            Change::DeleteBundle(name) => delete(Table::Bundles, name.as_str()),
            Change::PutRelationship(relationship) => put(
                Table::Relationships,
                relationship.trust_domain.as_str(),
                write_relationship(relationship),
            ),
            Change::DeleteRelationship(name) => delete(Table::Relationships, name.as_str()),
            Change::PutJoinToken(token) => {
                put(Table::JoinTokens, &hex(&token.hash), write_token(token))
            }
            Change::DeleteJoinToken(hash) => delete(Table::JoinTokens, &hex(hash)),
            Change::PutJournal(journal) => {
                let document = JournalDocument { journal: STANDARD.encode(journal) };
                put(Table::Journals, JOURNAL, serde_json::to_string(&document))
            }
            Change::PutFact(fact) => {
                let (key, value) = match fact {
                    Fact::TrustDomain(name) => (TRUST_DOMAIN, name.as_str()),
                    Fact::KeyOwner(owner) => (KEY_OWNER, owner.as_str()),
                };
                let document = FactDocument { value: text(value) };
                put(Table::Facts, key, serde_json::to_string(&document))
            }
        }
    }

    fn error(&self, what: String) -> RowError {
        RowError { table: self.table, key: self.key.clone(), what }
    }
}

fn write_entry(entry: &Entry) -> serde_json::Result<String> {
    let content = &entry.content;
    let domains = content.federates_with.iter().map(|name| text(name.as_str()));
    let names = content.dns_names.iter().map(|name| text(name.as_str()));
    serde_json::to_string(&EntryDocument {
        spiffe_id: text(content.spiffe_id.as_str()),
        parent_id: text(content.parent_id.as_str()),
        selectors: texts(&content.selectors),
        revision: entry.revision,
        created_at: entry.created_at,
        x509_svid_ttl: content.x509_svid_ttl.map(|ttl| ttl.as_secs()),
        jwt_svid_ttl: content.jwt_svid_ttl.map(|ttl| ttl.as_secs()),
        federates_with: domains.collect(),
        admin: content.admin,
        downstream: content.downstream,
        expires_at: content.expires_at,
        dns_names: names.collect(),
        store_svid: content.store_svid,
        hint: content.hint.as_ref().map(|hint| text(hint.as_str())),
        disable_x509_svid_prefetch: content.disable_x509_svid_prefetch,
        jwt_svid_include_jti: content.jwt_svid_include_jti,
    })
}

fn write_node(node: &Node) -> serde_json::Result<String> {
    let new = node.new_serial.as_ref();
    serde_json::to_string(&NodeDocument {
        attestation_type: text(&node.attestation_type),
        serial: node.serial.clone(),
        not_after: node.not_after,
        new_serial: new.map(|new| new.serial.clone()),
        new_not_after: new.map(|new| new.not_after),
        selectors: texts(&node.selectors),
        can_reattest: node.can_reattest,
        agent_version: text(&node.agent_version),
    })
}

fn write_bundle(bundle: &Bundle) -> serde_json::Result<String> {
    let x509 = bundle.x509_authorities.iter().map(|authority| X509Document {
        certificate: STANDARD.encode(&authority.certificate),
        tainted: authority.tainted,
    });
    let jwt = bundle.jwt_authorities.iter().map(|authority| JwtDocument {
        key_id: authority.key_id.clone(),
        public_key: STANDARD.encode(&authority.public_key),
        expires_at: authority.expires_at,
        tainted: authority.tainted,
    });
    serde_json::to_string(&BundleDocument {
        sequence: bundle.sequence,
        refresh_hint: bundle.refresh_hint.map(|hint| hint.as_secs()),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
    })
}

fn write_relationship(relationship: &Relationship) -> serde_json::Result<String> {
    let profile = match &relationship.profile {
        Profile::HttpsWeb => ProfileDocument::HttpsWeb {},
        Profile::HttpsSpiffe { endpoint_id } => {
            ProfileDocument::HttpsSpiffe { endpoint_id: endpoint_id.clone() }
        }
    };
    let endpoint_url = relationship.endpoint_url.as_str().to_owned();
    serde_json::to_string(&RelationshipDocument { endpoint_url, profile })
}

fn write_token(token: &JoinToken) -> serde_json::Result<String> {
    let agent_id = token.agent_id.clone();
    serde_json::to_string(&JoinTokenDocument { expires_at: token.expires_at, agent_id })
}

fn text(text: &str) -> Text<'_> {
    Text(Cow::Borrowed(text))
}

fn texts(selectors: &SelectorSet) -> Vec<Text<'_>> {
    selectors.iter().map(|selector| text(selector.as_str())).collect()
}

fn hex(hash: &TokenHash) -> String {
    hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
