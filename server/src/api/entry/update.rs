//! Which fields of an entry an administrator changes, and to what.

use steeple::convert::{all_entry_fields, entry_from_proto, id_to_proto};
use steeple::entry::EntryContent;
use steeple::id::TrustDomain;
use steeple_proto::spire::api::types;

use super::entry_id;
use crate::api::error::ApiError;
use crate::registry::entries::EntryUpdate;

/// Reads the change that `entry` asks for in the fields that `mask` has on, which are all without
/// one. The others may hold anything.
///
/// Somebody who names the revision in a mask wants the change made on that revision and on no
/// other. SPIRE ignores the revision; its tools send no mask, and so never ask for this.
pub(super) fn from_proto(
    entry: &types::Entry,
    mask: Option<&types::EntryMask>,
    own: &TrustDomain,
) -> Result<EntryUpdate, ApiError> {
    let id = entry_id(&entry.id)?;
    let expected_revision = mask.filter(|mask| mask.revision_number).map(|_| entry.revision_number);
    let mask = mask.copied().unwrap_or_else(all_entry_fields);
    let (_, new) = entry_from_proto(&without_others(entry, &mask, own))?;
    Ok(EntryUpdate {
        id,
        expected_revision,
        change: Box::new(move |content| copy(&new, mask, content)),
    })
}

/// The entry with something harmless in the fields that are not asked for.
fn without_others(
    entry: &types::Entry,
    mask: &types::EntryMask,
    own: &TrustDomain,
) -> types::Entry {
    let anybody = || Some(id_to_proto(&own.server_id()));
    let texts = |on: bool, texts: &[String]| if on { texts.to_vec() } else { Vec::new() };
    types::Entry {
        id: entry.id.clone(),
        spiffe_id: if mask.spiffe_id { entry.spiffe_id.clone() } else { anybody() },
        parent_id: if mask.parent_id { entry.parent_id.clone() } else { anybody() },
        selectors: if mask.selectors { entry.selectors.clone() } else { Vec::new() },
        x509_svid_ttl: if mask.x509_svid_ttl { entry.x509_svid_ttl } else { 0 },
        federates_with: texts(mask.federates_with, &entry.federates_with),
        admin: mask.admin && entry.admin,
        downstream: mask.downstream && entry.downstream,
        expires_at: if mask.expires_at { entry.expires_at } else { 0 },
        dns_names: texts(mask.dns_names, &entry.dns_names),
        revision_number: 0,
        store_svid: mask.store_svid && entry.store_svid,
        jwt_svid_ttl: if mask.jwt_svid_ttl { entry.jwt_svid_ttl } else { 0 },
        hint: if mask.hint { entry.hint.clone() } else { String::new() },
        created_at: 0,
        additional_attributes: entry.additional_attributes.filter(|_| mask.additional_attributes),
    }
}

fn copy(new: &EntryContent, mask: types::EntryMask, content: &mut EntryContent) {
    fn set<T: Clone>(on: bool, to: &mut T, from: &T) {
        if on {
            to.clone_from(from);
        }
    }
    set(mask.spiffe_id, &mut content.spiffe_id, &new.spiffe_id);
    set(mask.parent_id, &mut content.parent_id, &new.parent_id);
    set(mask.selectors, &mut content.selectors, &new.selectors);
    set(mask.x509_svid_ttl, &mut content.x509_svid_ttl, &new.x509_svid_ttl);
    set(mask.jwt_svid_ttl, &mut content.jwt_svid_ttl, &new.jwt_svid_ttl);
    set(mask.federates_with, &mut content.federates_with, &new.federates_with);
    set(mask.admin, &mut content.admin, &new.admin);
    set(mask.downstream, &mut content.downstream, &new.downstream);
    set(mask.expires_at, &mut content.expires_at, &new.expires_at);
    set(mask.dns_names, &mut content.dns_names, &new.dns_names);
    set(mask.store_svid, &mut content.store_svid, &new.store_svid);
    set(mask.hint, &mut content.hint, &new.hint);
    let attributes = mask.additional_attributes;
    let (prefetch, jti) = (new.disable_x509_svid_prefetch, new.jwt_svid_include_jti);
    set(attributes, &mut content.disable_x509_svid_prefetch, &prefetch);
    set(attributes, &mut content.jwt_svid_include_jti, &jti);
}

