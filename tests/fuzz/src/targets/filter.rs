//! The filter on a client's HTTP/2 connection: what comes out is what another reader of HPACK finds
//! in what went in, with a plain authority, whatever the pieces it came in, in little memory.

use std::borrow::Cow;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use loona_hpack::decoder::DecoderError;
use steeple_agent::endpoint::authority::{
    Filter, FilterError, MAX_FRAME, MAX_HEADER_LIST, OVERSIZED_PATH, PREFACE,
};
use steeple_agent::endpoint::hpack::HpackError;
use steeple_agent::endpoint::stream::PeerStream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::input::{Input, Seed};
use crate::memory;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "filter",
    check,
    seeds,
    words: &[
        ":authority",
        ":path",
        "PRI * HTTP/2.0",
        "tmp%2Fagent.sock",
        "workload.spiffe.io",
        "\u{41}\u{a}",
        "\u{20}",
        "\u{3f}\u{1}",
    ],
    max_length: 100_000,
};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

/// The length of a frame's head.
const HEAD: usize = 9;

/// More than all of these take together, each in a buffer that doubled: what was read and not yet
/// filtered, a block on its way, what it decodes to, the table, and what came out of one step.
const MAX_MEMORY: usize = 512 * 1024;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A frame as it went in or came out.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Event {
    /// It passes as it is, maybe not to its end.
    Frame(Vec<u8>),
    /// A header block: stream, end of the stream, fields.
    Fields([u8; 4], bool, Fields),
}

fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let (form, pieces) = (input.byte(), input.byte());
    let sent = match form % 3 {
        0 => input.rest().to_vec(),
        1 => [PREFACE, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0], input.rest()].concat(),
        _ => [PREFACE, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0], &frames(input)].concat(),
    };
    let mut whole = BytesMut::new();
    let result = Filter::default().push(&sent, &mut whole);
    let mut out = Vec::with_capacity(whole.len() + HEAD);
    let (piecewise, peak) = memory::peak(|| in_pieces(&sent, pieces, &mut out));
    let last = result.err().and_then(FilterError::last_frame).unwrap_or_default();
    let last: &[u8] = if result.is_ok() { &[] } else { &last };
    match result {
        Err(FilterError::Preface) => assert!(piecewise.is_err() && PREFACE.starts_with(&out)),
        _ => assert!(piecewise.is_ok() && out.strip_suffix(last) == Some(&whole)),
    }
    assert!(peak < MAX_MEMORY, "{peak} bytes of memory for {}", sent.len());
    let Some(frames) = whole.strip_prefix(PREFACE) else {
        assert!(PREFACE.starts_with(&whole), "{whole:?}");
        return;
    };
    let said = written(frames);
    let expected = expected(&sent[PREFACE.len()..]);
    let Err(error) = result else { return assert_eq!(said, expected) };
    // All up to here is right, and ends with a frame, so that another can follow.
    assert!(expected.starts_with(&said), "{said:?} is not of {expected:?}");
    assert!(!matches!(said.last(), Some(Event::Frame(frame)) if !is_whole(frame)), "{said:?}");
    match error {
        FilterError::Hpack(HpackError::TableSize) => {}
        FilterError::Hpack(_) => assert_eq!(said, expected, "a block decodes after all"),
        FilterError::Preface
        | FilterError::FrameSize
        | FilterError::Framing
        | FilterError::BlockSize => {}
    }
}

/// Frames whose lengths are right, of any kind and in any order.
fn frames(mut input: Input<'_>) -> Vec<u8> {
    const KINDS: [u8; 10] =
        [HEADERS, HEADERS, CONTINUATION, 0, 2, 3, SETTINGS, PUSH_PROMISE, 8, 99];
    let mut frames = Vec::new();
    while !input.is_empty() {
        let kind = input.choose(&KINDS);
        let flags = input.byte();
        let stream = input.choose(&[1, 3, 0, 5]);
        let payload = input.chunk();
        let copies = 1 + input.byte() % 40;
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat();
        (0..copies).for_each(|_| frames.extend(&frame));
    }
    frames
}

