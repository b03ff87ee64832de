//! Every command and every flag that SPIRE's `spire-server` has, as its users write them.

use steeple::spelling::commands;

use super::*;

/// The commands of this program, as SPIRE's users know them.
fn commands() -> Vec<commands::Command> {
    let all = commands::read(include_str!("../../../../tests/commands.txt")).into_iter();
    all.filter(|command| command.name.starts_with("spire-server ")).collect()
}

/// What the program says to these words under a name.
fn parse_words(name: Name, words: &[String]) -> Result<Cli, clap::Error> {
    let words = words.iter().skip(1).map(Into::into);
    super::super::parse(name, std::iter::once(name.as_str().into()).chain(words).collect())
}

#[test]
fn every_flag_of_spires_is_taken_with_one_dash_or_two() {
    for words in commands().iter().flat_map(commands::Command::lines) {
        for name in [Name::Steeple, Name::Spire] {
            if let Err(error) = parse_words(name, &words) {
                panic!("{}: {words:?}: {error}", name.as_str());
            }
        }
    }
}

#[test]
fn a_flag_of_spires_that_is_not_taken_is_refused_with_a_reason() {
    let mut refused = 0;
    for command in commands() {
        for (flag, reason) in &command.refused {
            let error = parse_words(Name::Spire, &command.line_with(flag)).unwrap_err().to_string();
            assert!(error.contains(reason), "{} {flag}: {error}", command.name);
            refused += 1;
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_switch_may_be_switched_off() {
    let is_off = |command: &str, id: &str| {
        let words = std::iter::once("x").chain(command.split(' ')).map(Into::into);
        let arguments = spelling::with_two_dashes(words);
        let matches = Name::Steeple.command(Cli::command()).get_matches_from(arguments);
        let mut inner = &matches;
        while let Some((_, next)) = inner.subcommand() {
            inner = next;
        }
        !inner.get_one::<bool>(id).copied().unwrap_or_default()
    };
    assert!(is_off("agent purge -dryRun=false", "dry_run"));
    assert!(!is_off("agent purge -dryRun", "dry_run"));
    assert!(is_off("agent purge", "dry_run"));
    assert!(is_off("entry update -entryID e -admin=false", "admin"));
}

#[test]
fn the_last_of_a_flag_counts_and_all_of_a_list() {
    let said = |words: &str| format!("{:?}", parse(words).unwrap());
    let check = |twice: &str, once: &str| assert_eq!(said(twice), said(once));
    check("entry show -output json -output pretty", "entry show --output pretty");
    check("healthcheck -shallow -shallow=false", "healthcheck");
    check("healthcheck -shallow=false -shallow", "healthcheck -shallow");
    check(
        "entry create -spiffeID spiffe://td/a -spiffeID spiffe://td/b -parentID spiffe://td/p \
         -selector a:1 -selector a:2 -x509SVIDTTL 1 -x509SVIDTTL 2",
        "entry create -spiffeID spiffe://td/b -parentID spiffe://td/p -selector a:1 -selector a:2 \
         -x509SVIDTTL 2",
    );
    assert_ne!(said("entry show -selector a:1 -selector a:2"), said("entry show -selector a:2"));
}

#[test]
fn wit_svids_are_refused_with_a_reason() {
    let Command::Wit(wit) =
        parse("wit mint -spiffeID spiffe://td/a -keyType ec-p256").unwrap().command
    else {
        panic!("not `wit`")
    };
    let error = wit.run().unwrap_err().to_string();
    assert!(error.contains("`x509 mint` and `jwt mint` make the other two kinds"), "{error}");
}

#[test]
fn the_program_is_called_as_it_was_called() {
    let error = parse_as(Name::Spire, "entry nonsense").unwrap_err().to_string();
    assert!(error.contains("Usage: spire-server entry"), "{error}");
    let help = parse_as(Name::Spire, "--help").unwrap_err().to_string();
    assert!(help.contains("/tmp/spire-server/private/api.sock"), "{help}");
    let help = parse("--help").unwrap_err().to_string();
    assert!(help.contains("Usage: steeple-server") && help.contains("spire-server"), "{help}");
}
