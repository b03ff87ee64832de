//! How much callers may send: one of them in one call, and all of them at one time. A request is
//! kept until it is complete, and nobody has to complete one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tonic::Status;

use super::limits::{Source, network_of};
use crate::authz::Class;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What of each call is not counted. Most requests are no longer.
const FREE: usize = 16 * KIB;

/// What callers from the network are sending and have not completed.
#[derive(Debug)]
pub struct Inflow {
    /// In calls that anybody may make.
    anybody: Arc<Budget>,
    /// In calls of agents and servers.
    known: Arc<Budget>,
}

/// Why no more of a request is taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
enum TooMuch {
    #[error("the request is longer than {0} bytes")]
    Call(usize),
    #[error("too many long requests are under way from this address; try again later")]
    Address,
    #[error("too many long requests are under way; try again later")]
    All,
}

#[derive(Debug)]
struct Budget {
    total: usize,
    per_address: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What one call uses of a budget, until it is dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    address: IpAddr,
    bytes: usize,
}

/// The body of a request, within bounds.
#[derive(Debug)]
pub(super) struct Bounded<B> {
    body: B,
    longest: usize,
    seen: usize,
    share: Option<Share>,
}

impl Default for Inflow {
    /// Nobody sends anything.
    fn default() -> Self {
        Self {
            anybody: Arc::new(Budget::new(64 * MIB, 8 * MIB)),
            known: Arc::new(Budget::new(512 * MIB, 64 * MIB)),
        }
    }
}

impl Inflow {
    /// Bounds the request of a caller that was let in as one of `class`.
    pub(super) fn bound<B>(&self, body: B, class: Class, source: Source) -> Bounded<B> {
        let budget = match class {
            Class::Any => Some(&self.anybody),
            Class::Agent | Class::Downstream => Some(&self.known),
            Class::Local | Class::Admin => None,
        };
        let share = match (budget, source) {
            (Some(budget), Source::Address(address)) => {
                Some(Share { budget: Arc::clone(budget), address: network_of(address), bytes: 0 })
            }
            (None, _) | (_, Source::Local) => None,
        };
        Bounded { body, longest: longest(class), seen: 0, share }
    }
}

/// The longest request, all its messages together.
fn longest(class: Class) -> usize {
    match class {
        Class::Any => MIB,
        // The IDs of some hundred thousand entries, asked for in one sync.
        Class::Agent | Class::Downstream => 16 * MIB,
        Class::Local | Class::Admin => 64 * MIB,
    }
}

impl Budget {
    fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address, used: Mutex::default() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let mut used = self.budget.used();
        let total = used.total.saturating_add(bytes);
        let of_address = used.by_address.get(&self.address).copied().unwrap_or(0);
        let of_address = of_address.saturating_add(bytes);
        if of_address > self.budget.per_address {
            return Err(TooMuch::Address);
        }
        if total > self.budget.total {
            return Err(TooMuch::All);
        }
        used.total = total;
        used.by_address.insert(self.address, of_address);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut used = self.budget.used();
        used.total = used.total.saturating_sub(self.bytes);
        if let Some(of_address) = used.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(self.bytes);
            if *of_address == 0 {
                used.by_address.remove(&self.address);
            }
        }
    }
}

impl<B> Bounded<B> {
    fn count(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let counted = self.seen.max(FREE);
        self.seen = self.seen.saturating_add(bytes);
        if self.seen > self.longest {
            return Err(TooMuch::Call(self.longest));
        }
        match &mut self.share {
            Some(share) if self.seen > counted => share.grow(self.seen - counted),
            Some(_) | None => Ok(()),
        }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let counted = this.count(frame.data_ref().map_or(0, Bytes::len));
        let refused = |error: TooMuch| Status::resource_exhausted(error.to_string());
        Poll::Ready(Some(counted.map(|()| frame).map_err(refused)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(inflow: &Inflow, class: Class, address: &str) -> Bounded<()> {
        inflow.bound((), class, Source::Address(address.parse().unwrap()))
    }

    #[test]
    fn a_call_is_as_long_as_its_caller_is_known() {
        let inflow = Inflow::default();
        for (class, longest) in [(Class::Any, MIB), (Class::Agent, 16 * MIB)] {
            let mut call = body(&inflow, class, "192.0.2.1");
            assert_eq!(call.count(longest), Ok(()));
            assert_eq!(call.count(1), Err(TooMuch::Call(longest)));
        }
        let mut local = inflow.bound((), Class::Local, Source::Local);
        assert_eq!(local.count(64 * MIB), Ok(()));
        assert_eq!(local.count(1), Err(TooMuch::Call(64 * MIB)));
    }

    #[test]
    fn the_calls_of_an_address_and_all_calls_are_bounded_and_small_ones_are_free() {
        let inflow = Inflow::default();
        let long = |address: &str| {
            let mut call = body(&inflow, Class::Any, address);
            call.count(FREE + MIB / 2).map(|()| call)
        };
        let mut calls: Vec<_> = (0..16).map(|_| long("192.0.2.1").unwrap()).collect();
        assert_eq!(long("192.0.2.1").unwrap_err(), TooMuch::Address);
        assert!(body(&inflow, Class::Any, "192.0.2.1").count(FREE).is_ok());
        assert!(body(&inflow, Class::Agent, "192.0.2.1").count(MIB).is_ok());
        for n in 2..9 {
            calls.extend((0..16).map(|_| long(&format!("192.0.2.{n}")).unwrap()));
        }
        assert_eq!(long("192.0.2.9").unwrap_err(), TooMuch::All);
        calls.truncate(1);
        assert!(long("192.0.2.9").is_ok());
        drop(calls);
        let used = inflow.anybody.used();
        assert_eq!((used.total, used.by_address.len()), (0, 0));
    }
}
