//! What `entry apply` deletes, and what it does not.

use steeple_proto::spire::api::types;

use super::*;

/// A server with entries of these IDs, and a command with a file of no entries.
fn set_of(ids: &[&str]) -> (Scripted, tempfile::NamedTempFile) {
    let entry = |id: &&str| types::Entry { id: (*id).into(), ..types::Entry::default() };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"entries": []}"#).unwrap();
    (Scripted { listed: ids.iter().map(entry).collect(), ..Scripted::default() }, file)
}

async fn check(ids: &[&str], flags: &str, expected: (&[&str], &str, Option<&str>)) {
    let (server, file) = set_of(ids);
    let command = format!("entry apply --owner team {flags} -f {}", file.path().display());
    let seen = run_named(&server, Name::Steeple, &command).await;
    let (deleted, said, error) = expected;
    assert_eq!(*server.deletes.lock().unwrap(), deleted, "{seen:?}");
    assert!(format!("{}{}", seen.out, seen.err).contains(said), "{seen:?}");
    match (&seen.error, error) {
        (None, None) => {}
        (Some(found), Some(error)) => assert!(found.contains(error), "{found}"),
        _ => panic!("{seen:?}"),
    }
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_deleted() {
    let flags = "--prune --allow-empty";
    check(&["team.a", "team.b"], flags, (&["team.a", "team.b"], "2 deleted", None)).await;
    let raced = "Failed to delete the following entry (code: Aborted, msg: \"somebody else changed the \
                 entry since it was compared: it was at revision 0, and is at 1;";
    let all = ["team.a", "team.raced", "team.b"];
    check(&all, flags, (&["team.a", "team.b"], raced, Some("failed for 1 entry"))).await;
    check(&all, flags, (&["team.a", "team.b"], "2 deleted", Some("failed for 1 entry"))).await;
    let gone = "(code: NotFound, msg: \"entry not found\")";
    check(&["team.gone"], flags, (&[], gone, Some("failed for 1 entry"))).await;
}

#[tokio::test]
async fn a_file_that_wants_nothing_does_not_empty_a_set_unless_that_is_said() {
    let two = ["team.a", "team.b", "other.c"];
    let refusal = "delete all there is: 2 entries of the set; add --allow-empty if that is meant";
    check(&two, "--prune", (&[], "", Some(refusal))).await;
    check(&two, "--prune --dry-run", (&[], "2 to delete", Some(refusal))).await;
    check(&two, "--prune --dry-run --allow-empty", (&[], "2 to delete", None)).await;
    check(&two, "--prune --allow-empty", (&["team.a", "team.b"], "2 deleted", None)).await;
    check(&["other.c"], "--prune", (&[], "0 deleted", None)).await;
    check(&two, "--output pretty", (&[], "--prune deletes them", None)).await;
}
