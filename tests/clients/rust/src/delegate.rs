//! The agent's admin socket, as the crate `spire-api` calls it: each of its calls, for another.

use std::pin::pin;

use serde_json::json;
use spire_api::selectors::{Selector, Unix, UnixId};
use spire_api::{DelegateAttestationRequest, DelegatedIdentityClient, DelegatedIdentityError};
use tokio_stream::{Stream, StreamExt as _};

use crate::{Result, say};

/// Asks for the identity of whoever has this user, by selectors, and for our own, by process.
pub async fn ask(uid: &str, audience: &str) -> Result<()> {
    let client = DelegatedIdentityClient::connect_env().await?;
    let selectors = vec![Selector::Unix(Unix::Uid(UnixId::new(uid.parse()?)))];
    let other = DelegateAttestationRequest::for_selectors(selectors)?;
    let own = DelegateAttestationRequest::for_pid(std::process::id())?;
    for (call, whose) in [("selectors", other.clone()), ("pid", own)] {
        if let Some(svid) = answer(call, client.fetch_x509_svid(whose).await) {
            let id = svid.spiffe_id().to_string();
            let chain = say::encoded(svid.cert_chain());
            say::event(
                "x509",
                &[("by", call.into()), ("svids", json!([{"id": id, "chain": chain}]))],
            );
        }
    }
    if let Some(stream) = answer("x509_stream", client.stream_x509_svids(other.clone()).await) {
        if let Some(svid) = answer("x509_stream", first(stream).await) {
            say::event("x509_stream", &[("id", svid.spiffe_id().to_string().into())]);
        }
    }
    if let Some(bundles) = answer("x509_bundles", client.fetch_x509_bundles().await) {
        say::event("x509_bundles", &[("bundles", say::x509_bundles(&bundles))]);
    }
    if let Some(stream) = answer("x509_bundle_stream", client.stream_x509_bundles().await) {
        if let Some(bundles) = answer("x509_bundle_stream", first(stream).await) {
            say::event("x509_bundle_stream", &[("bundles", say::x509_bundles(&bundles))]);
        }
    }
    for svid in answer("jwt", client.fetch_jwt_svids(&[audience], other).await).unwrap_or_default()
    {
        let fields = [("id", svid.spiffe_id().to_string().into()), ("token", svid.token().into())];
        say::event("jwt", &fields);
    }
    if let Some(bundles) = answer("jwt_bundles", client.fetch_jwt_bundles().await) {
        say::jwt_bundles(&bundles);
    }
    if let Some(stream) = answer("jwt_bundle_stream", client.stream_jwt_bundles().await) {
        if let Some(bundles) = answer("jwt_bundle_stream", first(stream).await) {
            say::jwt_bundles(&bundles);
        }
    }
    Ok(())
}

async fn first<T>(
    stream: impl Stream<Item = Result<T, DelegatedIdentityError>>,
) -> Result<T, DelegatedIdentityError> {
    pin!(stream).next().await.unwrap_or(Err(DelegatedIdentityError::EmptyResponse))
}

/// Says of a call that failed how it did.
fn answer<T>(call: &str, result: Result<T, DelegatedIdentityError>) -> Option<T> {
    let why = |error: &DelegatedIdentityError| {
        say::event("failed", &[("call", call.into()), ("why", error.to_string().into())]);
    };
    result.inspect_err(why).ok()
}
