//! Documents that the reader takes, and those that it refuses.

use super::*;

const LIMITS: Limits = Limits { bytes: 4096, depth: 4, values: 20 };

#[track_caller]
fn check(document: impl AsRef<[u8]>, expected: Result<Json, JsonError>) {
    assert_eq!(parse(document.as_ref(), &LIMITS), expected);
}

fn integer(value: i64) -> Json {
    Json::Number(Number::Integer(value))
}

fn float(value: f64) -> Json {
    Json::Number(Number::Float(value))
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[test]
fn values_are_read_as_they_stand() {
    check("null", Ok(Json::Null));
    check(" true\n", Ok(Json::Bool(true)));
    check(r#""a\u0062\n""#, Ok(Json::String("ab\n".into())));
    check(r#"[1,"x",[]]"#, {
        Ok(Json::Array(vec![integer(1), Json::String("x".into()), Json::Array(vec![])]))
    });
    check(r#"{"b":{},"a":null}"#, Ok(object([("a", Json::Null), ("b", object([]))])));
}

#[test]
fn integers_are_exact_and_numbers_bounded() {
    check("9007199254740993", Ok(integer(9_007_199_254_740_993))); // 2^53+1, H090
    check("-9223372036854775808", Ok(integer(i64::MIN)));
    check("18446744073709551615", Ok(Json::Number(Number::Large(u64::MAX))));
    check("18446744073709551616", Ok(float(18_446_744_073_709_551_616.0)));
    check("1.5", Ok(float(1.5)));
    check("1e3", Ok(float(1000.0)));
    // H088, H110: beyond a double, written either way.
    check("1e400", Err(JsonError::Syntax { line: 1, column: 5 }));
    assert!(matches!(
        parse("9".repeat(4000).as_bytes(), &LIMITS),
        Err(JsonError::Syntax { line: 1, .. })
    ));
    for not_a_number in ["NaN", "Infinity", "-", "01", "+1", ".5", "1.", "0x10", "1e"] {
        assert!(
            matches!(parse(not_a_number.as_bytes(), &LIMITS), Err(JsonError::Syntax { .. })),
            "{not_a_number}"
        );
    }
}

#[test]
fn a_member_that_occurs_twice_is_refused_at_any_level() {
    // JWT-19, TDB-12, H106, H165
    check(r#"{"a":1,"b":1}"#, Ok(object([("a", integer(1)), ("b", integer(1))])));
    check(r#"{"a":1,"a":1}"#, Err(JsonError::Duplicate { line: 1, column: 10 }));
    check("{\"a\":1,\n\"\\u0061\":2}", Err(JsonError::Duplicate { line: 2, column: 8 }));
    check(r#"[{"x":{"a":1,"a":2}}]"#, Err(JsonError::Duplicate { line: 1, column: 16 }));
    // The same name in two objects is nothing special.
    check(r#"[{"a":1},{"a":1}]"#, {
        Ok(Json::Array(vec![object([("a", integer(1))]), object([("a", integer(1))])]))
    });
}

#[test]
fn a_document_is_one_value_in_utf_8_and_nothing_else() {
    // H109, H150
    check("{}", Ok(object([])));
    check("{}\n {}", Err(JsonError::Syntax { line: 2, column: 2 }));
    check(b"\"\xff\"", Err(JsonError::NotUtf8));
    check(b"\xff\xfe{\0}\0", Err(JsonError::NotUtf8));
    let not_json = [
        "",
        "{}\0",
        "\u{feff}{}",
        r#""\ud800""#,
        "\"a\nb\"",
        "{'a':1}",
        r#"{"a":1,}"#,
        "[1] // one",
        "<html></html>",
        r#"{"a":"#,
    ];
    for document in not_json {
        let refused = parse(document.as_bytes(), &LIMITS);
        assert!(matches!(refused, Err(JsonError::Syntax { .. })), "{document:?}: {refused:?}");
    }
}

#[test]
fn size_depth_and_count_are_limited() {
    // H110, H166
    let of_length = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    assert!(parse(of_length(4096).as_bytes(), &LIMITS).is_ok());
    check(of_length(4097), Err(JsonError::TooLong { limit: 4096 }));

    check("[[[[]]]]", {
        let nest = |inner| Json::Array(vec![inner]);
        Ok(nest(nest(nest(Json::Array(vec![])))))
    });
    check("[[[[[]]]]]", Err(JsonError::TooDeep { limit: 4 }));
    check(r#"[[[[{"a":1}]]]]"#, Err(JsonError::TooDeep { limit: 4 }));
    let limits = Limits { bytes: 1 << 20, depth: 32, values: 1000 };
    assert_eq!(
        parse("[".repeat(100_000).as_bytes(), &limits),
        Err(JsonError::TooDeep { limit: 32 })
    );

    assert!(parse(format!("[{}1]", "1,".repeat(18)).as_bytes(), &LIMITS).is_ok());
    check(format!("[{}1]", "1,".repeat(19)), Err(JsonError::TooManyValues { limit: 20 }));
}
