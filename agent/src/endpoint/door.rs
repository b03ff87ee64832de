//! Tells clients for whom there is no room that it is so, as a client that is only cut off would not
//! know why.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;

use super::limits::AT_THE_DOOR;

/// Those who are being told. However many there are, the last come to hear it.
#[derive(Debug, Default)]
pub(super) struct Door(VecDeque<AbortHandle>);

/// The service of a connection that is turned away.
#[derive(Debug)]
pub(super) struct Regret<'a> {
    /// What each request is told.
    pub(super) status: Status,
    /// There was one.
    pub(super) asked: &'a Notify,
}

impl Door {
    /// Takes on one more, and sends the first away unheard if there are too many.
    pub(super) fn stand_at(&mut self, client: AbortHandle) {
        self.0.push_back(client);
        if self.0.len() > AT_THE_DOOR
            && let Some(first) = self.0.pop_front()
        {
            first.abort();
        }
    }

    /// Sends all away.
    pub(super) fn close(self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Service<Request<Incoming>> for Regret<'_> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        self.asked.notify_one();
        ready(Ok(self.status.clone().into_http()))
    }
}
