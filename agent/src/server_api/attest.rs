//! The exchange of an attestation: evidence and request, challenges and answers, the SVID.

use rustls::pki_types::CertificateDer;
use steeple::convert::id_from_proto;
use steeple_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, attest_agent_request, attest_agent_response,
};
use steeple_proto::spire::api::{server::agent::v1::agent_client::AgentClient, types};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::link::request;
use super::node_api::{AttestError, Attested, ChallengeError, Opening, Responder};
use super::status::server_error;
use super::{MAX_ANSWER, ServerError};

/// How many questions a server may ask.
const MAX_ROUNDS: usize = 8;

/// The whole exchange on one stream.
pub(super) async fn attest(
    channel: Channel,
    opening: &Opening,
    responder: &dyn Responder,
) -> Result<Attested, AttestError> {
    let (answers, stream) = mpsc::channel(1);
    let send = async |step| {
        let message = AttestAgentRequest { step: Some(step) };
        answers.send(message).await.map_err(|_closed| failed("the stream has ended"))
    };
    send(attest_agent_request::Step::Params(params(opening))).await?;
    let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let steps = client.attest_agent(request(ReceiverStream::new(stream))).await;
    let mut steps = steps.map_err(|status| server_error(&status))?.into_inner();
    for _ in 0..MAX_ROUNDS {
        let message = steps.message().await.map_err(|status| server_error(&status))?;
        match message.and_then(|message| message.step) {
            Some(attest_agent_response::Step::Challenge(challenge)) => {
                let answer = responder.respond(&challenge).await?;
                send(attest_agent_request::Step::ChallengeResponse(answer)).await?;
            }
            Some(attest_agent_response::Step::Result(result)) => return Ok(attested(result)?),
            None => return Err(failed("the answer has no end")),
        }
    }
    Err(ChallengeError::Endless.into())
}

fn params(opening: &Opening) -> attest_agent_request::Params {
    attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: opening.method.to_owned(),
            payload: opening.evidence.to_vec(),
        }),
        params: Some(AgentX509svidParams { csr: opening.csr.clone() }),
    }
}

fn attested(result: attest_agent_response::Result) -> Result<Attested, ServerError> {
    let svid = result.svid.ok_or_else(|| ServerError::Answer("svid is missing".into()))?;
    Ok(Attested {
        spiffe_id: id_from_proto(svid.id.as_ref(), "svid.id")
            .map_err(|error| ServerError::Answer(error.to_string()))?,
        chain: chain(svid)?,
        reattestable: result.reattestable,
    })
}

fn failed(message: &str) -> AttestError {
    server_error(&Status::unavailable(message)).into()
}

/// The certificates of an SVID as it travels.
pub(super) fn chain(svid: types::X509svid) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    if svid.cert_chain.is_empty() {
        return Err(ServerError::Answer("svid.cert_chain is empty".into()));
    }
    Ok(svid.cert_chain.into_iter().map(CertificateDer::from).collect())
}
