//! A Workload API that does as it is asked, and an endpoint before it.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use rustix::net::sockopt::socket_peercred;
use steeple::tasks::Tasks;
use steeple_proto::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use steeple_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::endpoint::budget::{Origin, Place};
use crate::endpoint::limits::Limits;
use crate::endpoint::{Config, Endpoint};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who the pin says is calling.
#[derive(Clone)]
struct Caller(u32);

/// Counts the requests inside the handlers.
#[derive(Clone)]
struct Busy(Arc<watch::Sender<usize>>);

struct Held(Busy);

impl Busy {
    fn hold(&self) -> Held {
        self.0.send_modify(|count| *count += 1);
        Held(self.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

struct Service {
    busy: Busy,
    /// What makes watches end.
    end: CancellationToken,
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;
    type FetchWITSVIDStream = Answers<WitsvidResponse>;
    type FetchWITBundlesStream = Answers<WitBundlesResponse>;

    /// One answer, and a stream that stays open until watches end.
    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let (held, end) = (self.busy.hold(), self.end.clone());
        let last = stream::once(async move {
            end.cancelled().await;
            drop(held);
            Err(Status::unavailable("agent is stopping"))
        });
        let first = stream::iter([Ok(X509svidResponse::default())]);
        Ok(Response::new(first.chain(last).boxed()))
    }

    /// Panics after the first answer.
    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let answers = stream::iter([0, 1]).map(|number| match number {
            0 => Ok(X509BundlesResponse::default()),
            _ => panic!("the test asked for it"),
        });
        Ok(Response::new(answers.boxed()))
    }

    /// Does what the first audience says.
    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.0);
        assert_eq!(caller, Some(nix::unistd::getuid().as_raw()));
        let _held = self.busy.hold();
        match request.get_ref().audience.first().map(String::as_str) {
            Some("hang") => std::future::pending().await,
            Some("panic") => panic!("the test asked for it"),
            Some(_) | None => Ok(Response::new(JwtsvidResponse::default())),
        }
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Ok(Response::new(ValidateJwtsvidResponse::default()))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// An endpoint that serves, in a directory of its own.
pub(super) struct Server {
    directory: tempfile::TempDir,
    busy: watch::Receiver<usize>,
    /// Where the next client is found to come from.
    origin: Arc<Mutex<Origin>>,
    pub(super) stop: CancellationToken,
    pub(super) end: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("agent.sock"));
        config.limits = limits;
        let endpoint = Endpoint::bind(config).await.unwrap();
        let (sender, busy) = watch::channel(0);
        let end = CancellationToken::new();
        let service = Service { busy: Busy(Arc::new(sender)), end: end.clone() };
        let routes = Routes::new(SpiffeWorkloadApiServer::new(service));
        let tasks = Tasks::new();
        let origin = Arc::new(Mutex::new(Origin { pid: 1, user: 1, place: Place::Unknown }));
        let next = Arc::clone(&origin);
        let pin = move |stream: &OwnedFd| {
            let caller = Caller(socket_peercred(stream).unwrap().uid.as_raw());
            Ok::<_, Infallible>((caller, *next.lock().unwrap()))
        };
        let task = tasks.spawn(Span::none(), |stop| endpoint.serve(routes, pin, stop));
        Self { directory, busy, origin, stop: tasks.stop_token(), end, task }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Clients that connect after all others were accepted come from there.
    pub(super) fn comes_from(&self, pid: u32, user: u32, place: Place) {
        *self.origin.lock().unwrap() = Origin { pid, user, place };
    }

    /// Waits until so many requests are inside the handlers.
    pub(super) async fn busy(&mut self, count: usize) {
        let wait = self.busy.wait_for(|now| *now == count);
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap().unwrap();
    }
}
