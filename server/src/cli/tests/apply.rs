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

/// What is seen of a set with `team.old` in it, of which the file wants this instead.
async fn replace(fields: &str, flags: &str) -> (Vec<String>, Seen) {
    let (server, mut file) = set_of(&["team.old"]);
    let text = format!(
        r#"{{"entries": [{{"spiffe_id": "spiffe://td/new", "parent_id": "spiffe://td/n",
            "selectors": ["unix:uid:1"], {fields}}}]}}"#
    );
    file.as_file_mut().set_len(0).unwrap();
    std::fs::write(file.path(), text).unwrap();
    let command = format!("entry apply --owner team --prune {flags} -f {}", file.path().display());
    let seen = run_named(&server, Name::Steeple, command.replace("  ", " ").trim()).await;
    let deletes = server.deletes.lock().unwrap().clone();
    (deletes, seen)
}

#[tokio::test]
async fn nothing_is_deleted_while_what_is_to_replace_it_is_refused() {
    let (deleted, seen) = replace(r#""entry_id": "new""#, "").await;
    assert_eq!((deleted, seen.error), (vec!["team.old".to_owned()], None));

    let (deleted, seen) = replace(r#""entry_id": "similar""#, "").await;
    assert_eq!(deleted, [""; 0], "{seen:?}");
    assert!(seen.out.ends_with("0 created, 0 updated, 0 deleted, 0 unchanged\n"), "{seen:?}");
    let kept =
        "Not deleted, as not all of the file is there in their place:\n  (none) (team.old)\n";
    assert!(seen.err.ends_with(kept), "{seen:?}");
    assert_eq!(seen.error.as_deref(), Some("failed for 1 entry"));

    let (_, seen) = replace(r#""entry_id": "similar""#, "--output json").await;
    let printed: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(printed["kept"], serde_json::json!(["team.old"]));
}

#[tokio::test]
async fn what_would_be_refused_is_said_before() {
    let check = async |fields: &str, refusal: &str| {
        let (deleted, seen) = replace(fields, "--dry-run").await;
        assert_eq!(deleted, [""; 0]);
        assert!(seen.err.contains("Failed to create the following entry (code: "), "{seen:?}");
        assert!(seen.err.contains(refusal), "{seen:?}");
        assert!(seen.err.contains("Not deleted, "), "{seen:?}");
        assert_eq!(seen.out, "0 to create, 0 to update, 0 to delete, 0 unchanged\n");
        assert_eq!(seen.error.as_deref(), Some("failed for 1 entry"));
    };
    check(r#""dns_names": ["a b"]"#, "InvalidArgument, msg: \"DNS names: ").await;
    check(r#""x509_svid_ttl": -5"#, "InvalidArgument, msg: \"x509_svid_ttl: ").await;
    check(r#""federates_with": ["third"]"#, "FailedPrecondition, msg: \"unable to find fed").await;
    let (_, seen) = replace(r#""federates_with": ["other"]"#, "--dry-run").await;
    assert!(seen.out.ends_with("1 to create, 0 to update, 1 to delete, 0 unchanged\n"), "{seen:?}");
    assert_eq!(seen.error, None);
}

#[tokio::test]
async fn nobody_makes_room_for_what_would_be_refused() {
    let (server, file) = set_of(&[]);
    let text = |id: &str, more: &str| {
        format!(
            r#"{{"entries": [{{"entry_id": "{id}", "spiffe_id": "spiffe://td/new",
                "parent_id": "spiffe://td/n", "selectors": ["unix:uid:1"]{more}}}]}}"#
        )
    };
    let id = |path: &str| Some(types::Spiffeid { trust_domain: "td".into(), path: path.into() });
    let old = types::Entry {
        id: "team.old".into(),
        spiffe_id: id("/new"),
        parent_id: id("/n"),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
        ..types::Entry::default()
    };
    let server = Scripted { listed: vec![old], ..server };
    let command = format!("entry apply --owner team --prune -f {}", file.path().display());
    std::fs::write(file.path(), text("new", r#", "hint": "\u0007""#)).unwrap();
    for flags in ["", " --dry-run"] {
        let seen = run_named(&server, Name::Steeple, &format!("{command}{flags}")).await;
        assert_eq!(*server.deletes.lock().unwrap(), [""; 0], "{seen:?}");
        assert!(seen.err.contains("Nothing is done: "), "{seen:?}");
        assert_eq!(seen.error.as_deref(), Some("failed for 1 entry"));
    }
    std::fs::write(file.path(), text("new", "")).unwrap();
    let seen = run_named(&server, Name::Steeple, &command).await;
    assert_eq!(*server.deletes.lock().unwrap(), ["team.old"], "{seen:?}");
    assert_eq!(seen.error, None);
}
