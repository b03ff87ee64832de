//! Registration entries, as admins and agents see them.

use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;

use super::*;

const PARENT: &str = "/spire/agent/a";

type Client = EntryClient<Channel>;

async fn create(client: &mut Client, entries: Vec<types::Entry>) -> Vec<(i32, types::Entry)> {
    let request = pb::BatchCreateEntryRequest { entries, output_mask: None };
    let results = client.batch_create_entry(request).await.unwrap().into_inner().results;
    let pair = |result: pb::batch_create_entry_response::Result| {
        (result.status.unwrap().code, result.entry.unwrap_or_default())
    };
    results.into_iter().map(pair).collect()
}

/// So many entries below the agent, created in one call.
async fn fill(client: &mut Client, count: usize) -> Vec<types::Entry> {
    let entries = (0..count).map(|n| entry(&format!("/w/{n:04}"), PARENT)).collect();
    let created = create(client, entries).await;
    assert!(created.iter().all(|(code, _)| *code == 0));
    let mut entries: Vec<_> = created.into_iter().map(|(_, entry)| entry).collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    entries
}

#[tokio::test]
async fn an_entry_is_created_shown_changed_and_deleted() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let created = create(&mut client, vec![entry("/web", PARENT)]).await.remove(0).1;
    assert!(!created.id.is_empty());
    assert_eq!((created.revision_number, created.created_at), (0, NOW));

    let get = pb::GetEntryRequest { id: created.id.clone(), output_mask: None };
    assert_eq!(client.get_entry(get.clone()).await.unwrap().into_inner(), created);
    let masked = pb::GetEntryRequest {
        output_mask: Some(types::EntryMask { hint: true, ..Default::default() }),
        ..get.clone()
    };
    let bare = types::Entry { id: created.id.clone(), ..Default::default() };
    assert_eq!(client.get_entry(masked).await.unwrap().into_inner(), bare);

    let update = pb::BatchUpdateEntryRequest {
        entries: vec![types::Entry { hint: "h".into(), ..bare.clone() }],
        input_mask: Some(types::EntryMask { hint: true, ..Default::default() }),
        output_mask: None,
    };
    let updated = client.batch_update_entry(update).await.unwrap().into_inner().results.remove(0);
    assert_eq!(updated.status.unwrap().code, 0);
    let wanted = types::Entry { hint: "h".into(), revision_number: 1, ..created.clone() };
    assert_eq!(updated.entry, Some(wanted));

    let delete =
        pb::BatchDeleteEntryRequest { ids: vec![created.id.clone(), "x".into(), "".into()] };
    let deleted = client.batch_delete_entry(delete).await.unwrap().into_inner().results;
    let codes: Vec<_> =
        deleted.iter().map(|r| (r.id.as_str(), r.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [(created.id.as_str(), 0), ("x", 5), ("", 3)]);
    check_status(client.get_entry(get).await, Code::NotFound, "entry not found");
    assert_eq!(server.audited(), ["entry_created", "entry_updated", "entry_deleted"]);
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_result_in_order() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let first = create(&mut client, vec![entry("/web", PARENT)]).await.remove(0).1;
    let batch = vec![
        entry("/a", PARENT),
        types::Entry::default(),
        entry("/web", PARENT),
        types::Entry { id: first.id.clone(), ..entry("/other", PARENT) },
        types::Entry { federates_with: vec!["unknown".into()], ..entry("/f", PARENT) },
        entry("/spire/agent/x", PARENT),
        types::Entry { id: "chosen".into(), ..entry("/b", PARENT) },
    ];
    let results = create(&mut client, batch).await;
    let codes: Vec<_> = results.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 3, 6, 6, 9, 3, 0]);
    assert_eq!(results[2].1, first); // the entry that is there already
    assert_eq!(results[3].1, types::Entry::default());
    assert_eq!(results[6].1.id, "chosen");
}

