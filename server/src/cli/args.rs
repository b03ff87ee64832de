//! What flags may hold.

use std::str::FromStr;
use std::time::SystemTime;

use clap::ValueEnum;
use steeple::clock::unix_seconds;
use steeple::id::{ParseError, TrustDomain};
use steeple_proto::spire::api::types::federates_with_match::MatchBehavior as DomainMatch;
use steeple_proto::spire::api::types::selector_match::MatchBehavior as SelectorMatch;

/// A lifetime: a number of seconds, or a duration such as `1h 30m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seconds(pub(super) i32);

/// A moment: seconds since 1970, or a time such as `2027-01-31T12:00:00Z`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Moment(pub(super) i64);

/// How a set of a filter has to fit a set of what is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Match {
    /// The same set
    Exact,
    /// At least one in common
    Any,
    /// All that are given, and maybe more
    Superset,
    /// None but those that are given
    Subset,
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => seconds,
            Err(_) => humantime::parse_duration(text)
                .map_err(|error| {
                    format!(
                        "write a number of seconds, or a duration such as 90s, 1h or 7d: {error}"
                    )
                })?
                .as_secs(),
        };
        i32::try_from(seconds).map(Self).or(Err(format!("at most {} seconds", i32::MAX)))
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<i64>() {
            return match seconds {
                0.. => Ok(Self(seconds)),
                ..0 => Err("it is before 1970".to_owned()),
            };
        }
        let time: SystemTime = humantime::parse_rfc3339_weak(text).map_err(|error| {
            format!("write seconds since 1970, or a time such as 2027-01-31T12:00:00Z: {error}")
        })?;
        Ok(Self(unix_seconds(time)))
    }
}

impl Match {
    pub(super) fn of_selectors(self) -> i32 {
        let wire = match self {
            Self::Exact => SelectorMatch::MatchExact,
            Self::Any => SelectorMatch::MatchAny,
            Self::Superset => SelectorMatch::MatchSuperset,
            Self::Subset => SelectorMatch::MatchSubset,
        };
        wire.into()
    }

    pub(super) fn of_trust_domains(self) -> i32 {
        let wire = match self {
            Self::Exact => DomainMatch::MatchExact,
            Self::Any => DomainMatch::MatchAny,
            Self::Superset => DomainMatch::MatchSuperset,
            Self::Subset => DomainMatch::MatchSubset,
        };
        wire.into()
    }
}

/// Reads a trust domain, also as `spiffe://NAME`.
pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, ParseError> {
    TrustDomain::parse(text.strip_prefix("spiffe://").unwrap_or(text))
}

/// Reads a trust domain, or nothing, which stands for none at all.
pub(super) fn trust_domain_or_none(text: &str) -> Result<String, ParseError> {
    if text.is_empty() {
        Ok(String::new())
    } else {
        trust_domain(text).map(|name| name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_seconds(text: &str, expected: Option<i32>) {
        assert_eq!(text.parse::<Seconds>().ok(), expected.map(Seconds));
    }

    #[track_caller]
    fn check_moment(text: &str, expected: Option<i64>) {
        assert_eq!(text.parse::<Moment>().ok(), expected.map(Moment));
    }

    #[test]
    fn a_lifetime_is_seconds_or_a_duration() {
        check_seconds("0", Some(0));
        check_seconds("3600", Some(3_600));
        check_seconds("1h30m", Some(5_400));
        check_seconds("1h 30m", Some(5_400));
        check_seconds("7d", Some(604_800));
        check_seconds("2147483647", Some(i32::MAX));
        check_seconds("2147483648", None);
        check_seconds("-1", None);
        check_seconds("", None);
        check_seconds("soon", None);
    }

    #[test]
    fn a_moment_is_seconds_or_a_date() {
        check_moment("0", Some(0));
        check_moment("2000000000", Some(2_000_000_000));
        check_moment("2033-05-18T03:33:20Z", Some(2_000_000_000));
        check_moment("2033-05-18 03:33:20", Some(2_000_000_000));
        check_moment("-1", None);
        check_moment("tomorrow", None);
    }

    #[test]
    fn a_trust_domain_may_be_written_as_an_id() {
        let read = |text| trust_domain(text).map(|name| name.to_string());
        assert_eq!(read("spiffe://a.b"), Ok("a.b".into()));
        assert_eq!(read("a.b"), Ok("a.b".into()));
        assert_eq!(read("spiffe://a.b/c"), Err(ParseError::TrustDomain));
        assert_eq!(trust_domain_or_none(""), Ok(String::new()));
    }
}
