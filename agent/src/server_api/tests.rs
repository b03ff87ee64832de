//! The client against a server that follows a script, over a pipe.

use std::collections::VecDeque;
use std::sync::Mutex;

use steeple::convert::{all_entry_fields, entry_to_proto, stored_entry_from_proto};
use steeple_proto::google::rpc;
use steeple_proto::spire::api::server::agent::v1::agent_server::{Agent, AgentServer};
use steeple_proto::spire::api::server::agent::v1::{self as agent, attest_agent_response};
use steeple_proto::spire::api::server::entry::v1::entry_server::{Entry as EntryApi, EntryServer};
use steeple_proto::spire::api::server::entry::v1::{self as entry};
use steeple_proto::spire::api::types;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use super::dial::{Dial, DialError, Stream};
use super::grpc::Grpc;
use super::link::{Link, Listeners};
use super::node_api::{AttestError, ChallengeError, NodeApi as _, Opening, Responder};
use super::*;

mod attestation;
mod bundles;
mod entries;
mod svids;

/// What the server answers, and what it was asked.
#[derive(Clone, Debug, Default)]
struct Script {
    /// For each request of a sync, its pages.
    pages: Arc<Mutex<VecDeque<Vec<entry::SyncAuthorizedEntriesResponse>>>>,
    asked: Arc<Mutex<Vec<entry::SyncAuthorizedEntriesRequest>>>,
    steps: Arc<Mutex<VecDeque<attest_agent_response::Step>>>,
    answered: Arc<Mutex<Vec<agent::attest_agent_request::Step>>>,
    refusals: Arc<Mutex<VecDeque<Status>>>,
    connections: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl Dial for Script {
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        *self.connections.lock().unwrap() += 1;
        let server = Server::builder()
            .add_service(EntryServer::new(self.clone()))
            .add_service(AgentServer::new(self.clone()));
        Ok(serve(server))
    }
}

/// Serves one connection; the client's end of it.
fn serve(server: Router) -> Box<dyn Stream> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let incoming =
        tokio_stream::iter([Ok::<_, std::io::Error>(theirs)]).chain(tokio_stream::pending());
    steeple::tasks::Tasks::new().spawn(tracing::Span::none(), |_| async move {
        server.serve_with_incoming(incoming).await
    });
    Box::new(ours)
}

impl Script {
    fn client(&self) -> Grpc {
        Grpc::new(Arc::new(Link::new(Arc::new(self.clone()), None)))
    }

    fn page(&self, pages: Vec<entry::SyncAuthorizedEntriesResponse>) {
        self.pages.lock().unwrap().push_back(pages);
    }

    fn refuse(&self) -> Result<(), Status> {
        self.refusals.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }
}

type Answers<T> = Result<Response<ReceiverStream<Result<T, Status>>>, Status>;

