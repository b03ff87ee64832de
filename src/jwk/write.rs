//! Writes bundles as JWK sets.
//!
//! Members are those of the specification and no others, since some consumers refuse more
//! (Trust Domain and Bundle 4.2). An authority whose key is neither EC nor RSA is left out: one
//! such element makes several client libraries refuse the whole set.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;

use super::authority::Authority;
use super::{JWT_SVID, X509_SVID};
use crate::bundle::{Bundle, JwtAuthority, X509Authority};
use crate::keys::{KeyKind, PublicKey, PublicParts};

/// The `use` of keys in FetchJWTBundles. The Workload API speaks of a plain JWK set there, meant
/// for validators that know nothing of SPIFFE, and some of those take only `sig` or nothing.
const USE_FOR_WORKLOADS: Option<&str> = None;

/// The bundle as a SPIFFE bundle document, as endpoints and the CLI publish it.
#[must_use]
pub fn bundle_document(bundle: &Bundle) -> String {
    let x509 = bundle.x509_authorities.iter().filter_map(Jwk::of_x509);
    let jwt = bundle.jwt_authorities.iter().filter_map(|key| Jwk::of_jwt(key, Some(JWT_SVID)));
    json(&Document {
        keys: x509.chain(jwt).collect(),
        spiffe_sequence: Some(bundle.sequence).filter(|sequence| *sequence > 0),
        spiffe_refresh_hint: bundle
            .refresh_hint
            .map(|hint| hint.as_secs())
            .filter(|seconds| *seconds > 0),
    })
}

/// The JWT keys of a bundle as a plain JWK set, as FetchJWTBundles sends it: `{"keys":[]}` if
/// there are none.
#[must_use]
pub fn jwt_keys(bundle: &Bundle) -> Vec<u8> {
    let keys = bundle.jwt_authorities.iter();
    json(&Document {
        keys: keys.filter_map(|key| Jwk::of_jwt(key, USE_FOR_WORKLOADS)).collect(),
        spiffe_sequence: None,
        spiffe_refresh_hint: None,
    })
    .into_bytes()
}

#[derive(Serialize)]
struct Document<'a> {
    keys: Vec<Jwk<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Serialize)]
struct Jwk<'a> {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(flatten)]
    key: JwkKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<[String; 1]>,
}

#[derive(Serialize)]
#[serde(tag = "kty")]
enum JwkKey {
    #[serde(rename = "EC")]
    Ec { crv: &'static str, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

impl<'a> Jwk<'a> {
    fn of_x509(authority: &'a X509Authority) -> Option<Self> {
        let key = Authority::from_der(&authority.certificate).ok()?.key;
        Some(Self {
            usage: Some(X509_SVID),
            kid: None,
            key: JwkKey::of(&key)?,
            x5c: Some([STANDARD.encode(&authority.certificate)]),
        })
    }

    fn of_jwt(authority: &'a JwtAuthority, usage: Option<&'static str>) -> Option<Self> {
        let key = PublicKey::from_spki(&authority.public_key).ok()?;
        let kid = Some(authority.key_id.as_str()).filter(|key_id| !key_id.is_empty())?;
        Some(Self { usage, kid: Some(kid), key: JwkKey::of(&key)?, x5c: None })
    }
}

impl JwkKey {
    fn of(key: &PublicKey) -> Option<Self> {
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        match (key.kind(), key.parts()) {
            (KeyKind::EcP256, PublicParts::Ec { x, y }) => {
                Some(Self::Ec { crv: "P-256", x: encode(x), y: encode(y) })
            }
            (KeyKind::EcP384, PublicParts::Ec { x, y }) => {
                Some(Self::Ec { crv: "P-384", x: encode(x), y: encode(y) })
            }
            (KeyKind::EcP521, PublicParts::Ec { x, y }) => {
                Some(Self::Ec { crv: "P-521", x: encode(x), y: encode(y) })
            }
            (KeyKind::Rsa { .. }, PublicParts::Rsa { n, e }) => {
                Some(Self::Rsa { n: encode(n), e: encode(e) })
            }
            (KeyKind::Rsa { .. }, PublicParts::Ec { .. })
            | (KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521, PublicParts::Rsa { .. }) => {
                None
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "serde_json fails on maps with odd keys and on I/O alone")]
fn json(document: &Document<'_>) -> String {
    serde_json::to_string(document).expect("strings and integers can be written as JSON")
}

#[cfg(test)]
mod tests;
