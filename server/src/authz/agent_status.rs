//! Decides whether an agent's certificate still makes it one of ours.

/// Why an agent may not call. SPIRE's agents choose what to do next by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AgentRefusal {
    /// Its certificate has expired.
    Expired,
    /// Nothing is known of it: it never attested, or was evicted.
    NotAttested,
    /// Its certificate is neither the current nor the new one.
    NotActive,
    /// It is banned.
    Banned,
    /// It has to attest again instead of renewing.
    MustReattest,
}

/// What the server remembers of an agent's certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Remembered<'a> {
    /// The serial of the certificate it uses; `None` if it is banned.
    pub serial: Option<&'a str>,
    /// The serial of one that was issued since and not used yet.
    pub new_serial: Option<&'a str>,
}

/// The certificate an agent came with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Presented<'a> {
    /// Its serial.
    pub serial: &'a str,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
}

/// What follows from both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It may call.
    Active,
    /// It may call once its new certificate has become the current one, which ends the older.
    Promote,
    /// It may not call.
    Refused(AgentRefusal),
}

/// Compares what an agent shows with what is remembered of it.
#[must_use]
pub fn status(presented: Presented<'_>, remembered: Option<Remembered<'_>>, now: i64) -> Status {
    if presented.not_after < now {
        return Status::Refused(AgentRefusal::Expired);
    }
    let Some(remembered) = remembered else {
        return Status::Refused(AgentRefusal::NotAttested);
    };
    let Some(current) = remembered.serial else {
        return Status::Refused(AgentRefusal::Banned);
    };
    if presented.serial == current {
        Status::Active
    } else if remembered.new_serial == Some(presented.serial) {
        Status::Promote
    } else {
        Status::Refused(AgentRefusal::NotActive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        (serial, not_after): (&str, i64),
        remembered: Option<(Option<&str>, Option<&str>)>,
        expected: Status,
    ) {
        let remembered = remembered.map(|(serial, new_serial)| Remembered { serial, new_serial });
        assert_eq!(status(Presented { serial, not_after }, remembered, 1_000), expected);
    }

    #[test]
    fn an_agent_calls_with_its_current_or_its_new_certificate() {
        let known = Some((Some("1"), Some("2")));
        check(("1", 2_000), known, Status::Active);
        check(("1", 1_000), known, Status::Active);
        check(("2", 2_000), known, Status::Promote);
        check(("3", 2_000), known, Status::Refused(AgentRefusal::NotActive));
        check(("1", 999), known, Status::Refused(AgentRefusal::Expired));
        check(("1", 999), None, Status::Refused(AgentRefusal::Expired));
        check(("1", 2_000), None, Status::Refused(AgentRefusal::NotAttested)); // H147
        check(("1", 2_000), Some((None, None)), Status::Refused(AgentRefusal::Banned)); // H147
        check(("2", 2_000), Some((None, Some("2"))), Status::Refused(AgentRefusal::Banned));
        check(("2", 2_000), Some((Some("1"), None)), Status::Refused(AgentRefusal::NotActive));
        check(("", 2_000), Some((None, None)), Status::Refused(AgentRefusal::Banned));
    }
}
