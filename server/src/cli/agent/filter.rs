//! Which agents are meant.

use clap::Args;
use steeple::selector::Selector;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::types;
use time::OffsetDateTime;

use crate::cli::args::{Match, Moment};

/// What has to be true of an agent; all of it.
#[derive(Args, Debug)]
pub(super) struct Filter {
    /// Agents with this selector; may be repeated
    #[arg(long, value_name = "TYPE:VALUE")]
    selector: Vec<Selector>,
    /// How the selectors of an agent fit those that are given
    #[arg(
        long,
        value_name = "HOW",
        alias = "matchSelectorsOn",
        default_value = "superset",
        ignore_case = true
    )]
    match_selectors_on: Match,
    /// Agents that attested in this way, such as join_token
    #[arg(long, value_name = "TYPE", aliases = ["attestationType", "byAttestationType"])]
    attestation_type: Option<String>,
    /// Agents that can attest again by themselves, or those that cannot
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        alias = "canReattest"
    )]
    can_reattest: Option<bool>,
    /// Agents that are banned, or those that are not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    banned: Option<bool>,
    /// Agents whose certificate ends before this time, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", alias = "expiresBefore", value_parser = expires_before)]
    expires_before: Option<String>,
}

impl Filter {
    pub(super) fn for_list(&self) -> Option<pb::list_agents_request::Filter> {
        let filter = pb::list_agents_request::Filter {
            by_attestation_type: self.attestation_type.clone().unwrap_or_default(),
            by_selector_match: self.selectors(),
            by_banned: self.banned,
            by_can_reattest: self.can_reattest,
            by_expires_before: self.expires_before.clone().unwrap_or_default(),
        };
        (filter != pb::list_agents_request::Filter::default()).then_some(filter)
    }

    pub(super) fn for_count(&self) -> Option<pb::count_agents_request::Filter> {
        self.for_list().map(|filter| pb::count_agents_request::Filter {
            by_attestation_type: filter.by_attestation_type,
            by_selector_match: filter.by_selector_match,
            by_banned: filter.by_banned,
            by_can_reattest: filter.by_can_reattest,
            by_expires_before: filter.by_expires_before,
        })
    }

    fn selectors(&self) -> Option<types::SelectorMatch> {
        let selector = |selector: &Selector| types::Selector {
            r#type: selector.kind().to_owned(),
            value: selector.value().to_owned(),
        };
        (!self.selector.is_empty()).then(|| types::SelectorMatch {
            selectors: self.selector.iter().map(selector).collect(),
            r#match: self.match_selectors_on.of_selectors(),
        })
    }
}

/// A moment in the form that the wire has for it: `2006-01-02 15:04:05 -0700 -07`.
pub(super) fn on_the_wire(moment: Moment) -> Result<String, String> {
    let time = OffsetDateTime::from_unix_timestamp(moment.0)
        .ok()
        .filter(|time| time.year() <= 9_999)
        .ok_or("it is after the year 9999")?;
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    Ok(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 +00"))
}

/// Reads a time in any form that a flag may have, or in that of the wire, which SPIRE's tools ask
/// for.
fn expires_before(text: &str) -> Result<String, String> {
    match text.parse::<Moment>() {
        Ok(moment) => on_the_wire(moment),
        // The server reads it, and refuses what is not a time.
        Err(_) if text.split(' ').count() == 4 => Ok(text.to_owned()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(expires_before(text).ok().as_deref(), expected);
    }

    #[test]
    fn a_time_goes_over_the_wire_as_spire_writes_it() {
        check("2033-05-18T03:33:20Z", Some("2033-05-18 03:33:20 +0000 +00"));
        check("2000000000", Some("2033-05-18 03:33:20 +0000 +00"));
        check("2026-02-28 15:04:05 -0700 -07", Some("2026-02-28 15:04:05 -0700 -07"));
        check("tomorrow", None);
        check("999999999999", None);
    }
}
