//! The command line in our spelling and in that of SPIRE's tools.

use steeple::spelling::commands;

use super::*;

fn read(words: &str) -> Result<Cli, clap::Error> {
    read_as(Name::Steeple, words.split_whitespace())
}

/// What the program says to these words under a name.
fn read_as<'a>(name: Name, words: impl Iterator<Item = &'a str>) -> Result<Cli, clap::Error> {
    let words = std::iter::once(name.as_str()).chain(words);
    let arguments = spelling::with_two_dashes(words.map(Into::into));
    let matches = name.command(Cli::command()).try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// The commands of this program, as SPIRE's users know them.
fn commands() -> Vec<commands::Command> {
    let all = commands::read(include_str!("../../../../tests/commands.txt")).into_iter();
    all.filter(|command| command.name.starts_with("spire-agent ")).collect()
}

#[test]
fn every_flag_of_spires_is_taken_with_one_dash_or_two() {
    for words in commands().iter().flat_map(commands::Command::lines) {
        for name in [Name::Steeple, Name::Spire] {
            if let Err(error) = read_as(name, words.iter().skip(1).map(String::as_str)) {
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
            let line = command.line_with(flag);
            let read = read_as(Name::Spire, line.iter().skip(1).map(String::as_str));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(reason), "{} {flag}: {error}", command.name);
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// Both say the same.
#[track_caller]
fn check(ours: &str, spires: &str) {
    let [ours, spires] = [ours, spires].map(|words| read(words).unwrap());
    assert_eq!(format!("{ours:?}"), format!("{spires:?}"));
}

#[test]
fn flags_are_taken_in_our_spelling_and_in_that_of_spire() {
    check("healthcheck --socket /s --verbose", "healthcheck -socketPath /s -verbose");
    check("healthcheck --shallow", "healthcheck -shallow=true");
    check("validate --config c", "validate -config c");
    check("api fetch --silent", "api fetch -silent");
    check(
        "api fetch x509 --socket /s --write d --timeout 10s --output json",
        "api fetch x509 -socketPath /s -write d -timeout 10s -output=JSON",
    );
    check(
        "api fetch jwt --audience a --audience b --spiffe-id spiffe://td/a --output json",
        "api fetch jwt -audience a,b -spiffeID spiffe://td/a -format json",
    );
    check(
        "api validate jwt --audience a --svid t --instance i",
        "api validate jwt -audience a -svid t -instance i",
    );
    check("api watch --socket /s", "api watch -socketPath /s");
    check("logger get --socket /s", "logger get -socketPath /s");
    check("logger set --level debug", "logger set -level DEBUG");
    check("logger reset --output json", "logger reset -output json");
    check("debug getinfo --socket /s", "debug getinfo -socketPath /s");
    check(
        "run --config c --data-dir d --join-token t --trust-domain td --socket /s --log-level debug \
         --log-format json --trust-bundle b --trust-bundle-format pem",
        "run -config c -dataDir d -joinToken t -trustDomain td -socketPath /s -logLevel DEBUG \
         -logFormat JSON -trustBundle b -trustBundleFormat pem",
    );
    check(
        "run --server-address h --server-port 1 --join-token-file f --insecure-bootstrap",
        "run -serverAddress h -serverPort 1 -joinTokenFile f -insecureBootstrap",
    );
    check("run --trust-bundle https://h/b", "run -trustBundleUrl https://h/b");
    check("run --config c --expand-env", "run -config c -expandEnv=true");
    check("run --allow-unauthenticated-verifiers", "run -allowUnauthenticatedVerifiers");
    check("run --disable-workload-api", "run -disableWorkloadAPI=true");
    check(
        "run --rebootstrap-mode auto --rebootstrap-delay 10m",
        "run -rebootstrapMode AUTO -rebootstrapDelay 10m",
    );
    check("run --log-file /f --log-source-location", "run -logFile /f -logSourceLocation");
}

#[test]
fn the_last_of_a_flag_counts_and_all_of_a_list() {
    check("logger reset --output json", "logger reset -output pretty -output json");
    check("run --server-port 2", "run -serverPort 1 -serverPort 2");
    check("run --expand-env", "run -expandEnv=false -expandEnv");
    check(
        "api fetch jwt --audience a,b --socket /s",
        "api fetch jwt -audience a -audience b -socketPath /r -socketPath /s",
    );
}

#[test]
fn what_says_two_things_is_refused() {
    for words in [
        "run --server h:1 --server-address h",
        "run --trust-bundle a -trustBundleUrl https://h/b",
        "api fetch --silent x509",
        "logger set --level loud",
        "logger set",
    ] {
        assert!(read(words).is_err(), "{words}");
    }
}
