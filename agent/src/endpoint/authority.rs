//! Rewrites what a client sends on an HTTP/2 connection so that every request names the same
//! `:authority`; knows nothing of sockets or of gRPC.
//!
//! On a Unix socket clients put almost anything there: the path, raw or percent-encoded, a
//! configured cluster name, nothing. It means nothing on such a socket, and the HTTP/2 server
//! behind this would reset the stream over it. Header blocks are decoded and written again, each end
//! with a table of its own; all else passes as it came.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::hpack::{Decoder, Encoder, Field, HpackError, Known};

/// What every client begins with (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest payload of a frame that a server which does not say otherwise takes
/// (RFC 9113 6.5.2).
pub const MAX_FRAME: usize = 16_384;

/// How much the fields of one header block may weigh together. A block that says more is replaced
/// by a request for [`OVERSIZED_PATH`].
pub const MAX_HEADER_LIST: usize = 16_384;

/// The path asked for in place of a header block that was too large: the server can refuse that
/// request alone, and the connection goes on.
pub const OVERSIZED_PATH: &str = "/header-list-too-large";

/// How large a header block may be as it is sent. Beyond it the connection ends, since what is not
/// decoded cannot be skipped.
const MAX_BLOCK: usize = 4 * MAX_FRAME;

/// How many frames may continue one header block. `MAX_BLOCK` needs three.
const MAX_CONTINUATIONS: u8 = 16;

/// A block is decoded in one piece; the buffer for it is not kept when it had to be larger.
const BLOCK_BUFFER: usize = 1024;

const AUTHORITY: Field<'static> =
    Field { name: b":authority", value: b"localhost", known: Known::Name(1), is_repeated: false };

/// Why the connection must end.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum FilterError {
    /// The client does not speak HTTP/2.
    #[error("connection does not begin with the HTTP/2 preface")]
    Preface,
    /// A frame is larger than the server takes.
    #[error("frame is larger than {MAX_FRAME} bytes")]
    FrameSize,
    /// The first frame is not SETTINGS, or a header block is interrupted, continued in the wrong
    /// place, padded with more than there is, or pushed by a client.
    #[error("frames do not follow one another as HTTP/2 requires")]
    Framing,
    /// A header block is larger than anything a client has a reason to send.
    #[error("header block is too large or in too many frames")]
    BlockSize,
    /// A header block does not decode.
    #[error("header block does not decode")]
    Hpack(#[from] HpackError),
}

impl FilterError {
    /// The head of a frame that makes any HTTP/2 server end the connection for the same kind of
    /// reason, with a GOAWAY that tells the client. None for a client that would not know one.
    #[must_use]
    pub const fn last_frame(self) -> Option<[u8; HEAD]> {
        match self {
            Self::Preface => None,
            // DATA of the largest length there is.
            Self::FrameSize => Some([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
            // The continuation of nothing.
            Self::Framing | Self::BlockSize | Self::Hpack(_) => Some([0, 0, 0, 9, 4, 0, 0, 0, 1]),
        }
    }
}

/// The length of a frame's head.
const HEAD: usize = 9;

mod kind {
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// The rewriting of one connection. Holds the tables of both ends and at most one header block.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    decoder: Decoder,
    encoder: Encoder,
    /// The block under way; its fragments are in `buffer`.
    block: Option<Block>,
    buffer: Vec<u8>,
    /// The preface is complete, with the SETTINGS behind it.
    greeted: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the preface, of which so much was seen.
    Preface { seen: usize },
    /// In the head of a frame.
    Head { head: [u8; HEAD], seen: usize },
    /// In a frame that passes as it is.
    Pass { left: usize },
    /// In a frame that holds a piece of a header block.
    Fragment { head: Head, left: usize },
}

#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

#[derive(Clone, Copy, Debug)]
struct Block {
    stream: [u8; 4],
    end_stream: bool,
    continuations: u8,
}

impl Default for State {
    fn default() -> Self {
        Self::Preface { seen: 0 }
    }
}

impl Filter {
    /// Takes what the client sent next, in pieces of any size, and appends to `out` what the
    /// server is to read. After an error nothing more may be pushed.
    pub fn push(&mut self, mut input: &[u8], out: &mut BytesMut) -> Result<(), FilterError> {
        while !input.is_empty() {
            input = match self.state {
                State::Preface { seen } => self.preface(input, seen, out)?,
                State::Head { head, seen } => self.head(input, head, seen, out)?,
                State::Pass { left } => self.pass(input, left, out),
                State::Fragment { head, left } => self.fragment(input, head, left, out)?,
            };
        }
        Ok(())
    }

    /// Whether the client is in the middle of something that it has no reason to take time over:
    /// the preface with the frame behind it, or a header block.
    #[must_use]
    pub const fn owes(&self) -> bool {
        !self.greeted || self.block.is_some() || matches!(self.state, State::Fragment { .. })
    }

    fn preface<'a>(
        &mut self,
        input: &'a [u8],
        seen: usize,
        out: &mut BytesMut,
    ) -> Result<&'a [u8], FilterError> {
        let expected = PREFACE.get(seen..).unwrap_or_default();
        let (now, rest) = split(input, expected.len());
        if !expected.starts_with(now) {
            return Err(FilterError::Preface);
        }
        out.put_slice(now);
        let seen = seen + now.len();
        self.state = if seen < PREFACE.len() { State::Preface { seen } } else { State::NEXT };
        Ok(rest)
    }