#[tokio::test]
async fn of_two_changes_on_the_same_revision_one_is_refused() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let id = create(&mut client, vec![entry("/web", PARENT)]).await.remove(0).1.id;
    let mut update = async |hint: &str, revision_number, by_revision| {
        let mask =
            types::EntryMask { hint: true, revision_number: by_revision, ..Default::default() };
        let (id, hint) = (id.clone(), hint.into());
        let request = pb::BatchUpdateEntryRequest {
            entries: vec![types::Entry { id, hint, revision_number, ..Default::default() }],
            input_mask: Some(mask),
            output_mask: None,
        };
        let mut results = client.batch_update_entry(request).await.unwrap().into_inner().results;
        let result = results.remove(0);
        (result.status.unwrap(), result.entry.map(|entry| (entry.hint, entry.revision_number)))
    };
    let done = |hint: &str, revision| Some((hint.to_owned(), revision));
    assert_eq!(update("a", 0, true).await.1, done("a", 1));
    let (status, entry) = update("b", 0, true).await;
    assert_eq!((status.code, entry), (Code::Aborted as i32, None));
    assert_eq!(status.message, "the entry is at revision 1 and not at 0; read it again");
    assert_eq!(update("c", 1, true).await.1, done("c", 2));
    assert_eq!(update("d", 0, false).await.1, done("d", 3)); // as SPIRE's tools do it
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let all = fill(&mut client, 7).await;
    let list = |filter, page_token, page_size| pb::ListEntriesRequest {
        filter,
        output_mask: None,
        page_size,
        page_token,
    };
    let answer = client.list_entries(list(None, String::new(), 0)).await.unwrap().into_inner();
    assert_eq!((&answer.entries, answer.next_page_token.as_str()), (&all, ""));

    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = client.list_entries(list(None, token, 3)).await.unwrap().into_inner();
        assert!(page.entries.len() <= 3);
        found.extend(page.entries);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, all);

    let by_id = pb::list_entries_request::Filter {
        by_spiffe_id: all[2].spiffe_id.clone(),
        // What SPIRE's command line always sends.
        by_downstream: Some(false),
        ..Default::default()
    };
    let found = client.list_entries(list(Some(by_id), String::new(), 0)).await.unwrap();
    assert_eq!(found.into_inner().entries, [all[2].clone()]);

    let bad = client.list_entries(list(None, "7".into(), 3)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert!(bad.message().starts_with("could not parse token"), "{bad}");
    let nobody = pb::list_entries_request::Filter {
        by_selectors: Some(types::SelectorMatch::default()),
        ..Default::default()
    };
    check_status(
        client.list_entries(list(Some(nobody), String::new(), 0)).await,
        Code::InvalidArgument,
        "by_selectors: at least one selector",
    );
    let none = pb::list_entries_request::Filter {
        by_federates_with: Some(types::FederatesWithMatch::default()),
        ..Default::default()
    };
    check_status(
        client.list_entries(list(Some(none), String::new(), 0)).await,
        Code::InvalidArgument,
        "by_federates_with: at least one trust domain",
    );
}

