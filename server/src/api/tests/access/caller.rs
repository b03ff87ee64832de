//! Calls any method with a message that none can read, and tells how far the call came.

use std::error::Error as _;

use bytes::{Buf as _, BufMut as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::*;

/// A method that anybody may call.
pub(super) const OPEN_TO_ALL: &str = "/spire.api.server.bundle.v1.Bundle/GetBundle";

/// A connection.
#[derive(Clone)]
pub(super) struct Wire(pub(super) Channel);

impl Wire {
    /// What becomes of a call of `method`.
    pub(super) async fn call(&self, method: &str) -> Outcome {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        if grpc.ready().await.is_err() {
            return Outcome::NoConnection;
        }
        let path = http::uri::PathAndQuery::try_from(method).unwrap();
        let message = tokio_stream::once(());
        let answer = grpc.streaming(Request::new(message), path, Garbage).await;
        let status = match answer {
            Ok(mut stream) => stream.get_mut().message().await.unwrap_err(),
            Err(status) => status,
        };
        outcome(&status, method)
    }
}

fn outcome(status: &Status, method: &str) -> Outcome {
    if status.source().is_some() {
        return Outcome::NoConnection;
    }
    if status.code() == Code::PermissionDenied {
        assert_eq!(status.message(), format!("authorization denied for method {method}"));
        return Outcome::Denied(if status.details().is_empty() { None } else { reason(status) });
    }
    if status.code() == Code::Unauthenticated {
        assert!(status.message().contains("no X509-SVID"), "{status}");
        return Outcome::Unauthenticated;
    }
    let unknown = (Code::Unimplemented, "unknown service or method");
    if (status.code(), status.message()) == unknown { Outcome::Absent } else { Outcome::Admitted }
}

/// Sends what is no message of protobuf, and does not look at what comes back.
struct Garbage;

impl Codec for Garbage {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Garbage {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_u8(0xff);
        Ok(())
    }
}

impl Decoder for Garbage {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
