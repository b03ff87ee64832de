//! A configuration in the making: what was carried over, and a remark on everything that was not.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steeple::id::TrustDomain;

use super::hcl::{Item, Value};

/// What has been made so far.
#[derive(Debug, Default)]
pub(super) struct Translation {
    settings: Vec<String>,
    tables: Vec<String>,
    remarks: Vec<Remark>,
}

/// What somebody who moves over has to know about one line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Remark {
    pub(super) line: usize,
    pub(super) key: String,
    /// Whether something is missing now.
    pub(super) is_left_out: bool,
    pub(super) text: String,
}

/// A key of SPIRE's, and what becomes of it.
pub(super) type Row = (&'static str, Fate);

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It has a counterpart.
    As(&'static str, Kind),
    /// It needs none, and why not.
    Moot(&'static str),
    /// It is no loss with this value, and left out with any other.
    Unless(&'static str, &'static str),
    /// It has no counterpart, and what to do instead.
    No(&'static str),
    /// Somebody else sees to it, who finds it in [`Carried`] if it is of this kind.
    Elsewhere(Kind),
    /// It is a block; somebody else sees to what is in it.
    Block,
    /// Somebody else carries it over, whatever it is.
    Untouched,
}

/// What a key may be set to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// One of these texts, which are in lower case here.
    OneOf(&'static [&'static str]),
    /// A trust domain, also as `spiffe://NAME`.
    TrustDomain,
    /// A path. Not absolute, it is meant from where SPIRE was started.
    Path,
    /// An address on the web.
    Https,
    Duration,
    /// A duration of at least and at most so many seconds.
    Within(u64, u64),
    Integer,
    Bool,
    Texts,
}

/// What came of the keys of a block.
#[derive(Debug, Default)]
pub(super) struct Carried<'a> {
    /// What the rows have a place for.
    pub(super) settings: Vec<Setting>,
    /// What somebody else sees to, and is what it should be.
    elsewhere: Vec<&'a Item>,
}

/// Where paths that are not absolute begin.
#[derive(Clone, Debug)]
pub(super) struct Base(pub(super) PathBuf);

/// A key of ours and its value, as TOML.
pub(super) type Setting = (&'static str, String);

impl Translation {
    /// Sets a key at the top.
    pub(super) fn set(&mut self, (key, value): Setting) {
        self.settings.push(format!("{key} = {value}\n"));
    }

    /// The same with a word on it.
    pub(super) fn set_because(&mut self, setting: Setting, why: &str) {
        self.settings.push(format!("# {why}\n"));
        self.set(setting);
    }

    /// Adds a table.
    pub(super) fn table(&mut self, header: &str, settings: &[Setting]) {
        let lines: String =
            settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        self.tables.push(format!("\n{header}\n{lines}"));
    }

    /// The same with a word on it.
    pub(super) fn table_because(&mut self, header: &str, settings: &[Setting], why: &str) {
        self.table(header, settings);
        if let Some(table) = self.tables.last_mut() {
            *table = format!("\n# {why}{table}");
        }
    }

    /// Whether there is a table under this header.
    pub(super) fn has_table(&self, header: &str) -> bool {
        self.tables.iter().any(|table| table.lines().any(|line| line == header))
    }

    /// Says what is missing now.
    pub(super) fn leave_out(&mut self, item: &Item, key: &str, why: &str) {
        self.remark(item, key, (true, why));
    }

    /// Says what is another way here, and no loss.
    pub(super) fn note(&mut self, item: &Item, key: &str, why: &str) {
        self.remark(item, key, (false, why));
    }

    /// Carries over what the rows have a place for, and says of everything else what becomes of it.
    pub(super) fn carry<'a>(
        &mut self,
        (path, items): (&str, &'a [Item]),
        rows: &[Row],
        base: &Base,
    ) -> Carried<'a> {
        let mut carried = Carried::default();
        let mut seen = HashSet::new();
        for item in items {
            let key = format!("{path}.{}", item.key);
            let fate = rows.iter().find(|(name, _)| *name == item.key).map(|(_, fate)| *fate);
            let is_again = !seen.insert(&item.key);
            match fate {
                Some(Fate::Untouched) => {}
                Some(Fate::As(..) | Fate::Elsewhere(_)) if is_again => {
                    self.leave_out(
                        item,
                        &key,
                        "the key is there twice, and the first one is taken",
                    );
                }
                Some(Fate::As(ours, kind)) => match base.literal(&item.value, kind) {
                    Ok(value) => carried.settings.push((ours, value)),
                    Err(why) => self.leave_out(item, &key, &why),
                },
                Some(Fate::Elsewhere(kind)) => match base.literal(&item.value, kind) {
                    Ok(_) => carried.elsewhere.push(item),
                    Err(why) => self.leave_out(item, &key, &why),
                },
                Some(Fate::Block) => {
                    if self.is_block(item, &key) {
                        carried.elsewhere.push(item);
                    }
                }
                Some(Fate::Moot(why)) => self.note(item, &key, why),
                Some(Fate::Unless(harmless, _)) if plain(&item.value) == Some(harmless.into()) => {}
                Some(Fate::Unless(_, why) | Fate::No(why)) => self.leave_out(item, &key, why),
                None => {
                    self.leave_out(item, &key, "SPIRE has no such key either, as far as is known")
                }
            }
        }
        carried
    }

    /// Whether this is a block, as it has to be. If not, it is left out.
    pub(super) fn is_block(&mut self, item: &Item, key: &str) -> bool {
        let is_block = matches!(item.value, Value::Block(_));
        if !is_block {
            self.leave_out(item, key, &format!("it is {}, and not a block", shown(&item.value)));
        }
        is_block
    }

    /// The remarks, in the order of the lines.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let mut remarks = self.remarks.clone();
        remarks.sort();
        remarks
    }

    /// The configuration.
    pub(super) fn toml(&self) -> String {
        self.settings.iter().chain(&self.tables).map(String::as_str).collect()
    }

    fn remark(&mut self, item: &Item, key: &str, (is_left_out, text): (bool, &str)) {
        let (key, text) = (key.to_owned(), text.to_owned());
        self.remarks.push(Remark { line: item.line, key, is_left_out, text });
    }
}

