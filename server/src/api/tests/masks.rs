//! A mask leaves in an answer what it names, and what says whom the answer is about.

use steeple_proto::spire::api::server::agent::v1 as agent_pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::trustdomain::v1 as trust_pb;
use steeple_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;

use super::bundles::bundle;
use super::*;

#[tokio::test]
async fn an_agent_is_shown_by_mask() {
    let server = Server::new().await;
    let full = Node { can_reattest: true, agent_version: "1".into(), ..node("a") };
    server.deps.registry.put_node(full, None, server.clock.now()).await.unwrap();
    let client = AgentClient::new(server.local());
    let show = async |output_mask| {
        let request = agent_pb::GetAgentRequest { id: wire_id("/spire/agent/a"), output_mask };
        client.clone().get_agent(request).await.unwrap().into_inner()
    };
    let all = show(None).await;
    type Row = (fn(&mut types::AgentMask), fn(&mut types::Agent, types::Agent));
    let rows: [Row; 8] = [
        (|_| {}, |_, _| {}),
        (
            |mask| mask.attestation_type = true,
            |one, all| one.attestation_type = all.attestation_type,
        ),
        (
            |mask| mask.x509svid_serial_number = true,
            |one, all| one.x509svid_serial_number = all.x509svid_serial_number,
        ),
        (
            |mask| mask.x509svid_expires_at = true,
            |one, all| one.x509svid_expires_at = all.x509svid_expires_at,
        ),
        (|mask| mask.selectors = true, |one, all| one.selectors = all.selectors),
        (|mask| mask.banned = true, |one, all| one.banned = all.banned),
        (|mask| mask.can_reattest = true, |one, all| one.can_reattest = all.can_reattest),
        (|mask| mask.agent_version = true, |one, all| one.agent_version = all.agent_version),
    ];
    for (set, copy) in rows {
        let mut mask = types::AgentMask::default();
        set(&mut mask);
        let mut expected = types::Agent { id: all.id.clone(), ..Default::default() };
        copy(&mut expected, all.clone());
        assert_eq!(show(Some(mask)).await, expected, "{mask:?}");
    }
}

/// Two relationships with the same trust domain that differ in everything.
async fn old_and_new() -> (types::FederationRelationship, types::FederationRelationship) {
    let old = types::FederationRelationship {
        trust_domain: "other".into(),
        bundle_endpoint_url: "https://old/".into(),
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {})),
        trust_domain_bundle: Some(bundle("other").await),
    };
    let endpoint_spiffe_id = "spiffe://other/e".into();
    let profile = types::HttpsspiffeProfile { endpoint_spiffe_id };
    let new = types::FederationRelationship {
        trust_domain: "other".into(),
        bundle_endpoint_url: "https://new/".into(),
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(profile)),
        trust_domain_bundle: Some(types::Bundle {
            trust_domain: "other".into(),
            sequence_number: 9,
            ..Default::default()
        }),
    };
    (old, new)
}

#[tokio::test]
async fn a_relationship_and_its_bundle_are_shown_and_changed_by_mask() {
    let server = Server::new().await;
    let mut client = TrustDomainClient::new(server.local());
    let (old, new) = old_and_new().await;
    let create = trust_pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![old.clone()],
        output_mask: None,
    };
    client.batch_create_federation_relationship(create).await.unwrap();
    type Mask = types::FederationRelationshipMask;
    type Wire = types::FederationRelationship;
    type Row = (fn(&mut Mask), fn(&mut Wire, Wire));
    let rows: [Row; 4] = [
        (|_| {}, |_, _| {}),
        (
            |mask| mask.bundle_endpoint_url = true,
            |one, all| one.bundle_endpoint_url = all.bundle_endpoint_url,
        ),
        (
            |mask| mask.bundle_endpoint_profile = true,
            |one, all| one.bundle_endpoint_profile = all.bundle_endpoint_profile,
        ),
        (
            |mask| mask.trust_domain_bundle = true,
            |one, all| one.trust_domain_bundle = all.trust_domain_bundle,
        ),
    ];
    let mut stored = old;
    for (set, copy) in rows {
        let mut mask = Mask::default();
        set(&mut mask);
        let update = trust_pb::BatchUpdateFederationRelationshipRequest {
            federation_relationships: vec![new.clone()],
            input_mask: Some(mask),
            output_mask: Some(mask),
        };
        let shown = client.batch_update_federation_relationship(update).await.unwrap().into_inner();
        let mut expected = Wire { trust_domain: "other".into(), ..Default::default() };
        copy(&mut expected, new.clone());
        assert_eq!(shown.results[0].federation_relationship, Some(expected), "{mask:?}");
        copy(&mut stored, new.clone());
        let get = trust_pb::GetFederationRelationshipRequest {
            trust_domain: "other".into(),
            output_mask: None,
        };
        let found = client.get_federation_relationship(get).await.unwrap().into_inner();
        assert_eq!(found, stored, "{mask:?}");
    }
}

#[tokio::test]
async fn a_bundle_is_shown_by_mask() {
    let server = Server::new().await;
    let client = BundleClient::new(server.local());
    let set = bundle_pb::BatchSetFederatedBundleRequest {
        bundle: vec![bundle("other").await],
        output_mask: None,
    };
    client.clone().batch_set_federated_bundle(set).await.unwrap();
    let show = async |output_mask| {
        let trust_domain = "other".into();
        let request = bundle_pb::GetFederatedBundleRequest { trust_domain, output_mask };
        client.clone().get_federated_bundle(request).await.unwrap().into_inner()
    };
    let all = show(None).await;
    type Row = (fn(&mut types::BundleMask), fn(&mut types::Bundle, types::Bundle));
    let rows: [Row; 5] = [
        (|_| {}, |_, _| {}),
        (
            |mask| mask.x509_authorities = true,
            |one, all| one.x509_authorities = all.x509_authorities,
        ),
        (|mask| mask.jwt_authorities = true, |one, all| one.jwt_authorities = all.jwt_authorities),
        (|mask| mask.refresh_hint = true, |one, all| one.refresh_hint = all.refresh_hint),
        (|mask| mask.sequence_number = true, |one, all| one.sequence_number = all.sequence_number),
    ];
    for (set, copy) in rows {
        let mut mask = types::BundleMask::default();
        set(&mut mask);
        let mut expected = types::Bundle { trust_domain: "other".into(), ..Default::default() };
        copy(&mut expected, all.clone());
        assert_eq!(show(Some(mask)).await, expected, "{mask:?}");
    }
}
