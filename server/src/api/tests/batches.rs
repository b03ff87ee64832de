//! Of five hundred items one is bad: the others are done, and it is not, not even in part.

use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::trustdomain::v1 as trust_pb;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;

use super::*;

const COUNT: usize = 500;
const BAD: usize = 250;

/// One result for each item, in order, all good save the bad one.
#[track_caller]
fn check(statuses: impl IntoIterator<Item = Option<types::Status>>, bad: Code, message: &str) {
    let statuses: Vec<_> = statuses.into_iter().map(Option::unwrap).collect();
    assert_eq!(statuses.len(), COUNT);
    for (at, status) in statuses.iter().enumerate() {
        let expected = if at == BAD { (bad as i32, message) } else { (Code::Ok as i32, "OK") };
        assert_eq!((status.code, status.message.as_str()), expected, "{at}");
    }
}

fn entries() -> Vec<types::Entry> {
    let numbered = |n| types::Entry {
        id: format!("entry-{n:03}"),
        ..entry(&format!("/w/{n:03}"), "/spire/agent/a")
    };
    (0..COUNT).map(numbered).collect()
}

async fn create(
    client: &mut EntryClient<Channel>,
    entries: Vec<types::Entry>,
) -> Vec<Option<types::Status>> {
    let request = pb::BatchCreateEntryRequest { entries, output_mask: None };
    let answer = client.batch_create_entry(request).await.unwrap().into_inner();
    answer.results.into_iter().map(|result| result.status).collect()
}

async fn list(client: &mut EntryClient<Channel>) -> Vec<types::Entry> {
    client.list_entries(pb::ListEntriesRequest::default()).await.unwrap().into_inner().entries
}

#[tokio::test]
async fn entries_are_created_without_the_bad_one() {
    let server = Server::new().await;
    let mut client = EntryClient::new(server.local());
    let mut entries = entries();
    entries[BAD].selectors.push(types::Selector { r#type: "a:b".into(), value: "c".into() });
    let statuses = create(&mut client, entries).await;
    check(
        statuses,
        Code::InvalidArgument,
        "selectors[1]: the selector's type has a colon: \"a:b:c\"",
    );
    assert_eq!(list(&mut client).await.len(), COUNT - 1);
    assert_eq!(server.audited(), vec!["entry_created"; COUNT - 1]);
}

#[tokio::test]
async fn entries_are_changed_without_the_bad_one() {
    let server = Server::new().await;
    let mut client = EntryClient::new(server.local());
    create(&mut client, entries()).await;
    let mut changed: Vec<_> = entries()
        .into_iter()
        .map(|entry| types::Entry { hint: "h".into(), admin: true, ..entry })
        .collect();
    // It is good in itself, and not what can be written: it federates with somebody unknown.
    changed[BAD].federates_with = vec!["unknown".into()];
    let request = pb::BatchUpdateEntryRequest { entries: changed, ..Default::default() };
    let results = client.batch_update_entry(request).await.unwrap().into_inner().results;
    let told = "unable to find federated bundle \"unknown\"";
    check(results.into_iter().map(|r| r.status), Code::FailedPrecondition, told);
    for (at, entry) in list(&mut client).await.iter().enumerate() {
        let expected = if at == BAD { ("", false, 0) } else { ("h", true, 1) };
        assert_eq!((entry.hint.as_str(), entry.admin, entry.revision_number), expected, "{at}");
    }
}

#[tokio::test]
async fn entries_are_deleted_without_the_bad_one() {
    let server = Server::new().await;
    let mut client = EntryClient::new(server.local());
    create(&mut client, entries()).await;
    let mut ids: Vec<_> = entries().into_iter().map(|entry| entry.id).collect();
    ids[BAD] = "not/an/id".into();
    let request = pb::BatchDeleteEntryRequest { ids };
    let results = client.batch_delete_entry(request).await.unwrap().into_inner().results;
    check(results.into_iter().map(|r| r.status), Code::NotFound, "entry not found");
    let left: Vec<_> = list(&mut client).await.into_iter().map(|entry| entry.id).collect();
    assert_eq!(left, [format!("entry-{BAD:03}")]);
}

fn names() -> Vec<String> {
    (0..COUNT).map(|n| format!("td{n:03}")).collect()
}

#[tokio::test]
async fn bundles_are_set_and_deleted_without_the_bad_one() {
    let server = Server::new().await;
    let mut client = BundleClient::new(server.local());
    let bundle =
        |trust_domain| types::Bundle { trust_domain, refresh_hint: 7, ..Default::default() };
    let mut bundles: Vec<_> = names().into_iter().map(bundle).collect();
    bundles[BAD].refresh_hint = -1;
    let request = bundle_pb::BatchSetFederatedBundleRequest { bundle: bundles, output_mask: None };
    let results = client.batch_set_federated_bundle(request).await.unwrap().into_inner().results;
    let told = "refresh_hint: must be 0 (none) or a number of seconds";
    check(results.into_iter().map(|r| r.status), Code::InvalidArgument, told);
    assert_eq!(server.deps.registry.bundles().len(), COUNT); // with the server's own

    let request = bundle_pb::BatchDeleteFederatedBundleRequest { trust_domains: names(), mode: 0 };
    let results = client.batch_delete_federated_bundle(request).await.unwrap().into_inner().results;
    check(results.into_iter().map(|r| r.status), Code::NotFound, "bundle not found");
    assert_eq!(server.deps.registry.bundles().len(), 1);
}

#[tokio::test]
async fn relationships_are_created_and_ended_without_the_bad_one() {
    let server = Server::new().await;
    let mut client = TrustDomainClient::new(server.local());
    let profile = || Some(BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}));
    let relationship = |name: String| types::FederationRelationship {
        bundle_endpoint_url: format!("https://{name}/"),
        bundle_endpoint_profile: profile(),
        trust_domain_bundle: Some(types::Bundle {
            trust_domain: name.clone(),
            ..Default::default()
        }),
        trust_domain: name,
    };
    let mut all: Vec<_> = names().into_iter().map(relationship).collect();
    // The relationship would do. Its bundle does not, and neither is written.
    all[BAD].trust_domain_bundle =
        Some(types::Bundle { trust_domain: "td".into(), ..Default::default() });
    let request = trust_pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: all,
        output_mask: None,
    };
    let answer = client.batch_create_federation_relationship(request).await.unwrap();
    let told = "trust_domain_bundle: must be the bundle of the other trust domain, or of the one \
                that endpoint_spiffe_id is in, and is that of td";
    let statuses = answer.into_inner().results.into_iter().map(|r| r.status);
    check(statuses, Code::InvalidArgument, told);
    let registry = &server.deps.registry;
    assert!(registry.relationship(&names()[BAD].parse().unwrap()).is_none());
    assert_eq!(registry.bundles().len(), COUNT);

    let trust_domains = names();
    let request = trust_pb::BatchDeleteFederationRelationshipRequest { trust_domains };
    let answer = client.batch_delete_federation_relationship(request).await.unwrap();
    let statuses = answer.into_inner().results.into_iter().map(|r| r.status);
    check(statuses, Code::NotFound, "federation relationship not found");
    assert_eq!(registry.bundles().len(), COUNT);
}