#[tonic::async_trait]
impl EntryApi for Script {
    type SyncAuthorizedEntriesStream =
        ReceiverStream<Result<entry::SyncAuthorizedEntriesResponse, Status>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<entry::SyncAuthorizedEntriesRequest>>,
    ) -> Answers<entry::SyncAuthorizedEntriesResponse> {
        self.refuse()?;
        let (send, receive) = mpsc::channel(16);
        let script = self.clone();
        steeple::tasks::Tasks::new().spawn(tracing::Span::none(), |_| async move {
            let mut requests = request.into_inner();
            while let Ok(Some(request)) = requests.message().await {
                script.asked.lock().unwrap().push(request);
                let pages = script.pages.lock().unwrap().pop_front().unwrap_or_default();
                for page in pages {
                    send.send(Ok(page)).await.unwrap();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn get_authorized_entries(
        &self,
        _: Request<entry::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<entry::GetAuthorizedEntriesResponse>, Status> {
        let pages = self.pages.lock().unwrap().pop_front().unwrap();
        let entries = pages.into_iter().flat_map(|page| page.entries).collect();
        Ok(Response::new(entry::GetAuthorizedEntriesResponse { entries }))
    }

    async fn count_entries(
        &self,
        _: Request<entry::CountEntriesRequest>,
    ) -> Result<Response<entry::CountEntriesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_entries(
        &self,
        _: Request<entry::ListEntriesRequest>,
    ) -> Result<Response<entry::ListEntriesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_entry(
        &self,
        _: Request<entry::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_create_entry(
        &self,
        _: Request<entry::BatchCreateEntryRequest>,
    ) -> Result<Response<entry::BatchCreateEntryResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_update_entry(
        &self,
        _: Request<entry::BatchUpdateEntryRequest>,
    ) -> Result<Response<entry::BatchUpdateEntryResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_delete_entry(
        &self,
        _: Request<entry::BatchDeleteEntryRequest>,
    ) -> Result<Response<entry::BatchDeleteEntryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Agent for Script {
    type AttestAgentStream = ReceiverStream<Result<agent::AttestAgentResponse, Status>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<agent::AttestAgentRequest>>,
    ) -> Answers<agent::AttestAgentResponse> {
        self.refuse()?;
        let (send, receive) = mpsc::channel(16);
        let script = self.clone();
        steeple::tasks::Tasks::new().spawn(tracing::Span::none(), |_| async move {
            let mut requests = request.into_inner();
            while let Ok(Some(request)) = requests.message().await {
                script.answered.lock().unwrap().extend(request.step);
                let Some(step) = script.steps.lock().unwrap().pop_front() else { return };
                let answer = agent::AttestAgentResponse { step: Some(step) };
                if send.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn renew_agent(
        &self,
        _: Request<agent::RenewAgentRequest>,
    ) -> Result<Response<agent::RenewAgentResponse>, Status> {
        self.refuse()?;
        let svid = types::X509svid { cert_chain: vec![vec![1]], ..types::X509svid::default() };
        Ok(Response::new(agent::RenewAgentResponse { svid: Some(svid) }))
    }

    async fn post_status(
        &self,
        _: Request<agent::PostStatusRequest>,
    ) -> Result<Response<agent::PostStatusResponse>, Status> {
        std::future::pending().await
    }

    async fn count_agents(
        &self,
        _: Request<agent::CountAgentsRequest>,
    ) -> Result<Response<agent::CountAgentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_agents(
        &self,
        _: Request<agent::ListAgentsRequest>,
    ) -> Result<Response<agent::ListAgentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_agent(
        &self,
        _: Request<agent::GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_agent(
        &self,
        _: Request<agent::DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn ban_agent(&self, _: Request<agent::BanAgentRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_join_token(
        &self,
        _: Request<agent::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn not_active() -> Status {
    use prost::Message as _;
    use types::permission_denied_details::Reason;

    let details = types::PermissionDeniedDetails { reason: Reason::AgentNotActive.into() };
    let details = vec![prost_types::Any::from_msg(&details).unwrap()];
    let status = rpc::Status { code: 7, message: String::new(), details };
    Status::with_details(tonic::Code::PermissionDenied, "", status.encode_to_vec().into())
}

#[tokio::test]
async fn a_denial_is_heard_by_whoever_answers_for_this_node() {
    let script = Script::default();
    script.refusals.lock().unwrap().push_back(not_active());
    let (denials, mut heard) = mpsc::channel(1);
    let (distrust, _) = watch::channel(false);
    let listeners = Listeners { denials, distrust };
    let client = Grpc::new(Arc::new(Link::new(Arc::new(script), Some(listeners))));
    let error = client.renew(Vec::new()).await.unwrap_err();
    assert_eq!(error, ServerError::Denied(Denial::NotActive));
    assert_eq!(heard.recv().await, Some(Denial::NotActive));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_time_and_the_next_one_uses_a_new_connection() {
    let script = Script::default();
    let client = script.client();
    assert_eq!(client.post_status("1").await, Err(ServerError::Timeout));
    client.renew(Vec::new()).await.unwrap();
    assert_eq!(*script.connections.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_connection_is_kept_until_it_is_to_be_made_anew() {
    let script = Script::default();
    let link = Arc::new(Link::new(Arc::new(script.clone()), None));
    let client = Grpc::new(link.clone());
    client.renew(Vec::new()).await.unwrap();
    client.renew(Vec::new()).await.unwrap();
    assert_eq!(*script.connections.lock().unwrap(), 1);
    link.reconnect();
    client.renew(Vec::new()).await.unwrap();
    assert_eq!(*script.connections.lock().unwrap(), 2);
}

#[test]
fn a_token_is_not_printed() {
    let token = BearerToken::new("a.b.c".into());
    assert_eq!(format!("{token:?} {}", token.expose()), "BearerToken(redacted) a.b.c");
}

/// Whoever is dialled proves to be the server, or not.
#[derive(Debug, Default)]
struct Doubtful {
    script: Script,
    errors: Mutex<VecDeque<DialError>>,
}

#[tonic::async_trait]
impl Dial for Doubtful {
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        let error = self.errors.lock().unwrap().pop_front();
        match error {
            Some(error) => Err(error),
            None => self.script.dial().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_heard_whether_the_server_proves_to_be_the_server() {
    let dial = Arc::new(Doubtful::default());
    let (distrust, heard) = watch::channel(false);
    let (denials, _) = mpsc::channel(1);
    let link = Arc::new(Link::new(dial.clone(), Some(Listeners { denials, distrust })));
    let client = Grpc::new(link.clone());
    let untrusted = || DialError::Untrusted("who is that".into());
    let away = || DialError::Unreachable("nobody".into());
    let refused = || Status::invalid_argument("no");
    // What dialling ends with, what the server says, and whether it is distrusted then.
    for (error, refusal, expected) in [
        (Some(away()), None, false),
        (Some(untrusted()), None, true),
        (Some(away()), None, true),
        (None, Some(Status::unavailable("not now")), true),
        (None, None, false),
        (Some(untrusted()), None, true),
        (None, Some(refused()), false),
    ] {
        dial.errors.lock().unwrap().extend(error.clone());
        dial.script.refusals.lock().unwrap().extend(refusal.clone());
        link.reconnect();
        let _answered = client.renew(Vec::new()).await;
        assert_eq!(*heard.borrow(), expected, "{error:?} {refusal:?}");
    }
}
