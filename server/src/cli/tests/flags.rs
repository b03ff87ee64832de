//! Which command lines are understood, and what is said of the others.

use super::*;

#[test]
fn the_commands_are_consistent() {
    Cli::command().debug_assert();
}

#[track_caller]
fn check(command: &str) {
    if let Err(error) = parse(command) {
        panic!("{command}: {error}");
    }
}

#[track_caller]
fn check_refused(command: &str, expected: &str) {
    let error = parse(command).unwrap_err().to_string();
    assert!(error.contains(expected), "{command}: {error}");
}

#[test]
fn flags_are_taken_in_this_spelling_and_in_that_of_spire() {
    check("token generate");
    check("token generate -ttl 60 -spiffeID spiffe://td/a -socketPath /s -output json");
    check(
        "entry create -spiffeID spiffe://td/a -parentID spiffe://td/b -selector a:b -selector c:d:e \
         -x509SVIDTTL 60 -jwtSVIDTTL 30 -federatesWith spiffe://other -admin -downstream -storeSVID \
         -entryExpiry 2000000000 -dns a.b -dns c.d -hint h -disableX509SVIDPrefetch \
         -jwtSVIDIncludeJTI -entryID e",
    );
    check("entry create --data - --output json");
    check("entry create --node --spiffe-id spiffe://td/a --selector a:b");
    check("entry update -entryID e -admin=false --store-svid false");
    check("entry update --data f");
    check("entry delete --file -");
    for command in ["create", "update", "delete", "apply --owner web"] {
        for flag in ["--data", "--file", "-data", "-file"] {
            check(&format!("entry {command} {flag} -"));
        }
    }
    check("entry show -entryID e");
    check(
        "entry show -spiffeID spiffe://td/a -parentID spiffe://td/b -selector a:b \
         -matchSelectorsOn exact -federatesWith spiffe://other -matchFederatesWithOn ANY \
         -downstream -hint h",
    );
    check("entry count -selector a:b");
    check(
        "agent list -selector a:b -matchSelectorsOn any -attestationType join_token \
         -canReattest true -banned false -expiresBefore 2027-01-31T12:00:00Z",
    );
    check("agent count --banned");
    check("agent show -spiffeID spiffe://td/spire/agent/a");
    check("agent purge -expiredFor 24h -dryRun");
    check("bundle show -format spiffe -output json");
    check("bundle set -id spiffe://other -path f -format SPIFFE");
    check("bundle delete -id other -mode dissociate");
    for command in [
        "x509 mint -spiffeID spiffe://td/a -ttl -5",
        "entry create -spiffeID spiffe://td/a -parentID spiffe://td/b -selector a:b -x509SVIDTTL -1",
    ] {
        let error = parse(command).unwrap_err().to_string();
        let value = command.rsplit(' ').next().unwrap();
        assert!(error.contains(&format!("invalid value '{value}' for '--")), "{error}");
        assert!(error.contains("write a number of seconds"), "{error}");
    }
    check("x509 mint -spiffeID spiffe://td/a -ttl 1h30m -dns a.b -write d");
    check("jwt mint -spiffeID spiffe://td/a -audience x -audience y -ttl 60 -write f");
    check("healthcheck -shallow -verbose");
    check("completions bash");
}

#[test]
fn a_refusal_names_the_flag_and_what_would_do() {
    check_refused("entry create --spiffe-id td/a", "'--spiffe-id <SPIFFE ID>'");
    check_refused("entry create --spiffe-id td/a", "a SPIFFE ID starts with `spiffe://`");
    check_refused("entry create --selector uid", "a selector is TYPE:VALUE");
    check_refused("entry create --x509-svid-ttl soon", "write a number of seconds, or a duration");
    check_refused("entry create --data f --hint h", "'--data <FILE>' cannot be used with");
    check_refused("entry create --data f --entry-id e", "cannot be used with");
    check_refused("entry create --data f --node", "cannot be used with");
    check_refused(
        "entry create --node --parent-id spiffe://td/a",
        "cannot be used with '--parent-id <SPIFFE ID>'",
    );
    check_refused("entry create --entry-id a/b", "characters of [A-Za-z0-9._-]");
    check_refused("entry create --spifeid x", "a similar argument exists: '--spiffe-id'");
    check_refused("entry update --hint h", "--entry-id <ID>");
    check_refused("entry update --data f --hint h", "cannot be used with");
    check_refused("entry delete", "--entry-id <ID>");
    check_refused("entry show --entry-id e --hint h", "cannot be used with");
    check_refused("entry show --match-selectors-on most", "[possible values: exact, any, superset");
    check_refused("agent ban", "--spiffe-id <SPIFFE ID>");
    check_refused("agent list --banned maybe", "[possible values: true, false]");
    check_refused("bundle set", "--id <TRUST DOMAIN>");
    check_refused("bundle set --id Other", "write it in lower case");
    check_refused("jwt mint --spiffe-id spiffe://td/a", "--audience <AUDIENCE>");
}

#[test]
fn a_set_of_entries_belongs_to_an_owner_or_to_a_parent() {
    check("entry apply -f - --owner team --prune --dry-run --output json");
    check("entry apply --file f -parentID spiffe://td/node -dryRun");
    check_refused("entry apply -f f", "<--owner <NAME>|--parent-id <SPIFFE ID>>");
    check_refused("entry apply -f f --owner a --parent-id spiffe://td/n", "cannot be used with");
    check_refused("entry apply -f f --owner a.b", "a name has 1 to 64 characters of [A-Za-z0-9_-]");
}
