//! Reads rows, checking all that they say.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::entry::{DnsName, Entry, EntryContent, EntryId, Hint};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::{Selector, SelectorSet};

use super::{
    BundleDocument, EntryDocument, FactDocument, JoinTokenDocument, JournalDocument, NodeDocument,
    ProfileDocument, RelationshipDocument, Row, RowError, Table, Text,
};
use crate::datastore::{Change, Fact, JoinToken, NewSerial, Node, TokenHash};
use crate::federation::{EndpointUrl, Profile, Relationship};

/// How many things of a kind a reader remembers.
const RECENT: u64 = 1_024;

/// Reads rows. Texts that come again and again are parsed, and kept, once.
#[derive(Debug)]
pub(in crate::datastore) struct Reader {
    ids: Recent<SpiffeId>,
    selectors: Recent<Selector>,
}

/// The last thing that was parsed, for each of some hashes of texts.
#[derive(Debug)]
struct Recent<T> {
    things: HashMap<u64, T>,
    text: fn(&T) -> &str,
    hasher: RandomState,
}

impl Reader {
    /// A reader that has read nothing yet.
    pub(in crate::datastore) fn new() -> Self {
        Self { ids: Recent::new(SpiffeId::as_str), selectors: Recent::new(Selector::as_str) }
    }

    /// The change that led to this row.
    pub(in crate::datastore) fn change(&mut self, row: &Row) -> Result<Change, RowError> {
        match &row.document {
            Some(document) => self.put(row.table, &row.key, document),
            None => deletion(row.table, &row.key).map_err(|what| row.error(what)),
        }
    }

    /// The change that led to this document.
    pub(in crate::datastore) fn put(
        &mut self,
        table: Table,
        key: &str,
        document: &str,
    ) -> Result<Change, RowError> {
        let change = match table {
            Table::Entries => {
                self.entry(key, document).map(|entry| Change::PutEntry(Arc::new(entry)))
            }
            Table::Nodes => self.node(key, document).map(|node| Change::PutNode(Arc::new(node))),
            Table::Bundles => {
                read_bundle(key, document).map(|bundle| Change::PutBundle(Arc::new(bundle)))
            }
            Table::Relationships => read_relationship(key, document)
                .map(|relationship| Change::PutRelationship(Arc::new(relationship))),
            Table::JoinTokens => read_token(key, document).map(Change::PutJoinToken),
            Table::Journals => read_journal(document).map(Change::PutJournal),
            Table::Facts => read_fact(key, document).map(Change::PutFact),
        };
        change.map_err(|what| RowError { table, key: key.into(), what })
    }

    fn entry(&mut self, key: &str, document: &str) -> Result<Entry, String> {
        let document: EntryDocument<'_> = serde_json::from_str(document).map_err(shown)?;
        let names = document.dns_names.iter().map(|name| DnsName::new(&name.0).map_err(shown));
        let hint = document.hint.map(|hint| Hint::new(&hint.0).map_err(shown)).transpose()?;
        let parent_id = self.ids.parse(&document.parent_id.0)?;
        let spiffe_id: SpiffeId = parsed(&document.spiffe_id.0)?;
        Ok(Entry {
            id: EntryId::new(key).map_err(shown)?,
            revision: document.revision,
            created_at: document.created_at,
            content: EntryContent {
                spiffe_id: spiffe_id.sharing(parent_id.trust_domain()),
                parent_id,
                selectors: self.selectors(&document.selectors)?,
                x509_svid_ttl: document.x509_svid_ttl.map(Duration::from_secs),
                jwt_svid_ttl: document.jwt_svid_ttl.map(Duration::from_secs),
                federates_with: all_parsed::<TrustDomain, _>(&document.federates_with)?,
                admin: document.admin,
                downstream: document.downstream,
                expires_at: document.expires_at,
                dns_names: names.collect::<Result<_, _>>()?,
                store_svid: document.store_svid,
                hint: hint.flatten(),
                disable_x509_svid_prefetch: document.disable_x509_svid_prefetch,
                jwt_svid_include_jti: document.jwt_svid_include_jti,
            },
        })
    }

