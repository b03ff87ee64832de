//! DER, read strictly and written directly.
//!
//! The reader takes one encoding of each value and refuses every other that BER would allow: a
//! certificate that two parsers read differently is two certificates. The writer holds no
//! knowledge of any structure.

use thiserror::Error;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The tag `[number]` of a primitive value.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag `[number]` of a constructed value.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The bytes are not DER of the structure that was asked for.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("malformed DER")]
pub struct Malformed;

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// One element: its tag, its content, and all its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) raw: &'a [u8],
}

/// A named-bit list, such as keyUsage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitString<'a> {
    pub(crate) unused: u8,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next element, whatever it is.
    pub(crate) fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, rest) = self.rest.split_first().ok_or(Malformed)?;
        // A tag number of 31 or more takes further bytes; no structure here has one. 0 is
        // reserved for BER's end of contents.
        if tag & 0x1f == 0x1f || tag == 0 {
            return Err(Malformed);
        }
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // 0x80 is BER's indefinite length; more than three bytes is 16 MiB.
            0x81..=0x83 => long_length(rest, usize::from(first & 0x7f))?,
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        let used = self.rest.len() - rest.len();
        let raw = self.rest.get(..used).ok_or(Malformed)?;
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.element()?;
        if element.tag == tag { Ok(element.content) } else { Err(Malformed) }
    }

    /// A reader over the content of the next element, which must have this tag.
    pub(crate) fn nested(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.expect(tag).map(Self::new)
    }

    /// The content of the next element if it has this tag; nothing is read otherwise.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// A boolean that is `DEFAULT FALSE`: absent or TRUE, since DER does not write defaults.
    pub(crate) fn default_false(&mut self) -> Result<bool, Malformed> {
        match self.optional(BOOLEAN)? {
            None => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(Malformed),
        }
    }

    /// The big-endian bytes of a whole number above zero, without its sign byte.
    pub(crate) fn positive(&mut self) -> Result<&'a [u8], Malformed> {
        match self.unsigned()? {
            [0] => Err(Malformed),
            bytes => Ok(bytes),
        }
    }

    /// The big-endian bytes of a whole number of at least zero, without its sign byte.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], Malformed> {
        match self.expect(INTEGER)? {
            [] => Err(Malformed),
            [0] => Ok(&[0]),
            [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Ok(rest),
            [0, ..] => Err(Malformed),
            [first, ..] if first & 0x80 != 0 => Err(Malformed),
            bytes => Ok(bytes),
        }
    }

    /// A whole number from 0 to 255.
    pub(crate) fn small(&mut self) -> Result<u8, Malformed> {
        match self.unsigned()? {
            [value] => Ok(*value),
            _ => Err(Malformed),
        }
    }

    /// The content of an object identifier.
    pub(crate) fn oid(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.expect(OID)?;
        let ends = bytes.last().is_some_and(|byte| byte & 0x80 == 0);
        // A component does not start with a digit of zero.
        let starts = |index: usize| index == 0 || bytes.get(index - 1).is_some_and(|b| b < &0x80);
        let padded = bytes.iter().enumerate().any(|(index, &byte)| byte == 0x80 && starts(index));
        if ends && !padded { Ok(bytes) } else { Err(Malformed) }
    }

    /// A bit string of whole bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let bits = self.bits()?;
        if bits.unused == 0 { Ok(bits.bytes) } else { Err(Malformed) }
    }

    /// A bit string.
    pub(crate) fn bits(&mut self) -> Result<BitString<'a>, Malformed> {
        BitString::read(self.expect(BIT_STRING)?)
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses what is left over.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

impl<'a> BitString<'a> {
    /// Reads the content of a bit string, whatever its tag is.
    pub(crate) fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let (&unused, bytes) = content.split_first().ok_or(Malformed)?;
        let last = bytes.last().copied().unwrap_or(0);
        // The unused bits are zero, and there are none where there is no byte.
        if unused > 7 || (bytes.is_empty() && unused != 0) || last & ((1 << unused) - 1) != 0 {
            return Err(Malformed);
        }
        Ok(Self { unused, bytes })
    }
}

/// Reads one element with this tag that is all there is, and reads its content with `read`, which
/// must use it up.
pub(crate) fn whole<'a, T>(
    bytes: &'a [u8],
    tag: u8,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut outer = Reader::new(bytes);
    let mut inner = outer.nested(tag)?;
    outer.finish()?;
    let value = read(&mut inner)?;
    inner.finish()?;
    Ok(value)
}

fn long_length(rest: &[u8], count: usize) -> Result<(usize, &[u8]), Malformed> {
    let (digits, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
    let length = digits.iter().fold(0, |length: usize, &byte| length << 8 | usize::from(byte));
    let shortest = match count {
        1 => 0x80,
        2 => 0x100,
        _ => 0x1_0000,
    };
    if length < shortest { Err(Malformed) } else { Ok((length, rest)) }
}

/// Writes elements one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    /// An element whose content `write` writes.
    pub(crate) fn nest(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.out.push(tag);
        let start = self.out.len();
        write(self);
        let (length, used) = encode_length(self.out.len() - start);
        self.out.splice(start..start, length.into_iter().take(used));
    }

    /// An element with this content.
    pub(crate) fn value(&mut self, tag: u8, content: &[u8]) {
        let (length, used) = encode_length(content.len());
        self.out.push(tag);
        self.out.extend(length.into_iter().take(used));
        self.out.extend_from_slice(content);
    }

    /// Bytes that are elements already.
    pub(crate) fn raw(&mut self, elements: &[u8]) {
        self.out.extend_from_slice(elements);
    }

    /// A whole number of at least zero from its big-endian bytes.
    pub(crate) fn unsigned(&mut self, bytes: &[u8]) {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let digits = bytes.get(zeros..).unwrap_or_default();
        self.nest(INTEGER, |w| {
            if digits.first().is_none_or(|byte| byte & 0x80 != 0) {
                w.out.push(0);
            }
            w.out.extend_from_slice(digits);
        });
    }

    /// A bit string of whole bytes.
    pub(crate) fn bytes(&mut self, content: &[u8]) {
        self.nest(BIT_STRING, |w| {
            w.out.push(0);
            w.out.extend_from_slice(content);
        });
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The length bytes and how many of them count.
fn encode_length(length: usize) -> ([u8; 5], usize) {
    let [.., a, b, c, d] = length.to_be_bytes();
    match length {
        0..=0x7f => ([d, 0, 0, 0, 0], 1),
        0x80..=0xff => ([0x81, d, 0, 0, 0], 2),
        0x100..=0xffff => ([0x82, c, d, 0, 0], 3),
        0x1_0000..=0xff_ffff => ([0x83, b, c, d, 0], 4),
        _ => ([0x84, a, b, c, d], 5),
    }
}

#[cfg(test)]
mod tests;
