//! Decides when an authority that no longer signs is no longer vouched for; performs no I/O.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::authorities::AuthorityId;
use super::slots::Kind;

/// The longest time for which an authority has to have been useless before it is pruned. A clock
/// that is wrong for less does no harm.
const MAX_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// An authority that does not sign.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a AuthorityId,
    /// How long it was to live.
    pub(super) lifetime: Duration,
    /// When all it signed has expired, in seconds since 1970.
    pub(super) end: i64,
}

/// Since when authorities have been useless, by a clock that nobody can set.
#[derive(Debug, Default)]
pub(super) struct Useless(HashMap<(Kind, AuthorityId), Instant>);

impl Useless {
    /// Those that were useless whenever this was asked, for as long as one of them was to live, or
    /// an hour. `now` is the time that the ends are compared with.
    pub(super) fn for_long<'a>(
        &mut self,
        candidates: impl Iterator<Item = Candidate<'a>>,
        now: i64,
        instant: Instant,
    ) -> Vec<(Kind, AuthorityId)> {
        let useless: Vec<_> = candidates.filter(|candidate| candidate.end < now).collect();
        self.0.retain(|(kind, id), _| useless.iter().any(|c| c.kind == *kind && c.id == id));
        let mut for_long = Vec::new();
        for candidate in useless {
            let name = (candidate.kind, candidate.id.clone());
            let since = *self.0.entry(name.clone()).or_insert(instant);
            let patience = candidate.lifetime.min(MAX_PATIENCE);
            if instant.saturating_duration_since(since) >= patience {
                for_long.push(name);
            }
        }
        for_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_pruned_when_it_was_useless_for_long() {
        let start = Instant::now();
        let id = AuthorityId::from("a".to_owned());
        let mut useless = Useless::default();
        let mut check = |lifetime, now, seconds, expected| {
            let lifetime = Duration::from_secs(lifetime);
            let candidate = Candidate { kind: Kind::JwtKey, id: &id, lifetime, end: 1_000 };
            let instant = start + Duration::from_secs(seconds);
            let pruned = useless.for_long([candidate].into_iter(), now, instant);
            assert_eq!(!pruned.is_empty(), expected, "{now} {seconds}");
        };
        check(60, 1_000, 0, false);
        check(60, 1_001, 0, false);
        check(60, 1_060, 59, false);
        check(60, 1_061, 60, true);
        // A clock that was wrong begins the wait anew.
        check(60, 900, 61, false);
        check(60, 1_062, 62, false);
        check(60, 1_121, 121, false);
        check(60, 1_122, 122, true);
        // Of a long life an hour is enough.
        check(86_400, 900, 200, false);
        check(86_400, 9_999_999, 200, false);
        check(86_400, 9_999_999, 3_799, false);
        check(86_400, 9_999_999, 3_800, true);
    }
}
