//! What this program was called as: under the name of SPIRE's it behaves as SPIRE's where the two
//! differ.

use std::ffi::OsStr;

use clap::Command;
use clap::builder::Resettable;
use steeple::spelling::{is_called, with_go_flags};

/// What is different under the other name.
const AS_SPIRE: &str = "\
Called as spire-server, this is steeple-server for scripts that were written for SPIRE:
- Without --socket, --instance or an environment variable the admin socket is
  /tmp/spire-server/private/api.sock, and that of steeple-server if there is none.
- `entry update` resets the fields that are not named, as with --replace.
- Lists are blocks and no tables on a terminal, too, as with --output pretty.
- Flags that say nothing beside --data or --node are ignored, with a warning. So they are under the
  other name where a flag has one dash.
Configurations are those of steeple-server; `config import` translates SPIRE's.";

/// What is the same under both.
const NOTE: &str = "\
Flags are also taken as SPIRE's tools spell them, with one dash or two (-spiffeID). Called as
spire-server, through a link of that name, this program behaves as SPIRE's where the two differ;
`spire-server --help` says where.";

/// The names of this program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// Its own.
    Steeple,
    /// That of SPIRE's.
    Spire,
}

impl Name {
    /// The name in the first argument of a process.
    pub(super) fn of(program: Option<&OsStr>) -> Self {
        if is_called("spire-server", program) { Self::Spire } else { Self::Steeple }
    }

    /// The name that this process was started by.
    pub(super) fn of_this_process() -> Self {
        Self::of(std::env::args_os().next().as_deref())
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Steeple => "steeple-server",
            Self::Spire => "spire-server",
        }
    }

    /// The command line under this name.
    pub(super) fn command(self, command: Command) -> Command {
        let command = with_go_flags(command, &[]).name(self.as_str()).bin_name(self.as_str());
        match self {
            Self::Steeple => command.after_help(NOTE),
            Self::Spire => command
                .after_help(AS_SPIRE)
                .mut_subcommand("entry", |entry| {
                    let update = |update: Command| {
                        update.mut_arg("replace", |replace| replace.default_value("true"))
                    };
                    entry.mut_subcommand("update", update).mut_subcommand("show", in_blocks)
                })
                .mut_subcommand("agent", |agent| agent.mut_subcommand("list", in_blocks)),
        }
    }
}

/// The same command line, which takes flags that say nothing beside others, as SPIRE's do.
pub(super) fn tolerant(command: Command) -> Command {
    let beside = |command: Command, id: &'static str| {
        command.mut_arg(id, |arg| arg.conflicts_with(Resettable::Reset))
    };
    command.mut_subcommand("entry", |entry| {
        entry
            .mut_subcommand("create", |create| beside(beside(create, "data"), "node"))
            .mut_subcommand("update", |update| beside(update, "data"))
    })
}

/// A list that is no table unless that is asked for.
fn in_blocks(list: Command) -> Command {
    list.mut_arg("output", |output| output.default_value("pretty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: &str, expected: Name) {
        assert_eq!(Name::of(Some(OsStr::new(program))), expected);
    }

    #[test]
    fn the_name_is_that_of_the_file() {
        check("spire-server", Name::Spire);
        check("/opt/spire/bin/spire-server", Name::Spire);
        check("./steeple-server", Name::Steeple);
        check("/opt/spire-server/bin/steeple-server", Name::Steeple);
        check("", Name::Steeple);
        assert_eq!(Name::of(None), Name::Steeple);
    }
}