/// What the server reads of a client that sends pieces of lengths that follow from `pieces`.
fn in_pieces(sent: &[u8], pieces: u8, all: &mut Vec<u8>) -> io::Result<()> {
    let client = Client { rest: sent, most: [1, 9, 100, 8192][usize::from(pieces % 4)] };
    let mut stream = pin!(PeerStream::new(client, Duration::from_secs(5)));
    let mut context = Context::from_waker(Waker::noop());
    let mut buffer = [0; 8192];
    loop {
        let mut read = ReadBuf::new(&mut buffer);
        let Poll::Ready(done) = stream.as_mut().poll_read(&mut context, &mut read) else {
            panic!("waits for something");
        };
        done?;
        if read.filled().is_empty() {
            return Ok(());
        }
        all.extend_from_slice(read.filled());
    }
}

/// A client that has sent this, and whose pieces are at most so long.
struct Client<'a> {
    rest: &'a [u8],
    most: usize,
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = 1 + self.rest.len() * 7 % self.most;
        let (now, rest) = self.rest.split_at(length.min(buffer.remaining()).min(self.rest.len()));
        buffer.put_slice(now);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// The frames that came out. A block is one frame, small enough.
fn written(mut frames: &[u8]) -> Vec<Event> {
    let (mut events, mut decoder) = (Vec::new(), loona_hpack::Decoder::new());
    decoder.set_max_allowed_table_size(4096);
    while let Some((frame, rest)) = next(frames) {
        frames = rest;
        let Some((&[_, _, _, HEADERS, flags, ref stream @ ..], payload)) =
            frame.split_first_chunk::<HEAD>()
        else {
            events.push(Event::Frame(frame.to_vec()));
            continue;
        };
        assert!(flags & !1 == 4 && payload.len() <= MAX_FRAME, "{frame:?}");
        assert!(is_whole(frame));
        let fields = decode(&mut decoder, payload).unwrap();
        events.push(Event::Fields(*stream, flags & 1 != 0, fields));
    }
    events
}

/// What has to come out for these frames, as far as they can be followed.
fn expected(mut frames: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(4096);
    while let Some((first, rest)) = next(frames) {
        frames = rest;
        if first.len() < HEAD {
            break;
        }
        if first[3] != HEADERS {
            events.push(Event::Frame(first.to_vec()));
            continue;
        }
        let Some(mut block) = stripped(first) else { break };
        let (mut last, stream, end) = (first, &first[5..HEAD], first[4] & 1 != 0);
        while last[4] & 4 == 0 {
            let Some((frame, rest)) = next(frames) else { return events };
            if !is_whole(frame) || frame[3] != CONTINUATION || &frame[5..HEAD] != stream {
                return events;
            }
            (frames, last) = (rest, frame);
            block.extend(&frame[HEAD..]);
        }
        let Some(fields) = decode(&mut decoder, &block) else { break };
        events.push(Event::Fields(stream.try_into().unwrap(), end, rewritten(fields)));
    }
    events
}

/// The fields of a block. One that ends with a new size of the table is as good as any.
fn decode(decoder: &mut loona_hpack::Decoder<'_>, block: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    let add = |name: Cow<'_, [u8]>, value: Cow<'_, [u8]>| {
        fields.push((name.into_owned(), value.into_owned()));
    };
    match decoder.decode_with_cb(block, add) {
        Ok(()) | Err(DecoderError::SizeUpdateAtEnd) => Some(fields),
        Err(_) => None,
    }
}

/// The block in a HEADERS frame, without padding and priority; none if it is not all there.
fn stripped(frame: &[u8]) -> Option<Vec<u8>> {
    if !is_whole(frame) {
        return None;
    }
    let (flags, mut payload) = (frame[4], &frame[HEAD..]);
    let mut padding = 0;
    if flags & 8 != 0 {
        padding = usize::from(*payload.first()?);
        payload = &payload[1..];
    }
    if flags & 0x20 != 0 {
        payload = payload.get(5..)?;
    }
    Some(payload[..payload.len().checked_sub(padding)?].to_vec())
}

fn rewritten(mut fields: Fields) -> Fields {
    let weight: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    if weight > MAX_HEADER_LIST {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", OVERSIZED_PATH),
        ];
        return fields.map(|(name, value)| (name.into(), value.into())).to_vec();
    }
    for (name, value) in &mut fields {
        if name == b":authority" {
            *value = b"localhost".to_vec();
        }
    }
    fields
}

