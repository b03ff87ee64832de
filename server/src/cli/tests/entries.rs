//! Entries: what is done, what is said of it, and with which exit code.

use std::fmt::Write as _;

use steeple_proto::spire::api::types;

use super::*;

/// A file with these entries, each with what every entry needs.
fn file(entries: &[&str]) -> tempfile::NamedTempFile {
    let needed = r#""spiffe_id":"spiffe://td/a","parent_id":"spiffe://td/b","selectors":[{"type":"a","value":"b"}]"#;
    let entries: Vec<_> = entries.iter().map(|id| format!(r#"{{"id":"{id}",{needed}}}"#)).collect();
    raw_file(&format!(r#"{{"entries":[{}]}}"#, entries.join(",")))
}

fn raw_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

async fn run(server: &Scripted, command: &str) -> Seen {
    run_on(server, Terminal::default(), command).await
}

/// A block as `block` of an entry that was changed so often.
fn block_at(id: &str, revision: u32, more: &str) -> String {
    let revised = block(id)
        .replace("Revision                : 0", &format!("Revision                : {revision}"));
    format!("{}\n{more}\n", revised.trim_end())
}

fn block(id: &str) -> String {
    format!(
        "Entry ID                : {id}\n\
         SPIFFE ID               : spiffe://td/a\n\
         Parent ID               : spiffe://td/b\n\
         Revision                : 0\n\
         X509-SVID TTL           : default\n\
         JWT-SVID TTL            : default\n\
         Selector                : a:b\n\n"
    )
}

#[tokio::test]
async fn one_entry_that_is_refused_fails_the_command_and_stops_no_other() {
    let file = file(&["e1", "similar", "e2"]);
    let command = format!("entry create --data {}", file.path().display());
    let error = Some("failed to create 1 of 3 entries".to_owned());
    let seen = run(&Scripted::default(), &command).await;
    assert_eq!(seen.out, block("e1") + &block("e2"));
    assert_eq!(
        seen.err,
        format!(
            "Failed to create the following entry (code: AlreadyExists, msg: \"similar entry \
             already exists\"):\n{}",
            block_at("similar", 7, "Hint                    : h")
        )
    );
    assert_eq!(seen.error, error);

    let seen = run(&Scripted::default(), &format!("{command} --output json")).await;
    let printed: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    let codes: Vec<_> = printed["results"].as_array().unwrap().iter().collect();
    assert_eq!(codes.iter().map(|result| &result["status"]["code"]).collect::<Vec<_>>(), [0, 6, 0]);
    assert_eq!(codes[1]["entry"]["id"], "similar");
    assert_eq!(seen.error, error);
}

#[tokio::test]
async fn what_was_done_before_a_call_failed_is_said() {
    let mut ids = vec!["e"; 500];
    ids.push("explode");
    let file = file(&ids);
    let server = Scripted::default();
    let command = format!("entry create --data {}", file.path().display());
    let seen = run(&server, &command).await;
    assert_eq!(*server.calls.lock().unwrap(), 2);
    assert_eq!(seen.out, block("e").repeat(500));
    assert_eq!(
        seen.error.as_deref(),
        Some(
            "stopped after 500 of 501: the disk is full (Unavailable); the server's log says why; \
             this may pass"
        )
    );
}

#[tokio::test]
async fn deleting_names_each_entry() {
    let file = raw_file(r#"{"ids":["e1","gone"]}"#);
    let seen =
        run(&Scripted::default(), &format!("entry delete --file {}", file.path().display())).await;
    let expected = Seen {
        out: "Deleted entry with ID: e1\n".into(),
        err: "Failed to delete entry with ID gone (code: NotFound, msg: \"entry not found\")\n"
            .into(),
        error: Some("failed to delete 1 of 2 entries".into()),
    };
    assert_eq!(seen, expected);
    let seen = run(&Scripted::default(), "entry delete -entryID e1 -entryID e2 -output json").await;
    let expected = Seen {
        out: "{\"results\":[{\"id\":\"e1\",\"status\":{\"code\":0,\"message\":\"\"}},\
              {\"id\":\"e2\",\"status\":{\"code\":0,\"message\":\"\"}}]}\n"
            .into(),
        err: String::new(),
        error: None,
    };
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_update_changes_what_is_named_and_nothing_else() {
    let server = Scripted::default();
    let command = "entry update --entry-id e1 --hint h --dns= --jwt-svid-include-jti --admin false";
    assert_eq!(run(&server, command).await.error, None);
    let updates = server.updates.lock().unwrap();
    let [update] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!(
        update.input_mask,
        Some(types::EntryMask {
            hint: true,
            dns_names: true,
            admin: true,
            additional_attributes: true,
            ..types::EntryMask::default()
        })
    );
    assert_eq!(
        update.entries,
        [types::Entry {
            id: "e1".into(),
            hint: "h".into(),
            // The other attribute is as the server had it.
            additional_attributes: Some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
            }),
            ..types::Entry::default()
        }]
    );
}

#[tokio::test]
async fn updates_of_different_fields_are_answered_in_the_order_of_the_file() {
    let file = raw_file(
        r#"{"entries":[
            {"id":"a","hint":"1"},
            {"id":"b","admin":true},
            {"id":"gone","hint":"2"},
            {"id":"c","admin":false}
        ]}"#,
    );
    let server = Scripted::default();
    let seen = run(&server, &format!("entry update --data {}", file.path().display())).await;
    let ids: Vec<_> = seen.out.lines().filter(|line| line.starts_with("Entry ID")).collect();
    let expected = ["a", "b", "c"].map(|id| format!("Entry ID                : {id}"));
    assert_eq!(ids, expected);
    assert_eq!(
        seen.err,
        "Failed to update the following entry (code: NotFound, msg: \"entry not found\"):\n\
         Entry ID                : gone\n"
    );
    assert_eq!(seen.error.as_deref(), Some("failed to update 1 of 4 entries"));
    let masks = server.updates.lock().unwrap();
    let masks: Vec<_> =
        masks.iter().map(|call| call.input_mask.map(|mask| (mask.hint, mask.admin))).collect();
    assert_eq!(masks, [Some((true, false)), Some((false, true))]);
}

#[tokio::test]
async fn a_list_is_fetched_in_pages_and_sorted() {
    let server = Scripted { entries: 1_001, ..Scripted::default() };
    let seen = run(&server, "entry show --hint h --output json").await;
    let printed: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    let path = |entry: &serde_json::Value| entry["spiffe_id"]["path"].as_str().unwrap().to_owned();
    let paths: Vec<_> = printed["entries"].as_array().unwrap().iter().map(path).collect();
    assert_eq!(paths.len(), 1_001);
    assert!(paths.is_sorted());
    assert_eq!(printed["next_page_token"], "");
    let lists = server.lists.lock().unwrap();
    let pages: Vec<_> =
        lists.iter().map(|list| (list.page_size, list.page_token.as_str())).collect();
    assert_eq!(pages, [(500, ""), (500, "500"), (500, "1000")]);
    let hint = |list: &steeple_proto::spire::api::server::entry::v1::ListEntriesRequest| {
        list.filter.clone().and_then(|filter| filter.by_hint)
    };
    assert!(lists.iter().all(|list| hint(list).as_deref() == Some("h")));
}

#[tokio::test]
async fn a_list_is_a_table_on_a_terminal_and_blocks_elsewhere() {
    let server = Scripted { entries: 2, ..Scripted::default() };
    let mut blocks = String::from("Found 2 entries\n");
    for (id, path) in [("e1", "9998"), ("e0", "9999")] {
        write!(
            blocks,
            "Entry ID                : {id}\n\
             SPIFFE ID               : spiffe://td/{path}\n\
             Parent ID               : (none)\n\
             Revision                : 0\n\
             X509-SVID TTL           : default\n\
             JWT-SVID TTL            : default\n\n"
        )
        .unwrap();
    }
    let table = "ENTRY ID  SPIFFE ID         PARENT ID  SELECTORS\n\
                 e1        spiffe://td/9998  (none)\n\
                 e0        spiffe://td/9999  (none)\n";
    let terminal = Terminal { width: Some(80), watched: false };
    assert_eq!(run(&server, "entry show").await.out, blocks);
    assert_eq!(run(&server, "entry show --output table").await.out, table);
    assert_eq!(run_on(&server, terminal, "entry show").await.out, table);
    assert_eq!(run_on(&server, terminal, "entry show -output pretty").await.out, blocks);
    assert_eq!(run_as(&server, Name::Spire, terminal, "entry show").await.out, blocks);
    let asked = run_as(&server, Name::Spire, terminal, "entry show -output table").await.out;
    assert_eq!(asked, table);
}

#[tokio::test]
async fn a_count_is_a_number_of_entries() {
    let server = Scripted::default();
    assert_eq!(run(&server, "entry count").await.out, "1 registration entry\n");
    assert_eq!(run(&server, "entry count --output JSON").await.out, "{\"count\":1}\n");
}

#[tokio::test]
async fn an_entry_that_is_there_already_is_as_good_as_a_new_one_if_asked_for() {
    let create = "entry create --if-not-exists --spiffe-id spiffe://td/a --parent-id spiffe://td/b \
                  --selector a:b --entry-id similar";
    let seen = run(&Scripted::default(), &format!("{create} --hint h")).await;
    assert_eq!(seen.error, None);
    assert_eq!(seen.out, block_at("similar", 7, "Hint                    : h\n"));

    let seen = run(&Scripted::default(), &format!("{create} --hint other --dns x.y")).await;
    assert_eq!(seen.error.as_deref(), Some("failed to create the entry"));
    let expected = "similar entry already exists: hint is h, not other";
    assert!(seen.err.contains(expected), "{}", seen.err);

    let seen = run(&Scripted::default(), &format!("{create} --hint h --output json")).await;
    let printed: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(printed["results"][0]["status"]["code"], 0);
    assert_eq!(printed["results"][0]["entry"]["revision_number"], "7");
    let without = create.replace("--if-not-exists ", "");
    assert!(run(&Scripted::default(), &without).await.error.is_some());
}

#[tokio::test]
async fn an_update_at_one_revision_says_so_and_finds_out_whether_it_was_looked_at() {
    let server = Scripted::default();
    let seen = run(&server, "entry update --entry-id e --hint x --if-revision 4").await;
    assert_eq!(seen.error, None);
    let sent = server.updates.lock().unwrap().remove(0);
    assert!(sent.input_mask.unwrap().revision_number);
    assert_eq!(sent.entries[0].revision_number, 4);

    let seen = run(&server, "entry update --entry-id raced --hint x --if-revision 4").await;
    assert!(seen.err.contains("changed by somebody else at the same time"), "{}", seen.err);
    assert_eq!(seen.error.as_deref(), Some("failed to update the entry"));
    let seen = run(&server, "entry update --entry-id raced --hint x").await;
    assert_eq!(seen.error, None);
    let refused = parse("entry update --entry-id e --if-revision 4");
    let Command::Admin(admin) = refused.unwrap().command else { panic!() };
    let error = admin.run(&mut Output::standard()).await.unwrap_err().to_string();
    assert_eq!(error, "there is nothing to change; name at least one field");
}

#[tokio::test]
async fn a_replacement_resets_what_is_not_named_and_is_spires_way_to_update() {
    let command =
        "entry update -entryID e -spiffeID spiffe://td/a -parentID spiffe://td/b -selector a:b";
    for (name, flag, replaces) in
        [(Name::Steeple, "", false), (Name::Steeple, " --replace", true), (Name::Spire, "", true)]
    {
        let server = Scripted::default();
        let seen = run_named(&server, name, &format!("{command}{flag}")).await;
        assert_eq!(seen.error, None);
        let mask = server.updates.lock().unwrap().remove(0).input_mask.unwrap();
        assert!(mask.spiffe_id && mask.selectors && !mask.revision_number);
        let others = [mask.hint, mask.admin, mask.downstream, mask.dns_names, mask.expires_at];
        assert_eq!(others, [replaces; 5], "{name:?}{flag}");
        assert!(!mask.additional_attributes, "SPIRE's tools keep those");
    }
    let seen =
        run_named(&Scripted::default(), Name::Spire, "entry update -entryID e -hint h").await;
    assert_eq!(seen.error.as_deref(), Some("the SPIFFE ID is missing"));
}

#[tokio::test]
async fn what_was_refused_is_shown_as_it_was_sent() {
    let check = async |command: &str, verb: &str, path: &str| {
        let seen = run(&Scripted::default(), &format!("{command} --output json")).await;
        let printed: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
        let result = &printed["results"][0];
        assert_eq!((&result["status"]["code"], &result["entry"]["hint"]), (&5.into(), &"x".into()));
        assert_eq!(result["entry"]["spiffe_id"]["path"], path);
        assert_eq!(seen.error, Some(format!("failed to {verb} the entry")));
    };
    let fields = "-spiffeID spiffe://td/a -parentID spiffe://td/b -selector a:b -hint x";
    check(&format!("entry create -entryID gone {fields}"), "create", "/a").await;
    check(&format!("entry update -entryID gone {fields}"), "update", "/a").await;
}

#[tokio::test]
async fn what_spires_tools_ignore_is_ignored_for_whoever_writes_as_they_do() {
    let server = Scripted::default();
    let node = "entry create -node -parentID spiffe://td/x -spiffeID spiffe://td/a -selector a:b";
    let seen = run(&server, node).await;
    assert!(seen.out.contains("Parent ID               : spiffe://td/spire/server"), "{seen:?}");
    assert!(seen.err.starts_with("Warning: --parent-id is ignored"), "{seen:?}");
    let file = file(&["e1"]);
    let name = file.path().display();
    let beside = "Warning: the flags beside --data are ignored";
    let data = format!("entry create --data {name} --hint h --entry-id e2 --node");
    let seen = run_named(&server, Name::Spire, &data).await;
    assert!(seen.err.starts_with(beside), "{seen:?}");
    assert_eq!((seen.out, seen.error), (block("e1"), None));
    let seen = run(&server, &format!("entry update -data {name} -hint h")).await;
    assert!(seen.err.starts_with(beside), "{seen:?}");
    assert_eq!(server.updates.lock().unwrap()[0].entries[0].hint, "");
    let seen = run(&server, &format!("entry create -data {name}")).await;
    assert_eq!(seen.err, "");
    let seen = run(&server, &format!("{node} -hint -dash").replace(" -node", "")).await;
    assert!(seen.out.contains("Hint                    : -dash\n"), "{seen:?}");
}
