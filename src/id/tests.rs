//! SPIFFE-ID rows SID-01 to SID-13 and the hostile strings H001 to H027.

use super::*;

#[track_caller]
fn check(text: &str, expected: Result<(), ParseError>) {
    let found = text.parse::<SpiffeId>();
    assert_eq!(found.as_ref().map(|_| ()).map_err(|error| *error), expected, "{text:?}");
    if let Ok(id) = found {
        assert_eq!(id.as_str(), text);
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        assert_eq!(SpiffeId::new(id.trust_domain(), id.path()), Ok(id.clone()));
        assert_eq!(SpiffeId::from_bytes(text.as_bytes()), Ok(id));
    }
}

#[test]
fn an_id_is_a_scheme_a_trust_domain_and_a_path() {
    check("spiffe://td", Ok(()));
    check("spiffe://td/a", Ok(()));
    check("", Err(ParseError::Scheme)); // H001
    check("spiffe://", Err(ParseError::NoTrustDomain)); // SID-02, H002
    check("spiffe:///a", Err(ParseError::NoTrustDomain)); // H002
    for text in ["spiffe:/td/a", "spiffe:td/a", "//td/a", "td/a"] {
        check(text, Err(ParseError::Scheme)); // H003
    }
    for text in ["https://td/a", "spiffes://td/a", "xspiffe://td/a"] {
        check(text, Err(ParseError::Scheme)); // H004
    }
    check("SPIFFE://td/a", Err(ParseError::Scheme)); // H005
    check("Spiffe://td/a", Err(ParseError::Scheme)); // H005
}

#[test]
fn a_trust_domain_is_lower_case_and_nothing_else() {
    check("spiffe://TD/a", Err(ParseError::UpperCase)); // H006, AMB-01
    check("spiffe://Example.org/a", Err(ParseError::UpperCase)); // H006
    for name in ["td:443", "td:", "user@td", "@td", "u:p@td", "[::1]"] {
        check(&format!("spiffe://{name}/a"), Err(ParseError::TrustDomain)); // SID-03, H007, H008, H021
    }
    check("spiffe://%74d/a", Err(ParseError::TrustDomain)); // SID-05, H016
    for name in ["10.0.0.1", "-._", "a..b", "1", "td.example.org.", "--", "_"] {
        check(&format!("spiffe://{name}/a"), Ok(())); // SID-06, H021
    }
    let accepted = (1..=255_u8)
        .filter(|byte| *byte != b'/')
        .filter(|byte| TrustDomain::parse(&char::from(*byte).to_string()).is_ok())
        .count();
    assert_eq!(accepted, 39); // SID-04
}

#[test]
fn a_path_is_segments_of_plain_characters() {
    for path in ["/", "/a/", "//a", "/a//b"] {
        check(&format!("spiffe://td{path}"), Err(ParseError::EmptySegment)); // SID-08, SID-09, H011, H012
    }
    for path in ["/.", "/./a", "/a/.", "/..", "/a/../b", "/a/.."] {
        check(&format!("spiffe://td{path}"), Err(ParseError::DotSegment)); // H013, H014
    }
    for path in ["/...", "/.a", "/..a", "/a.."] {
        check(&format!("spiffe://td{path}"), Ok(())); // SID-08
    }
    for path in ["/%61", "/%2e%2e/b", "/a%2Fb", "/%00", "/a b", "/a\nb", "/a\r", "/\t", "/\0"] {
        check(&format!("spiffe://td{path}"), Err(ParseError::Path)); // SID-05, H015, H017, H018
    }
    for path in ["/é", "/\u{212a}", "\u{ff0f}a", "/a\u{7f}", "/a\0.evil"] {
        let found = format!("spiffe://td{path}").parse::<SpiffeId>();
        assert!(found.is_err(), "{path:?}"); // H018, H019, H026
    }
    for byte in b"!$&'()*+,;=:@~[]|\\^{}\"<>" {
        check(&format!("spiffe://td/a{}b", char::from(*byte)), Err(ParseError::Path)); // H020
    }
    let accepted = (1..=255_u8)
        .filter(|byte| *byte != b'/')
        .filter(|byte| format!("spiffe://td/a{}b", char::from(*byte)).parse::<SpiffeId>().is_ok())
        .count();
    assert_eq!(accepted, 65); // SID-07
}

#[test]
fn a_query_or_fragment_is_refused_even_if_empty() {
    for text in ["a?", "a?x=1", "a#", "a#f"] {
        check(&format!("spiffe://td/{text}"), Err(ParseError::QueryOrFragment)); // SID-01, H009, H010
    }
    check("spiffe://td?", Err(ParseError::QueryOrFragment));
}

#[test]
fn white_space_around_an_id_is_not_trimmed() {
    check(" spiffe://td/a", Err(ParseError::Scheme)); // H017
    check("spiffe://td/a ", Err(ParseError::Path));
    check("spiffe://t d/a", Err(ParseError::TrustDomain));
    check("spiffe://\u{0442}d/a", Err(ParseError::TrustDomain)); // H019, Cyrillic
}

#[test]
fn lengths_are_counted_in_bytes() {
    let of_length = |length: usize| format!("spiffe://td/{}", "a".repeat(length - 12));
    check(&of_length(2048), Ok(())); // SID-10, H024
    check(&of_length(2049), Err(ParseError::Length)); // SID-11, H022
    check(&of_length(10 << 20), Err(ParseError::Length)); // H022
    check(&format!("spiffe://{}/a", "d".repeat(255)), Ok(())); // SID-12, H024
    check(&format!("spiffe://{}/a", "d".repeat(256)), Err(ParseError::TrustDomainLength)); // H023
    check(&format!("spiffe://td{}", "/a".repeat(1000)), Ok(())); // H025
    let td = TrustDomain::parse("td").unwrap();
    assert_eq!(
        SpiffeId::new(&td, &format!("/{}", "a".repeat(2048))).err(),
        Some(ParseError::Length)
    );
}

#[test]
fn paths_compare_case_sensitively() {
    let parse = |text: &str| text.parse::<SpiffeId>().unwrap();
    assert_ne!(parse("spiffe://td/Foo"), parse("spiffe://td/foo")); // SID-13
}

#[test]
fn the_spire_namespace_is_reserved() {
    let reserved = |text: &str| text.parse::<SpiffeId>().unwrap().is_reserved();
    assert!(reserved("spiffe://td/spire")); // H029
    assert!(reserved("spiffe://td/spire/x"));
    assert!(!reserved("spiffe://td/spireful"));
    assert!(!reserved("spiffe://td/Spire/agent/x"));
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    assert_eq!(SpiffeId::from_bytes(b"spiffe://td/\xff"), Err(ParseError::Path));
    assert_eq!(SpiffeId::from_bytes(b"\xff"), Err(ParseError::Scheme));
}