/// The next frame, as much of it as there is, and what follows.
fn next(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = if frames.len() < HEAD { frames.len() } else { length(frames).min(frames.len()) };
    (!frames.is_empty()).then(|| frames.split_at(whole))
}

fn is_whole(frame: &[u8]) -> bool {
    frame.len() >= HEAD && frame.len() == length(frame)
}

/// How long the frame says it is, head included.
fn length(frame: &[u8]) -> usize {
    HEAD + u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize
}

fn seeds() -> Vec<Vec<u8>> {
    let literal = |first: u8, name: &str, value: &str| {
        let length = |text: &str| vec![u8::try_from(text.len()).unwrap()];
        [vec![first], length(name), name.into(), length(value), value.into()].concat()
    };
    let fields = [
        literal(0x40, ":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        literal(0x40, ":authority", "tmp%2Fagent.sock"),
        literal(0x10, "workload.spiffe.io", "true"),
    ];
    let block = [&[0x83, 0x86][..], &fields.concat()].concat();
    let huffman = [&[0x83, 0x41, 0x86][..], &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]].concat();
    let again = [0x83, 0x86, 0xc0, 0xbf, 0xbe];
    let padded = [&[3, 0x80, 0, 0, 0, 16][..], &block, &[0; 3]].concat();
    let resized = [&[0x20, 0x3f, 0xe1, 0x1f][..], &block].concat();
    // Thirty-two entries of 128 fill the table; one more, and the oldest goes.
    let full = literal(0x40, "a", &"b".repeat(95)).repeat(32);
    let bomb = [literal(0x40, "a", &"b".repeat(120)), vec![0xbe; 120]].concat();
    // Each octet of the later blocks stands for four thousand.
    let large = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4000]].concat();
    // Each a kind, flags, a stream and a payload; and how often once more.
    let frames = |frames: &[(u8, u8, u8, &[u8])]| {
        let start = Seed::default().byte(2).byte(7);
        let seed = frames.iter().fold(start, |seed, (kind, flags, stream, payload)| {
            let copies = if *payload == [0xbe; 4] { 39 } else { 0 };
            seed.byte(*kind).byte(*flags).byte(*stream).chunk(payload).byte(copies)
        });
        seed.rest(&[])
    };
    let head = [0, 0, u8::try_from(block.len()).unwrap(), HEADERS, 4, 0, 0, 0, 1];
    vec![
        frames(&[(0, 4, 0, &block), (3, 1, 0, b"data"), (0, 5, 1, &again)]),
        frames(&[(0, 4, 0, &huffman), (4, 0, 0, b"prior"), (9, 9, 3, b"unknown")]),
        frames(&[(0, 0, 0, &block[..10]), (2, 0, 0, &block[10..30]), (2, 4, 0, &block[30..])]),
        frames(&[(0, 0x2c, 0, &padded), (8, 0, 0, &[0; 4]), (6, 1, 2, &[])]),
        frames(&[(0, 4, 0, &resized), (0, 4, 1, &again)]),
        frames(&[(0, 4, 0, &bomb), (0, 4, 1, &[0xbe])]),
        frames(&[(0, 4, 0, &large), (0, 4, 1, &[0xbe; 4]), (0, 4, 1, &[0xbe; 4])]),
        frames(&[(0, 4, 0, &block), (0, 4, 1, &[0x20, 0xbe])]),
        frames(&[(0, 4, 0, &block), (0, 4, 1, &[0x20, 0x3f, 0xe1, 0x1f, 0xc1])]),
        frames(&[(0, 4, 0, &full), (0, 4, 1, &[0xdd, 0xbe]), (0, 4, 1, &[0xde])]),
        frames(&[(0, 4, 0, &[&full[..], &literal(0x40, "c", "d")].concat()), (0, 4, 1, &[0xdd])]),
        frames(&[(0, 4, 0, &[0xbe]), (7, 4, 0, &block)]),
        Seed::default().byte(1).byte(1).rest(&[&head[..], &block].concat()),
        Seed::default()
            .byte(0)
            .byte(2)
            .rest(&[PREFACE, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]].concat()),
    ]
}
