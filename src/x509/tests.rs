//! What all of X.509 shares.

use super::*;

#[test]
fn a_serial_number_prints_as_a_decimal_number() {
    let check = |bytes: &[u8], decimal: Option<&str>, hex: &str| {
        let serial = Serial::from_be_bytes(bytes);
        assert_eq!(serial.map(|serial| serial.to_string()).as_deref(), decimal);
        assert_eq!(serial.map(|serial| serial.to_hex()).unwrap_or_default(), hex);
    };
    check(&[1], Some("1"), "01");
    check(&[0, 1, 0], Some("256"), "0100");
    check(&[0xff; 8], Some("18446744073709551615"), "ffffffffffffffff");
    let most = [&[0x7f][..], &[0xff; 19]].concat();
    check(&most, Some("730750818665451459101842416358141509827966271487"), {
        "7fffffffffffffffffffffffffffffffffffffff"
    });
    check(&[0], None, "");
    check(&[], None, "");
    check(&[0xff; 20], None, "");
    check(&[1; 21], None, "");
}
