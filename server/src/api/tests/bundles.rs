//! Trust bundles of this domain and of others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1 as entry_pb;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;

use super::*;

type Client = BundleClient<Channel>;

/// A CA certificate.
async fn authority() -> types::X509Certificate {
    use steeple::keys::{KeyAlgorithm, KeyStore as _, MemoryKeyStore};
    use steeple::x509::Subject;
    use steeple::x509::make::{CaRequest, Validity, self_signed_ca};

    let key = MemoryKeyStore::default()
        .generate(&"k".parse().unwrap(), KeyAlgorithm::EcP256)
        .await
        .unwrap();
    let request = CaRequest {
        trust_domain: &TrustDomain::parse("other").unwrap(),
        subject: &Subject::default(),
        validity: Validity::new(from_unix_seconds(NOW), Duration::from_secs(60)),
    };
    let chain = self_signed_ca(&request, &*key).unwrap();
    types::X509Certificate { asn1: chain.leaf().to_vec(), tainted: false }
}

/// A P-256 public key.
fn jwt_key(key_id: &str) -> types::JwtKey {
    let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcF2MKblDlXlD2cv9fcKq5PkuM3x2oV0G+EfO73NmRsSdRc52P9xHmly/ZzDLjiN79KsPru3KJICo4YVz8Naijg==";
    types::JwtKey {
        public_key: STANDARD.decode(spki).unwrap(),
        key_id: key_id.into(),
        expires_at: 0,
        tainted: false,
    }
}

pub(super) async fn bundle(trust_domain: &str) -> types::Bundle {
    types::Bundle {
        trust_domain: trust_domain.into(),
        x509_authorities: vec![authority().await],
        jwt_authorities: vec![jwt_key("k")],
        refresh_hint: 60,
        sequence_number: 1,
        wit_authorities: Vec::new(),
    }
}

async fn set(client: &mut Client, bundle: types::Bundle) -> i32 {
    let request = pb::BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
    let results = client.batch_set_federated_bundle(request).await.unwrap().into_inner().results;
    results[0].status.as_ref().unwrap().code
}

async fn get(client: &mut Client, name: &str) -> Result<types::Bundle, Status> {
    let request = pb::GetFederatedBundleRequest { trust_domain: name.into(), output_mask: None };
    client.get_federated_bundle(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_foreign_bundle_is_created_once_set_always_and_updated_by_mask() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let other = bundle("other").await;
    let create = pb::BatchCreateFederatedBundleRequest {
        bundle: vec![other.clone(), other.clone(), bundle("td").await],
        output_mask: None,
    };
    let results = client.batch_create_federated_bundle(create).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| result.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [0, 6, 3]);
    assert_eq!(get(&mut client, "other").await.unwrap(), other);

    let update = pb::BatchUpdateFederatedBundleRequest {
        bundle: vec![
            types::Bundle { trust_domain: "other".into(), refresh_hint: 9, ..Default::default() },
            types::Bundle { trust_domain: "none".into(), ..Default::default() },
        ],
        input_mask: Some(types::BundleMask { refresh_hint: true, ..Default::default() }),
        output_mask: None,
    };
    let results = client.batch_update_federated_bundle(update).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| result.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [0, 5]);
    let updated = get(&mut client, "other").await.unwrap();
    assert_eq!(updated.refresh_hint, 9);
    assert_eq!(updated.x509_authorities, other.x509_authorities);

    assert_eq!(set(&mut client, bundle("third").await).await, 0);
    assert_eq!(set(&mut client, bundle("third").await).await, 0);
    let count = client.count_bundles(pb::CountBundlesRequest {}).await.unwrap().into_inner().count;
    let list = pb::ListFederatedBundlesRequest { page_size: 1, ..Default::default() };
    let page = client.list_federated_bundles(list).await.unwrap().into_inner();
    assert_eq!((count, page.bundles.len()), (3, 1)); // the own bundle counts, and is not listed
    assert!(!page.next_page_token.is_empty());
}