    fn head<'a>(
        &mut self,
        input: &'a [u8],
        mut head: [u8; HEAD],
        seen: usize,
        out: &mut BytesMut,
    ) -> Result<&'a [u8], FilterError> {
        let missing = head.get_mut(seen..).unwrap_or_default();
        let (now, rest) = split(input, missing.len());
        for (slot, octet) in missing.iter_mut().zip(now) {
            *slot = *octet;
        }
        if now.len() < missing.len() {
            self.state = State::Head { head, seen: seen + now.len() };
            return Ok(rest);
        }
        self.begin(head, out)?;
        Ok(rest)
    }

    /// Decides what becomes of a frame.
    fn begin(&mut self, raw: [u8; HEAD], out: &mut BytesMut) -> Result<(), FilterError> {
        let head = Head::parse(raw);
        if head.length > MAX_FRAME {
            return Err(FilterError::FrameSize);
        }
        if !self.greeted && head.kind != kind::SETTINGS {
            return Err(FilterError::Framing);
        }
        match (head.kind, &mut self.block) {
            (kind::HEADERS, None) => {}
            (kind::CONTINUATION, Some(block)) if block.stream == head.stream => {
                block.continuations += 1;
                if block.continuations > MAX_CONTINUATIONS
                    || self.buffer.len() + head.length > MAX_BLOCK
                {
                    return Err(FilterError::BlockSize);
                }
            }
            (kind::CONTINUATION | kind::PUSH_PROMISE, _) | (_, Some(_)) => {
                return Err(FilterError::Framing);
            }
            (_, None) => {
                out.put_slice(&raw);
                self.passed(head.length);
                return Ok(());
            }
        }
        if head.length == 0 {
            return self.end_fragment(head, out);
        }
        self.state = State::Fragment { head, left: head.length };
        Ok(())
    }

    fn pass<'a>(&mut self, input: &'a [u8], left: usize, out: &mut BytesMut) -> &'a [u8] {
        let (now, rest) = split(input, left);
        out.put_slice(now);
        self.passed(left - now.len());
        rest
    }

    fn passed(&mut self, left: usize) {
        self.greeted |= left == 0;
        self.state = if left > 0 { State::Pass { left } } else { State::NEXT };
    }

    fn fragment<'a>(
        &mut self,
        input: &'a [u8],
        head: Head,
        left: usize,
        out: &mut BytesMut,
    ) -> Result<&'a [u8], FilterError> {
        let (now, rest) = split(input, left);
        self.buffer.extend_from_slice(now);
        let left = left - now.len();
        if left > 0 {
            self.state = State::Fragment { head, left };
        } else {
            self.end_fragment(head, out)?;
        }
        Ok(rest)
    }

    /// A frame with a piece of a header block is complete.
    fn end_fragment(&mut self, head: Head, out: &mut BytesMut) -> Result<(), FilterError> {
        self.state = State::NEXT;
        let block = match self.block.take() {
            Some(block) => block,
            None => {
                strip(&mut self.buffer, head.flags)?;
                Block::new(&head)
            }
        };
        if head.flags & flag::END_HEADERS == 0 {
            self.block = Some(block);
            return Ok(());
        }
        let start = out.len();
        out.put_slice(&[0; HEAD]);
        // Nothing of a block that does not decode may come out: what follows is read as a frame.
        let whole = self.rewrite(out).inspect_err(|_| out.truncate(start))?;
        if !whole {
            out.truncate(start + HEAD);
            self.encoder.begin_anew(out);
            refuse(out);
        }
        block.write_head(start, out);
        self.buffer.clear();
        self.buffer.shrink_to(BLOCK_BUFFER);
        Ok(())
    }

    /// Writes the block again; false if it says too much and was written in part.
    fn rewrite(&mut self, out: &mut BytesMut) -> Result<bool, HpackError> {
        let mut weight = 0_usize;
        self.decoder.decode(&self.buffer, |field| {
            weight = weight.saturating_add(field.weight());
            if weight > MAX_HEADER_LIST {
                return;
            }
            let authority = Field { is_repeated: field.is_repeated, ..AUTHORITY };
            let field = if field.name == AUTHORITY.name { &authority } else { field };
            self.encoder.write(field, out);
        })?;
        Ok(weight <= MAX_HEADER_LIST)
    }
}

