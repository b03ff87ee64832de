//! Which agents an administrator wants to see.

use steeple::shown::quoted;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::types;
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

use crate::api::error::ApiError;
use crate::api::selector_match;
use crate::registry::nodes::NodeFilter;

/// The filter of a list or count, which are two messages of the same fields.
#[derive(Debug, Default)]
pub(super) struct Wire {
    attestation_type: String,
    selectors: Option<types::SelectorMatch>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: String,
}

impl From<pb::count_agents_request::Filter> for Wire {
    fn from(filter: pb::count_agents_request::Filter) -> Self {
        Self {
            attestation_type: filter.by_attestation_type,
            selectors: filter.by_selector_match,
            banned: filter.by_banned,
            can_reattest: filter.by_can_reattest,
            expires_before: filter.by_expires_before,
        }
    }
}

impl From<pb::list_agents_request::Filter> for Wire {
    fn from(filter: pb::list_agents_request::Filter) -> Self {
        Self {
            attestation_type: filter.by_attestation_type,
            selectors: filter.by_selector_match,
            banned: filter.by_banned,
            can_reattest: filter.by_can_reattest,
            expires_before: filter.by_expires_before,
        }
    }
}

/// Reads a filter; none admits every agent.
pub(super) fn from_proto(filter: Option<Wire>) -> Result<NodeFilter, ApiError> {
    let filter = filter.unwrap_or_default();
    let before = Some(filter.expires_before).filter(|text| !text.is_empty());
    let expected = "a time such as 2006-01-02 15:04:05 -0700 -07";
    let before = before.map(|text| {
        let found =
            || ApiError::Found { field: "by_expires_before", found: quoted(&text), expected };
        unix_time(&text).ok_or_else(found)
    });
    Ok(NodeFilter {
        attestation_type: Some(filter.attestation_type).filter(|text| !text.is_empty()),
        selectors: filter.selectors.map(|selectors| selector_match(&selectors)).transpose()?,
        banned: filter.banned,
        can_reattest: filter.can_reattest,
        expires_before: before.transpose()?,
    })
}

/// Reads `2006-01-02 15:04:05 -0700 -07`. The last part names the zone again and counts for
/// nothing, but has to be there.
fn unix_time(text: &str) -> Option<i64> {
    let mut parts = text.split(' ');
    let (date, time, offset, _zone) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let date = Date::from_calendar_date(
        i32::from(year),
        Month::try_from(u8::try_from(month).ok()?).ok()?,
        u8::try_from(day).ok()?,
    );
    let small = |number: u16| u8::try_from(number).ok();
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?);
    let moment = PrimitiveDateTime::new(date.ok()?, time.ok()?);
    Some(moment.assume_offset(utc_offset(offset)?).unix_timestamp())
}

/// Reads `-0700`.
fn utc_offset(text: &str) -> Option<UtcOffset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        (_, _) => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2).filter(|_| digits.len() == 4)?;
    let number = |text: &str| digits_only(text)?.parse::<i8>().ok();
    UtcOffset::from_hms(sign * number(hours)?, sign * number(minutes)?, 0).ok()
}

fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u16; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *number = digits_only(part)?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn digits_only(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        let wire = Wire { expires_before: text.into(), ..Wire::default() };
        let found = from_proto(Some(wire)).ok();
        assert_eq!(found.map(|filter| filter.expires_before), expected.map(Some));
    }

    #[test]
    fn a_time_is_read_with_its_offset_and_nothing_else_is() {
        check("1970-01-01 00:00:00 +0000 +00", Some(0));
        check("1970-01-01 01:00:00 +0100 +01", Some(0));
        check("2026-02-28 15:04:05 -0700 -07", Some(1_772_316_245));
        check("2026-02-29 15:04:05 -0700 -07", None);
        check("2026-02-28 24:00:00 -0700 -07", None);
        check("2026-2-28 15:04:05 -0700 -07", None);
        check("2026-02-28 15:04:05 -0700", None);
        check("2026-02-28 15:04:05 -07:00 -07", None);
        check("2026-02-28 15:04:05 -0700 -07 x", None);
        check("2026-02-28 15:04:05 0700 -07", None);
        check("2026-02-28T15:04:05Z", None);
        check("tomorrow", None); // an answer about all agents would be worse than none
    }

    #[test]
    fn a_time_that_cannot_be_read_is_shown() {
        let wire = Wire { expires_before: "soon\n".into(), ..Wire::default() };
        assert_eq!(
            from_proto(Some(wire)).unwrap_err().to_string(),
            r#"by_expires_before: a time such as 2006-01-02 15:04:05 -0700 -07, and not "soon\n""#
        );
    }

    #[test]
    fn no_filter_admits_every_agent() {
        assert_eq!(from_proto(None).unwrap(), NodeFilter::default());
        assert_eq!(from_proto(Some(Wire::default())).unwrap(), NodeFilter::default());
    }
}
