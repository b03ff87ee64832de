//! Relationships with other trust domains, as admins see them.

use steeple_proto::spire::api::server::trustdomain::v1 as pb;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;

use super::bundles::bundle;
use super::*;

type Client = TrustDomainClient<Channel>;
type Wire = types::FederationRelationship;

const URL: &str = "https://other:8443/bundle";
const OWN: &str =
    "trust_domain: not the server's own trust domain, which is not federated with itself";

fn web() -> Option<BundleEndpointProfile> {
    Some(BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}))
}

fn spiffe(id: &str) -> Option<BundleEndpointProfile> {
    let endpoint_spiffe_id = id.into();
    Some(BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile { endpoint_spiffe_id }))
}

fn with(name: &str) -> Wire {
    Wire {
        trust_domain: name.into(),
        bundle_endpoint_url: URL.into(),
        bundle_endpoint_profile: web(),
        trust_domain_bundle: None,
    }
}

type Outcome = (Code, String, Option<Wire>);

fn outcome(status: Option<types::Status>, wire: Option<Wire>) -> Outcome {
    let status = status.unwrap();
    (status.code.into(), status.message, wire)
}

async fn create(client: &mut Client, items: Vec<Wire>) -> Vec<Outcome> {
    let request = pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: items,
        output_mask: None,
    };
    let answer = client.batch_create_federation_relationship(request).await.unwrap().into_inner();
    answer.results.into_iter().map(|r| outcome(r.status, r.federation_relationship)).collect()
}

async fn update(
    client: &mut Client,
    items: Vec<Wire>,
    input_mask: Option<types::FederationRelationshipMask>,
) -> Vec<Outcome> {
    let request = pb::BatchUpdateFederationRelationshipRequest {
        federation_relationships: items,
        input_mask,
        output_mask: None,
    };
    let answer = client.batch_update_federation_relationship(request).await.unwrap().into_inner();
    answer.results.into_iter().map(|r| outcome(r.status, r.federation_relationship)).collect()
}

async fn get(client: &mut Client, name: &str) -> Result<Wire, Status> {
    let trust_domain = name.into();
    let request = pb::GetFederationRelationshipRequest { trust_domain, output_mask: None };
    client.get_federation_relationship(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_relationship_is_created_once_changed_by_mask_and_ended() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let created = create(&mut client, vec![with("other"), with("other"), with("td")]).await;
    assert_eq!(created[0], (Code::Ok, "OK".into(), Some(with("other"))));
    let again = "federation relationship already exists"; // SPIRE answers INTERNAL
    assert_eq!(created[1], (Code::AlreadyExists, again.into(), None));
    assert_eq!(created[2], (Code::InvalidArgument, OWN.into(), None));

    let mask =
        types::FederationRelationshipMask { bundle_endpoint_profile: true, ..Default::default() };
    let changes = vec![
        Wire {
            bundle_endpoint_url: "rubbish".into(),
            bundle_endpoint_profile: spiffe("spiffe://other/endpoint"),
            ..with("other")
        },
        with("none"),
    ];
    let updated = update(&mut client, changes, Some(mask)).await;
    let expected =
        Wire { bundle_endpoint_profile: spiffe("spiffe://other/endpoint"), ..with("other") };
    assert_eq!(updated[0], (Code::Ok, "OK".into(), Some(expected.clone())));
    let missing = "federation relationship not found";
    assert_eq!(updated[1], (Code::NotFound, missing.into(), None));
    assert_eq!(get(&mut client, "other").await.unwrap(), expected);
    let masked = pb::GetFederationRelationshipRequest {
        trust_domain: "spiffe://other".into(),
        output_mask: Some(types::FederationRelationshipMask::default()),
    };
    let bare = client.get_federation_relationship(masked).await.unwrap().into_inner();
    assert_eq!(bare, Wire { trust_domain: "other".into(), ..Default::default() });

    let trust_domains = vec!["other".into(), "other".into(), "TD".into()];
    let request = pb::BatchDeleteFederationRelationshipRequest { trust_domains };
    let deleted = client.batch_delete_federation_relationship(request).await.unwrap().into_inner();
    let codes: Vec<_> = deleted
        .results
        .iter()
        .map(|result| (result.trust_domain.as_str(), result.status.as_ref().unwrap().code))
        .collect();
    assert_eq!(codes, [("other", 0), ("other", 5), ("TD", 3)]);
    check_status(get(&mut client, "other").await, Code::NotFound, missing);
    let expected = ["relationship_created", "relationship_updated", "relationship_deleted"];
    assert_eq!(server.audited(), expected);
}

#[tokio::test]
async fn a_bundle_comes_with_its_relationship_or_neither_does_and_outlives_it() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let foreign = bundle("third").await;
    let wrong = Wire { trust_domain_bundle: Some(foreign.clone()), ..with("other") };
    let refused = create(&mut client, vec![wrong.clone()]).await.remove(0);
    let told = "trust_domain_bundle: must be the bundle of the other trust domain, or of the one \
                that endpoint_spiffe_id is in, and is that of third";
    assert_eq!(refused, (Code::InvalidArgument, told.into(), None));
    assert!(server.deps.registry.relationship(&"other".parse().unwrap()).is_none());
    assert!(server.deps.registry.bundle(&"third".parse().unwrap()).is_none());

    let own = bundle("other").await;
    let right = Wire { trust_domain_bundle: Some(own.clone()), ..with("other") };
    assert_eq!(create(&mut client, vec![right.clone()]).await[0].2, Some(right.clone()));
    // The endpoint may be somebody's of another trust domain, who has to be believed first.
    let delegated = Wire { bundle_endpoint_profile: spiffe("spiffe://third/endpoint"), ..wrong };
    let updated = update(&mut client, vec![delegated.clone()], None).await.remove(0);
    let expected = Wire { trust_domain_bundle: Some(own.clone()), ..delegated };
    assert_eq!(updated, (Code::Ok, "OK".into(), Some(expected)));
    assert!(server.deps.registry.bundle(&"third".parse().unwrap()).is_some());

    let request =
        pb::BatchDeleteFederationRelationshipRequest { trust_domains: vec!["other".into()] };
    client.batch_delete_federation_relationship(request).await.unwrap();
    assert!(server.deps.registry.bundle(&"other".parse().unwrap()).is_some());
    let expected = [
        "relationship_created",
        "bundle_set",
        "relationship_updated",
        "bundle_set",
        "relationship_deleted",
    ];
    assert_eq!(server.audited(), expected);
}

