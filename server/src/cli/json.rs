//! Messages for programs: protobuf's JSON as SPIRE's tools print it, with the names of the
//! `.proto` files, fields that are not set, no nulls, 64-bit integers as strings and bytes in
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use steeple_proto::spire::api::types;

/// An object without the members that are null.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// An array of messages.
pub(super) fn array<T>(items: &[T], item: impl Fn(&T) -> Value) -> Value {
    items.iter().map(item).collect()
}

/// A message that may not be there.
pub(super) fn optional<T>(item: Option<&T>, render: impl FnOnce(&T) -> Value) -> Value {
    item.map_or(Value::Null, render)
}

/// A 64-bit integer.
pub(super) fn integer(number: impl ToString) -> Value {
    Value::String(number.to_string())
}

pub(super) fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(STANDARD.encode(bytes))
}

pub(super) fn entry(entry: &types::Entry) -> Value {
    object([
        ("id", json!(entry.id)),
        ("spiffe_id", optional(entry.spiffe_id.as_ref(), spiffe_id)),
        ("parent_id", optional(entry.parent_id.as_ref(), spiffe_id)),
        ("selectors", array(&entry.selectors, selector)),
        ("x509_svid_ttl", json!(entry.x509_svid_ttl)),
        ("federates_with", json!(entry.federates_with)),
        ("admin", json!(entry.admin)),
        ("downstream", json!(entry.downstream)),
        ("expires_at", integer(entry.expires_at)),
        ("dns_names", json!(entry.dns_names)),
        ("revision_number", integer(entry.revision_number)),
        ("store_svid", json!(entry.store_svid)),
        ("jwt_svid_ttl", json!(entry.jwt_svid_ttl)),
        ("hint", json!(entry.hint)),
        ("created_at", integer(entry.created_at)),
        ("additional_attributes", optional(entry.additional_attributes.as_ref(), attributes)),
    ])
}

pub(super) fn agent(agent: &types::Agent) -> Value {
    object([
        ("id", optional(agent.id.as_ref(), spiffe_id)),
        ("attestation_type", json!(agent.attestation_type)),
        ("x509svid_serial_number", json!(agent.x509svid_serial_number)),
        ("x509svid_expires_at", integer(agent.x509svid_expires_at)),
        ("selectors", array(&agent.selectors, selector)),
        ("banned", json!(agent.banned)),
        ("can_reattest", json!(agent.can_reattest)),
        ("agent_version", json!(agent.agent_version)),
    ])
}

pub(super) fn bundle(bundle: &types::Bundle) -> Value {
    let certificate = |certificate: &types::X509Certificate| json!({ "asn1": bytes(&certificate.asn1), "tainted": certificate.tainted });
    let jwt = |key: &types::JwtKey| {
        json!({
            "public_key": bytes(&key.public_key),
            "key_id": key.key_id,
            "expires_at": integer(key.expires_at),
            "tainted": key.tainted,
        })
    };
    let wit = |key: &types::WitKey| {
        json!({
            "public_key": bytes(&key.public_key),
            "key_id": key.key_id,
            "expires_at": integer(key.expires_at),
            "tainted": key.tainted,
        })
    };
    object([
        ("trust_domain", json!(bundle.trust_domain)),
        ("x509_authorities", array(&bundle.x509_authorities, certificate)),
        ("jwt_authorities", array(&bundle.jwt_authorities, jwt)),
        ("refresh_hint", integer(bundle.refresh_hint)),
        ("sequence_number", integer(bundle.sequence_number)),
        ("wit_authorities", array(&bundle.wit_authorities, wit)),
    ])
}

pub(super) fn join_token(token: &types::JoinToken) -> Value {
    json!({ "value": token.value, "expires_at": integer(token.expires_at) })
}

pub(super) fn jwt_svid(svid: &types::Jwtsvid) -> Value {
    object([
        ("token", json!(svid.token)),
        ("id", optional(svid.id.as_ref(), spiffe_id)),
        ("expires_at", integer(svid.expires_at)),
        ("issued_at", integer(svid.issued_at)),
        ("hint", json!(svid.hint)),
    ])
}

