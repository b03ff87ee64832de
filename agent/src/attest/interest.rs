//! What has to be known of a process to tell which of some entries are for it.

use steeple::selector::Selector;

/// Which of what the kernel says of a process anybody asks for. Who it runs as is asked for always.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Interest {
    /// Its supplementary groups.
    pub groups: bool,
    /// Which executable it runs.
    pub program: bool,
    /// The container that it is in.
    pub container: bool,
}

impl Interest {
    /// Everything.
    pub const ALL: Self = Self { groups: true, program: true, container: true };

    /// What tells whether this selector is true of a process.
    #[must_use]
    pub fn of(selector: &Selector) -> Self {
        let (key, _value) = selector.value().split_once(':').unwrap_or_default();
        match (selector.kind(), key) {
            ("unix", "uid" | "gid" | "user" | "group") => Self::default(),
            ("unix", "supplementary_gid" | "supplementary_group") => {
                Self { groups: true, ..Self::default() }
            }
            ("unix", "path" | "sha256") => Self { program: true, ..Self::default() },
            ("docker", _) => Self { container: true, ..Self::default() },
            (_, _) => Self::ALL,
        }
    }

    /// This and the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            groups: self.groups || other.groups,
            program: self.program || other.program,
            container: self.container || other.container,
        }
    }

    /// Whether this is all that the other is, or more.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.and(other) == self
    }
}

impl FromIterator<Self> for Interest {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        parts.into_iter().fold(Self::default(), Self::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selectors: &[&str], expected: [bool; 3]) {
        let selectors = selectors.iter().map(|text| text.parse::<Selector>().unwrap());
        let Interest { groups, program, container } =
            selectors.map(|selector| Interest::of(&selector)).collect();
        assert_eq!([groups, program, container], expected);
    }

    #[test]
    fn entries_ask_for_what_their_selectors_are_about() {
        check(&[], [false; 3]);
        check(&["unix:uid:1", "unix:gid:1", "unix:user:a", "unix:group:a"], [false; 3]);
        check(&["unix:supplementary_gid:1"], [true, false, false]);
        check(&["unix:uid:1", "unix:supplementary_group:a"], [true, false, false]);
        check(&["unix:path:/a"], [false, true, false]);
        check(&["unix:sha256:00"], [false, true, false]);
        check(&["docker:label:a:b"], [false, false, true]);
        check(&["docker:label:a:b", "unix:path:/a"], [false, true, true]);
        // Whatever is not known may be about anything.
        for unknown in ["unix:x:1", "unix:uid", "k8s:ns:a"] {
            check(&[unknown], [true; 3]);
        }
    }

    #[test]
    fn to_know_more_is_to_know_that_too() {
        let groups = Interest { groups: true, ..Interest::default() };
        assert!(Interest::ALL.covers(groups) && groups.covers(groups));
        assert!(groups.covers(Interest::default()));
        assert!(!groups.covers(Interest::ALL) && !Interest::default().covers(groups));
    }
}