impl Carried<'_> {
    /// What is in all blocks of this name.
    pub(super) fn inside(&self, key: &str) -> Vec<Item> {
        let named = self.elsewhere.iter().filter(|item| item.key == key);
        named.flat_map(|item| inside(std::slice::from_ref(*item), key)).collect()
    }

    pub(super) fn item(&self, key: &str) -> Option<&Item> {
        self.elsewhere.iter().find(|item| item.key == key).copied()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.item(key).map(|item| text(&item.value))
    }
}

impl Base {
    /// The value as TOML, or why not.
    pub(super) fn literal(&self, value: &Value, kind: Kind) -> Result<String, String> {
        let plain = text(value);
        if plain.contains("${") {
            return Err(
                "it has an environment variable in it: SPIRE was started with -expandEnv, so \
                        import with --expand-env, or write the value"
                    .into(),
            );
        }
        let wrong = |what: &str| Err(format!("it is {}, and not {what}", shown(value)));
        match (kind, value) {
            (Kind::Text, Value::Text(_) | Value::Number(_)) => Ok(quoted(&plain)),
            (Kind::OneOf(texts), Value::Text(_)) => {
                let lower = plain.to_ascii_lowercase();
                let is_one = texts.contains(&&*lower);
                if is_one { Ok(quoted(&lower)) } else { wrong(&one_of(texts)) }
            }
            (Kind::TrustDomain, Value::Text(_)) => {
                let name = plain.strip_prefix("spiffe://").unwrap_or(&plain);
                match TrustDomain::parse(name) {
                    Ok(name) => Ok(quoted(name.as_str())),
                    Err(_) => wrong("a name of [a-z0-9._-] such as example.org"),
                }
            }
            (Kind::Path, Value::Text(path)) => Ok(quoted(&self.absolute(path))),
            (Kind::Https, Value::Text(url)) if url.starts_with("https://") => Ok(quoted(url)),
            (Kind::Duration, Value::Text(text)) => match duration(text) {
                Some(duration) => Ok(quoted(&humantime::format_duration(duration).to_string())),
                None => wrong("a duration such as 1h30m"),
            },
            (Kind::Within(least, most), Value::Text(_)) => {
                let literal = self.literal(value, Kind::Duration)?;
                let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
                let is_within =
                    duration(&plain).is_some_and(|found| (least..=most).contains(&found));
                let bound = |duration| humantime::format_duration(duration).to_string();
                let (least, most) = (bound(least), bound(most));
                if is_within { Ok(literal) } else { wrong(&format!("between {least} and {most}")) }
            }
            (Kind::Integer, Value::Number(_) | Value::Text(_)) => match plain.parse::<i64>() {
                Ok(number) => Ok(number.to_string()),
                Err(_) => wrong("a whole number"),
            },
            (Kind::Bool, Value::Bool(_) | Value::Text(_)) => match plain.parse::<bool>() {
                Ok(value) => Ok(value.to_string()),
                Err(_) => wrong("true or false"),
            },
            (Kind::Texts, Value::List(values)) => {
                let values: Result<Vec<_>, _> =
                    values.iter().map(|value| self.literal(value, Kind::Text)).collect();
                Ok(format!("[{}]", values?.join(", ")))
            }
            (Kind::Texts, Value::Text(_)) => Ok(format!("[{}]", quoted(&plain))),
            (Kind::OneOf(texts), _) => wrong(&one_of(texts)),
            (Kind::Text | Kind::TrustDomain | Kind::Path, _) => wrong("a text"),
            (Kind::Https, _) => wrong("an https URL"),
            (Kind::Duration | Kind::Within(..), _) => wrong("a duration such as 1h30m"),
            (Kind::Integer, _) => wrong("a whole number"),
            (Kind::Bool, _) => wrong("true or false"),
            (Kind::Texts, _) => wrong("a list of texts"),
        }
    }

