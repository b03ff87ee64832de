//! The bytes of the certificates that are made.

use std::sync::LazyLock;

use super::{Serial, Subject, Validity, leaf_key_usage};
use crate::der::{self, Writer};
use crate::id::{SpiffeId, TrustDomain};
use crate::keys::{KeyKind, PublicKey};
use crate::x509::{Name, signature, time};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// keyCertSign and cRLSign.
const CA_KEY_USAGE: u8 = 0x06;

const URI: u8 = der::context(6);
const DNS_NAME: u8 = der::context(2);

/// What all certificates have.
pub(super) struct Profile<'a> {
    pub(super) serial: Serial,
    pub(super) signer: KeyKind,
    pub(super) issuer: &'a Name,
    /// None for the certificate of a root.
    pub(super) issuer_key_id: Option<&'a [u8; 20]>,
    pub(super) validity: Validity,
    pub(super) subject: &'a Name,
    pub(super) public_key: &'a PublicKey,
}

/// `C=US, O=SPIRE`, as SPIRE names every SVID.
pub(super) fn default_subject() -> &'static Name {
    static SUBJECT: LazyLock<Name> = LazyLock::new(|| {
        Name::from(&Subject {
            country: vec!["US".into()],
            organization: vec!["SPIRE".into()],
            ..Subject::default()
        })
    });
    &SUBJECT
}

/// The signed part of an SVID.
pub(super) fn svid(profile: &Profile<'_>, id: &SpiffeId, dns_names: &[String]) -> Vec<u8> {
    certificate(profile, |w| {
        write_key_usage(w, leaf_key_usage(profile.public_key.kind()));
        extension(w, EXTENDED_KEY_USAGE, Criticality::Normal, |w| {
            w.nest(der::SEQUENCE, |w| {
                w.value(der::OID, SERVER_AUTH);
                w.value(der::OID, CLIENT_AUTH);
            });
        });
        // FALSE is the default and so not written; some clients want the extension (X509-SVID 4.1
        // leaves it open).
        extension(w, BASIC_CONSTRAINTS, Criticality::Critical, |w| w.nest(der::SEQUENCE, |_| {}));
        write_key_ids(w, profile);
        // RFC 5280 4.2.1.6: critical where the subject names nobody.
        let criticality =
            if profile.subject.is_empty() { Criticality::Critical } else { Criticality::Normal };
        extension(w, SUBJECT_ALTERNATIVE_NAME, criticality, |w| {
            w.nest(der::SEQUENCE, |w| {
                w.value(URI, id.as_str().as_bytes());
                for name in dns_names {
                    w.value(DNS_NAME, name.as_bytes());
                }
            });
        });
    })
}

/// The signed part of an authority's certificate.
pub(super) fn ca(profile: &Profile<'_>, trust_domain: &TrustDomain) -> Vec<u8> {
    certificate(profile, |w| {
        write_key_usage(w, CA_KEY_USAGE);
        extension(w, BASIC_CONSTRAINTS, Criticality::Critical, |w| {
            w.nest(der::SEQUENCE, |w| w.value(der::BOOLEAN, &[0xff]));
        });
        write_key_ids(w, profile);
        extension(w, SUBJECT_ALTERNATIVE_NAME, Criticality::Normal, |w| {
            w.nest(der::SEQUENCE, |w| w.value(URI, trust_domain.id().as_str().as_bytes()));
        });
    })
}

/// The whole certificate.
pub(super) fn assemble(signed_part: &[u8], signer: KeyKind, signature: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(signed_part.len() + signature.len() + 32);
    writer.nest(der::SEQUENCE, |w| {
        w.raw(signed_part);
        signature::write(w, signer);
        w.bytes(signature);
    });
    writer.finish()
}

fn certificate(profile: &Profile<'_>, extensions: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::with_capacity(1024);
    writer.nest(der::SEQUENCE, |w| {
        w.nest(der::constructed(0), |w| w.unsigned(&[2])); // version 3
        w.unsigned(profile.serial.as_be_bytes());
        signature::write(w, profile.signer);
        w.raw(profile.issuer.as_der());
        w.nest(der::SEQUENCE, |w| {
            time::write(w, profile.validity.not_before());
            time::write(w, profile.validity.not_after());
        });
        w.raw(profile.subject.as_der());
        w.raw(profile.public_key.spki_der());
        w.nest(der::constructed(3), |w| w.nest(der::SEQUENCE, extensions));
    });
    writer.finish()
}

fn write_key_usage(writer: &mut Writer, bits: u8) {
    extension(writer, KEY_USAGE, Criticality::Critical, |w| {
        let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
        w.value(der::BIT_STRING, &[unused, bits]);
    });
}

fn write_key_ids(writer: &mut Writer, profile: &Profile<'_>) {
    extension(writer, SUBJECT_KEY_IDENTIFIER, Criticality::Normal, |w| {
        w.value(der::OCTET_STRING, &profile.public_key.key_identifier());
    });
    if let Some(id) = profile.issuer_key_id {
        extension(writer, AUTHORITY_KEY_IDENTIFIER, Criticality::Normal, |w| {
            w.nest(der::SEQUENCE, |w| w.value(der::context(0), id));
        });
    }
}

#[derive(Clone, Copy)]
enum Criticality {
    Critical,
    Normal,
}

fn extension(
    writer: &mut Writer,
    kind: &[u8],
    criticality: Criticality,
    value: impl FnOnce(&mut Writer),
) {
    writer.nest(der::SEQUENCE, |w| {
        w.value(der::OID, kind);
        match criticality {
            Criticality::Critical => w.value(der::BOOLEAN, &[0xff]),
            Criticality::Normal => {}
        }
        w.nest(der::OCTET_STRING, value);
    });
}
