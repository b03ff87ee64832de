//! The filter on whole conversations, in one piece and octet by octet.

use super::*;

const SETTINGS: [u8; HEAD] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags, 1, payload)
}

/// A literal field that goes into the table (0x40) or does not (0x00).
fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    let (name, value) = (name.as_bytes(), value.as_bytes());
    Field { name, value, known: Known::Nothing, is_repeated: false }.write(&mut out);
    out[0] |= first;
    out.to_vec()
}

/// A request block with this authority, written as grpc-core does: indexed where it can be.
fn request(authority: &str) -> Vec<u8> {
    let path = literal(0x40, ":path", "/SpiffeWorkloadAPI/FetchX509SVID");
    let security = literal(0x40, "workload.spiffe.io", "true");
    [&[0x83, 0x86][..], &path, &literal(0x40, ":authority", authority), &security].concat()
}

/// The fields of each header block in a rewritten conversation, with the flags of its frame; other
/// frames by their kind and length.
fn read(mut input: &[u8]) -> Vec<String> {
    let (mut said, mut decoder) = (Vec::new(), Decoder::default());
    assert_eq!(&input[..PREFACE.len()], PREFACE);
    input = &input[PREFACE.len()..];
    while !input.is_empty() {
        let head = Head::parse(input[..HEAD].try_into().unwrap());
        let payload = &input[HEAD..HEAD + head.length];
        input = &input[HEAD + head.length..];
        if head.kind != kind::HEADERS {
            said.push(format!("kind {} length {}", head.kind, head.length));
            continue;
        }
        let mut fields = format!("headers {:x}", head.flags);
        let mut add = |field: &Field<'_>| {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            fields += &format!(" {}={}", text(field.name), text(field.value));
        };
        decoder.decode(payload, &mut add).unwrap();
        said.push(fields);
    }
    said
}

/// Pushes the conversation behind the preface and an empty SETTINGS, once whole and once octet by
/// octet, and demands the same of both.
#[track_caller]
fn push(frames: &[Vec<u8>]) -> (Vec<String>, Result<(), FilterError>) {
    let input = [PREFACE, &SETTINGS, &frames.concat()].concat();
    let (mut whole, mut pieces) = (BytesMut::new(), BytesMut::new());
    let result = Filter::default().push(&input, &mut whole);
    let mut filter = Filter::default();
    let piecewise = input.iter().try_for_each(|octet| filter.push(&[*octet], &mut pieces));
    assert_eq!(piecewise, result);
    if result.is_ok() {
        assert_eq!(pieces, whole);
    }
    let said = if result.is_ok() { read(&whole) } else { Vec::new() };
    (said, result)
}

#[track_caller]
fn check(frames: &[Vec<u8>], expected: &[&str]) {
    let (said, result) = push(frames);
    assert_eq!(result, Ok(()));
    let (settings, said) = said.split_first().unwrap();
    assert_eq!(settings, "kind 4 length 0");
    assert_eq!(said, expected);
}

#[track_caller]
fn check_error(frames: &[Vec<u8>], expected: FilterError) {
    assert_eq!(push(frames).1, Err(expected));
}

const REQUEST: &str = "headers 4 :method=POST :scheme=http :path=/SpiffeWorkloadAPI/FetchX509SVID \
                       :authority=localhost workload.spiffe.io=true";

#[test]
fn any_authority_becomes_localhost() {
    for authority in [
        "localhost",
        "tmp%2Fagent.sock",
        "/run/spire/agent.sock",
        "unix:///tmp/a.sock",
        "",
        "a b",
        "a|b",
        "spire_agent",
        "user@host:port",
        "\u{e9}\u{1f}",
    ] {
        check(&[headers(4, &request(authority))], &[REQUEST]); // PIT-01, H035
    }
    let huffman = [&[0x83, 0x41, 0x86][..], &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]].concat();
    check(&[headers(4, &huffman)], &["headers 4 :method=POST :authority=localhost"]);
    check(&[headers(4, &[0x81])], &["headers 4 :authority=localhost"]); // the row of the table
}

