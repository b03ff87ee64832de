//! What somebody says about an entry: each field, or nothing about it.

use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::selector::Selector;
use steeple_proto::spire::api::types;
use thiserror::Error;

/// Some fields of an entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Draft {
    pub(super) id: Option<String>,
    pub(super) spiffe_id: Option<SpiffeId>,
    pub(super) parent_id: Option<SpiffeId>,
    pub(super) selectors: Option<Vec<Selector>>,
    pub(super) x509_svid_ttl: Option<i32>,
    pub(super) jwt_svid_ttl: Option<i32>,
    pub(super) federates_with: Option<Vec<String>>,
    pub(super) admin: Option<bool>,
    pub(super) downstream: Option<bool>,
    pub(super) expires_at: Option<i64>,
    pub(super) dns_names: Option<Vec<String>>,
    pub(super) store_svid: Option<bool>,
    pub(super) hint: Option<String>,
    pub(super) disable_x509_svid_prefetch: Option<bool>,
    pub(super) jwt_svid_include_jti: Option<bool>,
    /// The revision at which alone the entry is to be changed.
    pub(super) if_revision: Option<i64>,
}

/// Why a draft is not enough.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum DraftError {
    /// An entry to update has no name.
    #[error("the entry ID is missing; `entry show` lists them")]
    NoId,
    /// A new entry has no identity.
    #[error("the SPIFFE ID is missing")]
    NoSpiffeId,
    /// A new entry has no parent.
    #[error(
        "the parent ID is missing; it is the SPIFFE ID of the agent, or of an alias of agents \
         (--node makes one)"
    )]
    NoParentId,
    /// A new entry has no selector, or an old one is to have none.
    #[error("selectors are missing; at least one is needed, such as unix:uid:1000")]
    NoSelectors,
    /// There is nothing to update.
    #[error("there is nothing to change; name at least one field")]
    Unchanged,
}

impl Draft {
    /// Checks that there is enough for a new entry.
    pub(super) fn check_new(&self) -> Result<(), DraftError> {
        if self.spiffe_id.is_none() {
            return Err(DraftError::NoSpiffeId);
        }
        if self.parent_id.is_none() {
            return Err(DraftError::NoParentId);
        }
        if self.selectors.as_ref().is_none_or(Vec::is_empty) {
            return Err(DraftError::NoSelectors);
        }
        Ok(())
    }

    /// Checks that there is enough to change an entry.
    pub(super) fn check_update(&self) -> Result<(), DraftError> {
        if self.id.as_ref().is_none_or(String::is_empty) {
            return Err(DraftError::NoId);
        }
        if self.selectors.as_ref().is_some_and(Vec::is_empty) {
            return Err(DraftError::NoSelectors);
        }
        let fields = types::EntryMask { revision_number: false, ..self.mask() };
        if fields == types::EntryMask::default() {
            return Err(DraftError::Unchanged);
        }
        Ok(())
    }

    /// The fields that something is said about.
    pub(super) fn mask(&self) -> types::EntryMask {
        types::EntryMask {
            spiffe_id: self.spiffe_id.is_some(),
            parent_id: self.parent_id.is_some(),
            selectors: self.selectors.is_some(),
            x509_svid_ttl: self.x509_svid_ttl.is_some(),
            federates_with: self.federates_with.is_some(),
            admin: self.admin.is_some(),
            downstream: self.downstream.is_some(),
            expires_at: self.expires_at.is_some(),
            dns_names: self.dns_names.is_some(),
            revision_number: self.if_revision.is_some(),
            store_svid: self.store_svid.is_some(),
            jwt_svid_ttl: self.jwt_svid_ttl.is_some(),
            hint: self.hint.is_some(),
            created_at: false,
            additional_attributes: self.disable_x509_svid_prefetch.is_some()
                || self.jwt_svid_include_jti.is_some(),
        }
    }

    /// Whether one of the two attributes is named, which go over the wire as one field.
    pub(super) fn has_half_of_the_attributes(&self) -> bool {
        self.disable_x509_svid_prefetch.is_some() != self.jwt_svid_include_jti.is_some()
    }

    /// Says of each field that nothing is said of that it is as in a new entry. The attributes stay
    /// as they are: SPIRE's tools cannot reset them.
    pub(super) fn reset_unnamed(&mut self) {
        self.x509_svid_ttl.get_or_insert_default();
        self.jwt_svid_ttl.get_or_insert_default();
        self.federates_with.get_or_insert_default();
        self.admin.get_or_insert_default();
        self.downstream.get_or_insert_default();
        self.expires_at.get_or_insert_default();
        self.dns_names.get_or_insert_default();
        self.store_svid.get_or_insert_default();
        self.hint.get_or_insert_default();
    }

    /// Takes the attribute that is not named from what the entry has.
    pub(super) fn complete_attributes(&mut self, stored: types::entry::AdditionalAttributes) {
        self.disable_x509_svid_prefetch.get_or_insert(stored.disable_x509_svid_prefetch);
        self.jwt_svid_include_jti.get_or_insert(stored.jwt_svid_include_jti);
    }

    /// The entry with what is said, and with defaults for the rest.
    pub(super) fn into_entry(self) -> types::Entry {
        let selector = |selector: &Selector| types::Selector {
            r#type: selector.kind().to_owned(),
            value: selector.value().to_owned(),
        };
        let attributes = self.mask().additional_attributes;
        types::Entry {
            id: self.id.unwrap_or_default(),
            spiffe_id: self.spiffe_id.as_ref().map(id_to_proto),
            parent_id: self.parent_id.as_ref().map(id_to_proto),
            selectors: self.selectors.unwrap_or_default().iter().map(selector).collect(),
            x509_svid_ttl: self.x509_svid_ttl.unwrap_or_default(),
            federates_with: self.federates_with.unwrap_or_default(),
            admin: self.admin.unwrap_or_default(),
            downstream: self.downstream.unwrap_or_default(),
            expires_at: self.expires_at.unwrap_or_default(),
            dns_names: self.dns_names.unwrap_or_default(),
            revision_number: self.if_revision.unwrap_or_default(),
            store_svid: self.store_svid.unwrap_or_default(),
            jwt_svid_ttl: self.jwt_svid_ttl.unwrap_or_default(),
            hint: self.hint.unwrap_or_default(),
            created_at: 0,
            additional_attributes: attributes.then_some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: self.disable_x509_svid_prefetch.unwrap_or_default(),
                jwt_svid_include_jti: self.jwt_svid_include_jti.unwrap_or_default(),
            }),
        }
    }
}
