//! Where the sockets of a running agent are: as flags and environment say, ours and SPIRE's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use steeple::spelling::{InstanceError, socket_of_instance};
use thiserror::Error;

use super::address::{Address, AddressError};
use super::name::Name;
use crate::config::home;

/// Where workloads look for an agent (Workload Endpoint 4).
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Says the same to SPIRE's tools.
const SPIRE_VARIABLE: &str = "SPIRE_AGENT_PUBLIC_SOCKET";

/// Says to SPIRE's tools where the sockets of several agents are, with `%i` for the name of one.
const SPIRE_TEMPLATE: &str = "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE";

/// Says where the admin socket is.
const ADMIN_VARIABLE: &str = "STEEPLE_AGENT_ADMIN_SOCKET";

/// Where SPIRE's agent listens unless it is told otherwise.
const SPIRE_DEFAULT: &str = "/tmp/spire-agent/public/api.sock";
const SPIRE_ADMIN_DEFAULT: &str = "/tmp/spire-agent/private/admin.sock";

/// Why it is not known where a socket is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum SocketError {
    /// A variable does not hold an address.
    #[error("{0} does not say where an agent is")]
    Variable(&'static str, #[source] AddressError),
    /// It is not known where an instance is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// There is no place for it by default.
    #[error(
        "there is no default data directory without $HOME; say with --socket where the agent's \
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

impl Surroundings<'_> {
    /// The workload socket: what a flag says, then an instance, then the environment, then the
    /// default.
    pub(super) fn workload(
        &self,
        flag: Option<&Address>,
        instance: Option<&str>,
    ) -> Result<Address, SocketError> {
        if let Some(address) = flag {
            return Ok(address.clone());
        }
        if let Some(instance) = instance {
            return self.of_instance(instance);
        }
        if let Some(text) = (self.variable)(VARIABLE) {
            let parsed = text.to_str().ok_or(AddressError::NotText).and_then(str::parse);
            return parsed.map_err(|error| SocketError::Variable(VARIABLE, error));
        }
        let default = || self.default(home::default_socket_path(), SPIRE_DEFAULT);
        Ok(self.of_variable(SPIRE_VARIABLE)?.unwrap_or_else(default))
    }

    /// The admin socket: what a flag says, then the environment, then the default.
    pub(super) fn admin(&self, flag: Option<&Address>) -> Result<Address, SocketError> {
        if let Some(address) = flag {
            return Ok(address.clone());
        }
        if let Some(address) = self.of_variable(ADMIN_VARIABLE)? {
            return Ok(address);
        }
        let ours = home::default_admin_socket_path().ok_or(SocketError::NoHome)?;
        Ok(self.default(ours, SPIRE_ADMIN_DEFAULT))
    }

    /// What a variable says where a plain path will do.
    fn of_variable(&self, name: &'static str) -> Result<Option<Address>, SocketError> {
        let Some(text) = (self.variable)(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let parsed = text.to_str().ok_or(AddressError::NotText).and_then(Address::of_flag);
        parsed.map(Some).map_err(|error| SocketError::Variable(name, error))
    }

    fn of_instance(&self, instance: &str) -> Result<Address, SocketError> {
        let path = socket_of_instance(instance, SPIRE_TEMPLATE, (self.variable)(SPIRE_TEMPLATE))?;
        let parsed = path.to_str().ok_or(AddressError::NotText).and_then(Address::of_flag);
        parsed.map_err(|error| SocketError::Variable(SPIRE_TEMPLATE, error))
    }

    fn default(&self, ours: PathBuf, spires: &str) -> Address {
        let spires = PathBuf::from(spires);
        Address::Unix(match self.name {
            Name::Steeple => ours,
            Name::Spire if (self.exists)(&spires) || !(self.exists)(&ours) => spires,
            Name::Spire => ours,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn around<T>(
        name: Name,
        variables: Variables<'_>,
        existing: &[&Path],
        ask: impl FnOnce(&Surroundings<'_>) -> T,
    ) -> T {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        let exists = |path: &Path| existing.contains(&path);
        ask(&Surroundings { name, variable: &variable, exists: &exists })
    }

    #[track_caller]
    fn check(
        flags: (Option<&str>, Option<&str>),
        variables: Variables<'_>,
        expected: Result<&str, SocketError>,
    ) {
        let flag = flags.0.map(|text| Address::of_flag(text).unwrap());
        let found = around(Name::Steeple, variables, &[], |around| {
            around.workload(flag.as_ref(), flags.1).map(|address| address.to_string())
        });
        assert_eq!(found, expected.map(ToOwned::to_owned));
    }

    /// WEP-09, H200
    #[test]
    fn a_flag_wins_over_the_instance_and_that_over_the_environment() {
        let default = home::default_socket_path().display().to_string();
        let all = [
            (VARIABLE, "unix:///b"),
            (SPIRE_VARIABLE, "/spire"),
            (SPIRE_TEMPLATE, "/x/%i/api.sock"),
        ];
        check((Some("unix:///a"), Some("i")), &all, Ok("/a"));
        check((Some("/a"), None), &[(VARIABLE, "nonsense")], Ok("/a"));
        check((None, Some("i")), &all, Ok("/x/i/api.sock"));
        check((None, None), &all, Ok("/b"));
        check((None, None), &all[1..], Ok("/spire"));
        check((None, None), &[(VARIABLE, "tcp://127.0.0.1:1")], Ok("tcp://127.0.0.1:1"));
        check((None, None), &[(SPIRE_VARIABLE, "")], Ok(&default));
        check((None, None), &[], Ok(&default));
    }

    #[test]
    fn what_does_not_say_where_an_agent_is_is_named() {
        let refused = |error| Err(SocketError::Variable(VARIABLE, error));
        check((None, None), &[(VARIABLE, "")], refused(AddressError::Empty));
        check((None, None), &[(VARIABLE, "/b")], refused(AddressError::Scheme));
        let nowhere = InstanceError::NoTemplate("a".into(), SPIRE_TEMPLATE);
        check((None, Some("a")), &[], Err(nowhere.into()));
    }

    #[test]
    fn under_the_name_of_spires_the_sockets_are_where_spires_are() {
        let ours = home::default_admin_socket_path().unwrap();
        let spires = Path::new(SPIRE_ADMIN_DEFAULT);
        for (name, existing, expected) in [
            (Name::Steeple, &[spires][..], &*ours),
            (Name::Spire, &[spires, &ours], spires),
            (Name::Spire, &[&ours], &ours),
            (Name::Spire, &[], spires),
        ] {
            let found = around(name, &[], existing, |around| around.admin(None).unwrap());
            assert_eq!(found, Address::Unix(expected.to_owned()));
        }
        let variables = [(ADMIN_VARIABLE, "/a/admin.sock")];
        let found = around(Name::Spire, &variables, &[], |around| around.admin(None).unwrap());
        assert_eq!(found.to_string(), "/a/admin.sock");
    }
}