/// What is malformed stays so, and the server refuses it.
#[test]
fn an_authority_is_neither_added_nor_merged() {
    check(&[headers(4, &[0x83, 0x86])], &["headers 4 :method=POST :scheme=http"]);
    let twice = [literal(0, ":authority", "a"), literal(0, ":authority", "b")].concat();
    check(&[headers(4, &twice)], &["headers 4 :authority=localhost :authority=localhost"]);
    let late = [literal(0, "te", "trailers"), literal(0, ":authority", "a")].concat();
    check(&[headers(4, &late)], &["headers 4 te=trailers :authority=localhost"]);
    check(&[headers(4, &literal(0, ":Authority", "a"))], &["headers 4 :Authority=a"]); // H036
}

#[test]
fn later_requests_may_use_the_table() {
    let second = frame(kind::HEADERS, 5, 3, &[0x83, 0x86, 0xc0, 0xbf, 0xbe]);
    let said = REQUEST.replace("headers 4", "headers 5");
    check(&[headers(4, &request("a|b")), second], &[REQUEST, &said]);
}

#[test]
fn frames_that_hold_no_header_pass_as_they_are() {
    let data = frame(0, 1, 1, &vec![7; MAX_FRAME]);
    let [ping, reset, update] =
        [frame(6, 0, 0, &[1; 8]), frame(3, 0, 1, &[0; 4]), frame(8, 0, 0, &[1; 4])];
    let unknown = frame(0xfa, 0xff, 9, b"anything");
    let sent = [PREFACE, &SETTINGS, &[data, ping, reset, update, unknown].concat()].concat();
    let mut out = BytesMut::new();
    Filter::default().push(&sent, &mut out).unwrap();
    assert_eq!(out, sent);
}

#[test]
fn a_block_may_come_in_several_frames() {
    let block = request("a b");
    let (one, rest) = block.split_at(10);
    let (two, three) = rest.split_at(30);
    let next = |flags, payload: &[u8]| frame(kind::CONTINUATION, flags, 1, payload);
    check(&[headers(0, one), next(0, two), next(4, three)], &[REQUEST]);
    check(&[headers(0, &[]), next(0, &[]), next(4, &block)], &[REQUEST]);
    check(&[headers(0, &block), next(4, &[])], &[REQUEST]);
}

#[test]
fn padding_and_priority_are_taken_off() {
    let block = request("/run/a.sock");
    let padded = [&[3][..], &block, &[0; 3]].concat();
    check(&[headers(0xc, &padded)], &[REQUEST]);
    let priority = [&[0x80, 0, 0, 0, 16][..], &block].concat();
    check(&[headers(0x24, &priority)], &[REQUEST]);
    let both = [&[2][..], &priority, &[0; 2]].concat();
    check(&[headers(0x2c, &both)], &[REQUEST]);
    let (first, second) = both.split_at(both.len() - 40);
    let first = [first, &[0; 2]].concat(); // The padding ends the frame, not the block.
    let second = frame(kind::CONTINUATION, 4, 1, &second[..38]);
    check(&[headers(0x28, &first), second], &[REQUEST]);
    check(&[headers(0xc, &[0])], &["headers 4"]);
    for (flags, payload) in
        [(0xc, &[][..]), (0xc, &[1]), (0xc, &[9, 0, 0]), (0x24, &[0; 4]), (0x2c, &[1; 6])]
    {
        check_error(&[headers(flags, payload)], FilterError::Framing);
    }
}

#[test]
fn a_block_that_is_interrupted_ends_the_connection() {
    let block = request("a");
    for other in [
        frame(0, 0, 1, b"data"),
        frame(kind::CONTINUATION, 4, 3, &block),
        frame(kind::HEADERS, 4, 3, &block),
        frame(6, 0, 0, &[0; 8]),
        frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
    ] {
        check_error(&[headers(0, &block), other], FilterError::Framing);
    }
    check_error(&[frame(kind::CONTINUATION, 4, 1, &block)], FilterError::Framing);
    check_error(&[frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])], FilterError::Framing);
}

