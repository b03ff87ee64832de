//! Certificates and JWKs for tests.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::keys::{PublicKey, PublicParts};
use crate::x509::Certificate;

/// What a test certificate is like.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) is_ca: bool,
    pub(crate) usages: &'static [KeyUsagePurpose],
    pub(crate) expires: i32,
    pub(crate) algorithm: &'static rcgen::SignatureAlgorithm,
}

/// A CA until 2090.
pub(crate) static RIGHT: Kind = Kind {
    is_ca: true,
    usages: &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    expires: 2090,
    algorithm: &PKCS_ECDSA_P256_SHA256,
};
/// The same with a key that JWK sets do not take.
pub(crate) static ED25519: Kind = Kind { algorithm: &PKCS_ED25519, ..RIGHT };

pub(crate) static CA: LazyLock<CertificateDer<'static>> = LazyLock::new(|| certificate(RIGHT));
pub(crate) static OTHER_CA: LazyLock<CertificateDer<'static>> =
    LazyLock::new(|| certificate(RIGHT));

pub(crate) fn certificate(kind: Kind) -> CertificateDer<'static> {
    let key = KeyPair::generate_for(kind.algorithm).unwrap();
    let mut params = CertificateParams::default();
    if kind.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.key_usages = kind.usages.to_vec();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(kind.expires, 1, 1);
    params.self_signed(&key).unwrap().der().clone()
}

/// `kty` and the members of the key.
pub(crate) fn key_members(spki: &[u8]) -> Value {
    let key = PublicKey::from_spki(spki).unwrap();
    let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    match key.parts() {
        PublicParts::Ec { x, y } => {
            let curve = match x.len() {
                32 => "P-256",
                48 => "P-384",
                _ => "P-521",
            };
            json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
        }
        PublicParts::Rsa { n, e } => json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }),
    }
}

pub(crate) fn x509_jwk(certificate: &CertificateDer<'_>) -> Value {
    let jwk = key_members(Certificate::parse(certificate).unwrap().spki_der());
    merged(jwk, json!({ "use": "x509-svid", "x5c": [STANDARD.encode(certificate)] }))
}

pub(crate) fn jwt_jwk(key_id: &str, spki: &[u8]) -> Value {
    merged(key_members(spki), json!({ "use": "jwt-svid", "kid": key_id }))
}

/// The members of both; those of `other` win.
pub(crate) fn merged(mut base: Value, other: Value) -> Value {
    let Value::Object(other) = other else { panic!("not an object") };
    base.as_object_mut().unwrap().extend(other);
    base
}

pub(crate) fn without(mut base: Value, name: &str) -> Value {
    base.as_object_mut().unwrap().remove(name).unwrap();
    base
}
