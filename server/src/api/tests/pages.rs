//! No answer is longer than clients of gRPC accept: the client here is such a client.

use prost::Message as _;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;

use super::entries::{ask, sync};
use super::*;
use crate::api::pages::LONGEST_ANSWER;

const PARENT: &str = "/spire/agent/a";

/// A server with so many entries of about ten thousand bytes.
async fn with_long_entries(count: usize) -> Server {
    let server = Server::new().await;
    let label = "a".repeat(63);
    let names: Vec<_> = (0..50).map(|n| format!("{n}.{label}.{label}.{label}")).collect();
    let contents = (0..count).map(|n| {
        let entry = entry(&format!("/w/{n:04}"), PARENT);
        let entry = types::Entry { dns_names: names.clone(), ..entry };
        steeple::convert::entry_from_proto(&entry).unwrap()
    });
    let created = server.deps.registry.create_entries(contents.collect(), server.clock.now()).await;
    assert!(created.iter().all(Result::is_ok));
    server
}

fn list(page_size: i32, page_token: String) -> pb::ListEntriesRequest {
    pb::ListEntriesRequest { page_size, page_token, ..Default::default() }
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_long_and_nothing_is_lost() {
    let server = with_long_entries(600).await;
    let mut client = EntryClient::new(server.local());
    let (mut found, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page = client.list_entries(list(5_000, token)).await.unwrap().into_inner();
        assert!(page.encoded_len() <= LONGEST_ANSWER, "{}", page.encoded_len());
        found.extend(page.entries.into_iter().map(|entry| entry.spiffe_id.unwrap().path));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..600).map(|n| format!("/w/{n:04}")).collect();
    found.sort();
    assert_eq!((found, pages), (expected, 2));
}

#[tokio::test]
async fn who_asks_for_too_much_at_once_is_told_of_pages() {
    let server = with_long_entries(600).await;
    let told = "the answer would be longer than 4194304 bytes; ask for it in pages (page_size), or \
                for fewer fields (output_mask)";
    let mut client = EntryClient::new(server.local());
    let whole = client.list_entries(list(0, String::new())).await;
    check_status(whole, Code::ResourceExhausted, told);
    let mask = Some(types::EntryMask { spiffe_id: true, ..Default::default() });
    let request = pb::ListEntriesRequest { output_mask: mask, ..list(0, String::new()) };
    let short = client.list_entries(request).await.unwrap().into_inner();
    assert_eq!((short.entries.len(), short.next_page_token.as_str()), (600, ""));

    let told = "the answer would be longer than 4194304 bytes; ask for fewer fields (output_mask), \
                or use SyncAuthorizedEntries, which answers in pages as if page_size were 500";
    let mut agent = EntryClient::new(server.agent("a").await);
    let whole = agent.get_authorized_entries(pb::GetAuthorizedEntriesRequest::default()).await;
    check_status(whole, Code::ResourceExhausted, told);
    let request = pb::GetAuthorizedEntriesRequest { output_mask: mask };
    let short = agent.get_authorized_entries(request).await.unwrap().into_inner();
    assert_eq!(short.entries.len(), 600);
}

/// Fewer than a page has, and more than a message holds.
#[tokio::test]
async fn a_sync_of_long_entries_is_in_several_answers() {
    let server = with_long_entries(499).await;
    let agent = server.agent("a").await;
    let first = sync(agent.clone(), vec![(ask(&[]), 1)]).await.unwrap();
    let ids: Vec<_> = first[0].entry_revisions.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((ids.len(), first[0].entries.len(), first[0].more), (499, 0, false));

    let answers = sync(agent, vec![(ask(&[]), 1), (ask(&ids), 2)]).await.unwrap();
    let more: Vec<_> = answers.iter().map(|answer| answer.more).collect();
    assert_eq!(more, [false, true, false]);
    let entries = answers.iter().flat_map(|answer| &answer.entries);
    assert_eq!(entries.map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ids);
}
