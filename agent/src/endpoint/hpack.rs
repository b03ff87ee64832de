//! HPACK (RFC 7541): reads a client's header blocks, and writes them again for a server.
//!
//! Pure and bounded: nothing here allocates more than the block it was given can decode to plus
//! the table, and no input makes it panic.

mod encoder;
mod huffman;
mod table;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

pub use self::encoder::Encoder;

use self::table::{Entry, Table};

/// The size of the table a sender may fill where the receiver's settings do not say otherwise
/// (RFC 9113 6.5.2).
pub const TABLE_SIZE: usize = 4096;

/// Scratch space that is not worth keeping between two blocks.
const SCRATCH: usize = 1024;

/// Why a header block cannot be read; for HTTP/2 each of them ends the connection.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Truncated,
    /// A number takes more octets than any that could be meant.
    #[error("number in a header block is too long")]
    Integer,
    /// A string is no Huffman code, or wrongly padded.
    #[error("string in a header block is not Huffman code")]
    Huffman,
    /// An index points at no field.
    #[error("header block refers to a field that is not in the table")]
    Index,
    /// The table is to become larger than allowed, or to change in the middle of a block.
    #[error("table size update is too large or out of place")]
    TableSize,
}

/// One header field, as it was decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    /// The name, lower case where the sender keeps to the rules.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// What of it the fixed table holds.
    pub known: Known,
    /// The sender refers to what a table holds, and does not write it out.
    pub is_repeated: bool,
}

/// What a row of the fixed table holds of a field: the shortest way to write it again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// The row is the field.
    Whole(u8),
    /// The row has its name.
    Name(u8),
    /// Nothing that the sender told.
    Nothing,
}

impl Field<'_> {
    /// What the field counts for in a header list (RFC 9113 6.5.2).
    #[must_use]
    pub const fn weight(&self) -> usize {
        table::weight(self)
    }

    /// Writes the field so that reading it needs no table and changes none.
    pub fn write(&self, out: &mut BytesMut) {
        match self.known {
            Known::Whole(row) => write_integer(u32::from(row), 7, 0x80, out),
            Known::Name(_) | Known::Nothing => self.write_literal(4, 0, out),
        }
    }

    /// Writes the value, and the name unless the fixed table has that, behind the pattern of a kind
    /// of literal (RFC 7541 6.2).
    fn write_literal(&self, prefix: u32, pattern: u8, out: &mut BytesMut) {
        match self.known {
            Known::Whole(row) | Known::Name(row) => {
                write_integer(u32::from(row), prefix, pattern, out);
            }
            Known::Nothing => {
                out.put_u8(pattern);
                write_string(self.name, out);
            }
        }
        write_string(self.value, out);
    }
}

/// Reads the header blocks of one direction of one connection, in order.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_SIZE), scratch: Vec::new() }
    }
}

impl Decoder {
    /// Calls `each` with every field of a whole header block.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(&Field<'_>),
    ) -> Result<(), HpackError> {
        let mut input = Input(block);
        let mut in_fields = false;
        while let Some(first) = input.0.first() {
            match first {
                0x80.. => each(&self.table.field(input.integer(7)?)?),
                0x40.. => {
                    let entry = self.literal(&mut input, 6, |field| {
                        each(field);
                        Entry::new(field)
                    })?;
                    self.table.insert(entry);
                }
                0x20.. => {
                    self.resize(input.integer(5)?, in_fields)?;
                    continue;
                }
                // Without indexing, and never indexed: nobody behind this would index it.
                0x00.. => self.literal(&mut input, 4, |field| each(field))?,
            }
            in_fields = true;
        }
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH);
        Ok(())
    }

    /// Reads a field that has at least its value written out.
    fn literal<T>(
        &mut self,
        input: &mut Input<'_>,
        prefix: u32,
        each: impl FnOnce(&Field<'_>) -> T,
    ) -> Result<T, HpackError> {
        self.scratch.clear();
        let index = input.integer(prefix)?;
        if index != 0 {
            let value = input.string(&mut self.scratch)?;
            let (name, known) = match self.table.field(index)? {
                Field { name, known: Known::Whole(row), .. } => (name, Known::Name(row)),
                Field { name, known, .. } => (name, known),
            };
            let value = value.read(&self.scratch);
            return Ok(each(&Field { name, value, known, is_repeated: false }));
        }
        let name = input.string(&mut self.scratch)?;
        let value = input.string(&mut self.scratch)?;
        let (name, value) = (name.read(&self.scratch), value.read(&self.scratch));
        Ok(each(&Field { name, value, known: Known::Nothing, is_repeated: false }))
    }

    /// Size updates come first in a block (RFC 7541 4.2) and stay below what was advertised.
    fn resize(&mut self, limit: u32, in_fields: bool) -> Result<(), HpackError> {
        match usize::try_from(limit) {
            Ok(limit) if limit <= TABLE_SIZE && !in_fields => {
                self.table.resize(limit);
                Ok(())
            }
            Ok(_) | Err(_) => Err(HpackError::TableSize),
        }
    }
}

/// What is left of a header block.
struct Input<'a>(&'a [u8]);

/// A string of a block: as it stands there, or where it was decoded to.
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded { from: usize, to: usize },
}

impl<'a> Text<'a> {
    fn read<'b>(&self, scratch: &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Text::Plain(text) => text,
            Text::Decoded { from, to } => scratch.get(*from..*to).unwrap_or_default(),
        }
    }
}

impl<'a> Input<'a> {
    /// RFC 7541 5.1. Five octets say 28 bits at least: more than any length or index here.
    fn integer(&mut self, prefix: u32) -> Result<u32, HpackError> {
        let mask = (1_u32 << prefix) - 1;
        let mut value = u32::from(self.octet()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let octet = u32::from(self.octet()?);
            value += (octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::Integer)
    }

    /// RFC 7541 5.2.
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Text<'a>, HpackError> {
        let coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let len = usize::try_from(self.integer(7)?).unwrap_or(usize::MAX);
        let (text, rest) = self.0.split_at_checked(len).ok_or(HpackError::Truncated)?;
        self.0 = rest;
        if !coded {
            return Ok(Text::Plain(text));
        }
        let from = scratch.len();
        huffman::decode(text, scratch)?;
        Ok(Text::Decoded { from, to: scratch.len() })
    }

    fn octet(&mut self) -> Result<u8, HpackError> {
        let (octet, rest) = self.0.split_first().ok_or(HpackError::Truncated)?;
        self.0 = rest;
        Ok(*octet)
    }
}

fn write_string(text: &[u8], out: &mut BytesMut) {
    write_integer(u32::try_from(text.len()).unwrap_or(u32::MAX), 7, 0, out);
    out.put_slice(text);
}

fn write_integer(value: u32, prefix: u32, high: u8, out: &mut BytesMut) {
    let mask = (1_u32 << prefix) - 1;
    let low = |value: u32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    if value < mask {
        return out.put_u8(high | low(value));
    }
    out.put_u8(high | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    out.put_u8(low(rest));
}

#[cfg(test)]
mod tests;
