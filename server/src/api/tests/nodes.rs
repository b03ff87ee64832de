//! Nodes that become agents, and agents that renew.

use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step};
use steeple_proto::spire::api::server::agent::v1::attest_agent_response::{
    Result as Outcome, Step as Answer,
};
use tokio_stream::wrappers::ReceiverStream;

use super::*;

const ECHO: &str = "spiffe://td/spire/agent/echo/1";

/// Plays a node that answers every challenge with `answer`.
async fn attest(channel: Channel, params: Params, answer: &str) -> Result<Outcome, Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let opening = pb::AttestAgentRequest { step: Some(Step::Params(params)) };
    sender.send(opening).await.unwrap();
    let mut client = AgentClient::new(channel);
    let answers = client.attest_agent(ReceiverStream::new(receiver)).await?;
    let mut answers = answers.into_inner();
    loop {
        match answers.message().await?.and_then(|answer| answer.step).unwrap() {
            Answer::Result(outcome) => return Ok(outcome),
            Answer::Challenge(_) => {
                let step = Some(Step::ChallengeResponse(answer.as_bytes().to_vec()));
                sender.send(pb::AttestAgentRequest { step }).await.unwrap();
            }
        }
    }
}

fn params(kind: &str, payload: &str) -> Params {
    Params {
        data: Some(types::AttestationData {
            r#type: kind.into(),
            payload: payload.as_bytes().to_vec(),
        }),
        params: Some(pb::AgentX509svidParams { csr: request_for(None, &[]) }),
    }
}

async fn token(server: &Server, agent_id: Option<types::Spiffeid>) -> String {
    let request = pb::CreateJoinTokenRequest { ttl: 60, token: String::new(), agent_id };
    let token = AgentClient::new(server.local()).create_join_token(request).await.unwrap();
    token.into_inner().value
}

/// Attestation is limited to once a second, and what is tested here is not that.
fn unlimited(server: &Server) -> Channel {
    server.local()
}

#[tokio::test]
async fn a_node_joins_with_a_token_once() {
    let server = Server::new().await;
    let token = token(&server, wire_id("/node")).await;
    let outcome = attest(server.anonymous(), params("join_token", &token), "").await.unwrap();
    assert!(!outcome.reattestable);
    let svid = outcome.svid.unwrap();
    assert_eq!(svid.id, wire_id(&format!("/spire/agent/join_token/{token}")));
    assert_eq!(svid.expires_at, NOW + 7_200);

    let agent = id(&format!("spiffe://td/spire/agent/join_token/{token}"));
    let node = server.deps.registry.node(&agent).unwrap();
    let certificate = steeple::x509::Certificate::parse(&svid.cert_chain[0]).unwrap();
    assert_eq!(node.serial, Some(certificate.serial().to_string()));
    // The token's further name is an entry that others may have as their parent.
    assert_eq!(
        server.deps.registry.authorized(&agent).entries()[0].content.spiffe_id,
        id("spiffe://td/node")
    );

    let again = attest(unlimited(&server), params("join_token", &token), "").await;
    let used = "failed to attest: join token does not exist or has already been used";
    check_status(again, Code::InvalidArgument, used);
    let log = server.audited();
    assert_eq!(
        log,
        [
            "join_token_created",
            "x509_intent",
            "x509_issued",
            "node_attested",
            "entry_created",
            "node_attestation_refused"
        ]
    );
    let evict = pb::DeleteAgentRequest { id: svid.id };
    AgentClient::new(server.local()).delete_agent(evict).await.unwrap();
    assert_eq!(server.audited()[6..], ["agent_evicted", "entry_deleted"]);
}

