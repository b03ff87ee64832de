//! Distinguished names as people read them, as RFC 4514 writes them: the last attribute first.

use std::fmt;

use super::{
    COMMON_NAME, COUNTRY, Name, ORGANIZATION, ORGANIZATIONAL_UNIT, PRINTABLE_STRING, Reader,
    SERIAL_NUMBER, UTF8_STRING,
};
use crate::der::{self, Element};
use crate::x509::hex;

/// The attributes with a short name (RFC 4514 3, and `SERIALNUMBER` as Go has it).
const SHORT: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (SERIAL_NUMBER, "SERIALNUMBER"),
    (COUNTRY, "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    (&[0x55, 0x04, 0x11], "POSTALCODE"),
];

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sets = Reader::new(&self.0).nested(der::SEQUENCE).unwrap_or(Reader::new(&[]));
        let mut texts = Vec::new();
        while let Ok(mut attributes) = sets.nested(der::SET) {
            let mut set = Vec::new();
            while let Ok(mut attribute) = attributes.nested(der::SEQUENCE) {
                if let (Ok(kind), Ok(value)) = (attribute.oid(), attribute.element()) {
                    set.push(text_of(kind, &value));
                }
            }
            texts.push(set.join("+"));
        }
        texts.reverse();
        f.write_str(&texts.join(","))
    }
}

fn text_of(kind: &[u8], value: &Element<'_>) -> String {
    let short = SHORT.iter().find(|(oid, _)| *oid == kind).map(|(_, name)| name);
    let text = std::str::from_utf8(value.content).ok();
    match (short, text, value.tag) {
        (Some(name), Some(text), UTF8_STRING | PRINTABLE_STRING) => {
            format!("{name}={}", escaped(text))
        }
        (Some(name), _, _) => format!("{name}=#{}", hex(value.raw)),
        (None, _, _) => format!("{}=#{}", dotted(kind), hex(value.raw)),
    }
}

/// RFC 4514 2.4; control characters too, since this ends up on terminals.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', character]),
            ' ' if at == 0 || at == last => escaped.extend(['\\', ' ']),
            '#' if at == 0 => escaped.push_str("\\#"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    escaped.push_str(&format!("\\{byte:02x}"));
                }
            }
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// An object identifier with dots. Numbers that are too large are cut off: nobody has one.
fn dotted(oid: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    if let Some(both) = numbers.first().copied() {
        let first = (both / 40).min(2);
        numbers.splice(..1, [first, both - 40 * first]);
    }
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::Subject;

    #[track_caller]
    fn check(subject: &Subject, expected: &str) {
        assert_eq!(Name::from(subject).to_string(), expected);
    }

    #[test]
    fn a_name_is_written_with_its_last_attribute_first() {
        let mut subject = Subject {
            country: vec!["US".into()],
            organization: vec!["SPIRE".into()],
            organizational_unit: vec!["a, b".into()],
            common_name: Some(" #x\n".into()),
        };
        check(&subject, "CN=\\ #x\\0a,OU=a\\, b,O=SPIRE,C=US");
        subject.common_name = Some("#é".into());
        check(&subject, "CN=\\#é,OU=a\\, b,O=SPIRE,C=US");
        check(&Subject::default(), "");
        let serial = Name::from(&Subject::default()).with_serial_number("1");
        assert_eq!(serial.to_string(), "SERIALNUMBER=1");
    }

    #[test]
    fn what_has_no_short_name_or_is_no_text_is_hexadecimal() {
        // x500UniqueIdentifier, and a common name that is a T61String.
        let der = [
            0x30, 0x1c, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x2d, 0x03, 0x02, 0x00,
            0x01, 0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x03, 0x14, 0x04, b'a', b'b',
            b'c', b'd',
        ];
        let name = Name::from_der(&der).unwrap();
        assert_eq!(name.to_string(), "CN=#140461626364,2.5.4.45=#03020001");
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
        assert_eq!(dotted(&[]), "");
    }
}
