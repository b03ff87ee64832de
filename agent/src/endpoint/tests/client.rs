//! An HTTP/2 client that sends exactly the frames it is told to, rightly or wrongly.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::endpoint::authority::PREFACE;
use crate::endpoint::hpack::{Decoder, Field, Known};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

// How HTTP/2 calls its errors.
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

pub(super) const FETCH: &str = "/SpiffeWorkloadAPI/FetchJWTSVID";
pub(super) const WATCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// What the server did, of all that a test could ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    Headers { stream: u32, fields: BTreeMap<String, String> },
    Data { stream: u32, payload: Vec<u8> },
    Reset { stream: u32, code: u32 },
    GoAway { code: u32 },
    Closed,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Grpc(i32),
    Http(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

pub(super) struct Client {
    io: UnixStream,
    input: BytesMut,
    decoder: Decoder,
    /// The server said that it takes no more requests.
    pub(super) told_to_go: bool,
    /// How long the server may keep silent before the test fails.
    pub(super) patience: Duration,
}

impl Client {
    /// A connection on which nothing was sent.
    pub(super) async fn silent(path: &Path) -> Self {
        let io = UnixStream::connect(path).await.unwrap();
        let (input, decoder) = Default::default();
        Self { io, input, decoder, told_to_go: false, patience: Duration::from_secs(60) }
    }

    /// A connection that is ready for requests.
    pub(super) async fn connect(path: &Path) -> Self {
        let mut client = Self::silent(path).await;
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        client
    }

    /// Sends as much as the server takes: it may end the connection at any moment.
    pub(super) async fn send(&mut self, octets: &[u8]) {
        drop(self.io.write_all(octets).await);
    }

    /// The next thing the server does that is not housekeeping.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            let Some((kind, flags, stream, payload)) = self.frame().await else {
                return Event::Closed;
            };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                DATA => return Event::Data { stream, payload },
                HEADERS => return Event::Headers { stream, fields: self.fields(&payload) },
                RESET => return Event::Reset { stream, code: code(0) },
                GOAWAY => {
                    self.told_to_go = true;
                    return Event::GoAway { code: code(4) };
                }
                PING if flags == 0 => self.send(&frame(PING, 1, 0, &payload)).await,
                _ => {}
            }
        }
    }

    /// How the request on this stream ends. What happens on others is passed over.
    pub(super) async fn outcome(&mut self, wanted: u32) -> Outcome {
        loop {
            match self.event().await {
                Event::Headers { stream, fields } if stream == wanted => {
                    let number = |name| fields.get(name).map(|value| value.parse().unwrap());
                    match (number("grpc-status"), number(":status")) {
                        (Some(code), _) => return Outcome::Grpc(code),
                        (None, Some(200)) => {}
                        (None, status) => {
                            return Outcome::Http(status.unwrap().try_into().unwrap());
                        }
                    }
                }
                Event::Reset { stream, code } if stream == wanted => return Outcome::Reset(code),
                Event::GoAway { code } if code != 0 => return Outcome::GoAway(code),
                Event::Closed => return Outcome::Closed,
                Event::Headers { .. }
                | Event::Data { .. }
                | Event::Reset { .. }
                | Event::GoAway { .. } => {}
            }
        }
    }

    /// Sends these frames, and waits for the end of the request on stream 1.
    pub(super) async fn ask(&mut self, frames: &[u8]) -> Outcome {
        self.send(frames).await;
        self.outcome(1).await
    }

    /// Reads on without an answer to anything, until the server ends the connection.
    pub(super) async fn ends_without_an_answer(&mut self) {
        while self.frame().await.is_some() {}
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        while self.input.len() < 9 || self.input.len() < 9 + self.length() {
            let read = timeout(self.patience, self.io.read_buf(&mut self.input)).await;
            if read.expect("the server is silent").unwrap_or_default() == 0 {
                return None;
            }
        }
        let length = self.length();
        let head = self.input.split_to(9);
        let payload = self.input.split_to(length).to_vec();
        let stream = (&head[5..]).get_u32();
        Some((head[3], head[4], stream, payload))
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]) as usize
    }

    fn fields(&mut self, block: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let add = |field: &Field<'_>| drop(fields.insert(text(field.name), text(field.value)));
        self.decoder.decode(block, add).unwrap();
        fields
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without a table.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (name, value) in fields {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        Field { name, value, known: Known::Nothing, is_repeated: false }.write(&mut out);
    }
    out.to_vec()
}

/// The fields of a good request, to be spoilt.
pub(super) fn good(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("workload.spiffe.io", "true"),
    ]
}

/// One gRPC message.
pub(super) fn message(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0], &length[..], payload].concat()
}

/// A whole request: one frame of headers, and as many of data as the body takes.
pub(super) fn request(stream: u32, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut frames = frame(HEADERS, END_HEADERS, stream, &block(fields));
    for part in body.chunks(16_384) {
        frames.extend(frame(DATA, 0, stream, part));
    }
    frames.extend(frame(DATA, END_STREAM, stream, &[]));
    frames
}
