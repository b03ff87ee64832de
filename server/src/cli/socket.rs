//! Where the server's admin socket is: as flags and environment say, ours and SPIRE's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use steeple::spelling::{InstanceError, socket_of_instance};
use thiserror::Error;

use super::name::Name;
use crate::config::{default_data_dir, socket_in};

/// Says where the socket is.
const VARIABLE: &str = "STEEPLE_SERVER_SOCKET";

/// Says the same to SPIRE's tools.
const SPIRE_VARIABLE: &str = "SPIRE_SERVER_PRIVATE_SOCKET";

/// Says to SPIRE's tools where the sockets of several servers are, with `%i` for the name of one.
const SPIRE_TEMPLATE: &str = "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE";

/// Where SPIRE's server listens unless it is told otherwise.
pub(super) const SPIRE_DEFAULT: &str = "/tmp/spire-server/private/api.sock";

/// Why it is not known where the socket is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum SocketError {
    /// It is not known where an instance is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// There is no place for it by default.
    #[error(
        "there is no default data directory without $HOME; say with --socket where the server's \
         admin socket is"
    )]
    NoHome,
}

/// What there is to know about this process.
pub(super) struct Surroundings<'a> {
    pub(super) name: Name,
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) exists: &'a dyn Fn(&Path) -> bool,
}

/// The socket: what a flag says, then an instance, then the environment, then the default.
pub(super) fn locate(
    socket: Option<&Path>,
    instance: Option<&str>,
    around: &Surroundings<'_>,
) -> Result<PathBuf, SocketError> {
    let variable = |name: &str| (around.variable)(name).filter(|value| !value.is_empty());
    if let Some(socket) = socket {
        return Ok(socket.to_owned());
    }
    if let Some(instance) = instance {
        return Ok(socket_of_instance(instance, SPIRE_TEMPLATE, variable(SPIRE_TEMPLATE))?);
    }
    if let Some(socket) = variable(VARIABLE).or_else(|| variable(SPIRE_VARIABLE)) {
        return Ok(socket.into());
    }
    let ours = || Some(socket_in(&default_data_dir()?));
    let spires = PathBuf::from(SPIRE_DEFAULT);
    match around.name {
        Name::Steeple => ours().ok_or(SocketError::NoHome),
        Name::Spire if (around.exists)(&spires) => Ok(spires),
        Name::Spire => Ok(ours().filter(|ours| (around.exists)(ours)).unwrap_or(spires)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case<'a> {
        name: Name,
        flags: (Option<&'a str>, Option<&'a str>),
        variables: &'a [(&'a str, &'a str)],
        existing: &'a [&'a str],
    }

    const NOTHING: Case<'static> =
        Case { name: Name::Steeple, flags: (None, None), variables: &[], existing: &[] };

    #[track_caller]
    fn check(case: &Case<'_>, expected: Result<&Path, SocketError>) {
        let variable = |name: &str| {
            case.variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        let exists = |path: &Path| case.existing.iter().any(|there| path == Path::new(there));
        let around = Surroundings { name: case.name, variable: &variable, exists: &exists };
        let (socket, instance) = case.flags;
        let found = locate(socket.map(Path::new), instance, &around);
        assert_eq!(found, expected.map(Path::to_owned));
    }

    #[test]
    fn the_flag_wins_over_the_instance_and_that_over_the_environment() {
        let all = [(VARIABLE, "/ours"), (SPIRE_VARIABLE, "/theirs"), (SPIRE_TEMPLATE, "/x/%i/s")];
        let case = |flags| Case { flags, variables: &all, ..NOTHING };
        check(&case((Some("/flag"), Some("a"))), Ok(Path::new("/flag")));
        check(&case((None, Some("a"))), Ok(Path::new("/x/a/s")));
        check(&case((None, None)), Ok(Path::new("/ours")));
        let theirs = [(VARIABLE, ""), (SPIRE_VARIABLE, "/theirs")];
        check(&Case { variables: &theirs, ..NOTHING }, Ok(Path::new("/theirs")));
    }

    #[test]
    fn under_the_name_of_spires_the_socket_is_where_spires_is() {
        let ours = socket_in(&default_data_dir().unwrap());
        let ours_text = ours.to_str().unwrap();
        check(&Case { existing: &[SPIRE_DEFAULT], ..NOTHING }, Ok(&ours));
        let spire = Case { name: Name::Spire, ..NOTHING };
        check(
            &Case { existing: &[SPIRE_DEFAULT, ours_text], ..spire },
            Ok(Path::new(SPIRE_DEFAULT)),
        );
        check(&Case { existing: &[ours_text], ..spire }, Ok(&ours));
        check(&spire, Ok(Path::new(SPIRE_DEFAULT)));
    }
}