#[test]
fn a_header_list_beyond_the_limit_becomes_a_request_that_is_refused() {
    let refused =
        "headers 4 :method=POST :scheme=http :authority=localhost :path=/header-list-too-large";
    let within = MAX_HEADER_LIST - 33;
    let long = |len| headers(4, &literal(0, "a", &"b".repeat(len)));
    let split = |len: usize| {
        let block = literal(0, "a", &"b".repeat(len));
        let (first, rest) = block.split_at(MAX_FRAME.min(block.len()));
        vec![headers(0, first), frame(kind::CONTINUATION, 4, 1, rest)]
    };
    check(&[long(within)], &[&format!("headers 4 a={}", "b".repeat(within))]);
    check(&[long(within + 1)], &[refused]);
    check(&split(20 * 1024), &[refused]); // H044
    let many = literal(0, "a", "b").repeat(10_000);
    let mut frames: Vec<_> =
        many.chunks(MAX_FRAME).map(|part| frame(kind::CONTINUATION, 0, 1, part)).collect();
    frames[0][3] = kind::HEADERS;
    frames.last_mut().unwrap()[4] = 4;
    check(&frames, &[refused]); // H044
    // One octet each that stands for four thousand.
    let bomb = [literal(0x40, "a", &"b".repeat(4000)), vec![0xbe; 12_000]].concat();
    check(&[headers(4, &bomb)], &[refused]);
    let mut out = BytesMut::new();
    let sent = [PREFACE, &SETTINGS, &headers(4, &bomb)].concat();
    Filter::default().push(&sent, &mut out).unwrap();
    assert!(out.capacity() < 4 * MAX_HEADER_LIST, "{}", out.capacity());
}

/// What the server was told in such a block, it has not heard.
#[test]
fn a_block_that_was_written_in_part_leaves_no_trace() {
    let known = [literal(0x40, "a", "b"), literal(0x40, "c", "d")].concat();
    let at = |stream, block: &[u8]| frame(kind::HEADERS, 4, stream, block);
    // The first goes into the server's table, the other only in a block that it does not see.
    let too_much = [vec![0xbf, 0xbe], literal(0, "x", &"y".repeat(MAX_HEADER_LIST))].concat();
    let (first, rest) = too_much.split_at(MAX_FRAME);
    let (said, result) = push(&[
        at(1, &known),
        at(3, &[0xbf]),
        at(5, &[0xbf]),
        frame(kind::HEADERS, 0, 7, first),
        frame(kind::CONTINUATION, 4, 7, rest),
        at(9, &[0xbe, 0xbf]),
        at(11, &[0xbe, 0xbf]),
    ]);
    assert_eq!(result, Ok(()));
    let refused = ":method=POST :scheme=http :authority=localhost :path=/header-list-too-large";
    let expected = ["a=b c=d", "a=b", "a=b", refused, "c=d a=b", "c=d a=b"];
    assert_eq!(said[1..], expected.map(|fields| format!("headers 4 {fields}")));
}

/// Of a request that is like the one before, the server is told only what its table may not have.
#[test]
fn what_a_client_repeats_is_not_written_out_again() {
    let again = [&[0x83, 0x86][..], &[0xc0, 0xbf, 0xbe]].concat();
    let mut filter = Filter::default();
    let mut lengths = Vec::new();
    let mut push = |input: &[u8]| {
        let mut out = BytesMut::new();
        filter.push(input, &mut out).unwrap();
        lengths.push(out.len());
    };
    push(&[PREFACE, &SETTINGS].concat());
    push(&headers(4, &request("a")));
    (0..3).for_each(|_| push(&headers(4, &again)));
    let [_, first, second, third, fourth] = lengths[..] else { panic!("{lengths:?}") };
    // Whether there will be another request is not known with the first.
    assert_eq!((second, third), (first, fourth));
    assert_eq!(third, second + 1 - literal(0x40, "workload.spiffe.io", "true").len());
}

/// The table follows a block even where the block is refused.
#[test]
fn a_refused_block_still_fills_the_table() {
    let first =
        [literal(0, "a", &"b".repeat(15_940)), literal(0x40, "c", &"d".repeat(400))].concat();
    let (said, result) = push(&[headers(4, &first), frame(kind::HEADERS, 4, 3, &[0xbe])]);
    assert_eq!(result, Ok(()));
    assert_eq!(said[2], format!("headers 4 c={}", "d".repeat(400)));
}

