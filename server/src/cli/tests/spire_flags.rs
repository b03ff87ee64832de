//! Every command and every flag that SPIRE's `spire-server` has, as its users write them.

use super::*;

/// A command, what it cannot do without, and each of its flags with a value that it may have.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// How to print.
const COMMON: &[&str] = &["-socketPath /s", "-instance a", "-output json", "-output PRETTY"];

/// What an entry is.
const FIELDS: &[&str] = &[
    "-entryID e",
    "-spiffeID spiffe://td/a",
    "-parentID spiffe://td/b",
    "-selector unix:uid:1",
    "-x509SVIDTTL 60",
    "-jwtSVIDTTL 60",
    "-federatesWith spiffe://other",
    "-admin",
    "-downstream",
    "-storeSVID",
    "-entryExpiry 2000000000",
    "-dns a.b",
    "-hint h",
    "-disableX509SVIDPrefetch",
    "-jwtSVIDIncludeJTI",
];

/// Which entries are meant.
const ENTRIES: &[&str] = &[
    "-spiffeID spiffe://td/a",
    "-parentID spiffe://td/b",
    "-selector unix:uid:1",
    "-matchSelectorsOn superset",
    "-federatesWith spiffe://other",
    "-matchFederatesWithOn any",
    "-downstream",
    "-hint h",
];

/// Which agents are meant.
const AGENTS: &[&str] = &[
    "-selector unix:uid:1",
    "-matchSelectorsOn subset",
    "-attestationType x509pop",
    "-canReattest true",
    "-banned false",
    "-canReattest=false",
];

/// How a trust domain is federated with.
const FEDERATION: &[&str] = &[
    "-trustDomain other",
    "-bundleEndpointURL https://other",
    "-bundleEndpointProfile https_web",
    "-endpointSpiffeID spiffe://other/s",
    "-trustDomainBundlePath f",
    "-trustDomainBundleFormat spiffe",
];

/// Which authority is meant.
const AUTHORITY: &[&str] = &["-authorityID a"];

/// What a server is told.
const RUN: &[&str] = &[
    "-config f",
    "-bindAddress 127.0.0.1",
    "-serverPort 8081",
    "-trustDomain td",
    "-dataDir d",
    "-socketPath s",
    "-logFormat JSON",
    "-logLevel DEBUG",
    "-logLevel warning",
    "-logFile f",
    "-logSourceLocation",
    "-expandEnv",
];