#[cfg(test)]
mod tests {
    use super::*;
    use steeple::convert::{entry_to_proto, stored_entry_from_proto};

    fn wire(name: &str, number: i32, flag: bool) -> types::Entry {
        let id = |path: &str| {
            Some(types::Spiffeid { trust_domain: "td".into(), path: format!("/{path}/{name}") })
        };
        types::Entry {
            id: "e".into(),
            spiffe_id: id("id"),
            parent_id: id("parent"),
            selectors: vec![types::Selector { r#type: "a".into(), value: name.into() }],
            x509_svid_ttl: number,
            federates_with: vec![name.into()],
            admin: flag,
            downstream: flag,
            expires_at: number.into(),
            dns_names: vec![name.into()],
            revision_number: 0,
            store_svid: flag,
            jwt_svid_ttl: number,
            hint: name.into(),
            created_at: 0,
            additional_attributes: flag.then_some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
            }),
        }
    }

    #[track_caller]
    fn check(set: fn(&mut types::EntryMask), expected: fn(&mut types::Entry, types::Entry)) {
        let own = TrustDomain::parse("td").unwrap();
        let mut mask = types::EntryMask::default();
        set(&mut mask);
        let update = from_proto(&wire("new", 2, true), Some(&mask), &own).unwrap();
        let mut entry = stored_entry_from_proto(&wire("old", 1, false)).unwrap();
        (update.change)(&mut entry.content);
        let mut wanted = wire("old", 1, false);
        expected(&mut wanted, wire("new", 2, true));
        assert_eq!(entry_to_proto(&entry, &all_entry_fields()), wanted);
    }

    #[test]
    fn only_the_fields_of_the_mask_change() {
        check(|_| {}, |_, _| {});
        check(|m| m.spiffe_id = true, |e, new| e.spiffe_id = new.spiffe_id);
        check(|m| m.parent_id = true, |e, new| e.parent_id = new.parent_id);
        check(|m| m.selectors = true, |e, new| e.selectors = new.selectors);
        check(|m| m.x509_svid_ttl = true, |e, new| e.x509_svid_ttl = new.x509_svid_ttl);
        check(|m| m.jwt_svid_ttl = true, |e, new| e.jwt_svid_ttl = new.jwt_svid_ttl);
        check(|m| m.federates_with = true, |e, new| e.federates_with = new.federates_with);
        check(|m| m.admin = true, |e, new| e.admin = new.admin);
        check(|m| m.downstream = true, |e, new| e.downstream = new.downstream);
        check(|m| m.expires_at = true, |e, new| e.expires_at = new.expires_at);
        check(|m| m.dns_names = true, |e, new| e.dns_names = new.dns_names);
        check(|m| m.store_svid = true, |e, new| e.store_svid = new.store_svid);
        check(|m| m.hint = true, |e, new| e.hint = new.hint);
        check(
            |m| m.additional_attributes = true,
            |e, new| e.additional_attributes = new.additional_attributes,
        );
        check(|m| *m = all_entry_fields(), |e, new| *e = new);
    }

    #[test]
    fn fields_beside_the_mask_may_be_anything() {
        let own = TrustDomain::parse("td").unwrap();
        let only_hint = types::EntryMask { hint: true, ..types::EntryMask::default() };
        let bare = types::Entry { id: "e".into(), x509_svid_ttl: -1, ..types::Entry::default() };
        assert!(from_proto(&bare, Some(&only_hint), &own).is_ok());
        assert!(from_proto(&bare, None, &own).is_err());
        let no_id = types::Entry::default();
        assert!(from_proto(&no_id, Some(&only_hint), &own).is_err());
    }
}