#[tokio::test]
async fn authorities_that_nobody_could_use_are_refused() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let mut no_certificate = bundle("other").await;
    no_certificate.x509_authorities[0].asn1 = vec![1];
    assert_eq!(set(&mut client, no_certificate).await, 3); // H157
    let mut no_key = bundle("other").await;
    no_key.jwt_authorities[0].public_key = vec![1];
    assert_eq!(set(&mut client, no_key).await, 3);
    let empty = types::Bundle { trust_domain: "other".into(), ..Default::default() };
    assert_eq!(set(&mut client, empty).await, 0); // H152: everything of that domain is revoked
}

#[tokio::test]
async fn a_bundle_that_entries_name_is_not_deleted_by_accident() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    set(&mut client, bundle("other").await).await;
    let federated =
        types::Entry { federates_with: vec!["other".into()], ..entry("/web", "/spire/agent/a") };
    let create = entry_pb::BatchCreateEntryRequest { entries: vec![federated], output_mask: None };
    EntryClient::new(server.local()).batch_create_entry(create).await.unwrap();
    let delete =
        |mode| pb::BatchDeleteFederatedBundleRequest { trust_domains: vec!["other".into()], mode };
    let refused = client.batch_delete_federated_bundle(delete(0)).await.unwrap().into_inner();
    let status = refused.results[0].status.clone().unwrap();
    assert_eq!(status.code, 9);
    assert_eq!(status.message, "cannot delete bundle; federated with 1 registration entries");
    let unknown = client.batch_delete_federated_bundle(delete(7)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let done = client.batch_delete_federated_bundle(delete(2)).await.unwrap().into_inner();
    assert_eq!(done.results[0].status.as_ref().unwrap().code, 0);
    check_status(get(&mut client, "other").await, Code::NotFound, "bundle not found");
    let expected = ["bundle_set", "entry_created", "bundle_deleted", "entry_updated"];
    assert_eq!(server.audited(), expected);
    let shown = EntryClient::new(server.local())
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await;
    let left = &shown.unwrap().into_inner().entries[0];
    assert_eq!((left.federates_with.len(), left.revision_number), (0, 1));

    let mut client = Client::new(server.local());
    set(&mut client, bundle("other").await).await;
    let create = entry_pb::BatchCreateEntryRequest {
        entries: vec![types::Entry {
            federates_with: vec!["other".into()],
            ..entry("/api", "/spire/agent/a")
        }],
        output_mask: None,
    };
    EntryClient::new(server.local()).batch_create_entry(create).await.unwrap();
    client.batch_delete_federated_bundle(delete(1)).await.unwrap();
    assert_eq!(server.audited()[6..], ["bundle_deleted", "entry_deleted"]);
}

#[tokio::test]
async fn an_agent_reads_foreign_bundles_and_writes_none() {
    let server = Server::new().await;
    set(&mut Client::new(server.local()), bundle("other").await).await;
    let mut client = Client::new(server.agent("a").await);
    assert!(get(&mut client, "other").await.is_ok());
    let own = get(&mut client, "td").await.unwrap_err();
    assert_eq!(own.code(), Code::InvalidArgument);
    let request = pb::BatchSetFederatedBundleRequest::default();
    let denied = client.batch_set_federated_bundle(request).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_administrator_adds_authorities_to_the_own_bundle() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let append = pb::AppendBundleRequest {
        x509_authorities: vec![authority().await],
        jwt_authorities: vec![jwt_key("extra")],
        ..Default::default()
    };
    let bundle = client.append_bundle(append).await.unwrap().into_inner();
    assert!(bundle.jwt_authorities.iter().any(|key| key.key_id == "extra"));
    let wit = types::WitKey { key_id: "w".into(), ..Default::default() };
    let wit = pb::AppendBundleRequest { wit_authorities: vec![wit], ..Default::default() };
    let told = "WIT functionality is disabled";
    check_status(client.append_bundle(wit).await, Code::Unimplemented, told);
    let nothing = client.append_bundle(pb::AppendBundleRequest::default()).await;
    check_status(nothing, Code::InvalidArgument, "authorities: at least one is needed");
}
