//! SPIFFE IDs: exactly the texts of the specification are read, and come out as they went in.

use steeple::id::{MAX_ID_LENGTH, MAX_TRUST_DOMAIN_LENGTH, SpiffeId, TrustDomain};

use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "id",
    check,
    seeds,
    words: &["spiffe://", "/", "..", ".", "//", "%2e", "?", "#", ":8081", "@", "example.org"],
    max_length: 4096,
};

fn check(input: &[u8]) {
    let parsed = SpiffeId::from_bytes(input);
    assert_eq!(parsed.is_ok(), is_id(input), "{parsed:?}");
    let text = std::str::from_utf8(input);
    if let Ok(text) = text {
        assert_eq!(text.parse(), parsed);
        let named = TrustDomain::parse(text);
        assert_eq!(named.is_ok(), is_trust_domain(input), "{named:?}");
        if let Ok(name) = named {
            assert_eq!(name.to_string(), text);
            assert_eq!(name.id().to_string(), format!("spiffe://{text}"));
            assert!(name.id().is_trust_domain() && name.server_id().is_server());
        }
    }
    check_parts(input);
    let Ok(id) = parsed else { return };
    assert_eq!(Ok(id.as_str()), text);
    assert_eq!(id.to_string().parse(), Ok(id.clone()));
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), id.as_str());
    assert_eq!(SpiffeId::new(id.trust_domain(), id.path()), Ok(id.clone()));
    assert_eq!(TrustDomain::parse(id.trust_domain().as_str()).as_ref(), Ok(id.trust_domain()));
    assert_eq!(id.is_trust_domain(), id == id.trust_domain().id());
    assert_eq!(id.is_server(), id == id.trust_domain().server_id());
    assert!(id.is_reserved() || !id.is_agent() && !id.is_server());
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
}

/// A trust domain and a path make the ID that is written with them, or none.
fn check_parts(input: &[u8]) {
    let Some(Ok(rest)) = input.strip_prefix(b"spiffe://").map(std::str::from_utf8) else { return };
    let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok(name) = TrustDomain::parse(name) else { return };
    let made = SpiffeId::new(&name, path);
    assert_eq!(made.is_ok(), is_id(input), "{made:?}");
}

/// SPIFFE-ID 2, one byte after the other.
fn is_id(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"spiffe://") else { return false };
    let mut parts = rest.split(|byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    let is_segment = |segment: &[u8]| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        !matches!(segment, b"" | b"." | b"..") && segment.iter().all(allowed)
    };
    text.len() <= MAX_ID_LENGTH && is_trust_domain(name) && parts.all(is_segment)
}

fn is_trust_domain(name: &[u8]) -> bool {
    let allowed = |byte: &u8| b"abcdefghijklmnopqrstuvwxyz0123456789._-".contains(byte);
    (1..=MAX_TRUST_DOMAIN_LENGTH).contains(&name.len()) && name.iter().all(allowed)
}

fn seeds() -> Vec<Vec<u8>> {
    let long = |length: usize| format!("spiffe://a/{}", "b".repeat(length - 11));
    [
        "spiffe://example.org",
        "spiffe://example.org/ns/default/sa/web-1_2.3",
        "spiffe://example.org/spire/agent/join_token/a3f1",
        "spiffe://example.org/spire/server",
        "spiffe://EXAMPLE.org/a",
        "spiffe://example.org/a//b",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a/",
        "spiffe://example.org:8081/a?q#f",
        "spiffe://user@example.org/%61",
        "example.org",
        &long(MAX_ID_LENGTH),
        &long(MAX_ID_LENGTH + 1),
        &format!("spiffe://{}/a", "a".repeat(MAX_TRUST_DOMAIN_LENGTH)),
        &"a".repeat(MAX_TRUST_DOMAIN_LENGTH + 1),
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}