impl State {
    const NEXT: Self = Self::Head { head: [0; HEAD], seen: 0 };
}

impl Head {
    const fn parse([a, b, c, kind, flags, stream @ ..]: [u8; HEAD]) -> Self {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self { length, kind, flags, stream }
    }
}

impl Block {
    const fn new(head: &Head) -> Self {
        let end_stream = head.flags & flag::END_STREAM != 0;
        Self { stream: head.stream, end_stream, continuations: 0 }
    }

    /// Fills in the head that was left free at `start`, now that the length is known. The block
    /// fits one frame: written again, no field takes more than it weighs.
    fn write_head(&self, start: usize, out: &mut BytesMut) {
        let length = out.len().saturating_sub(start + HEAD);
        let [.., a, b, c] = length.to_be_bytes();
        let flags = flag::END_HEADERS | if self.end_stream { flag::END_STREAM } else { 0 };
        if let Some(head) = out.get_mut(start..start + HEAD) {
            let [d, e, f, g] = self.stream;
            head.copy_from_slice(&[a, b, c, kind::HEADERS, flags, d, e, f, g]);
        }
    }
}

/// The request that stands for one that says too much.
fn refuse(out: &mut BytesMut) {
    for (row, name, value) in
        [(3, b":method".as_slice(), b"POST".as_slice()), (6, b":scheme", b"http")]
    {
        Field { name, value, known: Known::Whole(row), is_repeated: false }.write(out);
    }
    AUTHORITY.write(out);
    let path = OVERSIZED_PATH.as_bytes();
    Field { name: b":path", value: path, known: Known::Name(4), is_repeated: false }.write(out);
}

/// Takes padding and priority out of the payload of a HEADERS frame (RFC 9113 6.2).
fn strip(payload: &mut Vec<u8>, flags: u8) -> Result<(), FilterError> {
    let (mut from, mut to) = (0, payload.len());
    if flags & flag::PADDED != 0 {
        let padding = payload.first().ok_or(FilterError::Framing)?;
        from += 1;
        to = to.checked_sub(usize::from(*padding)).ok_or(FilterError::Framing)?;
    }
    if flags & flag::PRIORITY != 0 {
        from += 5;
    }
    if from > to {
        return Err(FilterError::Framing);
    }
    payload.truncate(to);
    payload.drain(..from);
    Ok(())
}

fn split(input: &[u8], at: usize) -> (&[u8], &[u8]) {
    input.split_at_checked(at).unwrap_or((input, &[]))
}

#[cfg(test)]
mod tests;