#[tokio::test]
async fn what_a_relationship_needs_is_named() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let no_authority = types::Bundle {
        trust_domain: "other".into(),
        x509_authorities: vec![types::X509Certificate { asn1: vec![1], tainted: false }],
        ..Default::default()
    };
    for (wrong, expected) in [
        (with(""), "trust_domain: the trust domain is missing"),
        (
            Wire { bundle_endpoint_url: "http://other".into(), ..with("other") },
            "bundle_endpoint_url: must be an https URL with a host",
        ),
        (
            Wire { bundle_endpoint_profile: None, ..with("other") },
            "bundle_endpoint_profile: one of https_web and https_spiffe is needed",
        ),
        (
            Wire { bundle_endpoint_profile: spiffe("other/x"), ..with("other") },
            "endpoint_spiffe_id: ",
        ),
        (
            Wire { trust_domain_bundle: Some(no_authority), ..with("other") },
            "x509_authorities: each has to be the certificate of a CA in DER",
        ),
        (
            Wire { trust_domain_bundle: Some(types::Bundle::default()), ..with("other") },
            "trust_domain: ",
        ),
    ] {
        let (code, message, _) = create(&mut client, vec![wrong]).await.remove(0);
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.starts_with(expected), "{message}");
    }
    assert_eq!(server.audited(), [""; 0]);
}

#[tokio::test]
async fn relationships_are_listed_in_pages() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let all: Vec<_> = ["c", "a", "b"].map(with).into();
    create(&mut client, all).await;
    let list = |page_token, page_size| pb::ListFederationRelationshipsRequest {
        output_mask: None,
        page_size,
        page_token,
    };
    let names = |answer: &pb::ListFederationRelationshipsResponse| {
        answer
            .federation_relationships
            .iter()
            .map(|one| one.trust_domain.clone())
            .collect::<Vec<_>>()
    };
    let page = client.list_federation_relationships(list(String::new(), 2)).await.unwrap();
    assert_eq!(names(page.get_ref()), ["a", "b"]);
    let rest = list(page.into_inner().next_page_token, 2);
    let rest = client.list_federation_relationships(rest).await.unwrap().into_inner();
    assert_eq!((names(&rest), rest.next_page_token.as_str()), (vec!["c".to_owned()], ""));
    let whole = client.list_federation_relationships(list(String::new(), 0)).await.unwrap();
    assert_eq!(names(whole.get_ref()), ["a", "b", "c"]);
    let bad = client.list_federation_relationships(list("7".into(), 2)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_refresh_says_that_nothing_is_fetched() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    create(&mut client, vec![with("other")]).await;
    let refresh = |name: &str| pb::RefreshBundleRequest { trust_domain: name.into() };
    let managed = client.refresh_bundle(refresh("other")).await;
    let told = "this version does not fetch bundles; set them with `bundle set`";
    check_status(managed, Code::Unimplemented, told);
    let unmanaged = client.refresh_bundle(refresh("third")).await;
    check_status(unmanaged, Code::NotFound, "no relationship with trust domain \"third\"");
}