    /// The path from where SPIRE was started.
    pub(super) fn absolute(&self, path: &str) -> String {
        let absolute: PathBuf = self.0.join(Path::new(path)).components().collect();
        absolute.display().to_string()
    }
}

/// A plain value as it is written; nothing for lists and blocks.
pub(super) fn text(value: &Value) -> String {
    plain(value).unwrap_or_default()
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Number(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::List(_) | Value::Block(_) => None,
    }
}

/// What is in all blocks of this name.
pub(super) fn inside(items: &[Item], key: &str) -> Vec<Item> {
    let named = items.iter().filter(|item| item.key == key);
    let blocks = named.filter_map(|item| match &item.value {
        Value::Block(inner) => Some(inner.clone()),
        Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) => None,
    });
    blocks.flatten().collect()
}

/// A text as TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn one_of(texts: &[&str]) -> String {
    format!("one of {}", texts.join(", "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(_) | Value::Bool(_) => text(value),
        Value::List(_) => "a list".into(),
        Value::Block(_) => "a block".into(),
    }
}

/// Reads a duration of Go: `1h30m`, `1.5h`, `100ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, expected: Option<&str>) {
        let found = duration(text).map(|found| humantime::format_duration(found).to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn durations_of_go_are_durations_here() {
        check_duration("1h30m", Some("1h 30m"));
        check_duration("1.5h", Some("1h 30m"));
        check_duration("72h", Some("3days"));
        check_duration("100ms", Some("100ms"));
        check_duration("1h0m0s", Some("1h"));
        check_duration("1d", None);
        check_duration("60", None);
        check_duration("", None);
        check_duration("-1h", None);
        check_duration("99999999999999999999h", None);
    }

    #[track_caller]
    fn check(value: Value, kind: Kind, expected: Result<&str, &str>) {
        let found = Base("/opt/spire".into()).literal(&value, kind);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn values_become_toml_or_a_reason() {
        let text = |text: &str| Value::Text(text.into());
        check(text("a\"b\\c\n"), Kind::Text, Ok(r#""a\"b\\c\u000A""#));
        check(text("./data/x"), Kind::Path, Ok(r#""/opt/spire/data/x""#));
        check(text("/data"), Kind::Path, Ok(r#""/data""#));
        let levels = Kind::OneOf(&["info", "debug"]);
        check(text("DEBUG"), levels, Ok(r#""debug""#));
        check(text("loud"), levels, Err("it is \"loud\", and not one of info, debug"));
        check(Value::Bool(true), levels, Err("it is true, and not one of info, debug"));
        check(text("spiffe://a.test"), Kind::TrustDomain, Ok(r#""a.test""#));
        check(text("A.test"), Kind::TrustDomain, Err("it is \"A.test\", and not a name"));
        check(text("90s"), Kind::Within(1, 3_600), Ok(r#""1m 30s""#));
        check(text("2h"), Kind::Within(1, 3_600), Err("and not between 1s and 1h"));
        check(text("0s"), Kind::Within(1, 3_600), Err("and not between 1s and 1h"));
        check(text("8081"), Kind::Integer, Ok("8081"));
        check(Value::Number("8081".into()), Kind::Integer, Ok("8081"));
        check(text("true"), Kind::Bool, Ok("true"));
        check(Value::List(vec![text("a"), text("b")]), Kind::Texts, Ok(r#"["a", "b"]"#));
        check(Value::Number("1.5".into()), Kind::Integer, Err("it is 1.5, and not a whole number"));
        check(text("x"), Kind::Bool, Err("it is \"x\", and not true or false"));
        check(text("https://x/b"), Kind::Https, Ok("\"https://x/b\""));
        check(text("http://x/b"), Kind::Https, Err("it is \"http://x/b\", and not an https URL"));
        check(Value::Bool(true), Kind::Duration, Err("not a duration"));
        check(Value::Block(vec![]), Kind::Path, Err("it is a block, and not a text"));
        check(text("${X}"), Kind::Text, Err("import with --expand-env"));
    }
}
