//! What both command lines print alike, with the labels that scripts look for in SPIRE's output.

use serde_json::{Value, json};
use steeple_proto::spire::api::types;

use crate::clock::from_unix_seconds;
use crate::convert::log_level_name;

/// How many characters of somebody else's text are quoted.
const LONGEST_QUOTE: usize = 64;

/// A certificate of a program itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate<'a> {
    /// Whom it names, if it names anybody.
    pub id: Option<&'a types::Spiffeid>,
    /// Its subject.
    pub subject: &'a str,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
}

/// Seconds since 1970 as a date, written as SPIRE does.
#[must_use]
pub fn time(seconds: i64) -> String {
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
        return format!("{seconds} seconds after 1970");
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// Seconds as Go's programs write them: `1h0m1s`.
#[must_use]
pub fn uptime(seconds: i32) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A SPIFFE ID in one piece.
#[must_use]
pub fn spiffe_id(id: Option<&types::Spiffeid>) -> String {
    match id {
        Some(id) => format!("spiffe://{}{}", id.trust_domain, id.path),
        None => "(none)".to_owned(),
    }
}

/// The text without what would move the cursor of a terminal, or the reader's eye.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_odd(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A text of somebody else's in quotes, with escapes for what is odd in it, and cut off where it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(LONGEST_QUOTE).collect();
    let rest = if characters.next().is_some() { "…" } else { "" };
    format!("{head:?}{rest}")
}

/// How much a program logs, for people.
#[must_use]
pub fn logger(logger: &types::Logger) -> String {
    let current = log_level_name(logger.current_level());
    let launch = log_level_name(logger.launch_level());
    format!("Logger Level : {current}\nLaunch Level : {launch}\n\n")
}

/// How much a program logs, for programs.
#[must_use]
pub fn logger_json(logger: &types::Logger) -> Value {
    json!({
        "current_level": logger.current_level().as_str_name(),
        "launch_level": logger.launch_level().as_str_name(),
    })
}

/// The certificates that a program shows of itself, for people.
#[must_use]
pub fn svid_chain(chain: &[Certificate<'_>]) -> String {
    let mut text = String::new();
    for (index, certificate) in chain.iter().enumerate() {
        if index == 0 {
            text.push_str("  SVID Chain:\n");
        }
        let id = plain(&spiffe_id(certificate.id));
        let subject = plain(certificate.subject);
        let end = humantime::format_rfc3339_seconds(from_unix_seconds(certificate.expires_at));
        text.push_str(&format!(
            "    [{index}] SPIFFE ID:  {id}\n        Subject:    {subject}\n        Expires At: {end}\n"
        ));
    }
    text
}

/// The certificates that a program shows of itself, for programs.
#[must_use]
pub fn svid_chain_json(chain: &[Certificate<'_>]) -> Value {
    let certificate = |certificate: &Certificate<'_>| {
        let (subject, expires_at) = (certificate.subject, certificate.expires_at.to_string());
        match certificate.id {
            Some(types::Spiffeid { trust_domain, path }) => json!({
                "id": { "trust_domain": trust_domain, "path": path },
                "expires_at": expires_at,
                "subject": subject,
            }),
            None => json!({ "expires_at": expires_at, "subject": subject }),
        }
    };
    chain.iter().map(certificate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_gos_programs_write_them() {
        assert_eq!(time(2_000_000_000), "2033-05-18 03:33:20 +0000 UTC");
        assert_eq!(time(i64::MAX), format!("{} seconds after 1970", i64::MAX));
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_661, "1h1m1s"), (90_000, "25h0m0s")]
        {
            assert_eq!(uptime(seconds), expected);
        }
    }

    #[test]
    fn what_others_wrote_is_quoted_in_short() {
        assert_eq!(quoted("a\n\"\u{202e}"), r#""a\n\"\u{202e}""#);
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted(&"é".repeat(65)), format!("\"{}\"…", "é".repeat(64)));
    }

    #[test]
    fn levels_are_printed_as_spire_prints_them() {
        let levels = types::Logger {
            current_level: types::LogLevel::Warn.into(),
            launch_level: types::LogLevel::Debug.into(),
        };
        assert_eq!(logger(&levels), "Logger Level : warning\nLaunch Level : debug\n\n");
        let expected = json!({ "current_level": "WARN", "launch_level": "DEBUG" });
        assert_eq!(logger_json(&levels), expected);
    }

    #[test]
    fn a_chain_is_printed_as_spire_prints_it() {
        let id = types::Spiffeid { trust_domain: "td".into(), path: "/spire/server".into() };
        let leaf = Certificate { id: Some(&id), subject: "O=SPIRE", expires_at: 2_000_000_000 };
        let above = Certificate { id: None, subject: "CN=\n", ..leaf.clone() };
        assert_eq!(
            svid_chain(&[leaf.clone(), above]),
            "  SVID Chain:\n    [0] SPIFFE ID:  spiffe://td/spire/server\n        \
             Subject:    O=SPIRE\n        Expires At: 2033-05-18T03:33:20Z\n    \
             [1] SPIFFE ID:  (none)\n        Subject:    CN=\\n\n        \
             Expires At: 2033-05-18T03:33:20Z\n"
        );
        assert_eq!(svid_chain(&[]), "");
        let expected = json!([{
            "id": { "trust_domain": "td", "path": "/spire/server" },
            "expires_at": "2000000000",
            "subject": "O=SPIRE",
        }]);
        assert_eq!(svid_chain_json(&[leaf]), expected);
    }
}