#[tokio::test]
async fn an_agent_gets_its_entries_and_nobody_elses() {
    let server = Server::new().await;
    let mut admin = Client::new(server.local());
    let alias = types::Entry {
        selectors: vec![types::Selector { r#type: "x509pop".into(), value: "a:1".into() }],
        ..entry("/nodes", "/spire/server")
    };
    create(
        &mut admin,
        vec![
            entry("/mine", PARENT),
            entry("/below", "/mine"),
            alias,
            entry("/shared", "/nodes"),
            entry("/other", "/spire/agent/b"),
        ],
    )
    .await;
    let mut agent = Client::new(server.agent("a").await);
    let mask = types::EntryMask { spiffe_id: true, ..Default::default() };
    let request = pb::GetAuthorizedEntriesRequest { output_mask: Some(mask) };
    let entries = agent.get_authorized_entries(request).await.unwrap().into_inner().entries;
    let mut paths: Vec<_> =
        entries.iter().map(|e| e.spiffe_id.as_ref().unwrap().path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/below", "/mine", "/shared"]);
    assert!(entries.iter().all(|entry| entry.selectors.is_empty()));
}

/// Sends each request after the answers to the one before, and collects all answers.
pub(super) async fn sync(
    channel: Channel,
    requests: Vec<(pb::SyncAuthorizedEntriesRequest, usize)>,
) -> Result<Vec<pb::SyncAuthorizedEntriesResponse>, Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut requests = requests.into_iter();
    let (first, mut expected) = requests.next().unwrap();
    sender.send(first).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = Client::new(channel).sync_authorized_entries(stream).await?.into_inner();
    let mut found = Vec::new();
    loop {
        for _ in 0..expected {
            let Some(answer) = answers.message().await? else { return Ok(found) };
            found.push(answer);
        }
        match requests.next() {
            Some((request, count)) => {
                sender.send(request).await.unwrap();
                expected = count;
            }
            None => break,
        }
    }
    drop(sender);
    assert_eq!(answers.message().await?, None);
    Ok(found)
}

pub(super) fn ask(ids: &[&str]) -> pb::SyncAuthorizedEntriesRequest {
    pb::SyncAuthorizedEntriesRequest {
        output_mask: None,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_sync_of_few_entries_is_one_answer() {
    let server = Server::new().await;
    let all = fill(&mut Client::new(server.local()), 500).await;
    let answers = sync(server.agent("a").await, vec![(ask(&[]), 1)]).await.unwrap();
    let [answer] = answers.as_slice() else { panic!() };
    assert_eq!((&answer.entries, answer.more), (&all, false));
    assert!(answer.entry_revisions.is_empty());
    let none = sync(server.agent("b").await, vec![(ask(&[]), 1)]).await.unwrap();
    assert_eq!(none, [pb::SyncAuthorizedEntriesResponse::default()]);
}

#[tokio::test]
async fn a_sync_of_many_entries_names_them_and_sends_what_is_asked_for() {
    let server = Server::new().await;
    let all = fill(&mut Client::new(server.local()), 1_001).await;
    let everything: Vec<_> = all.iter().map(|entry| entry.id.as_str()).collect();
    let some = [all[700].id.as_str(), "unknown", "not/an/id", all[3].id.as_str()];
    let requests = vec![(ask(&[]), 3), (ask(&some), 1), (ask(&everything), 3), (ask(&[]), 1)];
    let answers = sync(server.agent("a").await, requests).await.unwrap();

    let revisions: Vec<_> =
        answers[..3].iter().flat_map(|answer| &answer.entry_revisions).collect();
    let named: Vec<_> = revisions.iter().map(|r| (r.id.as_str(), r.created_at)).collect();
    assert_eq!(named, all.iter().map(|e| (e.id.as_str(), NOW)).collect::<Vec<_>>());
    let more: Vec<_> = answers.iter().map(|answer| answer.more).collect();
    assert_eq!(more, [true, true, false, false, true, true, false, false]);
    let sizes: Vec<_> = answers.iter().map(|answer| answer.entries.len()).collect();
    assert_eq!(sizes, [0, 0, 0, 2, 500, 500, 1, 0]);
    assert_eq!(answers[3].entries, [all[3].clone(), all[700].clone()]);
    let full: Vec<_> = answers[4..].iter().flat_map(|answer| answer.entries.clone()).collect();
    assert_eq!(full, all);
}

#[tokio::test]
async fn the_first_request_of_a_sync_is_checked() {
    let server = Server::new().await;
    check_status(
        sync(server.agent("a").await, vec![(ask(&["x"]), 1)]).await,
        Code::InvalidArgument,
        "ids: specifying IDs on initial request is not supported",
    );
    let masked = pb::SyncAuthorizedEntriesRequest {
        output_mask: Some(types::EntryMask { spiffe_id: true, ..Default::default() }),
        ids: Vec::new(),
    };
    check_status(
        sync(server.agent("a").await, vec![(masked, 1)]).await,
        Code::InvalidArgument,
        "output_mask: revision number cannot be masked",
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_does_not_hold_a_sync_open() {
    let server = Server::new().await;
    let mut client = Client::new(server.agent("a").await);
    let status = client.sync_authorized_entries(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

/// SID-10, SID-11, SID-13 and the hostile spellings of an ID, where entries come in.
#[tokio::test]
async fn an_entry_has_a_spiffe_id_of_this_trust_domain() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let of = |trust_domain: &str, path: &str| types::Entry {
        spiffe_id: Some(types::Spiffeid { trust_domain: trust_domain.into(), path: path.into() }),
        ..entry("/x", PARENT)
    };
    let long = |length: usize| format!("/{}", "a".repeat(length - "spiffe://td/".len()));
    let (longest, too_long) = (long(2048), long(2049));
    let segments = "/a".repeat(1000);
    // H021, H024, H025: names that look odd, and the longest.
    for path in ["/web", "/Foo", "/foo", "/...", "/.a", "/a..", "/-_.", &longest, &segments] {
        let created = create(&mut client, vec![of("td", path)]).await.remove(0);
        assert_eq!(created.0, 0, "{path}");
        assert_eq!(created.1.spiffe_id.unwrap().path, path);
    }
    for path in [
        "",               // H001, H027
        "web",            // H003
        "https://td/a",   // H004
        "/a?",            // H009
        "/a#f",           // H010
        "/",              // H011
        "/a/",            // H011
        "//a",            // H012
        "/./a",           // H013
        "/a/../b",        // H014
        "/%61",           // H015
        "/a b",           // H017
        "/a\nb",          // H018
        "/\u{e9}",        // H019
        "/a!b",           // H020
        &too_long,        // H022
        "/a\0.evil",      // H026
        "/spire",         // H029
        "/spire/agent/x", // H029
    ] {
        let (code, _) = create(&mut client, vec![of("td", path)]).await.remove(0);
        assert_eq!(code, 3, "{path:?}");
    }
    let long_name = "d".repeat(256);
    for name in [
        "",            // H002
        "SPIFFE://td", // H005
        "TD",          // H006
        "td:443",      // H007
        "u@td",        // H008
        "%74d",        // H016
        " td",         // H017
        &long_name,    // H023
        "other",       // H028
    ] {
        let (code, _) = create(&mut client, vec![of(name, "/a")]).await.remove(0);
        assert_eq!(code, 3, "{name:?}");
    }
    assert_eq!(create(&mut client, vec![of("td", "/a")]).await.remove(0).0, 0);
}
