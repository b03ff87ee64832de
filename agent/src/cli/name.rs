//! What this program was called as: under the name of SPIRE's it behaves as SPIRE's where the two
//! differ.

use clap::Command;
use steeple::spelling::{is_called, with_go_flags};

/// What is different under the other name.
const AS_SPIRE: &str = "\
Called as spire-agent, this is steeple-agent for scripts that were written for SPIRE: without
--socket, --instance or an environment variable the sockets are /tmp/spire-agent/public/api.sock and
/tmp/spire-agent/private/admin.sock, and those of steeple-agent if there are none.
Configurations are those of steeple-agent.";

/// What is the same under both.
const NOTE: &str = "\
Flags are also taken as SPIRE's tools spell them, with one dash or two (-socketPath). Called as
spire-agent, through a link of that name, this program looks for its sockets where SPIRE's are.";

/// The names of this program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// Its own.
    Steeple,
    /// That of SPIRE's.
    Spire,
}

impl Name {
    /// The name that this process was started by.
    pub(super) fn of_this_process() -> Self {
        let is_spire = is_called("spire-agent", std::env::args_os().next().as_deref());
        if is_spire { Self::Spire } else { Self::Steeple }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Steeple => "steeple-agent",
            Self::Spire => "spire-agent",
        }
    }

    /// The command line under this name.
    pub(super) fn command(self, command: Command) -> Command {
        let command = with_go_flags(command, &["trust_bundle"]);
        command.name(self.as_str()).bin_name(self.as_str()).after_help(match self {
            Self::Steeple => NOTE,
            Self::Spire => AS_SPIRE,
        })
    }
}