const ROWS: &[Row] = &[
    ("run", "", RUN),
    ("validate", "", RUN),
    ("entry create", "", FIELDS),
    ("entry create", "", &["-node"]),
    ("entry create", "", &["-data -"]),
    ("entry create", "", COMMON),
    ("entry update", "-entryID e", FIELDS),
    ("entry update", "", &["-data f"]),
    ("entry update", "-entryID e", COMMON),
    ("entry delete", "", &["-entryID e", "-file -"]),
    ("entry delete", "-entryID e", COMMON),
    ("entry show", "", &["-entryID e"]),
    ("entry show", "", ENTRIES),
    ("entry show", "", COMMON),
    ("entry count", "", ENTRIES),
    ("entry count", "", COMMON),
    ("agent list", "", AGENTS),
    ("agent list", "", COMMON),
    ("agent count", "", AGENTS),
    ("agent count", "", COMMON),
    ("agent show", "-spiffeID spiffe://td/a", COMMON),
    ("agent evict", "-spiffeID spiffe://td/a", COMMON),
    ("agent ban", "-spiffeID spiffe://td/a", COMMON),
    ("agent purge", "", &["-expiredFor 720h", "-dryRun"]),
    ("agent purge", "", COMMON),
    ("token generate", "", &["-ttl 600", "-spiffeID spiffe://td/a"]),
    ("token generate", "", COMMON),
    ("bundle show", "", &["-format pem", "-format spiffe"]),
    ("bundle show", "", COMMON),
    ("bundle list", "", &["-id spiffe://other", "-format spiffe"]),
    ("bundle list", "", COMMON),
    ("bundle set", "-id spiffe://other", &["-path f", "-format spiffe"]),
    ("bundle set", "-id spiffe://other", COMMON),
    (
        "bundle delete",
        "-id spiffe://other",
        &["-mode restrict", "-mode delete", "-mode dissociate"],
    ),
    ("bundle delete", "-id spiffe://other", COMMON),
    ("bundle count", "", COMMON),
    ("federation create", "", FEDERATION),
    ("federation create", "", &["-data -"]),
    ("federation create", "", COMMON),
    ("federation update", "", FEDERATION),
    ("federation update", "", &["-data f"]),
    ("federation update", "", COMMON),
    ("federation list", "", COMMON),
    ("federation show", "", &["-trustDomain other"]),
    ("federation show", "-trustDomain other", COMMON),
    ("federation delete", "", &["-id other"]),
    ("federation delete", "-id other", COMMON),
    ("federation refresh", "", &["-id other"]),
    ("federation refresh", "-id other", COMMON),
    ("x509 mint", "-spiffeID spiffe://td/a", &["-ttl 1h30m", "-dns a.b", "-write d"]),
    ("x509 mint", "-spiffeID spiffe://td/a", COMMON),
    ("jwt mint", "-spiffeID spiffe://td/a -audience a", &["-ttl 60s", "-write f", "-audience b"]),
    ("jwt mint", "-spiffeID spiffe://td/a -audience a", COMMON),
    ("localauthority x509 show", "", COMMON),
    ("localauthority x509 prepare", "", COMMON),
    ("localauthority x509 activate", "", AUTHORITY),
    ("localauthority x509 taint", "", AUTHORITY),
    ("localauthority x509 revoke", "", AUTHORITY),
    ("localauthority x509 revoke", "-authorityID a", COMMON),
    ("localauthority jwt show", "", COMMON),
    ("localauthority jwt prepare", "", COMMON),
    ("localauthority jwt activate", "", AUTHORITY),
    ("localauthority jwt taint", "", AUTHORITY),
    ("localauthority jwt revoke", "", AUTHORITY),
    ("upstreamauthority taint", "", &["-subjectKeyID a"]),
    ("upstreamauthority revoke", "", &["-subjectKeyID a"]),
    ("upstreamauthority revoke", "-subjectKeyID a", COMMON),
    ("logger get", "", COMMON),
    ("logger set", "", &["-level panic", "-level FATAL", "-level error", "-level warn"]),
    ("logger set", "", &["-level info", "-level Debug", "-level trace"]),
    ("logger set", "-level info", COMMON),
    ("logger reset", "", COMMON),
    ("debug getinfo", "", COMMON),
    ("healthcheck", "", &["-shallow", "-verbose"]),
    ("healthcheck", "", COMMON),
];

/// Flags that may stand alone or have a value behind an equals sign.
const SWITCHES: &[&str] = &[
    "-admin",
    "-downstream",
    "-storeSVID",
    "-disableX509SVIDPrefetch",
    "-jwtSVIDIncludeJTI",
    "-node",
    "-dryRun",
    "-expandEnv",
    "-logSourceLocation",
    "-shallow",
    "-verbose",
];

/// What is refused, and what the refusal has to say.
const REFUSED: &[(&str, &str)] = &[
    ("run -namedPipeName p", "say with --socket where that is"),
    ("entry show -namedPipeName p", "say with --socket where that is"),
];

#[track_caller]
fn check(command: &str) {
    for name in [Name::Steeple, Name::Spire] {
        if let Err(error) = parse_as(name, command) {
            panic!("{}: {command}: {error}", name.as_str());
        }
    }
}

#[test]
fn every_flag_of_spires_is_taken_with_one_dash_or_two() {
    for (command, needed, flags) in ROWS {
        let needed = if needed.is_empty() { String::new() } else { format!(" {needed}") };
        for flag in *flags {
            // What is needed anyway is not given twice, unless it may be.
            let name = flag.split([' ', '=']).next().unwrap();
            let needed = if needed.contains(name) && name != "-audience" { "" } else { &needed };
            check(&format!("{command}{needed} {flag}"));
            check(&format!("{command}{needed} -{flag}"));
            match flag.split_once(' ') {
                Some((name, value)) => check(&format!("{command}{needed} {name}={value}")),
                None if flag.contains('=') => {}
                None => {
                    assert!(SWITCHES.contains(flag), "{flag}");
                    check(&format!("{command}{needed} {flag}=true"));
                    check(&format!("{command}{needed} -{flag}=false"));
                }
            }
        }
    }
    let words =
        |time: &str| ["x", "agent", "list", "--expiresBefore", time].map(std::ffi::OsString::from);
    let time = words("2026-02-28 15:04:05 -0700 -07");
    Name::Spire.command(Cli::command()).try_get_matches_from(time).unwrap();
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
fn what_is_not_taken_is_refused_with_a_reason() {
    for (command, reason) in REFUSED {
        let error = parse(command).unwrap_err().to_string();
        assert!(error.contains(reason), "{command}: {error}");
    }
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
