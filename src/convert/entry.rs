//! Registration entries on the wire.

use std::time::Duration;

use super::{
    ConvertError, id_from_proto, id_to_proto, selectors_from_proto, selectors_to_proto,
    trust_domain_from_proto,
};
use crate::entry::{DnsName, Entry, EntryContent, EntryError, EntryId, Hint};
use steeple_proto::spire::api::types;

/// Reads what an administrator sent: the content, and the name if one was chosen.
///
/// # Errors
/// A field is missing or malformed. What concerns several fields is for [`EntryContent::check`].
pub fn entry_from_proto(
    entry: &types::Entry,
) -> Result<(Option<EntryId>, EntryContent), ConvertError> {
    let id = if entry.id.is_empty() { None } else { Some(EntryId::new(&entry.id)?) };
    let attributes = entry.additional_attributes.unwrap_or_default();
    let foreign = entry.federates_with.iter();
    let content = EntryContent {
        spiffe_id: id_from_proto(entry.spiffe_id.as_ref(), "spiffe_id")?,
        parent_id: id_from_proto(entry.parent_id.as_ref(), "parent_id")?,
        selectors: selectors_from_proto(&entry.selectors)?,
        x509_svid_ttl: ttl(entry.x509_svid_ttl, "x509_svid_ttl")?,
        jwt_svid_ttl: ttl(entry.jwt_svid_ttl, "jwt_svid_ttl")?,
        federates_with: foreign
            .map(|name| trust_domain_from_proto(name, "federates_with"))
            .collect::<Result<_, _>>()?,
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: match entry.expires_at {
            0 => None,
            1.. => Some(entry.expires_at),
            ..0 => return Err(EntryError::Expiry(entry.expires_at).into()),
        },
        dns_names: entry
            .dns_names
            .iter()
            .map(|name| DnsName::new(name))
            .collect::<Result<_, _>>()?,
        store_svid: entry.store_svid,
        hint: Hint::new(&entry.hint)?,
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
    };
    Ok((id, content))
}

/// Reads an entry as a server sends it to an agent.
///
/// # Errors
/// A field is missing or malformed.
pub fn stored_entry_from_proto(entry: &types::Entry) -> Result<Entry, ConvertError> {
    let (id, content) = entry_from_proto(entry)?;
    Ok(Entry {
        id: id.ok_or(ConvertError::Missing("id"))?,
        revision: entry.revision_number,
        created_at: entry.created_at,
        content,
    })
}

/// Writes an entry. The fields that `mask` has off are left empty; the ID is always there.
#[must_use]
pub fn entry_to_proto(entry: &Entry, mask: &types::EntryMask) -> types::Entry {
    let content = &entry.content;
    let seconds = |ttl: Option<Duration>| {
        ttl.map_or(0, |ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX))
    };
    let texts = |on: bool, names: &mut dyn Iterator<Item = String>| {
        if on { names.collect() } else { Vec::new() }
    };
    types::Entry {
        id: entry.id.to_string(),
        spiffe_id: mask.spiffe_id.then(|| id_to_proto(&content.spiffe_id)),
        parent_id: mask.parent_id.then(|| id_to_proto(&content.parent_id)),
        selectors: if mask.selectors { selectors_to_proto(&content.selectors) } else { Vec::new() },
        x509_svid_ttl: if mask.x509_svid_ttl { seconds(content.x509_svid_ttl) } else { 0 },
        federates_with: texts(
            mask.federates_with,
            &mut content.federates_with.iter().map(ToString::to_string),
        ),
        admin: mask.admin && content.admin,
        downstream: mask.downstream && content.downstream,
        expires_at: content.expires_at.filter(|_| mask.expires_at).unwrap_or(0),
        dns_names: texts(
            mask.dns_names,
            &mut content.dns_names.iter().map(|name| name.as_str().to_owned()),
        ),
        revision_number: if mask.revision_number { entry.revision } else { 0 },
        store_svid: mask.store_svid && content.store_svid,
        jwt_svid_ttl: if mask.jwt_svid_ttl { seconds(content.jwt_svid_ttl) } else { 0 },
        hint: content
            .hint
            .as_ref()
            .filter(|_| mask.hint)
            .map(|hint| hint.as_str().to_owned())
            .unwrap_or_default(),
        created_at: if mask.created_at { entry.created_at } else { 0 },
        additional_attributes: attributes(content).filter(|_| mask.additional_attributes),
    }
}

/// The mask that leaves nothing out.
#[must_use]
pub fn all_entry_fields() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
    }
}

fn ttl(seconds: i32, field: &'static str) -> Result<Option<Duration>, EntryError> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(EntryError::Ttl { field, found: seconds }),
    }
}

fn attributes(content: &EntryContent) -> Option<types::entry::AdditionalAttributes> {
    (content.disable_x509_svid_prefetch || content.jwt_svid_include_jti).then_some(
        types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: content.disable_x509_svid_prefetch,
            jwt_svid_include_jti: content.jwt_svid_include_jti,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> types::Entry {
        let id =
            |path: &str| Some(types::Spiffeid { trust_domain: "td".into(), path: path.into() });
        types::Entry {
            id: "e1".into(),
            spiffe_id: id("/web"),
            parent_id: id("/spire/agent/x"),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            x509_svid_ttl: 60,
            federates_with: vec!["other".into()],
            admin: true,
            downstream: true,
            expires_at: 9,
            dns_names: vec!["a.b".into()],
            revision_number: 3,
            store_svid: true,
            jwt_svid_ttl: 30,
            hint: "h".into(),
            created_at: 7,
            additional_attributes: Some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
            }),
        }
    }

    #[test]
    fn every_field_travels_both_ways() {
        let entry = stored_entry_from_proto(&wire()).unwrap();
        assert_eq!(entry_to_proto(&entry, &all_entry_fields()), wire());
    }

    #[test]
    fn an_empty_mask_leaves_the_id() {
        let entry = stored_entry_from_proto(&wire()).unwrap();
        let bare = entry_to_proto(&entry, &types::EntryMask::default());
        assert_eq!(bare, types::Entry { id: "e1".into(), ..types::Entry::default() });
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut types::Entry), expected: &ConvertError) {
        let mut entry = wire();
        change(&mut entry);
        assert_eq!(stored_entry_from_proto(&entry).as_ref(), Err(expected));
    }

    #[test]
    fn a_refusal_names_the_field() {
        check(|e| e.id.clear(), &ConvertError::Missing("id"));
        check(|e| e.spiffe_id = None, &ConvertError::Missing("spiffe_id"));
        check(|e| e.parent_id = None, &ConvertError::Missing("parent_id"));
        let ttl = |field| EntryError::Ttl { field, found: -1 };
        check(|e| e.x509_svid_ttl = -1, &ttl("x509_svid_ttl").into());
        check(|e| e.jwt_svid_ttl = -1, &ttl("jwt_svid_ttl").into());
        check(|e| e.expires_at = -1, &EntryError::Expiry(-1).into());
        check(|e| e.hint = "\n".into(), &EntryError::Hint("\n".into()).into());
        check(|e| e.dns_names = vec!["a b".into()], &EntryError::DnsName("a b".into()).into());
    }
}
