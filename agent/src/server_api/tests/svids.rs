//! How SVIDs are asked for, of a server that answers as SPIRE's does.

use std::time::Duration;

use steeple_proto::spire::api::server::svid::v1::svid_server::{Svid, SvidServer};
use steeple_proto::spire::api::server::svid::v1::{self as svid, batch_new_x509svid_response};
use tonic::Code;

use super::*;

/// Answers each item, or all of a call, as the script says.
#[derive(Clone, Debug, Default)]
struct Signer {
    items: Arc<Mutex<VecDeque<batch_new_x509svid_response::Result>>>,
    refusals: Arc<Mutex<VecDeque<Status>>>,
    /// How long a rate limit holds each call up, as SPIRE's do.
    blocks: Duration,
}

#[tonic::async_trait]
impl Dial for Signer {
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        Ok(serve(Server::builder().add_service(SvidServer::new(self.clone()))))
    }
}

impl Signer {
    fn client(&self) -> Grpc {
        Grpc::new(Arc::new(Link::new(Arc::new(self.clone()), None)))
    }

    async fn refuse(&self) -> Result<(), Status> {
        tokio::time::sleep(self.blocks).await;
        self.refusals.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl Svid for Signer {
    async fn batch_new_x509svid(
        &self,
        request: Request<svid::BatchNewX509svidRequest>,
    ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
        self.refuse().await?;
        let mut items = self.items.lock().unwrap();
        let count = request.into_inner().params.len().min(items.len());
        let results = items.drain(..count).collect();
        Ok(Response::new(svid::BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        _: Request<svid::NewJwtsvidRequest>,
    ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
        self.refuse().await?;
        let svid = types::Jwtsvid {
            token: "a.b.c".into(),
            id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/web".into() }),
            expires_at: 9,
            issued_at: 7,
            hint: String::new(),
        };
        Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn mint_x509svid(
        &self,
        _: Request<svid::MintX509svidRequest>,
    ) -> Result<Response<svid::MintX509svidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn mint_jwtsvid(
        &self,
        _: Request<svid::MintJwtsvidRequest>,
    ) -> Result<Response<svid::MintJwtsvidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn mint_witsvid(
        &self,
        _: Request<svid::MintWitsvidRequest>,
    ) -> Result<Response<svid::MintWitsvidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<svid::BatchNewWitsvidRequest>,
    ) -> Result<Response<svid::BatchNewWitsvidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<svid::NewDownstreamX509caRequest>,
    ) -> Result<Response<svid::NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn item(code: Code, message: &str) -> batch_new_x509svid_response::Result {
    let status = types::Status { code: code as i32, message: message.into() };
    batch_new_x509svid_response::Result { status: Some(status), svid: None }
}

fn signed() -> batch_new_x509svid_response::Result {
    let svid = types::X509svid {
        cert_chain: vec![vec![1], vec![2]],
        id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/web".into() }),
        expires_at: 9,
        hint: String::new(),
    };
    batch_new_x509svid_response::Result { svid: Some(svid), ..item(Code::Ok, "") }
}

fn mints(count: usize) -> Vec<X509Mint> {
    let mint = X509Mint { entry_id: EntryId::new("a").unwrap(), csr: vec![7] };
    vec![mint; count]
}

#[tokio::test]
async fn each_svid_is_signed_or_refused_by_itself() {
    let signer = Signer::default();
    signer.items.lock().unwrap().extend([
        signed(),
        item(Code::NotFound, "entry not found or not authorized"),
        item(Code::InvalidArgument, "missing CSR"),
        item(Code::Internal, "failed to sign X509-SVID"),
    ]);
    let results = signer.client().mint_x509(mints(4)).await.unwrap();
    let minted = Minted {
        spiffe_id: "spiffe://td/web".parse().unwrap(),
        chain: vec![vec![1].into(), vec![2].into()],
    };
    assert_eq!(
        results,
        [
            Ok(minted),
            Err(MintRefusal::NotAuthorized),
            Err(MintRefusal::Invalid("missing CSR".into())),
            Err(MintRefusal::Failed("failed to sign X509-SVID".into())),
        ]
    );
}

#[tokio::test]
async fn fewer_answers_than_requests_are_none() {
    let signer = Signer::default();
    signer.items.lock().unwrap().push_back(signed());
    let error = signer.client().mint_x509(mints(2)).await.unwrap_err();
    assert_eq!(error, ServerError::Answer("1 results for 2 requests".into()));
}

/// SPIRE's limits hold a call up and do not say for how long.
#[tokio::test(start_paused = true)]
async fn a_limit_that_blocks_is_waited_for() {
    let signer = Signer { blocks: Duration::from_secs(25), ..Signer::default() };
    signer.items.lock().unwrap().push_back(signed());
    assert!(signer.client().mint_x509(mints(1)).await.unwrap()[0].is_ok());
    let token = signer.client().mint_jwt(&EntryId::new("a").unwrap(), &["x".into()]).await;
    assert_eq!(token.unwrap().issued_at, 7);
}

#[tokio::test]
async fn what_a_server_refuses_says_what_can_be_done_about_it() {
    for (status, expected) in [
        (
            Status::unimplemented("JWT functionality is disabled"),
            ServerError::Unsupported("JWT functionality is disabled".into()),
        ),
        (
            Status::resource_exhausted("rate (600) exceeds burst size (500)"),
            ServerError::TooLarge("rate (600) exceeds burst size (500)".into()),
        ),
        (
            Status::resource_exhausted("rate: Wait(n=1) would exceed context deadline"),
            ServerError::Busy { retry_after: None },
        ),
        (not_active(), ServerError::Denied(Denial::NotActive)),
    ] {
        let signer = Signer::default();
        signer.refusals.lock().unwrap().push_back(status);
        let refused = signer.client().mint_jwt(&EntryId::new("a").unwrap(), &["x".into()]).await;
        assert_eq!(refused.unwrap_err(), expected);
    }
}
