//! Writes header blocks for one reader, which keeps the table of RFC 7541 2.3.2.

use bytes::BytesMut;

use super::table::{Entry, Table};
use super::{Field, Known, TABLE_SIZE, write_integer};

/// Writes the header blocks of one direction of one connection, in order.
///
/// What a sender repeats is put into the reader's table the first time that it refers to it, so that
/// a connection of a single request leaves nothing there.
#[derive(Debug)]
pub struct Encoder {
    /// What the reader has in its own.
    table: Table,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_SIZE) }
    }
}

impl Encoder {
    /// Writes the next field of a block.
    pub fn write(&mut self, field: &Field<'_>, out: &mut BytesMut) {
        if let Known::Whole(row) = field.known {
            return write_integer(u32::from(row), 7, 0x80, out);
        }
        if let Some(index) = self.table.index_of(field) {
            return write_integer(index, 7, 0x80, out);
        }
        // Of a pseudo-header the reader would keep all of the buffer that it came in.
        let is_pseudo = field.name.starts_with(b":");
        if field.is_repeated && !is_pseudo && field.weight() <= TABLE_SIZE {
            field.write_literal(6, 0x40, out);
            self.table.insert(Entry::new(field));
        } else {
            field.write(out);
        }
    }

    /// Begins a block anew, of which the reader sees nothing that was written so far. What it has
    /// in its table is not known then, so it is told to empty that (RFC 7541 4.2 and 6.3).
    pub fn begin_anew(&mut self, out: &mut BytesMut) {
        if !self.table.is_empty() {
            self.table = Table::new(TABLE_SIZE);
            write_integer(0, 5, 0x20, out);
            write_integer(u32::try_from(TABLE_SIZE).unwrap_or(u32::MAX), 5, 0x20, out);
        }
    }
}