#[test]
fn a_block_that_cannot_be_held_ends_the_connection() {
    let part = |kind, flags| frame(kind, flags, 1, &vec![0; MAX_FRAME]);
    let mut frames = vec![part(kind::HEADERS, 0)];
    frames.resize(5, part(kind::CONTINUATION, 0));
    check_error(&frames, FilterError::BlockSize);
    let mut frames = vec![headers(0, &request("a"))];
    frames.resize(18, frame(kind::CONTINUATION, 0, 1, &[]));
    check_error(&frames, FilterError::BlockSize); // H044
    frames.truncate(17);
    frames[16][4] = 4;
    check(&frames, &[REQUEST]);
}

#[test]
fn a_frame_larger_than_the_server_takes_ends_the_connection() {
    for kind in [0, 1, 4, 6, 9, 0xfa] {
        check_error(&[frame(kind, 4, 1, &vec![0; MAX_FRAME + 1])], FilterError::FrameSize);
    }
}

#[test]
fn a_block_that_does_not_decode_ends_the_connection() {
    check_error(&[headers(4, &[0xbe])], FilterError::Hpack(HpackError::Index));
    check_error(&[headers(4, &[0x82, 0x20])], FilterError::Hpack(HpackError::TableSize));
}

/// What is read after it is the frame that ends the connection.
#[test]
fn nothing_comes_out_of_a_block_that_does_not_decode() {
    let start = [PREFACE, &SETTINGS].concat();
    let block = [request("a"), vec![0xff]].concat();
    let mut out = BytesMut::new();
    let sent = [&start[..], &headers(4, &block)].concat();
    let pushed = Filter::default().push(&sent, &mut out);
    assert_eq!((pushed, &*out), (Err(FilterError::Hpack(HpackError::Truncated)), &*start));
}

#[test]
fn what_is_not_http_2_is_refused_at_the_first_wrong_octet() {
    let tls = [0x16, 3, 1, 2, 0, 1, 0];
    for input in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &tls,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        b"PRI /",
        &[0; 3],
    ] {
        let mut out = BytesMut::new();
        assert_eq!(Filter::default().push(input, &mut out), Err(FilterError::Preface)); // H037
    }
}

/// RFC 9113 3.4
#[test]
fn the_first_frame_is_settings() {
    for first in [frame(6, 0, 0, &[0; 8]), headers(4, &request("a")), frame(0xfa, 0, 0, &[])] {
        let input = [PREFACE, &first].concat();
        let pushed = Filter::default().push(&input, &mut BytesMut::new());
        assert_eq!(pushed, Err(FilterError::Framing));
    }
}

#[test]
fn a_client_owes_the_rest_of_its_preface_and_of_its_header_blocks() {
    let mut filter = Filter::default();
    let mut out = BytesMut::new();
    let mut owes = |input: &[u8]| {
        filter.push(input, &mut out).unwrap();
        filter.owes()
    };
    assert!(owes(&[]));
    assert!(owes(PREFACE));
    assert!(owes(&SETTINGS[..8]));
    assert!(!owes(&SETTINGS[8..]));
    assert!(!owes(&frame(0, 0, 1, b"data")[..11]));
    assert!(!owes(b"ta"));
    let block = request("a");
    let sent = headers(0, &block);
    assert!(owes(&sent[..10]));
    assert!(owes(&sent[10..]));
    assert!(!owes(&frame(kind::CONTINUATION, 4, 1, &[])));
}

/// Any octets, in any pieces: no panic, the same result, and never much more memory than input.
#[test]
fn hostile_octets_in_any_pieces_have_one_outcome() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2_000 {
        let mut input = [PREFACE, &SETTINGS].concat();
        for _ in 0..random() % 6 {
            let payload: Vec<u8> = (0..random() % 90).map(|_| random().to_le_bytes()[0]).collect();
            let kind = [1, 1, 9, 9, 0, 4][random() as usize % 6];
            input.extend(frame(kind, random().to_le_bytes()[0], 1, &payload));
        }
        let (mut whole, mut pieces) = (BytesMut::new(), BytesMut::new());
        let result = Filter::default().push(&input, &mut whole);
        let mut filter = Filter::default();
        let mut rest = input.as_slice();
        let piecewise = loop {
            let (now, later) = split(rest, 1 + random() as usize % 40);
            rest = later;
            let pushed = filter.push(now, &mut pieces);
            if pushed.is_err() || rest.is_empty() {
                break pushed;
            }
        };
        assert_eq!((piecewise, pieces), (result, whole));
    }
}
