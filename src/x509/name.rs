//! Distinguished names: what certificates call their subject and issuer.

use serde::Deserialize;

use crate::der::{self, Malformed, PRINTABLE_STRING, Reader, UTF8_STRING, Writer};

mod text;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const COUNTRY: &[u8] = &[0x55, 0x04, 0x06];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0b];

/// The longest common name (RFC 5280, upper bounds).
const MAX_COMMON_NAME: usize = 64;

/// A distinguished name as DER. As a text it is as RFC 4514 writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name(Box<[u8]>);

/// A subject as configuration writes it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Subject {
    /// Countries, as codes of two letters.
    pub country: Vec<String>,
    /// Organisations.
    pub organization: Vec<String>,
    /// Units of an organisation.
    pub organizational_unit: Vec<String>,
    /// The common name.
    pub common_name: Option<String>,
}

impl Name {
    /// Reads a Name (RFC 5280 4.1.2.4).
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        check(der)?;
        Ok(Self(der.into()))
    }

    /// The DER bytes.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Whether the name names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        is_empty(&self.0)
    }

    /// This name with `common_name` in the place of any it has; unchanged if that is too long to
    /// be one.
    pub(super) fn with_common_name(&self, common_name: &str) -> Self {
        if common_name.len() > MAX_COMMON_NAME {
            return self.clone();
        }
        let mut writer = Writer::with_capacity(self.0.len() + common_name.len() + 16);
        writer.nest(der::SEQUENCE, |w| {
            self.write(w, |set| !names(set, COMMON_NAME));
            attribute(w, COMMON_NAME, common_name);
        });
        Self(writer.finish().into())
    }

    /// This name with `unit` in the place of any unit of an organisation and any serial number that
    /// it has, as authorities below this one are called.
    #[must_use]
    pub fn with_unit(&self, unit: &str) -> Self {
        let mut writer = Writer::with_capacity(self.0.len() + unit.len() + 16);
        writer.nest(der::SEQUENCE, |w| {
            let replaced = [ORGANIZATIONAL_UNIT, SERIAL_NUMBER, COMMON_NAME];
            self.write(w, |set| !replaced.iter().any(|kind| names(set, kind)));
            attribute(w, ORGANIZATIONAL_UNIT, unit);
            self.write(w, |set| names(set, COMMON_NAME) && !names(set, SERIAL_NUMBER));
        });
        Self(writer.finish().into())
    }

    /// This name with a serialNumber attribute at its end, which tells authorities of one
    /// subject apart.
    pub(super) fn with_serial_number(&self, serial: &str) -> Self {
        let mut writer = Writer::with_capacity(self.0.len() + serial.len() + 16);
        writer.nest(der::SEQUENCE, |w| {
            w.raw(Reader::new(&self.0).expect(der::SEQUENCE).unwrap_or_default());
            attribute(w, SERIAL_NUMBER, serial);
        });
        Self(writer.finish().into())
    }

    /// Writes the parts that are wanted.
    fn write(&self, writer: &mut Writer, wanted: impl Fn(&[u8]) -> bool) {
        let mut sets = Reader::new(&self.0).nested(der::SEQUENCE).unwrap_or(Reader::new(&[]));
        while let Ok(set) = sets.element() {
            if wanted(set.content) {
                writer.raw(set.raw);
            }
        }
    }
}

impl From<&Subject> for Name {
    fn from(subject: &Subject) -> Self {
        let mut writer = Writer::with_capacity(64);
        writer.nest(der::SEQUENCE, |w| {
            let units = &subject.organizational_unit;
            let values = (subject.country.iter().map(|value| (COUNTRY, value)))
                .chain(subject.organization.iter().map(|value| (ORGANIZATION, value)))
                .chain(units.iter().map(|value| (ORGANIZATIONAL_UNIT, value)))
                .chain(subject.common_name.iter().map(|value| (COMMON_NAME, value)));
            for (kind, value) in values {
                attribute(w, kind, value);
            }
        });
        Self(writer.finish().into())
    }
}

/// Refuses what is not a Name.
pub(super) fn check(der: &[u8]) -> Result<(), Malformed> {
    let mut outer = Reader::new(der);
    let mut sets = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    while !sets.is_empty() {
        let mut attributes = sets.nested(der::SET)?;
        loop {
            let mut attribute = attributes.nested(der::SEQUENCE)?;
            attribute.oid()?;
            attribute.element()?;
            attribute.finish()?;
            if attributes.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a Name that was checked names nothing.
pub(super) fn is_empty(der: &[u8]) -> bool {
    der.len() <= 2
}

/// Whether a RelativeDistinguishedName has an attribute of this type.
fn names(set: &[u8], kind: &[u8]) -> bool {
    let mut attributes = Reader::new(set);
    while let Ok(mut attribute) = attributes.nested(der::SEQUENCE) {
        if attribute.oid() == Ok(kind) {
            return true;
        }
    }
    false
}

fn attribute(writer: &mut Writer, kind: &[u8], value: &str) {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if value.bytes().all(printable) { PRINTABLE_STRING } else { UTF8_STRING };
    writer.nest(der::SET, |w| {
        w.nest(der::SEQUENCE, |w| {
            w.value(der::OID, kind);
            w.value(tag, value.as_bytes());
        });
    });
}
