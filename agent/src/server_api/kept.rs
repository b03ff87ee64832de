//! What the server last said of this node, in the server's own form, for an agent that is started
//! while the server is away. No keys and no tokens are in it.

use std::sync::Arc;

use prost::Message;
use steeple::bundle::Bundle;
use steeple::convert::{
    all_entry_fields, bundle_from_proto, bundle_to_proto, entry_to_proto, stored_entry_from_proto,
};
use steeple::entry::Entry;
use steeple_proto::spire::api::types;
use thiserror::Error;

/// Entries and bundles.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kept {
    /// The entries of this node.
    pub entries: Vec<Arc<Entry>>,
    /// The own bundle and foreign ones.
    pub bundles: Vec<Arc<Bundle>>,
}

/// The bytes are not what was written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("it is damaged")]
pub struct Damaged;

#[derive(Clone, PartialEq, Message)]
struct Form {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<types::Entry>,
    #[prost(message, repeated, tag = "2")]
    bundles: Vec<types::Bundle>,
}

impl Kept {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mask = all_entry_fields();
        Form {
            entries: self.entries.iter().map(|entry| entry_to_proto(entry, &mask)).collect(),
            bundles: self.bundles.iter().map(|bundle| bundle_to_proto(bundle, None)).collect(),
        }
        .encode_to_vec()
    }

    /// Reads what [`Kept::encode`] wrote, all of it or nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let form = Form::decode(bytes).map_err(|_malformed| Damaged)?;
        let entries = form.entries.iter().map(|entry| stored_entry_from_proto(entry).map(Arc::new));
        let bundles = form.bundles.iter().map(|bundle| bundle_from_proto(bundle).map(Arc::new));
        Ok(Self {
            entries: entries.collect::<Result<_, _>>().map_err(|_malformed| Damaged)?,
            bundles: bundles.collect::<Result<_, _>>().map_err(|_malformed| Damaged)?,
        })
    }
}
