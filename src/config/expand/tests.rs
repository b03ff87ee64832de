//! Which texts a variable may stand in, and what comes of it.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::config::Source;

#[track_caller]
fn check(text: &str, expected: Result<&str, ExpandError>) {
    let variable = |name: &str| (name == "TD_1").then(|| "example.org".to_owned());
    assert_eq!(expand(text, &variable), expected.map(str::to_owned));
}

#[test]
fn variables_are_replaced_and_none_is_taken_for_nothing() {
    check("a = '$TD_1'", Ok("a = 'example.org'"));
    check("${TD_1}x$TD_1", Ok("example.orgxexample.org"));
    check("costs 5$ or $ 5, $", Ok("costs 5$ or $ 5, $"));
    check("a\n$TD_1x", Err(ExpandError::Unset { line: 2, name: "TD_1x".into() }));
    check("\n\n${}", Err(ExpandError::Brace { line: 3 }));
    check("${a b}", Err(ExpandError::Brace { line: 1 }));
    check("${TD_1", Err(ExpandError::Brace { line: 1 }));
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct File {
    name: String,
    port: Option<u16>,
    names: Vec<String>,
    numbers: Vec<i64>,
    inner: Inner,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    name: String,
    is_on: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Tables {
    tagged: Vec<Tagged>,
    untold: String,
    whole: Whole,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Tagged {
    Unix { name: String, port: u16, is_on: bool, ports: Option<Vec<u16>> },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Whole {
    name: String,
    port: u16,
}

fn read(text: &str) -> Result<File, String> {
    read_as::<File>(text, |source| source.read())
}

fn read_as<T>(
    text: &str,
    read: impl FnOnce(Source<'_>) -> Result<T, crate::config::ConfigError>,
) -> Result<T, String> {
    let variables = |name: &str| {
        let value = match name {
            "NUMBER" => "8081",
            "LARGE" => "70000",
            "OCTAL" => "007",
            "TRUE" => "true",
            "HOSTILE" => "x\"\nport = 1\n[inner]\nis_on = true # '''",
            "MORE" => "$NUMBER",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let source = Source { text, path: Path::new("f"), variables: Some(&variables) };
    read(source).map_err(|error| error.to_string())
}

#[test]
fn a_value_is_a_text_whatever_is_in_it() {
    let hostile = "x\"\nport = 1\n[inner]\nis_on = true # '''";
    for quotes in ["\"", "'", "'''", "\"\"\""] {
        let file = read(&format!("name = {quotes}a${{HOSTILE}}b{quotes}")).unwrap();
        assert_eq!(file, File { name: format!("a{hostile}b"), ..File::default() });
    }
    let file = read("names = ['$HOSTILE', '1$MORE']\ninner = { name = '$HOSTILE' }").unwrap();
    let inner = Inner { name: hostile.into(), is_on: false };
    let names = vec![hostile.into(), "1$NUMBER".into()];
    assert_eq!(file, File { names, inner, ..File::default() });
    // Comments and keys are nobody's values.
    assert_eq!(read("# $NOTHING\n").unwrap(), File::default());
    assert!(read("'$NUMBER' = 1").unwrap_err().contains("unknown field `$NUMBER`"));
    assert!(read("$HOSTILE").unwrap_err().contains("TOML parse error at line 1"));
}

#[test]
fn a_variable_alone_is_a_number_where_one_is_wanted() {
    let text = "port = '$NUMBER'\nname = '${NUMBER}'\nnumbers = ['$NUMBER']\nnames = ['$NUMBER']\n\
                [inner]\nis_on = '$TRUE'\nname = '$TRUE'";
    let expected = File {
        name: "8081".into(),
        port: Some(8081),
        names: vec!["8081".into()],
        numbers: vec![8081],
        inner: Inner { name: "true".into(), is_on: true },
    };
    assert_eq!(read(text), Ok(expected));
    for text in ["port = '1$NUMBER'", "port = '8081'", "port = '$OCTAL'"] {
        assert!(read(text).unwrap_err().contains("expected u16"), "{text}");
    }
    assert!(read("port = '$LARGE'").unwrap_err().contains("line 1"));
}

#[test]
fn so_it_is_in_tables_that_need_all_of_their_keys() {
    let table = "[[tagged]]\ntype = 'unix'\nname = '$NUMBER'\nport = '$NUMBER'\nis_on = '$TRUE'\n";
    let whole = "[whole]\nname = '$TRUE'\nport = '$NUMBER'\n";
    let text = format!("untold = ''\n{table}{table}ports = ['$NUMBER', 1]\n{whole}");
    let unix = |ports| Tagged::Unix { name: "8081".into(), port: 8081, is_on: true, ports };
    let expected = Tables {
        tagged: vec![unix(None), unix(Some(vec![8081, 1]))],
        untold: String::new(),
        whole: Whole { name: "true".into(), port: 8081 },
    };
    assert_eq!(read_as::<Tables>(&text, |source| source.read()), Ok(expected));
    // So it is found before what is wrong elsewhere is.
    let text = format!("a = 1\nuntold = 1\n{table}{whole}");
    let found = read_as(&text, |source| source.plain::<Tables>()).unwrap();
    assert_eq!(found["tagged"][0]["port"].as_integer(), Some(8081));
    assert_eq!(found["tagged"][0]["name"].as_str(), Some("8081"));
    assert_eq!(found["whole"]["port"].as_integer(), Some(8081));
    // And beside keys that there are not, which are all that is wrong then.
    let text = format!("untold = ''\n{table}a = 1\nb = 'c'\n{whole}");
    let found = read_as(&text, |source| source.plain::<Tables>()).unwrap();
    assert_eq!(found["tagged"][0]["port"].as_integer(), Some(8081));
    assert_eq!(found["tagged"][0]["is_on"].as_bool(), Some(true));
    assert_eq!(found["tagged"][0]["name"].as_str(), Some("8081"));
    let text = text.replace("unix", "none");
    assert!(read_as(&text, |source| source.read::<Tables>()).is_err());
}

#[test]
fn a_kind_is_looked_for_among_the_texts_around_a_place_alone() {
    let text = "a = 'near'\nb = ['far', 'far']\n[other]\nc = 'far'\n[[d]]\ntype = 'far'\n\
                [[d]]\ntype = 'near'\n[d.e]\nf = 'near'\nport = 'near, and it'\n\
                [d.g]\nh = 'far'\n[i]\nj = 'far'";
    let table = DeTable::parse(text).unwrap();
    let at = text.find("'near, and").unwrap();
    let mut found = Vec::new();
    table.get_ref().values().for_each(|value| starts(value, at, &mut found));
    found.sort_unstable();
    let near: Vec<_> = text.match_indices("'near").map(|(start, _)| start).collect();
    assert_eq!(found, near);
}

#[test]
fn an_error_names_the_variable_and_its_line_and_shows_no_value() {
    let unset = read("name = 'a'\nnames = ['',\n'$NOTHING']").unwrap_err();
    assert_eq!(unset, "f: line 3: the environment variable NOTHING is not set");
    assert!(read("name = 'a'\n\nport = '${'").unwrap_err().contains("f: line 3: `${`"));
    let unknown = read("name = ''\nsecret = '$NUMBER'").unwrap_err();
    assert!(unknown.contains("line 2") && unknown.contains("secret = '$NUMBER'"), "{unknown}");
}
