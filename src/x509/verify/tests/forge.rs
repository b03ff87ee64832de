//! Forges certificates part by part, so that a row differs from a good one in one thing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use crate::clock::from_unix_seconds;
use crate::der::{self, Writer};
use crate::keys::{KeyAlgorithm, PrivateKey, Scheme, Signer as _};
use crate::x509::{Name, Subject, signature, time};

pub(super) const SUBJECT_ALTERNATIVE_NAME: u8 = 0x11;
pub(super) const BASIC_CONSTRAINTS: u8 = 0x13;
pub(super) const KEY_USAGE: u8 = 0x0f;
pub(super) const EXTENDED_KEY_USAGE: u8 = 0x25;
pub(super) const NAME_CONSTRAINTS: u8 = 0x1e;
const SUBJECT_KEY_IDENTIFIER: u8 = 0x0e;

pub(super) const SERVER_AUTH: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(super) const CLIENT_AUTH: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];

pub(super) const URI: u8 = 0x86;
pub(super) const DNS: u8 = 0x82;

/// A certificate before it is signed; every part is an element in DER, or should be.
#[derive(Clone)]
pub(super) struct Forge {
    pub(super) version: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) validity: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) extensions: Vec<Extension>,
    pub(super) tail: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Extension {
    /// The content of the object identifier.
    pub(super) kind: Vec<u8>,
    /// The element of the flag, or nothing.
    pub(super) critical: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// A key and the name of whoever has it.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) key: Arc<PrivateKey>,
    pub(super) name: Vec<u8>,
}

impl Holder {
    pub(super) fn new(name: &str) -> Self {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        Self { key, name: named(name) }
    }
}

impl Forge {
    /// A good leaf with this URI.
    pub(super) fn leaf(uri: &str, issuer: &Holder, subject: &Holder) -> Self {
        let mut forge = Self::bare(issuer, subject);
        forge.extensions = vec![
            usage(0x80),
            normal(EXTENDED_KEY_USAGE, sequence(&[SERVER_AUTH, CLIENT_AUTH])),
            critical(BASIC_CONSTRAINTS, sequence(&[])),
            normal(SUBJECT_ALTERNATIVE_NAME, names(&[(URI, uri.as_bytes())])),
        ];
        forge
    }

    /// A good authority of `spiffe://a.org`.
    pub(super) fn authority(issuer: &Holder, subject: &Holder) -> Self {
        let mut forge = Self::bare(issuer, subject);
        forge.extensions = vec![
            usage(0x06),
            critical(BASIC_CONSTRAINTS, sequence(&[TRUE])),
            normal(SUBJECT_ALTERNATIVE_NAME, names(&[(URI, b"spiffe://a.org")])),
            normal(SUBJECT_KEY_IDENTIFIER, value(4, &subject.key.public_key().key_identifier())),
        ];
        forge
    }

    fn bare(issuer: &Holder, subject: &Holder) -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            version: value(der::constructed(0), &value(2, &[2])),
            serial: value(2, &[0x11, 0x22]),
            algorithm: ecdsa_sha256(),
            issuer: issuer.name.clone(),
            validity: validity(now() - hour, now() + hour),
            subject: subject.name.clone(),
            spki: subject.key.public_key().spki_der().to_vec(),
            extensions: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// With one extension in the place of the one of the same kind, or none in its place.
    pub(super) fn replacing(&self, kind: u8, extension: Option<Extension>) -> Self {
        self.with(|forge| {
            forge.extensions.retain(|old| old.kind != [0x55, 0x1d, kind]);
            forge.extensions.extend(extension);
        })
    }

    /// With one extension more.
    pub(super) fn and(&self, extension: Extension) -> Self {
        self.with(|forge| forge.extensions.push(extension))
    }

    pub(super) fn with_names(&self, list: &[(u8, &[u8])]) -> Self {
        self.replacing(
            SUBJECT_ALTERNATIVE_NAME,
            Some(normal(SUBJECT_ALTERNATIVE_NAME, names(list))),
        )
    }

    pub(super) fn valid(&self, not_before: SystemTime, not_after: SystemTime) -> Self {
        self.with(|forge| forge.validity = validity(not_before, not_after))
    }

    pub(super) fn sign(&self, signer: &Holder) -> CertificateDer<'static> {
        let mut extensions = Writer::default();
        for extension in &self.extensions {
            extensions.nest(der::SEQUENCE, |w| {
                w.value(der::OID, &extension.kind);
                w.raw(&extension.critical);
                w.value(der::OCTET_STRING, &extension.value);
            });
        }
        let extensions = match extensions.finish() {
            none if none.is_empty() => none,
            some => value(der::constructed(3), &value(der::SEQUENCE, &some)),
        };
        let signed = sequence(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.spki,
            &extensions,
            &self.tail,
        ]);
        let signature = signer.key.sign(Scheme::X509, &signed).unwrap();
        let mut bits = Writer::default();
        bits.bytes(&signature);
        sequence(&[&signed, &self.algorithm, &bits.finish()]).into()
    }
}

pub(super) const TRUE: &[u8] = &[1, 1, 0xff];

pub(super) fn now() -> SystemTime {
    from_unix_seconds(1_800_000_000)
}

pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.value(tag, content);
    writer.finish()
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(der::SEQUENCE, &parts.concat())
}

pub(super) fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<_> = list.iter().map(|(tag, content)| value(*tag, content)).collect();
    value(der::SEQUENCE, &list.concat())
}

pub(super) fn named(name: &str) -> Vec<u8> {
    let subject = Subject { common_name: Some(name.into()), ..Subject::default() };
    Name::from(&subject).as_der().to_vec()
}

pub(super) fn critical(kind: u8, value: Vec<u8>) -> Extension {
    Extension { kind: vec![0x55, 0x1d, kind], critical: TRUE.to_vec(), value }
}

pub(super) fn normal(kind: u8, value: Vec<u8>) -> Extension {
    Extension { kind: vec![0x55, 0x1d, kind], critical: Vec::new(), value }
}

/// An extension that nobody knows.
pub(super) fn unknown(critical: &[u8]) -> Extension {
    Extension { kind: vec![0x2a, 3, 4], critical: critical.to_vec(), value: vec![5, 0] }
}

pub(super) fn usage(bits: u8) -> Extension {
    critical(KEY_USAGE, value(3, &[u8::try_from(bits.trailing_zeros()).unwrap(), bits]))
}

fn validity(not_before: SystemTime, not_after: SystemTime) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.nest(der::SEQUENCE, |w| {
        time::write(w, not_before);
        time::write(w, not_after);
    });
    writer.finish()
}

fn ecdsa_sha256() -> Vec<u8> {
    let mut writer = Writer::default();
    signature::write(&mut writer, crate::keys::KeyKind::EcP256);
    writer.finish()
}
