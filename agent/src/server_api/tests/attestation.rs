//! The conversation in which a node becomes an agent.

use super::*;

/// Answers with the challenge backwards.
struct Backwards;

#[tonic::async_trait]
impl Responder for Backwards {
    async fn respond(&self, challenge: &[u8]) -> Result<Vec<u8>, ChallengeError> {
        Ok(challenge.iter().rev().copied().collect())
    }
}

fn opening() -> Opening {
    Opening { method: "x", evidence: Zeroizing::new(b"me".to_vec()), csr: vec![9] }
}

fn attested() -> attest_agent_response::Step {
    attest_agent_response::Step::Result(attest_agent_response::Result {
        svid: Some(types::X509svid {
            cert_chain: vec![vec![1], vec![2]],
            id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/spire/agent/x".into() }),
            ..types::X509svid::default()
        }),
        reattestable: true,
    })
}

#[tokio::test]
async fn an_attestation_answers_challenges_until_there_is_a_result() {
    use agent::attest_agent_request::Step;

    let script = Script::default();
    let challenge = |text: &str| attest_agent_response::Step::Challenge(text.into());
    script.steps.lock().unwrap().extend([challenge("ab"), challenge("cd"), attested()]);
    let result = script.client().attest(opening(), &Backwards).await.unwrap();
    assert_eq!(result.spiffe_id.as_str(), "spiffe://td/spire/agent/x");
    assert_eq!((result.chain.len(), result.reattestable), (2, true));
    let answered = script.answered.lock().unwrap();
    let Step::Params(params) = &answered[0] else { panic!("{answered:?}") };
    let data = params.data.as_ref().unwrap();
    assert_eq!((data.r#type.as_str(), &*data.payload), ("x", &b"me"[..]));
    assert_eq!(params.params.as_ref().unwrap().csr, [9]);
    assert_eq!(
        answered[1..],
        [Step::ChallengeResponse("ba".into()), Step::ChallengeResponse("dc".into())]
    );
}

#[tokio::test]
async fn a_server_that_asks_without_end_gets_no_more_answers() {
    let script = Script::default();
    let challenge = || attest_agent_response::Step::Challenge("ab".into());
    script.steps.lock().unwrap().extend((0..20).map(|_| challenge()));
    let error = script.client().attest(opening(), &Backwards).await.unwrap_err();
    assert_eq!(error, AttestError::Challenge(ChallengeError::Endless));
}

#[tokio::test]
async fn a_refused_attestation_says_why() {
    let script = Script::default();
    let refusal = Status::permission_denied("failed to attest: agent is banned");
    script.refusals.lock().unwrap().push_back(refusal);
    let error = script.client().attest(opening(), &Backwards).await.unwrap_err();
    let expected = ServerError::Forbidden("failed to attest: agent is banned".into());
    assert_eq!(error, AttestError::Server(expected));
}
