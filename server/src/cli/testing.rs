//! Messages with something in every field.

use steeple_proto::spire::api::types;

pub(super) const TIME: i64 = 2_000_000_000;

pub(super) fn id(path: &str) -> types::Spiffeid {
    types::Spiffeid { trust_domain: "td".into(), path: path.into() }
}

pub(super) fn selector(kind: &str, value: &str) -> types::Selector {
    types::Selector { r#type: kind.into(), value: value.into() }
}

pub(super) fn full_entry() -> types::Entry {
    types::Entry {
        id: "e1".into(),
        spiffe_id: Some(id("/web")),
        parent_id: Some(id("/spire/agent/x")),
        selectors: vec![selector("unix", "uid:1"), selector("unix", "user:a:b")],
        x509_svid_ttl: 60,
        federates_with: vec!["other".into()],
        admin: true,
        downstream: true,
        expires_at: TIME,
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

pub(super) fn full_agent() -> types::Agent {
    types::Agent {
        id: Some(id("/spire/agent/x")),
        attestation_type: "x509pop".into(),
        x509svid_serial_number: "17".into(),
        x509svid_expires_at: TIME,
        selectors: vec![selector("x509pop", "san:a")],
        banned: false,
        can_reattest: true,
        agent_version: "1.2".into(),
    }
}
