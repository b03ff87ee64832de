//! Where a server that was told nothing keeps its records.

use std::env;
use std::path::PathBuf;

/// The data directory of this user's server: `/var/lib/steeple/server` for root; for others
/// `steeple/server` below `$XDG_STATE_HOME`, or below `~/.local/state`. `None` for a user without a
/// home.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    choose(nix::unistd::geteuid().is_root(), &|name| env::var_os(name).map(PathBuf::from))
}

fn choose(is_root: bool, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/steeple/server"));
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    let state = variable("XDG_STATE_HOME").filter(absolute);
    let home = || variable("HOME").filter(absolute).map(|home| home.join(".local/state"));
    Some(state.or_else(home)?.join("steeple/server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_root: bool, variables: &[(&str, &str)], expected: Option<&str>) {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        };
        assert_eq!(choose(is_root, &variable), expected.map(PathBuf::from));
    }

    #[test]
    fn the_data_directory_belongs_to_the_user() {
        check(true, &[("XDG_STATE_HOME", "/x")], Some("/var/lib/steeple/server"));
        check(false, &[("XDG_STATE_HOME", "/x"), ("HOME", "/h/a")], Some("/x/steeple/server"));
        check(false, &[("HOME", "/h/a")], Some("/h/a/.local/state/steeple/server"));
        check(false, &[("XDG_STATE_HOME", "x"), ("HOME", "h")], None);
        check(false, &[], None);
    }
}
