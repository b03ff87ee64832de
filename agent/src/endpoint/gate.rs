//! What stands between the HTTP/2 server and the handlers: every request of a connection passes
//! here, and every answer.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use steeple::rpc;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service as _;
use tracing::{Span, error, error_span};

use super::Audience;
use super::budget::{Permit, Seat};
use super::head::{self, Messages, Refusal, Terms};
use super::request::RequestBody;

type Served = <Routes as tower_service::Service<Request<Body>>>::Future;

/// The service of one connection, which belongs to one peer.
#[derive(Debug)]
pub(super) struct Gate<C> {
    /// The handlers.
    pub(super) routes: Routes,
    /// Whom the endpoint is for.
    pub(super) audience: Audience,
    /// Who is at the other end; handlers find it in the extensions of the request.
    pub(super) peer: C,
    /// The place of the connection, and what it may take.
    pub(super) seat: Arc<Seat>,
}

/// The answer to a request, to be awaited.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is there already.
    Refused(Option<Response<Answer>>),
    /// A handler is at work.
    Serving {
        /// The handler's work.
        future: Served,
        /// When the client stops waiting.
        deadline: Option<Pin<Box<Sleep>>>,
        /// Held until the last of the answer is sent.
        permit: Option<Permit>,
        /// What records of the log say of the call.
        span: Span,
    },
}

/// The body of an answer. While it lives, the request counts as being answered.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    span: Span,
    _permit: Option<Permit>,
}

impl<C: Clone + Send + Sync + 'static> Gate<C> {
    fn admit(&self, head: &Parts, span: &Span) -> Result<(Terms, Permit), Refusal> {
        let terms = head::examine(head, self.audience)?;
        // What may go on for ever has to be heard first, and is for everybody.
        let holds = terms.messages == Messages::One;
        match self.seat.request(holds) {
            Ok(permit) => Ok((terms, permit)),
            Err(limit) => {
                span.in_scope(|| self.seat.budget().complain(self.seat.origin(), limit));
                Err(Refusal::Grpc(Status::unavailable(limit.to_string())))
            }
        }
    }
}

impl<C: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Gate<C> {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Reply;

    fn call(&self, request: Request<Incoming>) -> Reply {
        let (mut head, body) = request.into_parts();
        let (service, method) = rpc::names(head.uri.path());
        // Of the level at which even a log of nothing but errors says whose call failed.
        let span = error_span!("call", %service, %method, request_id = %rpc::request_id());
        let (terms, permit) = match self.admit(&head, &span) {
            Ok(admitted) => admitted,
            Err(refusal) => return Reply::Refused(Some(refusal.into())),
        };
        head.extensions.insert(self.peer.clone());
        let body = Body::new(RequestBody::new(body, terms.messages, Arc::clone(&self.seat)));
        let future = self.routes.clone().call(Request::from_parts(head, body));
        let deadline = terms.timeout.map(|timeout| Box::pin(sleep(timeout)));
        Reply::Serving { future, deadline, permit: Some(permit), span }
    }
}

impl Future for Reply {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, deadline, permit, span) = match self.get_mut() {
            Self::Refused(response) => {
                let response = response.take().unwrap_or_else(|| Response::new(Answer::empty()));
                return Poll::Ready(Ok(response));
            }
            Self::Serving { future, deadline, permit, span } => (future, deadline, permit, span),
        };
        let entered = span.enter();
        let response = match catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(cx))) {
            Ok(Poll::Ready(Ok(response))) => response,
            Ok(Poll::Pending) => {
                let late =
                    deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                if !late {
                    return Poll::Pending;
                }
                Status::deadline_exceeded("the client's deadline has passed").into_http()
            }
            Err(panic) => panicked(&*panic).into_http(),
        };
        drop(entered);
        let (span, _permit) = (span.clone(), permit.take());
        Poll::Ready(Ok(response.map(|body| Answer { body, span, _permit })))
    }
}

impl Answer {
    const fn empty() -> Self {
        Self { body: Body::empty(), span: Span::none(), _permit: None }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let span = this.span.clone();
        let _entered = span.enter();
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                this.body = Body::empty();
                let mut trailers = HeaderMap::new();
                let told = panicked(&*panic).add_header(&mut trailers);
                Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Refusal> for Response<Answer> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Grpc(status) => status.into_http::<Body>().map(|_| Answer::empty()),
            Refusal::Http(status) => {
                let mut response = Self::new(Answer::empty());
                *response.status_mut() = status;
                response
            }
        }
    }
}

/// A handler that panics must not end a stream as if all were well, nor cancel it: clients never
/// come back after that.
fn panicked(panic: &(dyn Any + Send)) -> Status {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = said.unwrap_or("without words"), "handler panicked");
    Status::unavailable("the request could not be served")
}
