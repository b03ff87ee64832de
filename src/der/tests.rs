//! Each value has one encoding.

use super::*;

#[track_caller]
fn check(bytes: &[u8], expected: Result<&[u8], Malformed>) {
    assert_eq!(whole(bytes, OCTET_STRING, |r| Ok(std::mem::replace(r, Reader::new(&[])).rest)), {
        expected
    });
}

#[test]
fn a_length_has_one_encoding() {
    check(&[4, 1, 7], Ok(&[7]));
    check(&[4, 0x81, 1, 7], Err(Malformed)); // longer than need be
    check(&[4, 0x80, 7, 0, 0], Err(Malformed)); // indefinite
    check(&[4, 2, 7], Err(Malformed)); // cut off
    check(&[4, 1, 7, 0], Err(Malformed)); // something behind it
    check(&[0x1f, 4, 1, 7], Err(Malformed)); // tag of several bytes
    check(&[4, 0x84, 0, 0, 0, 1, 7], Err(Malformed));
    let long = [vec![4, 0x82, 1, 0], vec![9; 256]].concat();
    check(&long, Ok(&[9; 256]));
    check(&[vec![4, 0x83, 0, 1, 0], vec![9; 256]].concat(), Err(Malformed));
}

#[track_caller]
fn check_unsigned(content: &[u8], expected: Result<&[u8], Malformed>) {
    let mut writer = Writer::default();
    writer.value(INTEGER, content);
    let bytes = writer.finish();
    assert_eq!(Reader::new(&bytes).unsigned(), expected);
    if let Ok(digits) = expected {
        let mut writer = Writer::default();
        writer.unsigned(&[&[0, 0], digits].concat());
        assert_eq!(writer.finish(), bytes, "written back");
    }
}

#[test]
fn a_number_has_one_encoding() {
    check_unsigned(&[0], Ok(&[0]));
    check_unsigned(&[1], Ok(&[1]));
    check_unsigned(&[0, 0x80], Ok(&[0x80]));
    check_unsigned(&[0x80], Err(Malformed)); // negative
    check_unsigned(&[0, 1], Err(Malformed)); // padded
    check_unsigned(&[], Err(Malformed));
}

#[test]
fn bits_that_do_not_count_are_zero() {
    let bits = |bytes: &[u8]| Reader::new(bytes).bits().map(|bits| bits.bytes.to_vec());
    assert_eq!(bits(&[3, 2, 7, 0x80]), Ok(vec![0x80]));
    assert_eq!(bits(&[3, 2, 7, 0x81]), Err(Malformed));
    assert_eq!(bits(&[3, 2, 8, 0x80]), Err(Malformed));
    assert_eq!(bits(&[3, 1, 1]), Err(Malformed));
    assert_eq!(bits(&[3, 0]), Err(Malformed));
}

#[test]
fn a_component_of_an_identifier_is_not_padded() {
    assert_eq!(Reader::new(&[6, 3, 0x55, 0x1d, 0x11]).oid(), Ok(&[0x55, 0x1d, 0x11][..]));
    assert_eq!(Reader::new(&[6, 4, 0x55, 0x1d, 0x80, 0x11]).oid(), Err(Malformed));
    assert_eq!(Reader::new(&[6, 2, 0x55, 0x9d]).oid(), Err(Malformed));
    assert_eq!(Reader::new(&[6, 0]).oid(), Err(Malformed));
}

#[test]
fn what_is_written_is_read_back() {
    for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
        let content = vec![5; length];
        let mut writer = Writer::default();
        writer.nest(SEQUENCE, |w| w.value(OCTET_STRING, &content));
        let bytes = writer.finish();
        let read = whole(&bytes, SEQUENCE, |r| r.expect(OCTET_STRING)).unwrap();
        assert_eq!(read, content);
    }
}
