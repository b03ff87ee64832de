//! A node becomes an agent: it proves what it is, and gets a certificate.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use steeple::clock::unix_seconds;
use steeple::id::SpiffeId;
use steeple::x509::csr::Csr;
use steeple_proto::spire::api::server::agent::v1 as pb;
use steeple_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step};
use steeple_proto::spire::api::server::agent::v1::attest_agent_response::{
    Result as Outcome, Step as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};
use tracing::{Instrument as _, Span, info};

use crate::api::error::ApiError;
use crate::api::issued::{csr, x509_to_proto};
use crate::api::limits::{Limited, Source};
use crate::api::{Deps, admitted};
use crate::audit::event::{Caller, EntryFacts, Event, Hex, Selectors};
use crate::ca::request::X509Request;
use crate::ca::{IssuedX509, Order};
use crate::datastore::Node;
use crate::node_attest::{AttestError, Attested, Conversation, MAX_PAYLOAD};
use crate::registry::nodes::NodeWriteError;

/// How long an attestation may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest name of a method that is repeated in records.
const MAX_KIND: usize = 64;

type Answers = BoxStream<'static, Result<pb::AttestAgentResponse, Status>>;

/// Attests the node that calls. It is done within the stream of answers, so that it ends when
/// nobody waits for them any more.
pub(super) async fn answer(
    deps: &Arc<Deps>,
    request: Request<Streaming<pb::AttestAgentRequest>>,
) -> Result<Answers, Status> {
    let admitted = admitted(&request)?;
    let refused = Refused {
        deps: Arc::clone(deps),
        caller: admitted.for_audit(),
        source: admitted.caller.source(),
    };
    if let Err(error) = deps.charge(&request, Limited::Attestation, 1) {
        refused.tell("", None, &error).await;
        return Err(error.into());
    }
    let (answers, receiver) = mpsc::channel(1);
    let attestation = Attestation {
        deps: Arc::clone(deps),
        refused,
        kind: String::new(),
        requests: request.into_inner(),
        answers,
    };
    let work = attestation
        .run()
        .instrument(Span::current())
        .into_stream()
        .filter_map(|()| std::future::ready(None));
    Ok(stream::select(ReceiverStream::new(receiver), work).boxed())
}

/// An attestation that is going on.
struct Attestation {
    deps: Arc<Deps>,
    refused: Refused,
    /// The method that the node named, cut to what is repeated in records.
    kind: String,
    requests: Streaming<pb::AttestAgentRequest>,
    answers: mpsc::Sender<Result<pb::AttestAgentResponse, Status>>,
}

/// Who is recorded as refused.
struct Refused {
    deps: Arc<Deps>,
    caller: Caller,
    source: Source,
}

/// What a node opened with.
struct Opening {
    kind: String,
    payload: Vec<u8>,
    csr: Csr,
}

/// What is needed to make an agent of a node that proved what it is.
struct Admission {
    deps: Arc<Deps>,
    caller: Caller,
    kind: String,
    csr: Csr,
}

impl Attestation {
    async fn run(mut self) {
        let result = match self.attest().await {
            Ok(outcome) => Ok(outcome),
            Err((agent_id, error)) => {
                self.refused.tell(&self.kind, agent_id, &error).await;
                Err(error)
            }
        };
        let answer = result
            .map_err(Status::from)
            .map(|outcome| pb::AttestAgentResponse { step: Some(Answer::Result(outcome)) });
        // Whoever asked may have gone.
        drop(self.answers.send(answer).await);
    }

    async fn attest(&mut self) -> Result<Outcome, (Option<SpiffeId>, ApiError)> {
        let heard = tokio::time::timeout(PATIENCE, self.hear()).await;
        let heard = heard.unwrap_or(Err(ApiError::TooSlow("attestation took too long")));
        let (opening, attested) = heard.map_err(|error| (None, error))?;
        self.admit(opening, attested).await
    }

    /// Hears what the node says, and whether that proves what it is.
    async fn hear(&mut self) -> Result<(Opening, Attested), ApiError> {
        let opening = self.opening().await?;
        let attested = self.prove(&opening).await?;
        Ok((opening, attested))
    }

