//! Where an agent that was told nothing keeps its records and listens.

use std::env;
use std::path::PathBuf;

/// The data directory of this user's agent: `/var/lib/steeple/agent` for root; for others
/// `steeple/agent` below `$XDG_STATE_HOME`, or below `~/.local/state`. `None` for a user without a
/// home.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    data_dir(is_root(), &variable)
}

/// The socket of this user's agent: `/run/steeple/agent/api.sock` for root; for others
/// `steeple-agent/api.sock` below `$XDG_RUNTIME_DIR`, or below `/tmp`.
#[must_use]
pub fn default_socket_path() -> PathBuf {
    socket_path(is_root(), &variable)
}

/// Where this user's agent might have its admin socket, which there is only if it was told so:
/// `admin/admin.sock` in its data directory, which is nobody else's. `None` for a user without a
/// home.
#[must_use]
pub fn default_admin_socket_path() -> Option<PathBuf> {
    Some(default_data_dir()?.join("admin/admin.sock"))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn data_dir(is_root: bool, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/steeple/agent"));
    }
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    Some(variable("XDG_STATE_HOME").or_else(home)?.join("steeple/agent"))
}

fn socket_path(is_root: bool, variable: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if is_root {
        return PathBuf::from("/run/steeple/agent/api.sock");
    }
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    runtime.join("steeple-agent/api.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_root: bool, variables: &[(&str, &str)], data: Option<&str>, socket: &str) {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        };
        assert_eq!(data_dir(is_root, &variable), data.map(PathBuf::from));
        assert_eq!(socket_path(is_root, &variable), PathBuf::from(socket));
    }

    #[test]
    fn each_user_has_places_of_their_own() {
        let run = "/run/steeple/agent/api.sock";
        let everything = [("XDG_STATE_HOME", "/s"), ("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")];
        check(true, &everything, Some("/var/lib/steeple/agent"), run);
        check(false, &everything, Some("/s/steeple/agent"), "/r/steeple-agent/api.sock");
        let tmp = "/tmp/steeple-agent/api.sock";
        check(false, &[("HOME", "/h")], Some("/h/.local/state/steeple/agent"), tmp);
        check(false, &[], None, tmp);
    }
}
