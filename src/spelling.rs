//! Command lines as SPIRE's tools take them: flags with one dash (`-spiffeID` is read as
//! `--spiffeID`), switches with a value (`-node=false`), and programs under SPIRE's names.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command, value_parser};
use thiserror::Error;

#[cfg(feature = "testing")]
pub mod commands;

/// Flags whose value is any text, one that begins with a dash as well.
const TEXTS: &[&str] = &["--audience", "--hint", "--joinToken", "--join-token"];

/// The exit code of a command line that is not understood.
const USAGE: u8 = 2;

/// Why it is not known where the socket of an instance is. The variable is that of SPIRE's tools that
/// says where sockets are, with `%i` for the name of one.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InstanceError {
    /// Nothing says where instances are.
    #[error(
        "--instance {0}: set {1} to the path of the sockets with %i for the instance, such as \
         /run/spire/%i/api.sock"
    )]
    NoTemplate(String, &'static str),
    /// What says where instances are has no place for their name.
    #[error(
        "{1} is {0:?}; it must have %i where the name of the instance goes, such as \
         /run/spire/%i/api.sock"
    )]
    NoPlace(String, &'static str),
    /// The name of an instance would lead elsewhere.
    #[error("--instance {0:?}: it must be a name without slashes")]
    Name(String),
}

/// The arguments as this program's parser knows them.
#[must_use]
pub fn with_two_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.peekable();
    let mut known = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            known.push(argument);
            break;
        }
        let is_spires = is_long_with_one_dash(&argument);
        let mut longer = OsString::from(if is_spires { "-" } else { "" });
        longer.push(argument);
        // Of SPIRE's flags the next argument is the value, whatever it looks like.
        let is_value =
            |next: &OsString| is_long_with_one_dash(next) || (is_spires && has_two_dashes(next));
        if TEXTS.iter().any(|flag| longer == *flag)
            && let Some(value) = arguments.next_if(is_value)
        {
            longer.push("=");
            longer.push(value);
        }
        known.push(longer);
    }
    known.extend(arguments);
    known
}

/// Whether a flag is written as SPIRE's tools write theirs, with one dash.
#[must_use]
pub fn is_spires(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(is_long_with_one_dash)
}

/// Flags as Go's are: a switch may be given a value behind an equals sign (`-node=false`), and of a flag
/// that is there twice the last one counts, unless it is a list. A negative number is a value. Those in `apart` stand for several of
/// SPIRE's, which are not to be there together.
#[must_use]
pub fn with_go_flags(command: Command, apart: &[&str]) -> Command {
    let flag = |arg: Arg| {
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let is_single = is_switch || matches!(arg.get_action(), ArgAction::Set);
        let arg = if is_switch { with_value(arg) } else { arg };
        // What is negative is refused as a value, with what would do.
        let arg = if is_single && !is_switch { arg.allow_negative_numbers(true) } else { arg };
        let id = arg.get_id().clone();
        let is_replaced = is_single && !arg.is_positional() && !apart.contains(&id.as_str());
        if is_replaced { arg.overrides_with(id) } else { arg }
    };
    command.mut_args(flag).mut_subcommands(|inner| with_go_flags(inner, apart))
}

fn with_value(switch: Arg) -> Arg {
    switch
        .action(ArgAction::Set)
        .value_parser(value_parser!(bool))
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
}

/// Prints why a command line was not understood, or the help that it asked for; the exit code. Programs
/// of SPIRE's know one code for all that goes wrong.
#[must_use]
pub fn refuse(error: &clap::Error, as_spire: bool) -> ExitCode {
    let is_mistake = error.exit_code() != 0;
    // Where nobody listens any more there is nobody to tell.
    let _closed = if is_mistake && as_spire {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        write!(std::io::stderr(), "Error: {text}")
    } else {
        error.print()
    };
    match (is_mistake, as_spire) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(USAGE),
    }
}

/// Where the socket of one of several programs is: its name in the template of this variable.
///
/// # Errors
/// The name or the template will not do.
pub fn socket_of_instance(
    instance: &str,
    variable: &'static str,
    template: Option<OsString>,
) -> Result<PathBuf, InstanceError> {
    if instance.is_empty() || instance.contains('/') || instance == ".." {
        return Err(InstanceError::Name(instance.into()));
    }
    let template = template.filter(|template| !template.is_empty());
    let template = template.ok_or_else(|| InstanceError::NoTemplate(instance.into(), variable))?;
    let template = template.to_string_lossy();
    if !template.contains("%i") {
        return Err(InstanceError::NoPlace(template.into_owned(), variable));
    }
    Ok(template.replace("%i", instance).into())
}

/// Whether a process whose first argument is `program` was started under this name.
#[must_use]
pub fn is_called(name: &str, program: Option<&OsStr>) -> bool {
    program.map(Path::new).and_then(Path::file_name).is_some_and(|found| found == name)
}

fn has_two_dashes(argument: &OsString) -> bool {
    argument.as_encoded_bytes().starts_with(b"--")
}

/// Whether this is a dash and a word of several letters. No flag here has a value that looks so, but
/// for [`TEXTS`].
fn is_long_with_one_dash(argument: &OsString) -> bool {
    let mut bytes = argument.as_encoded_bytes().iter();
    bytes.next() == Some(&b'-')
        && bytes.next().is_some_and(u8::is_ascii_alphabetic)
        && bytes.next().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        let found = with_two_dashes(arguments.split(' ').map(OsString::from));
        let expected: Vec<_> = expected.split(' ').map(OsString::from).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn one_dash_before_a_word_is_as_good_as_two() {
        check("entry show -spiffeID x", "entry show --spiffeID x");
        check("-output=json --output -h -V -", "--output=json --output -h -V -");
        check("-dns a -- -dns", "--dns a -- -dns");
        check("-1 -1a", "-1 -1a");
    }

    #[test]
    fn a_text_may_begin_with_a_dash() {
        check("-hint -dash -dns a", "--hint=-dash --dns a");
        check("-audience --x --audience -ab", "--audience=--x --audience=-ab");
        check("--hint --admin -hint=-a -dns -b", "--hint --admin --hint=-a --dns -b");
        check("-hint -", "--hint -");
        check("-- -hint -dash", "-- -hint -dash");
    }

    #[test]
    fn one_dash_tells_who_is_used_to_spires_tools() {
        let is = |text: &str| is_spires(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(is("entry create -node"));
        assert!(!is("entry create --node -h -f x -- -node"));
    }

    #[test]
    fn an_instance_needs_a_place_for_its_name() {
        let of = |instance, template: Option<&str>| {
            socket_of_instance(instance, "T", template.map(OsString::from))
        };
        assert_eq!(of("a", Some("/x/%i/%i.s")), Ok(PathBuf::from("/x/a/a.s")));
        assert_eq!(of("a", None), Err(InstanceError::NoTemplate("a".into(), "T")));
        assert_eq!(of("a", Some("")), Err(InstanceError::NoTemplate("a".into(), "T")));
        assert_eq!(of("a", Some("/x/s")), Err(InstanceError::NoPlace("/x/s".into(), "T")));
        for name in ["../a", "..", ""] {
            assert_eq!(of(name, Some("/x/%i")), Err(InstanceError::Name(name.into())));
        }
    }
}