    /// Reads what the node opens with.
    async fn opening(&mut self) -> Result<Opening, ApiError> {
        let malformed = |field, expected| ApiError::Invalid { field, expected };
        let first = self.message().await?;
        let Some(Step::Params(Params { data, params })) = first.and_then(|first| first.step) else {
            return Err(malformed("malformed param", "missing params"));
        };
        let data = data.ok_or(malformed("malformed param", "missing attestation data"))?;
        let params = params.ok_or(malformed("malformed param", "missing X509-SVID parameters"))?;
        if data.r#type.is_empty() {
            return Err(malformed("malformed param", "missing attestation data type"));
        }
        self.kind = data.r#type.chars().take(MAX_KIND).collect();
        if data.payload.is_empty() {
            return Err(malformed("malformed param", "missing attestation data payload"));
        }
        if data.payload.len() > MAX_PAYLOAD {
            return Err(AttestError::TooLong("the payload").into());
        }
        if params.csr.is_empty() {
            return Err(malformed("malformed param", "missing CSR"));
        }
        Ok(Opening { csr: csr(&params.csr)?, kind: data.r#type, payload: data.payload })
    }

    /// What the node says next. A server that stops does not wait for it.
    async fn message(&mut self) -> Result<Option<pb::AttestAgentRequest>, AttestError> {
        let stop = self.deps.tasks.stop_token();
        let message = stop.run_until_cancelled(self.requests.message()).await;
        message.ok_or(AttestError::Stopping)?.or(Err(AttestError::Gone))
    }

    /// Makes the node an agent. However long that takes: it is not refused any more.
    async fn admit(
        &self,
        opening: Opening,
        attested: Attested,
    ) -> Result<Outcome, (Option<SpiffeId>, ApiError)> {
        let id = attested.agent_id.clone();
        let admission = Admission {
            deps: Arc::clone(&self.deps),
            caller: self.refused.caller.clone(),
            kind: opening.kind,
            csr: opening.csr,
        };
        // What was begun is recorded to its end, though the node may go away.
        let admitted = self.deps.tasks.spawn(Span::current(), |_| admission.admit(attested)).await;
        admitted.unwrap_or(Err(ApiError::Internal)).map_err(|error| (Some(id), error))
    }

    async fn prove(&mut self, opening: &Opening) -> Result<Attested, ApiError> {
        let attestor = self.deps.attestors.get(opening.kind.as_str()).cloned();
        let attestor = attestor.ok_or_else(|| ApiError::UnknownAttestor(self.kind.clone()))?;
        Ok(attestor.attest(&opening.payload, self).await?)
    }
}

impl Refused {
    /// Records why a node did not become an agent, unless it is the one that left, or the server.
    async fn tell(&self, kind: &str, agent_id: Option<SpiffeId>, error: &ApiError) {
        if matches!(error, ApiError::Attest(AttestError::Gone | AttestError::Stopping)) {
            return;
        }
        let attestation_type = kind.to_owned();
        let event =
            Event::NodeAttestationRefused { attestation_type, agent_id, why: error.to_string() };
        self.deps.refusals.record(self.source, &self.caller, event).await;
    }
}

impl Admission {
    /// Signs the certificate of a node that proved what it is, and remembers it.
    async fn admit(self, attested: Attested) -> Result<Outcome, ApiError> {
        let Attested { agent_id, name, selectors, can_reattest } = attested;
        let former = self.deps.registry.node(&agent_id);
        if former.as_ref().is_some_and(|node| node.is_banned()) {
            return Err(ApiError::BannedNode);
        }
        let order = Order {
            request: X509Request::Agent {
                spiffe_id: &agent_id,
                public_key: self.csr.public_key(),
                ttl: self.deps.ttl.agent,
            },
            entry_id: None,
        };
        let issued = self.deps.ca.issue_one_x509(&self.caller, &order).await?;
        let node = Node {
            id: agent_id.clone(),
            attestation_type: self.kind.clone(),
            serial: Some(issued.svid.serial().to_string()),
            not_after: unix_seconds(issued.svid.not_after()),
            new_serial: None,
            selectors: selectors.clone(),
            can_reattest,
            agent_version: String::new(),
        };
        let stored = self.deps.registry.put_node(node, name, self.deps.clock.now()).await;
        let alias = stored.map_err(|error| match error {
            NodeWriteError::Banned => ApiError::BannedNode,
            NodeWriteError::NotFound(_)
            | NodeWriteError::NotActive
            | NodeWriteError::AgentVersion
            | NodeWriteError::NotWritten(_) => error.into(),
        })?;
        let event = Event::NodeAttested {
            correlation: issued.correlation,
            agent_id: agent_id.clone(),
            attestation_type: self.kind.clone(),
            selectors: Selectors(selectors),
            serial: Hex(issued.svid.serial()),
            again: former.is_some(),
        };
        let alias = alias.map(|entry| Event::EntryCreated { entry: EntryFacts::from(&*entry) });
        self.deps.record_done(&self.caller, [event].into_iter().chain(alias)).await;
        log(&agent_id, &self.kind, &issued);
        Ok(Outcome { svid: Some(x509_to_proto(&issued, None)), reattestable: can_reattest })
    }
}

#[tonic::async_trait]
impl Conversation for Attestation {
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        let challenge = pb::AttestAgentResponse { step: Some(Answer::Challenge(challenge)) };
        self.answers.send(Ok(challenge)).await.or(Err(AttestError::Gone))?;
        match self.message().await?.ok_or(AttestError::Gone)?.step {
            Some(Step::ChallengeResponse(response)) if response.len() <= MAX_PAYLOAD => {
                Ok(response)
            }
            Some(Step::ChallengeResponse(_)) => Err(AttestError::TooLong("the answer")),
            Some(Step::Params(_)) | None => Err(AttestError::Malformed {
                what: "request",
                expected: "the answer to the challenge",
            }),
        }
    }
}

/// In the words that operators of SPIRE look for.
fn log(agent_id: &SpiffeId, node_attestor_type: &str, issued: &IssuedX509) {
    let serial_num = issued.svid.serial();
    let expiration = humantime::format_rfc3339_seconds(issued.svid.not_after());
    info!(
        %agent_id, %node_attestor_type, %serial_num, %expiration,
        "Agent attestation request completed"
    );
}
