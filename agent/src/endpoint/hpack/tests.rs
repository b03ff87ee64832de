//! HPACK against the vectors of RFC 7541 appendix C and against hostile blocks.

use bytes::BytesMut;

use super::*;

/// A header block in hexadecimal, and the fields it says, one a line.
type Row<'a> = (&'a str, Result<&'a str, HpackError>);

fn octets(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(octet).collect()
}

fn line(field: &Field<'_>) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    format!("{}: {}\n", text(field.name), text(field.value))
}

/// Decodes blocks that follow one another on one connection. Written again, each must say the
/// same to a decoder that knows nothing of the others; and by an encoder, to one that knows them.
#[track_caller]
fn check(blocks: &[Row<'_>]) {
    let mut decoder = Decoder::default();
    let (mut encoder, mut reader) = (Encoder::default(), Decoder::default());
    for (hex, expected) in blocks {
        let (mut found, mut written) = (String::new(), BytesMut::new());
        let mut encoded = BytesMut::new();
        let result = decoder.decode(&octets(hex), |field| {
            found += &line(field);
            field.write(&mut written);
            encoder.write(field, &mut encoded);
        });
        assert_eq!(result.map(|()| found.trim_end()), *expected, "{hex}");
        let mut again = String::new();
        Decoder::default().decode(&written, |field| again += &line(field)).unwrap();
        assert_eq!(again, found, "{hex} written again as {written:x?}");
        let mut read = String::new();
        reader.decode(&encoded, |field| read += &line(field)).unwrap();
        assert_eq!(read, found, "{hex} encoded as {encoded:x?}");
    }
}

#[test]
fn single_fields_of_rfc_7541_c_2_decode() {
    check(&[(
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        Ok("custom-key: custom-header"),
    )]);
    check(&[("040c 2f73 616d 706c 652f 7061 7468", Ok(":path: /sample/path"))]);
    check(&[("1008 7061 7373 776f 7264 0673 6563 7265 74", Ok("password: secret"))]);
    check(&[("82", Ok(":method: GET"))]);
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
];

#[test]
fn requests_of_rfc_7541_c_3_and_c_4_decode() {
    check(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", Ok(REQUESTS[0])),
        ("8286 84be 5808 6e6f 2d63 6163 6865", Ok(REQUESTS[1])),
        (
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            Ok(REQUESTS[2]),
        ),
    ]);
    check(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", Ok(REQUESTS[0])),
        ("8286 84be 5886 a8eb 1064 9cbf", Ok(REQUESTS[1])),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", Ok(REQUESTS[2])),
    ]);
}

const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

/// A table of 256 octets, set by the update in front, which must forget as the standard says.
#[test]
fn responses_of_rfc_7541_c_5_and_c_6_decode() {
    check(&[
        (
            "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            Ok(RESPONSES[0]),
        ),
        ("4803 3330 37c1 c0bf", Ok(RESPONSES[1])),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            Ok(RESPONSES[2]),
        ),
    ]);
    check(&[
        (
            "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            Ok(RESPONSES[0]),
        ),
        ("4883 640e ffc1 c0bf", Ok(RESPONSES[1])),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            Ok(RESPONSES[2]),
        ),
    ]);
}

#[test]
fn an_index_points_at_a_field_or_is_refused() {
    check(&[("bd", Ok("www-authenticate:"))]); // 61, the last of the fixed table
    check(&[("be", Err(HpackError::Index))]); // 62, and nothing was added yet
    check(&[("80", Err(HpackError::Index))]); // RFC 7541 6.1: 0 is an error
    check(&[("4001 6101 62", Ok("a: b")), ("be", Ok("a: b")), ("bf", Err(HpackError::Index))]);
    check(&[("7e01 63", Err(HpackError::Index))]); // the name of 62
    check(&[("4001 6101 62 7e01 63 be bf", Ok("a: b\na: c\na: c\na: b"))]);
}

#[test]
fn a_number_has_five_octets_at_most() {
    check(&[("ff 00", Err(HpackError::Index))]); // 127
    check(&[("ff ffff ff7f", Err(HpackError::Index))]);
    check(&[("ff ffff ffff 00", Err(HpackError::Integer))]);
    check(&[("ff ffff ffff ffff ffff ffff 7f", Err(HpackError::Integer))]);
    check(&[("7f 9f80 8000 01 62", Err(HpackError::Index))]); // 94, written with more zeros
    check(&[("00 7f ffff ff7f", Err(HpackError::Truncated))]); // a name of 256 MiB
    check(&[("00 01 61 ff ffff ff7f", Err(HpackError::Truncated))]);
}

#[test]
fn a_block_ends_where_a_field_does() {
    for block in
        ["ff", "40", "40 01", "40 0161", "40 0161 01", "41", "41 0561 6263", "00", "3f", "04 81"]
    {
        check(&[(block, Err(HpackError::Truncated))]);
    }
    check(&[("", Ok(""))]);
}

#[test]
fn the_table_grows_no_larger_than_advertised() {
    check(&[("3fe1 1f 82", Ok(":method: GET"))]); // 4096
    check(&[("3fe2 1f 82", Err(HpackError::TableSize))]); // 4097
    check(&[("3fff ffff 7f 82", Err(HpackError::TableSize))]);
    check(&[("20 3fe1 1f 82", Ok(":method: GET"))]); // down to nothing and up again
    check(&[("82 20", Err(HpackError::TableSize))]); // RFC 7541 4.2: at the beginning
    check(&[("4001 6101 62", Ok("a: b")), ("20", Ok("")), ("be", Err(HpackError::Index))]);
}

/// RFC 7541 4.4: a field that is larger than the table empties it and is passed on all the same.
#[test]
fn a_field_larger_than_the_table_empties_it() {
    let long = format!("4001 61 7fe1 1f {}", "62".repeat(4192));
    let said = format!("a: {}", "b".repeat(4192));
    check(&[("4001 6101 62", Ok("a: b")), (&long, Ok(&said)), ("be", Err(HpackError::Index))]);
}

#[test]
fn what_is_written_is_the_shortest_form_without_a_table() {
    let field = |name, value, known| Field { name, value, known, is_repeated: false };
    let write = |field: Field<'_>| {
        let mut out = BytesMut::new();
        field.write(&mut out);
        out.to_vec()
    };
    let (name, value) = (b"te".as_slice(), b"trailers".as_slice());
    assert_eq!(write(field(name, value, Known::Whole(3))), [0x83]);
    assert_eq!(write(field(name, value, Known::Name(1)))[..3], [0x01, 8, b't']);
    assert_eq!(write(field(name, value, Known::Name(58)))[..3], [0x0f, 43, 8]);
    assert_eq!(write(field(name, value, Known::Nothing))[..4], [0, 2, b't', b'e']);
    let long = vec![b'x'; 127 + 128];
    assert_eq!(write(field(name, &long, Known::Name(1)))[..4], [1, 0x7f, 0x80, 1]);
}
