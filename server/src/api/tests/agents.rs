//! Agents, as admins see them.

use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::steeple::authority::v1::ReportUseRequest;
use steeple_proto::steeple::authority::v1::authority_use_client::AuthorityUseClient;

use super::*;
use crate::datastore::TokenHash;

type Client = AgentClient<Channel>;

async fn with_agents(server: &Server) -> Client {
    for (name, can_reattest) in [("a", true), ("b", false), ("c", false)] {
        let node = Node { can_reattest, ..node(name) };
        server.deps.registry.put_node(node, None, server.clock.now()).await.unwrap();
    }
    Client::new(server.local())
}

#[tokio::test]
async fn agents_are_listed_counted_and_shown() {
    let server = Server::new().await;
    let mut client = with_agents(&server).await;
    let list = pb::ListAgentsRequest { page_size: 2, ..Default::default() };
    let page = client.list_agents(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.agents.len(), 2);
    let rest = pb::ListAgentsRequest { page_token: page.next_page_token, ..list };
    let rest = client.list_agents(rest).await.unwrap().into_inner();
    assert_eq!((rest.agents.len(), rest.next_page_token.as_str()), (1, ""));

    let filter =
        pb::count_agents_request::Filter { by_can_reattest: Some(false), ..Default::default() };
    let count = client.count_agents(pb::CountAgentsRequest { filter: Some(filter) }).await.unwrap();
    assert_eq!(count.into_inner().count, 2);

    let get = pb::GetAgentRequest { id: wire_id("/spire/agent/a"), output_mask: None };
    let agent = client.get_agent(get.clone()).await.unwrap().into_inner();
    let expected = types::Agent {
        id: wire_id("/spire/agent/a"),
        attestation_type: "x509pop".into(),
        x509svid_serial_number: "1".into(),
        x509svid_expires_at: NOW + 1_000,
        selectors: vec![types::Selector { r#type: "x509pop".into(), value: "a:1".into() }],
        banned: false,
        can_reattest: true,
        agent_version: String::new(),
    };
    assert_eq!(agent, expected);
    let mask = Some(types::AgentMask::default());
    let bare = client.get_agent(pb::GetAgentRequest { output_mask: mask, ..get }).await.unwrap();
    let expected = types::Agent { id: wire_id("/spire/agent/a"), ..Default::default() };
    assert_eq!(bare.into_inner(), expected);
}

#[tokio::test]
async fn an_agent_is_banned_and_evicted_by_its_id_alone() {
    let server = Server::new().await;
    let mut client = with_agents(&server).await;
    client.ban_agent(pb::BanAgentRequest { id: wire_id("/spire/agent/a") }).await.unwrap();
    let get = pb::GetAgentRequest { id: wire_id("/spire/agent/a"), output_mask: None };
    let banned = client.get_agent(get.clone()).await.unwrap().into_inner();
    assert_eq!((banned.banned, banned.x509svid_serial_number.as_str()), (true, ""));
    client.delete_agent(pb::DeleteAgentRequest { id: wire_id("/spire/agent/a") }).await.unwrap();
    check_status(client.get_agent(get).await, Code::NotFound, "agent not found");
    assert_eq!(server.audited(), ["agent_banned", "agent_evicted"]);

    for (wrong, expected) in [
        (None, "invalid agent ID: not a SPIFFE ID"),
        (wire_id("/web"), "invalid agent ID: an agent's path is below /spire/agent"),
        (wire_id("/spire/agent"), "invalid agent ID: an agent's path is below /spire/agent"),
        (
            Some(types::Spiffeid { trust_domain: "x".into(), path: "/spire/agent/a".into() }),
            "invalid agent ID: not of the server's trust domain",
        ),
    ] {
        let found = client.delete_agent(pb::DeleteAgentRequest { id: wrong.clone() }).await;
        check_status(found, Code::InvalidArgument, expected);
        let found = client.ban_agent(pb::BanAgentRequest { id: wrong }).await;
        check_status(found, Code::InvalidArgument, expected);
    }
    let missing = client.ban_agent(pb::BanAgentRequest { id: wire_id("/spire/agent/z") }).await;
    check_status(missing, Code::NotFound, "agent not found");
}

#[tokio::test]
async fn what_an_agent_holds_is_forgotten_with_it() {
    let server = Server::new().await;
    for name in ["a", "b"] {
        let mut agent = AuthorityUseClient::new(server.agent(name).await);
        agent.report_use(ReportUseRequest::default()).await.unwrap();
    }
    assert_eq!(server.deps.reports.count(), 2);
    let mut client = Client::new(server.local());
    let id = |name: &str| Some(steeple::convert::id_to_proto(&node(name).id));
    client.ban_agent(pb::BanAgentRequest { id: id("a") }).await.unwrap();
    assert_eq!(server.deps.reports.count(), 1);
    client.delete_agent(pb::DeleteAgentRequest { id: id("b") }).await.unwrap();
    assert_eq!(server.deps.reports.count(), 0);
}

#[tokio::test]
async fn an_agent_reports_its_version() {
    let server = Server::new().await;
    let mut client = Client::new(server.agent("a").await);
    let status = |version: &str| pb::PostStatusRequest {
        agent_version: version.into(),
        ..Default::default()
    };
    client.post_status(status("1.2.3")).await.unwrap();
    assert_eq!(server.deps.registry.node(&node("a").id).unwrap().agent_version, "1.2.3");
    let long = client.post_status(status(&"v".repeat(256))).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_join_token_is_made_and_stored_by_its_hash() {
    let server = Server::new().await;
    let mut client = Client::new(server.local());
    let request = pb::CreateJoinTokenRequest { ttl: 60, ..Default::default() };
    let token = client.create_join_token(request).await.unwrap().into_inner();
    assert_eq!(token.expires_at, NOW + 60);
    assert!(uuid::Uuid::parse_str(&token.value).is_ok());
    let now = server.clock.now();
    let used = server.deps.registry.consume_join_token(TokenHash::of(&token.value), now).await;
    assert_eq!(used.unwrap().agent_id, None);

    let chosen =
        pb::CreateJoinTokenRequest { ttl: 1, token: "secret".into(), agent_id: wire_id("/node") };
    client.create_join_token(chosen.clone()).await.unwrap();
    let twice = client.create_join_token(chosen).await;
    check_status(twice, Code::AlreadyExists, "join token already exists");
    let log = format!("{:?}", server.records());
    assert!(!log.contains("secret") && !log.contains(&token.value));
    assert_eq!(server.audited(), ["join_token_created", "join_token_created"]);

    for (ttl, token, agent_id, expected) in [
        (0, "", None, "ttl: a number of seconds, at least 1, and not 0"),
        (-1, "", None, "ttl: a number of seconds, at least 1, and not -1"),
        (1, "a/b", None, "token: characters of [A-Za-z0-9._-] alone"),
        (1, "..", None, "token: characters of [A-Za-z0-9._-] alone"),
        (
            1,
            "",
            wire_id("/spire/agent/x"),
            "agent_id: an ID in the server's trust domain with a path that is not below /spire, and not \
             \"spiffe://td/spire/agent/x\"",
        ),
    ] {
        let request = pb::CreateJoinTokenRequest { ttl, token: token.into(), agent_id };
        let found = client.create_join_token(request).await;
        check_status(found, Code::InvalidArgument, expected);
    }
}
