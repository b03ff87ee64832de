//! The two tables an HPACK index points into (RFC 7541 2.3): the fixed one, and the one that the
//! sender fills.

use std::collections::VecDeque;

use super::{Field, HpackError, Known};

/// What the bookkeeping of an entry is taken to weigh (RFC 7541 4.1).
const OVERHEAD: usize = 32;

/// RFC 7541 appendix A. The first row has index 1.
#[rustfmt::skip]
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The entries the sender added, newest first, never heavier than the limit in force.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

/// A field that is kept: its name and value behind one another in one allocation.
#[derive(Debug)]
pub(super) struct Entry {
    text: Box<[u8]>,
    name_len: usize,
    /// The row of the fixed table that has the same name; 0 for none.
    static_name: u8,
}

impl Table {
    pub(super) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, limit }
    }

    /// Makes room for the entry and takes it in, or forgets everything if it would never fit
    /// (RFC 7541 4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let weight = entry.weight();
        self.evict(self.limit.saturating_sub(weight));
        if weight <= self.limit {
            self.size += weight;
            self.entries.push_front(entry);
        }
    }

    /// Sets a new limit, which the caller has checked.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(limit);
    }

    /// The field an index stands for.
    pub(super) fn field(&self, index: u32) -> Result<Field<'_>, HpackError> {
        match fixed(index) {
            Some(field) => Ok(field),
            None => self.entry(index).map(Entry::field),
        }
    }

    /// The index of an entry that is this field.
    pub(super) fn index_of(&self, field: &Field<'_>) -> Option<u32> {
        let position = self.entries.iter().position(|entry| entry.is(field))?;
        u32::try_from(STATIC.len() + 1 + position).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, index: u32) -> Result<&Entry, HpackError> {
        usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_sub(STATIC.len() + 1))
            .and_then(|index| self.entries.get(index))
            .ok_or(HpackError::Index)
    }

    fn evict(&mut self, room: usize) {
        while self.size > room
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.weight();
        }
    }
}

impl Entry {
    pub(super) fn new(field: &Field<'_>) -> Self {
        let static_name = match field.known {
            Known::Whole(row) | Known::Name(row) => row,
            Known::Nothing => 0,
        };
        let text = [field.name, field.value].concat().into_boxed_slice();
        Self { text, name_len: field.name.len(), static_name }
    }

    fn field(&self) -> Field<'_> {
        let (name, value) = self.text.split_at_checked(self.name_len).unwrap_or_default();
        let known =
            if self.static_name == 0 { Known::Nothing } else { Known::Name(self.static_name) };
        Field { name, value, known, is_repeated: true }
    }

    fn is(&self, field: &Field<'_>) -> bool {
        self.text.len() == field.name.len() + field.value.len()
            && self.text.split_at_checked(self.name_len) == Some((field.name, field.value))
    }

    const fn weight(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// What a field weighs in a table and in a header list (RFC 7541 4.1, RFC 9113 6.5.2).
pub(super) const fn weight(field: &Field<'_>) -> usize {
    field.name.len() + field.value.len() + OVERHEAD
}

/// A row of the fixed table, as the field it is.
fn fixed(index: u32) -> Option<Field<'static>> {
    let row = u8::try_from(index).ok()?;
    let (name, value) = STATIC.get(usize::from(row.checked_sub(1)?))?;
    Some(Field { name, value, known: Known::Whole(row), is_repeated: true })
}