#[tokio::test]
async fn nobody_is_given_a_token_that_nobody_can_use() {
    let mut server = Server::new().await;
    Arc::get_mut(&mut server.deps).unwrap().attestors.remove("join_token").unwrap();
    let request = pb::CreateJoinTokenRequest { ttl: 60, ..Default::default() };
    let refused = AgentClient::new(server.local()).create_join_token(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let setting = "set `enabled = true` in [node_attestor.join_token]";
    assert!(refused.message().contains(setting), "{refused}");
    assert_eq!(server.audited(), [""; 0]);
}

#[tokio::test]
async fn a_token_that_has_expired_is_of_no_use() {
    let server = Server::new().await;
    let token = token(&server, None).await;
    server.clock.set(from_unix_seconds(NOW + 61));
    for expected in [
        "failed to attest: join token expired",
        "failed to attest: join token does not exist or has already been used",
    ] {
        let found = attest(unlimited(&server), params("join_token", &token), "").await;
        check_status(found, Code::InvalidArgument, expected);
    }
    let strange = attest(unlimited(&server), params("join_token", "../server"), "").await;
    assert_eq!(strange.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_node_answers_challenges_and_may_come_back_unless_it_is_banned() {
    let server = Server::new().await;
    let outcome = attest(unlimited(&server), params("echo", ECHO), ECHO).await.unwrap();
    assert!(outcome.reattestable);
    let first = server.deps.registry.node(&id(ECHO)).unwrap();
    assert_eq!(first.attestation_type, "echo");
    assert!(attest(unlimited(&server), params("echo", ECHO), ECHO).await.is_ok());
    let second = server.deps.registry.node(&id(ECHO)).unwrap();
    assert_ne!(first.serial, second.serial);

    let wrong = attest(unlimited(&server), params("echo", ECHO), "x").await;
    let refused = "failed to attest: challenge response verification failed";
    check_status(wrong, Code::PermissionDenied, refused);

    server.deps.registry.ban_node(id(ECHO)).await.unwrap();
    let banned = attest(unlimited(&server), params("echo", ECHO), ECHO).await;
    check_status(banned, Code::PermissionDenied, "failed to attest: agent is banned");
    server.deps.registry.evict_node(id(ECHO)).await.unwrap();
    assert!(attest(unlimited(&server), params("echo", ECHO), ECHO).await.is_ok());
}

#[tokio::test]
async fn an_attestation_is_limited_to_once_a_second_for_each_address() {
    let server = Server::new().await;
    let token = token(&server, None).await;
    attest(server.anonymous(), params("join_token", &token), "").await.unwrap();
    let soon = attest(server.anonymous(), params("join_token", "x"), "").await.unwrap_err();
    assert_eq!(soon.code(), Code::ResourceExhausted);
    let records = server.records();
    let refused = records.last().unwrap();
    assert_eq!(refused["event"], "node_attestation_refused");
    assert_eq!(refused["why"], soon.message());
    assert!(refused.get("attestation_type").is_none(), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn however_many_nodes_are_refused_the_log_has_a_few_and_counts_the_others() {
    let server = Server::new().await;
    for _ in 0..80 {
        attest(server.anonymous(), params("join_token", "x"), "").await.unwrap_err();
    }
    server.deps.refusals.flush().await;
    let recorded = server.audited();
    assert!((50..80).contains(&recorded.len()), "{recorded:?}");
    assert!(recorded.iter().all(|event| event == "node_attestation_refused"), "{recorded:?}");
    assert_eq!(u64::try_from(recorded.len()).unwrap() + server.left_out(), 80);
}

#[tokio::test]
async fn an_opening_that_lacks_something_says_what() {
    let server = Server::new().await;
    let fine = params("join_token", "x");
    let data = fine.data.clone().unwrap();
    let with = |data| Params { data: Some(data), ..fine.clone() };
    let csr = |csr| Params { params: Some(pb::AgentX509svidParams { csr }), ..fine.clone() };
    let mut forged = request_for(None, &[]);
    *forged.last_mut().unwrap() ^= 1;
    for (params, expected) in [
        (Params { data: None, ..fine.clone() }, "malformed param: missing attestation data"),
        (Params { params: None, ..fine.clone() }, "malformed param: missing X509-SVID parameters"),
        (
            with(types::AttestationData { r#type: String::new(), ..data.clone() }),
            "malformed param: missing attestation data type",
        ),
        (
            with(types::AttestationData { payload: Vec::new(), ..data.clone() }),
            "malformed param: missing attestation data payload",
        ),
        (csr(Vec::new()), "malformed param: missing CSR"),
        (csr(forged), "invalid CSR: the signature is not of the key that is named"),
    ] {
        let status = attest(unlimited(&server), params, "").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let (found, _) = status.message().split_once(": ").unwrap();
        assert_eq!(found, expected.split_once(": ").unwrap().0, "{status}");
    }
    let unknown = attest(unlimited(&server), params("aws_iid", "x"), "").await;
    let refused = "attestation type \"aws_iid\" is not configured on this server";
    check_status(unknown, Code::FailedPrecondition, refused);
    let named = server.records().into_iter().map(|record| {
        assert_eq!(record["event"], "node_attestation_refused");
        record["attestation_type"].as_str().unwrap_or("-").to_owned()
    });
    let named: Vec<_> = named.collect();
    assert_eq!(
        named,
        ["-", "-", "-", "join_token", "join_token", "join_token", "aws_iid"].map(str::to_owned)
    );
}

#[tokio::test(start_paused = true)]
async fn an_attestation_ends_after_a_minute() {
    let server = Server::new().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let step = Some(Step::Params(params("echo", ECHO)));
    sender.send(pb::AttestAgentRequest { step }).await.unwrap();
    let mut client = AgentClient::new(unlimited(&server));
    let answers = client.attest_agent(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = answers.into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let records = server.records();
    assert_eq!(records[0]["event"], "node_attestation_refused");
    assert_eq!(records[0]["why"], "attestation took too long");
}

async fn renew(channel: Channel, csr: Vec<u8>) -> Result<types::X509svid, Status> {
    let params = Some(pb::AgentX509svidParams { csr });
    let request = pb::RenewAgentRequest { params };
    AgentClient::new(channel).renew_agent(request).await.map(|a| a.into_inner().svid.unwrap())
}

#[tokio::test]
async fn an_agent_renews_and_its_old_certificate_lives_until_the_new_one_is_used() {
    let server = Server::new().await;
    let old = server.agent("a").await;
    let svid = renew(old.clone(), request_for(None, &[])).await.unwrap();
    assert_eq!(svid.id, wire_id("/spire/agent/a"));
    let certificate = steeple::x509::Certificate::parse(&svid.cert_chain[0]).unwrap();
    let serial = certificate.serial().to_string();
    let node = server.deps.registry.node(&id("spiffe://td/spire/agent/a")).unwrap();
    assert_eq!(node.serial.as_deref(), Some("1"));
    assert_eq!(node.new_serial.as_ref().unwrap().serial, serial);

    // The answer was lost: the old certificate renews again, and the lost one is worth nothing.
    let second = renew(old.clone(), request_for(None, &[])).await.unwrap();
    let lost = server.peer("spiffe://td/spire/agent/a", &serial);
    assert_eq!(
        renew(lost, request_for(None, &[])).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let certificate = steeple::x509::Certificate::parse(&second.cert_chain[0]).unwrap();
    let new = server.peer("spiffe://td/spire/agent/a", &certificate.serial().to_string());
    assert!(renew(new, request_for(None, &[])).await.is_ok());
    assert_eq!(
        renew(old, request_for(None, &[])).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn an_agent_that_can_attest_again_has_to() {
    let server = Server::new().await;
    let node = Node { can_reattest: true, ..node("a") };
    server.deps.registry.put_node(node, None, server.clock.now()).await.unwrap();
    let channel = server.peer("spiffe://td/spire/agent/a", "1");
    let status = renew(channel.clone(), request_for(None, &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(!status.details().is_empty());
    let empty = renew(server.agent("b").await, Vec::new()).await;
    check_status(empty, Code::InvalidArgument, "csr: missing CSR");
}
