//! The body of a request: no message longer than allowed, no more of them, and no waiting for ever.
//!
//! Checked before anything is put aside for a message, whose length is only a claim.

use std::future::Future as _;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::budget::{Permit, Seat};
use super::head::Messages;

/// The longest message anybody may send. A request of the Workload API names a few audiences or
/// holds one token.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// A message beyond this counts as large, and few may be on their way at once: anybody can begin
/// any number of requests that never end.
const SMALL_MESSAGE: usize = 4 * 1024;

/// How long a request that is one message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The length of the prefix of each message: a flag and a length.
const PREFIX: usize = 5;

/// A request body on its way to a handler.
#[derive(Debug)]
pub(super) struct RequestBody<B> {
    body: B,
    framing: Framing,
    seat: Arc<Seat>,
    /// It will hold the place of its connection, and does not yet.
    is_arriving: bool,
    /// Held while a large message arrives.
    large: Option<Permit>,
    /// Runs once the client let a handler wait for a request that is one message.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Follows the messages in a body without holding them.
#[derive(Debug)]
struct Framing {
    messages: Messages,
    begun: bool,
    prefix: [u8; PREFIX],
    seen: usize,
    /// What is still to come of the message under way.
    left: usize,
}

impl<B> RequestBody<B> {
    /// Wraps a body that holds so many messages.
    pub(super) fn new(body: B, messages: Messages, seat: Arc<Seat>) -> Self {
        let is_arriving = messages == Messages::One;
        let (framing, large, waiting) = (Framing::new(messages), None, None);
        Self { body, framing, seat, is_arriving, large, waiting }
    }

    /// Lets a piece of the body pass, or not.
    fn check(&mut self, data: &[u8]) -> Result<(), Status> {
        self.framing.follow(data)?;
        if self.framing.left > SMALL_MESSAGE && self.large.is_none() {
            let large = self.seat.large_request();
            self.large = Some(large.map_err(|error| Status::unavailable(error.to_string()))?);
        }
        if self.framing.left == 0 {
            self.large = None;
        }
        Ok(())
    }

    fn arrived(&mut self) {
        if mem::take(&mut self.is_arriving) {
            self.seat.arrived();
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        match self.framing.messages {
            Messages::Any => Poll::Pending,
            Messages::One => {
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(waiting.as_mut().poll(cx));
                Poll::Ready(Status::unavailable("request took too long to arrive"))
            }
        }
    }
}

impl<B> Drop for RequestBody<B> {
    /// A request that nobody reads is being answered.
    fn drop(&mut self) {
        self.arrived();
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => return this.poll_patience(cx).map(|status| Some(Err(status))),
            Poll::Ready(None) => {
                this.arrived();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(Status::from_error(error.into()))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let checked = match frame.data_ref() {
            Some(data) => this.check(data),
            None => Ok(()),
        };
        Poll::Ready(Some(checked.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Framing {
    const fn new(messages: Messages) -> Self {
        Self { messages, begun: false, prefix: [0; PREFIX], seen: 0, left: 0 }
    }

    fn follow(&mut self, mut input: &[u8]) -> Result<(), Status> {
        while !input.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(input.len());
                self.left -= passed;
                input = input.get(passed..).unwrap_or_default();
                continue;
            }
            let missing = self.prefix.get_mut(self.seen..).unwrap_or_default();
            let taken = missing.len().min(input.len());
            for (slot, octet) in missing.iter_mut().zip(input) {
                *slot = *octet;
            }
            self.seen += taken;
            input = input.get(taken..).unwrap_or_default();
            if self.seen == PREFIX {
                self.begin()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Status> {
        if self.begun && self.messages == Messages::One {
            return Err(Status::internal("more than one message in a request that has one"));
        }
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            let message = format!("request message is longer than {MAX_MESSAGE} bytes");
            return Err(Status::resource_exhausted(message));
        }
        (self.begun, self.seen, self.left) = (true, 0, length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], &prefix[..], &vec![7; length]].concat()
    }

    /// The outcome of a body in one piece and octet by octet, which must be the same.
    #[track_caller]
    fn check(messages: Messages, body: &[u8], expected: Code) {
        let framing = || Framing::new(messages);
        let code =
            |result: Result<(), Status>| result.map_or_else(|status| status.code(), |()| Code::Ok);
        assert_eq!(code(framing().follow(body)), expected);
        let mut pieces = framing();
        assert_eq!(code(body.iter().try_for_each(|octet| pieces.follow(&[*octet]))), expected);
    }

    #[test]
    fn a_message_has_a_limit() {
        for messages in [Messages::One, Messages::Any] {
            check(messages, &[], Code::Ok);
            check(messages, &message(0), Code::Ok);
            check(messages, &message(MAX_MESSAGE), Code::Ok);
            check(messages, &message(MAX_MESSAGE + 1), Code::ResourceExhausted); // H043
            check(messages, &[0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted); // H039
        }
    }

    #[test]
    fn a_request_that_is_one_message_has_no_second() {
        let two = [message(3), message(0)].concat();
        check(Messages::One, &two, Code::Internal); // H039
        check(Messages::Any, &two, Code::Ok);
        check(Messages::One, &two[..two.len() - 1], Code::Ok);
        let long = [message(3), message(MAX_MESSAGE + 1)].concat();
        check(Messages::Any, &long, Code::ResourceExhausted);
    }
}