    fn node(&mut self, key: &str, document: &str) -> Result<Node, String> {
        let document: NodeDocument<'_> = serde_json::from_str(document).map_err(shown)?;
        let new_serial = match (document.new_serial, document.new_not_after) {
            (Some(serial), Some(not_after)) => Some(NewSerial { serial, not_after }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err("half of a new serial number".into()),
        };
        Ok(Node {
            id: parsed(key)?,
            attestation_type: document.attestation_type.0.into_owned(),
            serial: document.serial,
            not_after: document.not_after,
            new_serial,
            selectors: self.selectors(&document.selectors)?,
            can_reattest: document.can_reattest,
            agent_version: document.agent_version.0.into_owned(),
        })
    }

    fn selectors(&mut self, texts: &[Text<'_>]) -> Result<SelectorSet, String> {
        texts.iter().map(|text| self.selectors.parse(&text.0)).collect()
    }
}

impl<T: Clone + FromStr<Err: ToString>> Recent<T> {
    fn new(text: fn(&T) -> &str) -> Self {
        Self { things: HashMap::new(), text, hasher: RandomState::new() }
    }

    fn parse(&mut self, text: &str) -> Result<T, String> {
        let place = self.hasher.hash_one(text) % RECENT;
        if let Some(known) = self.things.get(&place).filter(|known| (self.text)(known) == text) {
            return Ok(known.clone());
        }
        let thing: T = parsed(text)?;
        self.things.insert(place, thing.clone());
        Ok(thing)
    }
}

fn deletion(table: Table, key: &str) -> Result<Change, String> {
    Ok(match table {
        Table::Entries => Change::DeleteEntry(parsed(key)?),
        Table::Nodes => Change::DeleteNode(parsed(key)?),
        Table::Bundles => Change::DeleteBundle(parsed(key)?),
        Table::Relationships => Change::DeleteRelationship(parsed(key)?),
        Table::JoinTokens => Change::DeleteJoinToken(unhex(key)?),
        Table::Journals => return Err("a journal is never deleted".into()),
        Table::Facts => return Err("a fact is never deleted".into()),
    })
}

fn read_bundle(key: &str, document: &str) -> Result<Bundle, String> {
    let document: BundleDocument = serde_json::from_str(document).map_err(shown)?;
    let x509 = document.x509_authorities.into_iter().map(|authority| {
        let certificate = STANDARD.decode(authority.certificate).map_err(shown)?.into();
        Ok(X509Authority { certificate, tainted: authority.tainted })
    });
    let jwt = document.jwt_authorities.into_iter().map(|authority| {
        Ok(JwtAuthority {
            key_id: authority.key_id,
            public_key: STANDARD.decode(authority.public_key).map_err(shown)?,
            expires_at: authority.expires_at,
            tainted: authority.tainted,
        })
    });
    Ok(Bundle {
        trust_domain: parsed(key)?,
        x509_authorities: x509.collect::<Result<_, String>>()?,
        jwt_authorities: jwt.collect::<Result<_, String>>()?,
        refresh_hint: document.refresh_hint.map(Duration::from_secs),
        sequence: document.sequence,
    })
}

fn read_relationship(key: &str, document: &str) -> Result<Relationship, String> {
    let document: RelationshipDocument = serde_json::from_str(document).map_err(shown)?;
    Ok(Relationship {
        trust_domain: parsed(key)?,
        endpoint_url: EndpointUrl::new(&document.endpoint_url).map_err(shown)?,
        profile: match document.profile {
            ProfileDocument::HttpsWeb {} => Profile::HttpsWeb,
            ProfileDocument::HttpsSpiffe { endpoint_id } => Profile::HttpsSpiffe { endpoint_id },
        },
    })
}

fn read_token(key: &str, document: &str) -> Result<JoinToken, String> {
    let JoinTokenDocument { expires_at, agent_id } =
        serde_json::from_str(document).map_err(shown)?;
    Ok(JoinToken { hash: unhex(key)?, expires_at, agent_id })
}

fn read_journal(document: &str) -> Result<Arc<[u8]>, String> {
    let document: JournalDocument = serde_json::from_str(document).map_err(shown)?;
    Ok(STANDARD.decode(document.journal).map_err(shown)?.into())
}

fn read_fact(key: &str, document: &str) -> Result<Fact, String> {
    let FactDocument { value } = serde_json::from_str(document).map_err(shown)?;
    match key {
        super::TRUST_DOMAIN => parsed(&value.0).map(Fact::TrustDomain),
        super::KEY_OWNER => parsed(&value.0).map(Fact::KeyOwner),
        _ => Err("there is no such fact".into()),
    }
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn all_parsed<T, C>(texts: &[Text<'_>]) -> Result<C, String>
where
    T: FromStr<Err: ToString>,
    C: FromIterator<T>,
{
    texts.iter().map(|text| parsed(&text.0)).collect()
}

fn unhex(text: &str) -> Result<TokenHash, String> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return Err("a token's hash has 64 digits".into());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).map_err(shown)?;
    }
    Ok(TokenHash::from_bytes(bytes))
}

fn shown(error: impl ToString) -> String {
    error.to_string()
}
