//! What `-output json` prints: the names and kinds of protobuf's JSON as SPIRE's tools print it, for
//! each command. Numbers of 64 bits are texts, bytes are base64, and nothing is null.

use serde_json::{Value, json};

use super::Scenario;

/// A value with the kind of each thing in the place of the thing.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(values) => values.iter().take(1).map(shape).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
    }
}

fn status() -> Value {
    json!({ "code": "number", "message": "text" })
}

fn id() -> Value {
    json!({ "trust_domain": "text", "path": "text" })
}

fn entry() -> Value {
    json!({
        "id": "text", "spiffe_id": id(), "parent_id": id(),
        "selectors": [{ "type": "text", "value": "text" }],
        "x509_svid_ttl": "number", "jwt_svid_ttl": "number", "federates_with": [],
        "admin": "bool", "downstream": "bool", "expires_at": "text", "dns_names": [],
        "revision_number": "text", "store_svid": "bool", "hint": "text", "created_at": "text",
    })
}

/// The bundle of the server's own trust domain, or a foreign one that was set from PEM.
fn bundle(is_own: bool) -> Value {
    let key = json!({
        "public_key": "text", "key_id": "text", "expires_at": "text", "tainted": "bool"
    });
    json!({
        "trust_domain": "text",
        "x509_authorities": [{ "asn1": "text", "tainted": "bool" }],
        "jwt_authorities": if is_own { json!([key]) } else { json!([]) },
        "refresh_hint": "text", "sequence_number": "text", "wit_authorities": [],
    })
}

fn authority() -> Value {
    json!({
        "authority_id": "text", "expires_at": "text", "upstream_authority_subject_key_id": "text",
    })
}

fn relationship() -> Value {
    json!({ "trust_domain": "text", "bundle_endpoint_url": "text", "https_web": {} })
}

fn list(name: &str, item: &Value) -> Value {
    json!({ name: [item], "next_page_token": "text" })
}

fn results(name: &str, item: &Value) -> Value {
    json!({ "results": [{ "status": status(), name: item }] })
}

fn of_entries() -> Vec<(&'static str, Value)> {
    vec![
        (
            "entry create -entryID e -spiffeID spiffe://example.org/a -parentID spiffe://example.org/b \
             -selector a:b",
            results("entry", &entry()),
        ),
        ("entry show", list("entries", &entry())),
        ("entry show -entryID e", list("entries", &entry())),
        ("entry count", json!({ "count": "number" })),
        (
            "entry update -entryID e -spiffeID spiffe://example.org/a -parentID spiffe://example.org/b \
             -selector a:c",
            results("entry", &entry()),
        ),
        ("entry delete -entryID e", results("id", &json!("text"))),
    ]
}

fn rows() -> Vec<(&'static str, Value)> {
    let count = || json!({ "count": "number" });
    let level = || json!({ "current_level": "text", "launch_level": "text" });
    vec![
        ("agent list", json!({ "agents": [], "next_page_token": "text" })),
        ("agent count", count()),
        ("agent purge", json!([{ "expired_agents": [] }])),
        ("token generate", json!({ "value": "text", "expires_at": "text" })),
        ("bundle show", bundle(true)),
        ("bundle set -id other", results("bundle", &bundle(false))),
        ("bundle list", list("bundles", &bundle(false))),
        ("bundle list -id other", bundle(false)),
        ("bundle count", count()),
        ("bundle delete -id other", results("trust_domain", &json!("text"))),
        (
            "federation create -trustDomain web -bundleEndpointURL https://web \
             -bundleEndpointProfile https_web",
            results("federation_relationship", &relationship()),
        ),
        ("federation list", list("federation_relationships", &relationship())),
        ("federation show -trustDomain web", relationship()),
        (
            "federation update -trustDomain web -bundleEndpointURL https://web \
             -bundleEndpointProfile https_web",
            results("federation_relationship", &relationship()),
        ),
        ("federation delete -id web", results("trust_domain", &json!("text"))),
        (
            "x509 mint -spiffeID spiffe://example.org/m",
            json!([{ "x509_svid": ["text"], "private_key": "text", "root_cas": ["text"] }]),
        ),
        (
            "jwt mint -spiffeID spiffe://example.org/m -audience a",
            json!({ "svid": {
                "token": "text", "id": id(), "expires_at": "text", "issued_at": "text", "hint": "text"
            }}),
        ),
        ("localauthority x509 show", json!({ "active": authority() })),
        ("localauthority x509 prepare", json!({ "prepared_authority": authority() })),
        ("localauthority jwt show", json!({ "active": authority() })),
        ("localauthority jwt prepare", json!({ "prepared_authority": authority() })),
        ("localauthority jwt show", json!({ "active": authority(), "prepared": authority() })),
        ("logger get", level()),
        ("logger set -level debug", level()),
        ("logger reset", level()),
        (
            "debug getinfo",
            json!({
                "svid_chain": [{ "id": id(), "expires_at": "text", "subject": "text" }],
                "uptime": "number", "agents_count": "number", "entries_count": "number",
                "federated_bundles_count": "number",
            }),
        ),
        ("healthcheck", json!({ "detail": "text", "healthy": "bool" })),
    ]
}

#[test]
fn json_has_the_names_and_kinds_that_scripts_look_for() {
    let scenario = Scenario::start();
    let pem = scenario.ok("bundle show");
    for (command, expected) in of_entries().into_iter().chain(rows()) {
        let printed = scenario.ok_with(&format!("{command} -output json"), &pem);
        assert_eq!(printed.lines().count(), 1, "{command}: {printed}");
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(shape(&printed), expected, "{command}");
    }
}
