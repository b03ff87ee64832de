//! Keys and tokens for tests: right ones, and wrong in one thing.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Algorithm;
use super::make::JwtSigner;
use crate::bundle::JwtAuthority;

/// A key that signs whatever it is told to, by an algorithm that need not fit the header.
pub(crate) enum TestKey {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

pub(crate) static P256: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
});
pub(crate) static OTHER_P256: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
});
pub(crate) static P384: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
});
pub(crate) static P521: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap())
});
pub(crate) static RSA: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

impl TestKey {
    /// The key that fits an algorithm.
    pub(crate) fn fitting(algorithm: Algorithm) -> &'static Self {
        match algorithm {
            Algorithm::Es256 => &P256,
            Algorithm::Es384 => &P384,
            Algorithm::Es512 => &P521,
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => &RSA,
        }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let pair = match self {
            Self::Ec(pair) => {
                return pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
            }
            Self::Rsa(pair) => pair,
        };
        let encoding: &'static dyn RsaEncoding = match algorithm {
            Algorithm::Rs384 => &RSA_PKCS1_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_SHA512,
            Algorithm::Ps256 => &RSA_PSS_SHA256,
            Algorithm::Ps384 => &RSA_PSS_SHA384,
            Algorithm::Ps512 => &RSA_PSS_SHA512,
            Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                &RSA_PKCS1_SHA256
            }
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }
}

pub(crate) fn authority(key_id: &str, key: &TestKey) -> JwtAuthority {
    JwtAuthority {
        key_id: key_id.to_owned(),
        public_key: key.spki(),
        expires_at: None,
        tainted: false,
    }
}

/// The bundle's entry for the key of a signer.
pub(crate) fn authority_of(signer: &JwtSigner) -> JwtAuthority {
    JwtAuthority {
        key_id: signer.key_id().to_owned(),
        public_key: signer.signer().public_key().spki_der().to_vec(),
        expires_at: None,
        tainted: false,
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Header and claims, encoded and with the dot between them.
pub(crate) fn signed_part(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode(header), encode(claims))
}

/// A token of any header and claims, signed by `key` in the way of `algorithm`.
pub(crate) fn token(
    header: impl AsRef<[u8]>,
    claims: impl AsRef<[u8]>,
    key: &TestKey,
    algorithm: Algorithm,
) -> String {
    let signed = signed_part(header, claims);
    let signature = key.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// A JSON object: `base` without the member `name`, and with it again as `value`, if any.
pub(crate) fn with(base: &[(&str, &str)], name: &str, value: Option<&str>) -> String {
    let kept = base.iter().copied().filter(|(member, _)| *member != name);
    let members = kept.chain(value.map(|value| (name, value)));
    let members: Vec<_> = members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