pub(super) fn status(status: &types::Status) -> Value {
    json!({ "code": status.code, "message": status.message })
}

pub(super) fn spiffe_id(id: &types::Spiffeid) -> Value {
    json!({ "trust_domain": id.trust_domain, "path": id.path })
}

fn selector(selector: &types::Selector) -> Value {
    json!({ "type": selector.r#type, "value": selector.value })
}

fn attributes(attributes: &types::entry::AdditionalAttributes) -> Value {
    json!({
        "disable_x509_svid_prefetch": attributes.disable_x509_svid_prefetch,
        "jwt_svid_include_jti": attributes.jwt_svid_include_jti,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[track_caller]
    fn check(value: &Value, expected: &str) {
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn an_entry_has_all_fields() {
        check(
            &entry(&testing::full_entry()),
            r#"{"additional_attributes":{"disable_x509_svid_prefetch":true,"jwt_svid_include_jti":true},"admin":true,"created_at":"7","dns_names":["a.b"],"downstream":true,"expires_at":"2000000000","federates_with":["other"],"hint":"h","id":"e1","jwt_svid_ttl":30,"parent_id":{"path":"/spire/agent/x","trust_domain":"td"},"revision_number":"3","selectors":[{"type":"unix","value":"uid:1"},{"type":"unix","value":"user:a:b"}],"spiffe_id":{"path":"/web","trust_domain":"td"},"store_svid":true,"x509_svid_ttl":60}"#,
        );
    }

    #[test]
    fn scalars_that_are_not_set_are_there_and_messages_are_not() {
        check(
            &entry(&types::Entry::default()),
            r#"{"admin":false,"created_at":"0","dns_names":[],"downstream":false,"expires_at":"0","federates_with":[],"hint":"","id":"","jwt_svid_ttl":0,"revision_number":"0","selectors":[],"store_svid":false,"x509_svid_ttl":0}"#,
        );
    }

    #[test]
    fn an_agent_has_all_fields() {
        check(
            &agent(&testing::full_agent()),
            r#"{"agent_version":"1.2","attestation_type":"x509pop","banned":false,"can_reattest":true,"id":{"path":"/spire/agent/x","trust_domain":"td"},"selectors":[{"type":"x509pop","value":"san:a"}],"x509svid_expires_at":"2000000000","x509svid_serial_number":"17"}"#,
        );
    }

    #[test]
    fn a_bundle_has_its_keys_in_base64() {
        let key = types::JwtKey {
            public_key: vec![1, 2],
            key_id: "k".into(),
            expires_at: 5,
            tainted: false,
        };
        let message = types::Bundle {
            trust_domain: "td".into(),
            x509_authorities: vec![types::X509Certificate { asn1: vec![255], tainted: true }],
            jwt_authorities: vec![key],
            refresh_hint: 60,
            sequence_number: u64::MAX,
            wit_authorities: Vec::new(),
        };
        check(
            &bundle(&message),
            r#"{"jwt_authorities":[{"expires_at":"5","key_id":"k","public_key":"AQI=","tainted":false}],"refresh_hint":"60","sequence_number":"18446744073709551615","trust_domain":"td","wit_authorities":[],"x509_authorities":[{"asn1":"/w==","tainted":true}]}"#,
        );
    }

    #[test]
    fn tokens_and_statuses() {
        let token = types::JoinToken { value: "t".into(), expires_at: 9 };
        check(&join_token(&token), r#"{"expires_at":"9","value":"t"}"#);
        let svid = types::Jwtsvid { token: "a.b.c".into(), expires_at: 9, ..Default::default() };
        check(&jwt_svid(&svid), r#"{"expires_at":"9","hint":"","issued_at":"0","token":"a.b.c"}"#);
        let message = types::Status { code: 5, message: "no".into() };
        check(&status(&message), r#"{"code":5,"message":"no"}"#);
    }
}
