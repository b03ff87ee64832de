//! How much an endpoint takes on: of one user, of one container, and of all.
//!
//! A user alone will not do: a process in a container may become any, and most run as the same one.

use std::fmt;

use thiserror::Error;

/// How many there may be of something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// For all users together.
    pub all: usize,
    /// For one user.
    pub user: usize,
}

impl Limit {
    /// For one PID namespace, whatever users are in it: one alone does not use up what its user may
    /// have.
    #[must_use]
    pub const fn namespace(&self) -> usize {
        self.user.div_ceil(2)
    }
}

/// How much of everything the endpoint takes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Open connections.
    pub connections: Limit,
    /// Requests being answered, open streams included.
    pub requests: Limit,
    /// Requests being received that are larger than they usually are.
    pub large_requests: Limit,
    /// Requests being answered on one connection.
    pub requests_per_connection: u32,
}

/// The descriptors of one client: the socket, one more of it while the client does not read, two that
/// pin the peer, three that are kept to read about it, one to read more, and one that is held for as
/// long as the process lives once it has an SVID, connected or not.
const DESCRIPTORS: u64 = 9;

/// The descriptors of a client that is turned away: its socket, and one more while it does not read.
const DESCRIPTORS_AT_THE_DOOR: u64 = 2;

/// The descriptors that everything else in the process may need.
const OTHER_DESCRIPTORS: u64 = 512;

/// How many of something keepers may have beyond all limits. See [`super::budget::Origin`].
pub(super) const RESERVED: usize = 8;

/// How many connections may be on their way out, to make room for others.
pub(super) const LEAVING: usize = 8;

/// How many clients may be told at a time that there is no room.
pub(super) const AT_THE_DOOR: usize = 16;

/// The descriptors of what comes on top of the connections that there is room for.
const EXTRA_DESCRIPTORS: u64 =
    (RESERVED + LEAVING) as u64 * DESCRIPTORS + AT_THE_DOOR as u64 * DESCRIPTORS_AT_THE_DOOR;

impl Default for Limits {
    /// Enough for a thousand processes of one user which each hold a few streams open, while
    /// others can still come in. A connection costs some 30 KiB.
    fn default() -> Self {
        Self {
            connections: Limit { all: 8192, user: 2048 },
            requests: Limit { all: 32_768, user: 8192 },
            large_requests: Limit { all: 256, user: 64 },
            requests_per_connection: 256,
        }
    }
}

impl Limits {
    /// Enough for a few administrators, and for delegates with many streams each. So few
    /// connections find their descriptors among those that are left for everything else.
    #[must_use]
    pub const fn of_administrators() -> Self {
        Self {
            connections: Limit { all: 28, user: 28 },
            requests: Limit { all: 4096, user: 4096 },
            large_requests: Limit { all: 32, user: 32 },
            requests_per_connection: 1024,
        }
    }

    /// How many descriptors a process needs for as many connections.
    #[must_use]
    pub const fn descriptors(&self) -> u64 {
        self.connections.all as u64 * DESCRIPTORS + EXTRA_DESCRIPTORS + OTHER_DESCRIPTORS
    }

    /// The same limits where the process may have no more descriptors than these. One user gets
    /// half of the connections at most: otherwise one could shut out all others.
    #[must_use]
    pub fn within(self, descriptors: u64) -> Self {
        let others = OTHER_DESCRIPTORS + EXTRA_DESCRIPTORS;
        let room = descriptors.saturating_sub(others) / DESCRIPTORS;
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(2);
        if room >= self.connections.all {
            return self;
        }
        let connections = Limit { all: room, user: self.connections.user.min(room / 2) };
        Self { connections, ..self }
    }

    pub(super) const fn of(&self, resource: Resource) -> Limit {
        match resource {
            Resource::Connections => self.connections,
            Resource::Requests => self.requests,
            Resource::LargeRequests => self.large_requests,
        }
    }
}

/// Which of the limits was reached.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Exhausted {
    /// What one user may have.
    #[error("too many {0} of this user")]
    User(Resource),
    /// What the processes of one PID namespace may have, such as a container.
    #[error("too many {0} of this container")]
    Namespace(Resource),
    /// What all may have together.
    #[error("too many {0}")]
    All(Resource),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Open connections.
    Connections,
    /// Requests being answered.
    Requests,
    /// Large requests being received.
    LargeRequests,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::LargeRequests => "large requests",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_descriptors_mean_fewer_connections_and_never_all_for_one_user() {
        let limits = Limits::default();
        let within = |descriptors| {
            let Limit { all, user } = limits.within(descriptors).connections;
            (all, user)
        };
        assert_eq!(within(limits.descriptors()), (8192, 2048));
        assert_eq!(within(u64::MAX), (8192, 2048));
        assert_eq!(within(limits.descriptors() - 1), (8191, 2048));
        assert_eq!(within(1024), (37, 18));
        assert_eq!(within(0), (2, 1));
    }

    #[test]
    fn administrators_find_their_descriptors_among_those_for_everything_else() {
        let administrators = Limits::of_administrators().connections.all as u64;
        assert!(administrators * DESCRIPTORS + EXTRA_DESCRIPTORS <= OTHER_DESCRIPTORS);
    }

    #[test]
    fn no_container_uses_up_what_its_user_may_have() {
        for user in [2, 3, 2048] {
            let namespace = Limit { all: 4 * user, user }.namespace();
            assert!((1..user).contains(&namespace), "{namespace} of {user}");
        }
    }
}
