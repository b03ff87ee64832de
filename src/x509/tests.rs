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

/// `DOWNSTREAM-1` and so on, as SPIRE calls authorities below others.
#[test]
fn an_authority_below_has_its_unit_in_the_name_of_the_one_above() {
    let subject = |units: &[&str], common_name: Option<&str>| Subject {
        country: vec!["US".into()],
        organization: vec!["SPIFFE".into()],
        organizational_unit: units.iter().map(ToString::to_string).collect(),
        common_name: common_name.map(Into::into),
    };
    let check = |above: Name, expected: Subject| {
        assert_eq!(above.with_unit("DOWNSTREAM-2"), Name::from(&expected));
    };
    for name in [None, Some("ca")] {
        let expected = || subject(&["DOWNSTREAM-2"], name);
        check(Name::from(&subject(&[], name)), expected());
        check(Name::from(&subject(&["DOWNSTREAM-1"], name)), expected());
        check(Name::from(&subject(&["a", "b"], name)).with_serial_number("17"), expected());
    }
}

/// What is written one after the other is read as the same certificates.
#[test]
fn each_certificate_of_a_chain_is_one_element() {
    let check = |parts: &[&[u8]], expected: Result<usize, ChainError>| {
        let certificates = parts.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let chain = Chain::new(certificates);
        let length = chain.clone().map(|chain| chain.certificates().len());
        assert_eq!(length, expected, "{parts:?}");
        if let Ok(chain) = chain {
            assert_eq!(Chain::from_concatenated(&chain.concatenated()), Ok(chain));
        }
    };
    let (one, two): (&[u8], &[u8]) = (&[0x30, 0], &[0x30, 2, 5, 0]);
    check(&[one], Ok(1));
    check(&[one, two], Ok(2));
    for wrong in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0, 0x30, 0], &[0x30, 0, 0], b"x"] {
        check(&[one, wrong], Err(ChainError::Encoding));
        check(&[wrong], Err(ChainError::Encoding));
    }
    assert_eq!(
        Chain::from_pem(pem("CERTIFICATE", &[one, two].concat()).as_bytes()),
        Err(ChainError::Encoding)
    );
}
